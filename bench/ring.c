/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/ring.h"

#include <stdio.h>
#include <stdlib.h>

#include "virtio/spec.h"

#define AVAIL_AT UINT64_C(0x4000)
#define USED_AT  UINT64_C(0x5000)

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

static void write_register(struct device *dev, uint64_t offset, uint64_t value)
{
    struct bus_access a = {
        .offset = offset, .value = value, .len = 4, .is_write = true};

    device_lock(dev);
    dev->ops->access(dev, &a);
    device_unlock(dev);
}

static uint32_t read_register(struct device *dev, uint64_t offset)
{
    struct bus_access a = {.offset = offset, .len = 4};

    device_lock(dev);
    dev->ops->access(dev, &a);
    device_unlock(dev);
    return (uint32_t)a.value;
}

static void *ring_part(const struct gslice *s, size_t at)
{
    return (uint8_t *)gslice_iovec(s).iov_base + at;
}

void ring_init(struct ring *r, struct gmem *mem, struct device *dev,
    uint32_t index, uint64_t base, uint16_t size)
{
    *r = (struct ring){
        .mem = mem, .dev = dev, .index = index, .size = size, .base = base};
    must(size <= 256 && gmem_zero(mem, gpa(base), RING_BYTES) == 0 &&
             gmem_slice(mem, gpa(base + AVAIL_AT), virtq_avail_bytes(size),
                 &r->avail) == 0 &&
             gmem_slice(mem, gpa(base + USED_AT), virtq_used_bytes(size),
                 &r->used) == 0,
        "rings");
    r->heads = ring_part(&r->avail, VIRTQ_AVAIL_RING);
    r->answers = ring_part(&r->used, VIRTQ_USED_RING);
}

void ring_start(struct device *dev, uint64_t features, const struct ring *rings,
    uint32_t count)
{
    features |= VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX;
    write_register(dev, VIRTIO_MMIO_STATUS, 0);
    write_register(dev, VIRTIO_MMIO_STATUS, 3);
    for (uint32_t sel = 0; sel < 2; sel++) {
        write_register(dev, VIRTIO_MMIO_DRIVER_FEATURES_SEL, sel);
        write_register(dev, VIRTIO_MMIO_DRIVER_FEATURES,
            (uint32_t)(features >> (32 * sel)));
    }
    write_register(dev, VIRTIO_MMIO_STATUS, 11);
    for (uint32_t i = 0; i < count; i++) {
        write_register(dev, VIRTIO_MMIO_QUEUE_SEL, rings[i].index);
        write_register(dev, VIRTIO_MMIO_QUEUE_NUM, rings[i].size);
        write_register(dev, VIRTIO_MMIO_QUEUE_DESC_LOW, rings[i].base);
        write_register(
            dev, VIRTIO_MMIO_QUEUE_DRIVER_LOW, rings[i].base + AVAIL_AT);
        write_register(
            dev, VIRTIO_MMIO_QUEUE_DEVICE_LOW, rings[i].base + USED_AT);
        write_register(dev, VIRTIO_MMIO_QUEUE_READY, 1);
    }
    write_register(dev, VIRTIO_MMIO_STATUS, 15);
    must(read_register(dev, VIRTIO_MMIO_STATUS) == 15,
        "the device does not come up");
}

void ring_set_desc(struct ring *r, uint16_t i, uint64_t addr, uint32_t len,
    uint16_t flags, uint16_t next)
{
    const struct virtq_desc d = {.addr = le64_put(addr),
        .len = le32_put(len),
        .flags = le16_put(flags),
        .next = le16_put(next)};

    must(i < r->size && gmem_write(r->mem, gpa(r->base + i * sizeof(d)), &d,
                            sizeof(d)) == 0,
        "descriptor");
}

void ring_put(struct ring *r, uint16_t head)
{
    r->heads[r->avail_idx++ % r->size] = le16_put(head);
}

void ring_publish(struct ring *r)
{
    uint16_t event;

    if (r->avail_idx == r->published)
        return;
    gslice_store_u16_release(&r->avail, VIRTQ_AVAIL_IDX, r->avail_idx);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    event = gslice_load_u16_acquire(
        &r->used, virtq_used_bytes(r->size) - sizeof(uint16_t));
    if ((uint16_t)(r->avail_idx - event - 1) <
        (uint16_t)(r->avail_idx - r->published))
        write_register(r->dev, VIRTIO_MMIO_QUEUE_NOTIFY, r->index);
    r->published = r->avail_idx;
}

void ring_want_interrupt(struct ring *r, uint16_t count)
{
    gslice_store_u16_release(&r->avail,
        virtq_avail_bytes(r->size) - sizeof(uint16_t),
        (uint16_t)(r->used_seen + count - 1));
}

bool ring_next(struct ring *r, uint32_t *ret_id, uint32_t *ret_len)
{
    struct virtq_used_elem elem;

    if (gslice_load_u16_acquire(&r->used, VIRTQ_USED_IDX) == r->used_seen)
        return false;
    elem = r->answers[r->used_seen++ % r->size];
    *ret_id = le32_get(elem.id);
    *ret_len = le32_get(elem.len);
    return true;
}
