/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A split queue whose state, rings and descriptors are all the input's: a
 * driver with nothing but bad intentions. Whatever is popped must be within
 * what the queue promises, and every byte of it must be there to touch.
 *
 * Input: a byte of features, a byte that says where the rings lie, a whole
 * struct queue_state if that byte wants it, and then operations.
 */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/iov.h"
#include "virtio/queue.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"
#include "vmm/base/num.h"
#include "vmm/core/gmem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM              NUM_MIB
#define RINGS            UINT64_C(0x1000)
#define PLAYED           UINT64_C(0x8000) /* bytes that an input may fill in */
#define SIZE_MAX_OFFERED ((uint16_t)64)

struct player {
    struct gmem mem;
    struct queue_state state;
    struct queue q;
    struct drive_queue d;
    struct queue_chain *held[SIZE_MAX_OFFERED];
    uint32_t held_count;
    struct queue_chain *latest; /* popped last, nothing since */
};

static void check_slices(const struct player *p, const struct gslice *slices,
    uint16_t count, uint32_t bytes)
{
    uint64_t sum = 0;

    for (uint16_t i = 0; i < count; i++) {
        assert(slices[i].len > 0);
        assert(num_range_within(slices[i].offset, slices[i].len, p->mem.size));
        sum += slices[i].len;
    }
    assert(sum == bytes);
}

static void check_chain(const struct player *p, struct queue_chain *c)
{
    struct iov_cursor in = iov_readable(c);
    struct iov_cursor out = iov_writable(c);
    uint8_t buf[64];

    check_slices(
        p, queue_chain_readable(c), c->readable_count, c->readable_bytes);
    check_slices(
        p, queue_chain_writable(c), c->writable_count, c->writable_bytes);
    assert(c->readable_count + c->writable_count <= p->state.size);
    assert((uint64_t)c->readable_bytes + c->writable_bytes <= UINT32_MAX);
    assert(
        iov_read(&in, buf, sizeof(buf)) == (c->readable_bytes >= sizeof(buf)));
    assert(iov_write(&out, buf, 1) == (c->writable_bytes >= 1));
}

static void pop(struct player *p)
{
    struct queue_chain *c = NULL;
    int rc = queue_pop(&p->q, &c);

    assert(rc == 1 || rc == 0 || (rc < 0 && p->q.fault != NULL));
    if (rc != 1)
        return;
    assert(p->held_count < p->state.size);
    check_chain(p, c);
    p->held[p->held_count++] = c;
    p->latest = c;
}

static void push(struct player *p, uint8_t which, uint32_t written)
{
    uint32_t i;

    if (p->held_count == 0)
        return;
    i = which % p->held_count;
    queue_push(&p->q, p->held[i],
        (uint32_t)num_min(written, p->held[i]->writable_bytes));
    p->held[i] = p->held[--p->held_count];
    p->latest = NULL;
}

static void unpop(struct player *p)
{
    if (p->latest == NULL)
        return;
    assert(p->held[p->held_count - 1] == p->latest);
    p->held_count--;
    queue_unpop(&p->q, p->latest);
    p->latest = NULL;
}

/* A driver's store: mostly into the rings, which is where it matters. */
static void poke(struct player *p, struct bytes_reader *r)
{
    uint16_t at = bytes_get_u16(r);
    uint8_t len = (uint8_t)(bytes_get_u8(r) % 33);
    uint8_t buf[32];

    bytes_get(r, buf, len);
    if (gmem_write(&p->mem, gpa(RINGS + at % PLAYED), buf, len) < 0)
        abort();
}

/* One descriptor, well formed more often than chance would make it. */
static void describe(struct player *p, struct bytes_reader *r)
{
    uint8_t i = bytes_get_u8(r);
    uint8_t flags = bytes_get_u8(r);
    struct drive_buffer buf = {.addr = bytes_get_u16(r) * UINT64_C(16),
        .len = bytes_get_u16(r),
        .writable = (flags & VIRTQ_DESC_F_WRITE) != 0};

    if ((flags & 0x40) != 0)
        buf.addr = p->d.desc;
    if ((flags & 0x80) != 0)
        buf.len = (buf.len % 8) * 16u;
    drive_set_desc(&p->mem, p->d.desc, (uint16_t)(i % p->d.size), &buf,
        flags & (VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_INDIRECT),
        (uint16_t)(bytes_get_u8(r) % (p->d.size + 1u)));
}

/* Asked twice with nothing pushed in between, the answer is no. */
static void check_interrupt(struct player *p)
{
    bool first = queue_needs_interrupt(&p->q);
    bool second = queue_needs_interrupt(&p->q);

    assert(!second);
    (void)first;
    (void)second;
}

/* No kick will come for work that is there: it must be told. */
static void check_kicks(struct player *p)
{
    bool told = queue_enable_kicks(&p->q);

    assert(told == queue_has_work(&p->q));
    (void)told;
}

static void play(struct player *p, struct bytes_reader *r)
{
    while (bytes_left(r) > 0) {
        switch (bytes_get_u8(r) % 9) {
        case 0:
            pop(p);
            break;
        case 1:
            push(p, bytes_get_u8(r), bytes_get_u16(r));
            break;
        case 2:
            unpop(p);
            break;
        case 3:
            poke(p, r);
            break;
        case 4:
            describe(p, r);
            break;
        case 5:
            drive_put_avail(&p->d, (uint16_t)(bytes_get_u8(r) % p->d.size));
            break;
        case 6:
            check_interrupt(p);
            break;
        case 7:
            queue_disable_kicks(&p->q);
            break;
        default:
            check_kicks(p);
            break;
        }
    }
}

/* The state as a driver would have it, or as a snapshot file may have it. */
static void set_state(struct player *p, struct bytes_reader *r)
{
    uint8_t how = bytes_get_u8(r);
    uint16_t size = (uint16_t)(1u << (how % 7));
    uint16_t start = 0;

    drive_queue_init(&p->d, &p->mem, RINGS, size);
    if ((how & 0x40) != 0)
        start = bytes_get_u16(r);
    drive_queue_set_index(&p->d, start);
    p->state = drive_queue_state(&p->d);
    if ((how & 0x80) != 0) {
        p->state.desc = bytes_get_u32(r);
        p->state.avail = bytes_get_u32(r);
        p->state.used = bytes_get_u64(r);
        p->state.size = bytes_get_u16(r);
        p->state.used_next = bytes_get_u16(r);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct player player;
    struct player *p = &player;
    struct bytes_reader r;
    uint8_t features;

    if (p->mem.host == NULL && gmem_init(&p->mem, RAM, NULL) < 0)
        abort();
    bytes_reader_init(&r, data, size);
    if (gmem_zero(&p->mem, gpa(RINGS), PLAYED) < 0)
        abort();
    features = bytes_get_u8(&r);
    queue_init(&p->q, &p->state, &p->mem, SIZE_MAX_OFFERED,
        sizeof(struct queue_chain));
    set_state(p, &r);
    if (queue_enable(
            &p->q, ((features & 1) != 0 ? VIRTIO_F_INDIRECT_DESC : 0) |
                       ((features & 2) != 0 ? VIRTIO_F_EVENT_IDX : 0)) == 0)
        play(p, &r);
    while (p->held_count > 0)
        push(p, 0, 0);
    p->latest = NULL;
    queue_fini(&p->q);
    return 0;
}
