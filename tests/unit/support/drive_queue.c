/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/support/drive_queue.h"

#include <assert.h>

#include "virtio/spec.h"
#include "vmm/base/num.h"

static void put(struct gmem *mem, uint64_t at, const void *src, size_t len)
{
    int rc = gmem_write(mem, gpa(at), src, len);

    assert(rc == 0);
    (void)rc;
}

static void get(const struct gmem *mem, uint64_t at, void *dst, size_t len)
{
    int rc = gmem_read(mem, gpa(at), dst, len);

    assert(rc == 0);
    (void)rc;
}

static void put_u16(struct gmem *mem, uint64_t at, uint16_t value)
{
    struct gslice s;
    int rc = gmem_slice(mem, gpa(at), sizeof(value), &s);

    assert(rc == 0);
    (void)rc;
    gslice_store_u16_release(&s, 0, value);
    /* A driver fences between its index and its look at ours (2.7.13). */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static uint16_t get_u16(struct gmem *mem, uint64_t at)
{
    struct gslice s;
    int rc = gmem_slice(mem, gpa(at), sizeof(uint16_t), &s);

    assert(rc == 0);
    (void)rc;
    return gslice_load_u16_acquire(&s, 0);
}

static uint64_t avail_offset(uint16_t size)
{
    return num_align_up(virtq_desc_bytes(size), VIRTQ_AVAIL_ALIGN);
}

static uint64_t used_offset(uint16_t size)
{
    return num_align_up(
        avail_offset(size) + virtq_avail_bytes(size), VIRTQ_USED_ALIGN);
}

uint64_t drive_queue_bytes(uint16_t size)
{
    return num_align_up(
        used_offset(size) + virtq_used_bytes(size), NUM_PAGE_SIZE);
}

void drive_queue_init(
    struct drive_queue *d, struct gmem *mem, uint64_t base, uint16_t size)
{
    int rc = gmem_zero(mem, gpa(base), drive_queue_bytes(size));

    assert(rc == 0);
    (void)rc;
    *d = (struct drive_queue){.mem = mem,
        .desc = base,
        .avail = base + avail_offset(size),
        .used = base + used_offset(size),
        .size = size};
}

void drive_queue_set_index(struct drive_queue *d, uint16_t start)
{
    d->avail_idx = start;
    d->used_seen = start;
    put_u16(d->mem, d->avail + VIRTQ_AVAIL_IDX, start);
    put_u16(d->mem, d->used + VIRTQ_USED_IDX, start);
}

struct queue_state drive_queue_state(const struct drive_queue *d)
{
    return (struct queue_state){.desc = d->desc,
        .avail = d->avail,
        .used = d->used,
        .size = d->size,
        .avail_next = d->avail_idx,
        .used_next = d->used_seen,
        .signalled = d->used_seen,
        .ready = 1};
}

void drive_set_desc(struct gmem *mem, uint64_t table, uint16_t i,
    const struct drive_buffer *buf, uint16_t flags, uint16_t next)
{
    const struct virtq_desc desc = {.addr = le64_put(buf->addr),
        .len = le32_put(buf->len),
        .flags = le16_put(
            (uint16_t)(flags | (buf->writable ? VIRTQ_DESC_F_WRITE : 0u))),
        .next = le16_put(next)};

    put(mem, table + (uint64_t)i * sizeof(desc), &desc, sizeof(desc));
}

void drive_set_avail_idx(struct drive_queue *d, uint16_t idx)
{
    d->avail_idx = idx;
    put_u16(d->mem, d->avail + VIRTQ_AVAIL_IDX, idx);
}

void drive_put_avail(struct drive_queue *d, uint16_t head)
{
    const le16 entry = le16_put(head);

    put(d->mem,
        d->avail + VIRTQ_AVAIL_RING +
            (uint64_t)(d->avail_idx % d->size) * sizeof(entry),
        &entry, sizeof(entry));
    drive_set_avail_idx(d, (uint16_t)(d->avail_idx + 1));
}

uint16_t drive_add(
    struct drive_queue *d, const struct drive_buffer *bufs, uint16_t n)
{
    uint16_t head = d->next_desc;

    assert(n > 0);
    for (uint16_t i = 0; i < n; i++) {
        uint16_t at = (uint16_t)((head + i) % d->size);

        drive_set_desc(d->mem, d->desc, at, &bufs[i],
            i + 1 < n ? VIRTQ_DESC_F_NEXT : 0, (uint16_t)((at + 1) % d->size));
    }
    d->next_desc = (uint16_t)((head + n) % d->size);
    drive_put_avail(d, head);
    return head;
}

uint16_t drive_add_indirect(struct drive_queue *d, uint64_t table,
    const struct drive_buffer *bufs, uint16_t n)
{
    const struct drive_buffer ref = {
        .addr = table, .len = (uint32_t)(n * sizeof(struct virtq_desc))};
    uint16_t head = d->next_desc;

    for (uint16_t i = 0; i < n; i++)
        drive_set_desc(d->mem, table, i, &bufs[i],
            i + 1 < n ? VIRTQ_DESC_F_NEXT : 0, (uint16_t)(i + 1));
    drive_set_desc(d->mem, d->desc, head, &ref, VIRTQ_DESC_F_INDIRECT, 0);
    d->next_desc = (uint16_t)((head + 1) % d->size);
    drive_put_avail(d, head);
    return head;
}

bool drive_get_used(struct drive_queue *d, uint32_t *ret_id, uint32_t *ret_len)
{
    struct virtq_used_elem elem;

    if (get_u16(d->mem, d->used + VIRTQ_USED_IDX) == d->used_seen)
        return false;
    get(d->mem,
        d->used + VIRTQ_USED_RING +
            (uint64_t)(d->used_seen % d->size) * sizeof(elem),
        &elem, sizeof(elem));
    d->used_seen++;
    *ret_id = le32_get(elem.id);
    *ret_len = le32_get(elem.len);
    return true;
}

void drive_set_used_event(struct drive_queue *d, uint16_t event)
{
    put_u16(d->mem, d->avail + virtq_avail_bytes(d->size) - 2, event);
}

void drive_set_avail_flags(struct drive_queue *d, uint16_t flags)
{
    put_u16(d->mem, d->avail + VIRTQ_AVAIL_FLAGS, flags);
}

uint16_t drive_avail_event(const struct drive_queue *d)
{
    return get_u16(d->mem, d->used + virtq_used_bytes(d->size) - 2);
}

uint16_t drive_used_flags(const struct drive_queue *d)
{
    return get_u16(d->mem, d->used + VIRTQ_USED_FLAGS);
}

static uint64_t access_register(
    struct device *dev, uint64_t offset, uint64_t value, bool is_write)
{
    struct bus_access access = {.offset = offset,
        .value = is_write ? value : UINT64_MAX,
        .len = sizeof(uint32_t),
        .is_write = is_write};

    device_lock(dev);
    dev->ops->access(dev, &access);
    device_unlock(dev);
    return access.value;
}

uint32_t drive_read(struct device *dev, uint64_t offset)
{
    return (uint32_t)access_register(dev, offset, 0, false);
}

void drive_write(struct device *dev, uint64_t offset, uint32_t value)
{
    (void)access_register(dev, offset, value, true);
}

static void write_address(struct device *dev, uint64_t low, uint64_t address)
{
    drive_write(dev, low, (uint32_t)address);
    drive_write(dev, low + 4, (uint32_t)(address >> 32));
}

void drive_setup_queue(
    struct device *dev, uint32_t index, const struct drive_queue *d)
{
    drive_write(dev, VIRTIO_MMIO_QUEUE_SEL, index);
    drive_write(dev, VIRTIO_MMIO_QUEUE_NUM, d->size);
    write_address(dev, VIRTIO_MMIO_QUEUE_DESC_LOW, d->desc);
    write_address(dev, VIRTIO_MMIO_QUEUE_DRIVER_LOW, d->avail);
    write_address(dev, VIRTIO_MMIO_QUEUE_DEVICE_LOW, d->used);
    drive_write(dev, VIRTIO_MMIO_QUEUE_READY, 1);
}

bool drive_negotiate(struct device *dev, uint64_t features)
{
    const uint32_t known = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;

    drive_write(dev, VIRTIO_MMIO_STATUS, 0);
    drive_write(dev, VIRTIO_MMIO_STATUS, VIRTIO_STATUS_ACKNOWLEDGE);
    drive_write(dev, VIRTIO_MMIO_STATUS, known);
    for (uint32_t sel = 0; sel < 2; sel++) {
        drive_write(dev, VIRTIO_MMIO_DRIVER_FEATURES_SEL, sel);
        drive_write(dev, VIRTIO_MMIO_DRIVER_FEATURES,
            (uint32_t)(features >> (32 * sel)));
    }
    drive_write(dev, VIRTIO_MMIO_STATUS, known | VIRTIO_STATUS_FEATURES_OK);
    return (drive_read(dev, VIRTIO_MMIO_STATUS) & VIRTIO_STATUS_FEATURES_OK) !=
           0;
}

void drive_start(struct device *dev, uint64_t features,
    const struct drive_queue *queues, uint32_t count)
{
    bool accepted = drive_negotiate(dev, features);
    uint32_t status = drive_read(dev, VIRTIO_MMIO_STATUS);

    assert(accepted);
    (void)accepted;
    for (uint32_t i = 0; i < count; i++)
        drive_setup_queue(dev, i, &queues[i]);
    drive_write(dev, VIRTIO_MMIO_STATUS, status | VIRTIO_STATUS_DRIVER_OK);
    status = drive_read(dev, VIRTIO_MMIO_STATUS);
    assert((status & VIRTIO_STATUS_NEEDS_RESET) == 0);
    (void)status;
}

void drive_kick(struct device *dev, uint32_t index)
{
    drive_write(dev, VIRTIO_MMIO_QUEUE_NOTIFY, index);
}
