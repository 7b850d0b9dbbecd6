/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A split queue whose state, rings and descriptors are all the input's: a
 * driver with nothing but bad intentions. What is popped is compared with what
 * a plain reading of virtio 1.2 makes of the same memory: the same buffers, or
 * a refusal where that has one. Memory reaches beyond the gap below 4 GiB, so
 * that chains can be too long and buffers lie across it.
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

#define RAM              (GMEM_GAP_START + 64 * NUM_MIB)
#define TOUCHED          (4 * NUM_MIB) /* the rest must take no memory */
#define RINGS            UINT64_C(0x1000)
#define PLAYED           UINT64_C(0x8000) /* bytes that an input may fill in */
#define SIZE_MAX_OFFERED ((uint16_t)64)

/* What the next chain is, by another reading of the same rings. */
struct reading {
    int rc; /* as queue_pop, negative for any refusal */
    uint16_t head;
    uint16_t count;
    uint16_t readable;
    struct drive_buffer bufs[SIZE_MAX_OFFERED];
};

struct player {
    struct gmem mem;
    struct queue_state state;
    struct queue q;
    struct drive_queue d;
    struct queue_chain *held[SIZE_MAX_OFFERED];
    uint32_t held_count;
    uint32_t run; /* of these, the ones popped last with nothing since */
};

static void get(const struct player *p, uint64_t at, void *dst, size_t len)
{
    int rc = gmem_read(&p->mem, gpa(at), dst, len);

    assert(rc == 0);
    (void)rc;
}

static bool is_ram(uint64_t at, uint64_t len)
{
    uint64_t start = at < GMEM_GAP_START ? 0 : GMEM_GAP_END;
    uint64_t size = at < GMEM_GAP_START ? GMEM_GAP_START : RAM - GMEM_GAP_START;

    return at >= start && num_range_within(at - start, len, size);
}

/* 2.7.5.3.1: what may stand in place of a chain. */
static bool is_table(const struct player *p, const struct virtq_desc *desc)
{
    uint32_t len = le32_get(desc->len);

    return p->q.indirect && le16_get(desc->flags) == VIRTQ_DESC_F_INDIRECT &&
           len > 0 && len % sizeof(*desc) == 0 &&
           len / sizeof(*desc) <= p->state.size &&
           is_ram(le64_get(desc->addr), len);
}

static bool read_buffer(
    struct reading *c, const struct virtq_desc *desc, uint64_t *sum)
{
    const struct drive_buffer buf = {.addr = le64_get(desc->addr),
        .len = le32_get(desc->len),
        .writable = (le16_get(desc->flags) & VIRTQ_DESC_F_WRITE) != 0};

    if (!buf.writable && c->count > c->readable)
        return false;
    if (buf.len == 0)
        return true;
    *sum += buf.len;
    if (*sum > UINT32_MAX || !is_ram(buf.addr, buf.len))
        return false;
    c->bufs[c->count++] = buf;
    c->readable = (uint16_t)(c->readable + !buf.writable);
    return true;
}

/* Reads the chain that starts at c->head; whether it is one. */
static bool read_chain(const struct player *p, struct reading *c)
{
    uint64_t table = p->state.desc;
    uint32_t size = p->state.size;
    uint32_t next = c->head;
    uint64_t sum = 0;
    uint32_t seen = 0;
    bool inside = false;

    for (;;) {
        struct virtq_desc desc;
        uint16_t flags;

        if (next >= size)
            return false;
        get(p, table + next * sizeof(desc), &desc, sizeof(desc));
        flags = le16_get(desc.flags);
        if ((flags & VIRTQ_DESC_F_INDIRECT) != 0) {
            /* WRITE says nothing here (2.7.5.3.2). */
            desc.flags = le16_put(flags & (uint16_t)~VIRTQ_DESC_F_WRITE & 7u);
            if (inside || !is_table(p, &desc))
                return false;
            inside = true;
            table = le64_get(desc.addr);
            size = le32_get(desc.len) / (uint32_t)sizeof(desc);
            next = 0;
            continue;
        }
        if (++seen > p->state.size || !read_buffer(c, &desc, &sum))
            return false;
        if ((flags & VIRTQ_DESC_F_NEXT) == 0)
            return true;
        next = le16_get(desc.next);
    }
}

static void read_next(const struct player *p, struct reading *c)
{
    const struct queue_state *s = &p->state;
    le16 raw;

    *c = (struct reading){.rc = 0};
    if (p->q.avail_seen == s->avail_next) {
        uint16_t ahead;

        get(p, s->avail + VIRTQ_AVAIL_IDX, &raw, sizeof(raw));
        ahead = (uint16_t)(le16_get(raw) - s->avail_next);
        if (ahead == 0)
            return;
        if (ahead > s->size) {
            c->rc = -1;
            return;
        }
    }
    get(p,
        s->avail + VIRTQ_AVAIL_RING +
            (uint64_t)(s->avail_next % s->size) * sizeof(raw),
        &raw, sizeof(raw));
    c->head = le16_get(raw);
    c->rc = p->held_count < s->size && read_chain(p, c) ? 1 : -1;
}

static void check_slices(const struct gslice *slices,
    const struct drive_buffer *bufs, uint16_t count, uint32_t bytes)
{
    uint64_t sum = 0;

    for (uint16_t i = 0; i < count; i++) {
        uint64_t offset = bufs[i].addr < GMEM_GAP_START
                              ? bufs[i].addr
                              : bufs[i].addr - GMEM_GAP_END + GMEM_GAP_START;

        assert(slices[i].len == bufs[i].len && slices[i].offset == offset);
        assert(num_range_within(slices[i].offset, slices[i].len, RAM));
        sum += slices[i].len;
        (void)offset;
    }
    assert(sum == bytes);
    (void)slices;
    (void)bytes;
}

/* Whether all of it may be written to without taking much memory. */
static bool is_touchable(const struct reading *want)
{
    for (uint16_t i = 0; i < want->count; i++) {
        if (want->bufs[i].addr + want->bufs[i].len > TOUCHED)
            return false;
    }
    return true;
}

static void check_chain(struct queue_chain *c, const struct reading *want)
{
    struct iov_cursor in = iov_readable(c);
    struct iov_cursor out = iov_writable(c);
    uint8_t buf[64];

    assert(c->head == want->head);
    assert(c->readable_count == want->readable);
    assert(c->readable_count + c->writable_count == want->count);
    check_slices(queue_chain_readable(c), want->bufs, c->readable_count,
        c->readable_bytes);
    check_slices(queue_chain_writable(c), want->bufs + c->readable_count,
        c->writable_count, c->writable_bytes);
    assert((uint64_t)c->readable_bytes + c->writable_bytes <= UINT32_MAX);
    if (!is_touchable(want))
        return;
    assert(
        iov_read(&in, buf, sizeof(buf)) == (c->readable_bytes >= sizeof(buf)));
    assert(iov_write(&out, buf, 1) == (c->writable_bytes >= 1));
}

static void pop(struct player *p)
{
    struct queue_chain *c = NULL;
    struct reading want;
    int rc;

    read_next(p, &want);
    rc = queue_pop(&p->q, &c);
    assert(rc == want.rc || (rc < 0 && want.rc < 0 && p->q.fault != NULL));
    if (rc != 1)
        return;
    assert(p->held_count < p->state.size);
    check_chain(c, &want);
    p->held[p->held_count++] = c;
    p->run++;
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
    p->run = 0;
}

/* In the reverse order of popping, as long as nothing was pushed. */
static void unpop(struct player *p)
{
    if (p->run == 0)
        return;
    p->run--;
    queue_unpop(&p->q, p->held[--p->held_count]);
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
    if ((flags & 0x38) == 0x38)
        buf.addr += (flags & 0x80) != 0 ? GMEM_GAP_START - 0x8000
                                        : GMEM_GAP_END + 64 * NUM_MIB - 0x8000;
    else if ((flags & 0x38) == 0x30)
        buf.len = bytes_get_u32(r);
    else if ((flags & 0x38) == 0x28)
        buf.len = UINT32_C(0x60000000) + buf.len;
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
    queue_fini(&p->q);
    return 0;
}
