/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "tests/fuzz/support/fuzz_guest.h"
#include "tests/fuzz/support/fuzz_kernel.h"
#include "virtio/spec.h"
#include "vmm/base/clock.h"

/* Where a wire form of struct virtio_state has the places of the rings. */
#define PLACES     32u
#define PLACES_LEN ((size_t)VIRTIO_QUEUES_MAX * 3 * 8)

static void put(struct fuzz_guest *g, uint64_t at, const void *src, size_t len)
{
    fuzz_require(gmem_write(g->mem, gpa(at), src, len) == 0);
}

/* Whether a kick makes the device look at everything in the queue. */
static bool is_looked_at(const struct fuzz_guest *g, unsigned int queue)
{
    return !g->wild && (g->eager >> queue & 1) != 0 &&
           virtio_queue_live(g->v, queue);
}

/* The device has been told of a mistake that it cannot overlook. */
static void kick_broken(struct fuzz_guest *g, unsigned int queue)
{
    bool sees = is_looked_at(g, queue);

    fuzz_guest_keep(g, queue);
    fuzz_guest_kick(g, queue);
    fuzz_guest_run(g);
    fuzz_require(!sees || !virtio_is_live(g->v));
}

/*
 * The driver's index runs away: by more than the queue has, also from what the
 * device may have seen of it before and not worked on yet.
 */
static void run_away(
    struct fuzz_guest *g, unsigned int queue, struct bytes_reader *r)
{
    struct drive_queue *d = &g->queues[queue];
    uint16_t by =
        (uint16_t)(2 * FUZZ_QUEUE_SIZE + 1 + bytes_get_u16(r) % 0x8000);

    drive_set_avail_idx(
        d, (uint16_t)(g->v->state->queues[queue].avail_next + by));
    kick_broken(g, queue);
}

/* A chain that comes back to itself, or leaves its table. */
static void break_chain(
    struct fuzz_guest *g, unsigned int queue, struct bytes_reader *r)
{
    struct drive_queue *d = &g->queues[queue];
    uint8_t how = bytes_get_u8(r);
    struct drive_buffer buf = {FUZZ_FIXED, how % 3, false};
    uint16_t flags = VIRTQ_DESC_F_NEXT;
    uint16_t next = d->next_desc;

    switch (how >> 5) {
    case 0: /* an indirect table that is its own table */
        buf = (struct drive_buffer){d->desc + d->next_desc * 16u, 16, false};
        flags = VIRTQ_DESC_F_INDIRECT;
        break;
    case 1:
        buf.len = 15;
        flags = VIRTQ_DESC_F_INDIRECT;
        break;
    case 2:
        buf.len = 16;
        flags = VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_NEXT;
        break;
    case 3:
        next = (uint16_t)(d->size + how % 4);
        break;
    case 4:
        buf = (struct drive_buffer){FUZZ_RAM, 16, false};
        flags = VIRTQ_DESC_F_INDIRECT;
        break;
    default:
        break;
    }
    drive_set_desc(g->mem, d->desc, d->next_desc, &buf, flags, next);
    drive_put_avail(
        d, how >> 5 == 5 ? (uint16_t)(d->size + how) : d->next_desc);
    kick_broken(g, queue);
}

/* Anything, into rings, tables and texts. */
static void poke(struct fuzz_guest *g, struct bytes_reader *r)
{
    uint64_t span =
        (uint64_t)g->queue_count * NUM_PAGE_SIZE + 2 * NUM_PAGE_SIZE;
    uint64_t at = bytes_get_u16(r) % span;
    uint8_t len = (uint8_t)(1 + bytes_get_u8(r) % 16);
    uint8_t buf[16];

    /* The used parts of ring pages are small: more hits there. */
    if (at < (uint64_t)g->queue_count * NUM_PAGE_SIZE)
        at = FUZZ_RINGS + at / NUM_PAGE_SIZE * NUM_PAGE_SIZE + at % 512;
    else
        at = FUZZ_TABLE + at % 1024;
    bytes_get(r, buf, len);
    put(g, at, buf, len);
    g->wild = true;
}

/*
 * Registers. The addresses of rings stay apart from each other: a used ring
 * over the available one makes work of every answer, without end, which is
 * for the harness of the transport.
 */
static void access_any(struct fuzz_guest *g, struct bytes_reader *r)
{
    uint8_t what = bytes_get_u8(r);
    uint64_t offset = (what & 0x3fu) * UINT64_C(4);
    uint32_t value = (what & 0x40) != 0 ? bytes_get_u32(r) : bytes_get_u8(r);
    struct bus_access a = {.offset = VIRTIO_MMIO_CONFIG + value % 0xf00,
        .value = UINT64_MAX,
        .len = (uint8_t)(1u << (value >> 14 & 3))};

    if ((what & 0x80) != 0) {
        (void)drive_read(g->dev, offset);
        if (a.offset + a.len <= VIRTIO_MMIO_SIZE)
            g->dev->ops->access(g->dev, &a);
        return;
    }
    if (offset >= VIRTIO_MMIO_QUEUE_DESC_LOW &&
        offset <= VIRTIO_MMIO_QUEUE_DEVICE_HIGH)
        value |= 0xfff00000u;
    /* All that a driver may do with a status is done by other steps. */
    drive_write(g->dev, offset, value);
    g->wild = true;
}

static size_t save(const struct fuzz_guest *g, uint8_t wire[FUZZ_WIRE_MAX])
{
    struct bytes_writer w;

    bytes_writer_init(&w, wire, FUZZ_WIRE_MAX);
    state_save(g->dev->ops->state, g->dev->state, &w);
    fuzz_require(!w.failed);
    return w.pos;
}

static void quiesce(struct fuzz_guest *g)
{
    device_lock(g->dev);
    fuzz_require(g->dev->ops->quiesce(g->dev, NULL) == 0);
    device_unlock(g->dev);
    g->quiesced = true;
    for (unsigned int i = 0; i < g->v->ops->queue_count; i++)
        fuzz_require(g->v->queues[i].q.inflight == 0);
}

/*
 * A snapshot and its load. One without damage must be accepted, and come back
 * as it was; one that is refused leaves the device reset.
 */
static void reload(struct fuzz_guest *g, struct bytes_reader *r, uint8_t damage)
{
    const struct state_desc *desc = g->dev->ops->state;
    uint8_t wire[FUZZ_WIRE_MAX];
    uint8_t again[FUZZ_WIRE_MAX];
    struct bytes_reader from;
    size_t n;
    int rc;

    quiesce(g);
    n = save(g, wire);
    for (uint8_t i = 0; i < damage; i++) {
        size_t at = bytes_get_u16(r) % (n - PLACES_LEN);

        wire[at < PLACES ? at : at + PLACES_LEN] ^= bytes_get_u8(r);
    }
    bytes_reader_init(&from, wire, n);
    device_lock(g->dev);
    rc = state_load(desc, desc->version, &from, g->dev->state);
    fuzz_require(rc == 0);
    rc = g->dev->ops->post_load(g->dev, NULL);
    device_unlock(g->dev);
    fuzz_require(rc == 0 || damage > 0);
    if (rc < 0)
        fuzz_require(g->v->state->status == 0);
    else if (damage == 0)
        fuzz_require(save(g, again) == n && memcmp(wire, again, n) == 0);
    if (damage > 0) {
        g->wild = true;
        g->was_broken = false;
    }
    fuzz_guest_resume(g);
}

/*
 * A guest that has been at it for long: indices about to wrap around. Only
 * when the driver has nothing outstanding, for it forgets that.
 */
static void jump(struct fuzz_guest *g, struct bytes_reader *r)
{
    uint16_t start = (uint16_t)(0u - bytes_get_u8(r) % 20u);

    quiesce(g);
    for (unsigned int i = 0; i < g->queue_count; i++) {
        struct queue_state *s = &g->v->state->queues[i];

        if (s->ready == 0 || s->size != g->queues[i].size || g->wild)
            continue;
        fuzz_guest_lay_out(g, i, g->queues[i].size);
        drive_queue_set_index(&g->queues[i], start);
        fuzz_guest_keep(g, i);
        s->avail_next = start;
        s->used_next = start;
        s->signalled = start;
    }
    device_lock(g->dev);
    fuzz_require(g->dev->ops->post_load(g->dev, NULL) == 0);
    device_unlock(g->dev);
    fuzz_guest_resume(g);
}

static void reset_queue(
    struct fuzz_guest *g, unsigned int queue, struct bytes_reader *r)
{
    uint8_t how = bytes_get_u8(r);
    const struct queue_state *s = &g->v->state->queues[queue];

    drive_write(g->dev, VIRTIO_MMIO_QUEUE_SEL, queue);
    if ((how & 1) != 0)
        drive_write(g->dev, VIRTIO_MMIO_QUEUE_READY, 0);
    else
        drive_write(g->dev, VIRTIO_MMIO_QUEUE_RESET, 1);
    if (s->ready != 0 || (how & 2) != 0)
        return;
    fuzz_require(g->v->queues[queue].q.inflight == 0);
    fuzz_guest_lay_out(g, queue, (uint16_t)(1u << (how >> 2) % 5));
    drive_setup_queue(g->dev, queue, &g->queues[queue]);
}

/* 3.1.1 in another order, up to where `how` says. */
static void start_badly(struct fuzz_guest *g, struct bytes_reader *r)
{
    uint8_t how = bytes_get_u8(r);
    const uint32_t known = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;

    if ((how & 1) != 0)
        drive_write(g->dev, VIRTIO_MMIO_STATUS, 0);
    g->was_broken = false;
    if ((how & 2) != 0)
        drive_write(g->dev, VIRTIO_MMIO_DRIVER_FEATURES, how >> 2);
    if ((how & 4) != 0)
        drive_write(g->dev, VIRTIO_MMIO_STATUS, known);
    if ((how & 8) != 0)
        fuzz_guest_kick(g, how % g->queue_count);
    if ((how & 16) != 0)
        (void)drive_negotiate(g->dev, g->features | bytes_get_u32(r));
    if ((how & 32) != 0)
        drive_setup_queue(
            g->dev, how % g->queue_count, &g->queues[how % g->queue_count]);
    if ((how & 64) != 0)
        drive_write(g->dev, VIRTIO_MMIO_STATUS, known | how);
    if ((how & 128) != 0)
        drive_write(g->dev, VIRTIO_MMIO_STATUS,
            g->v->state->status | VIRTIO_STATUS_DRIVER_OK);
    /* The queues that are ready may be the ones of before. */
    g->wild = true;
}

static void set_wishes(
    struct fuzz_guest *g, unsigned int queue, struct bytes_reader *r)
{
    struct drive_queue *d = &g->queues[queue];
    uint8_t how = bytes_get_u8(r);

    if ((how & 1) != 0)
        drive_set_avail_flags(d, how >> 1 & 1);
    if ((how & 4) != 0)
        drive_set_used_event(d, (uint16_t)(d->avail_idx + (how >> 4) - 8));
    fuzz_guest_keep(g, queue);
}

/* What a host does: time goes on, and calls fail that never did. */
static void be_host(struct fuzz_guest *g, struct bytes_reader *r)
{
    static const int errors[] = {EINTR, EAGAIN, ENOMEM, EPIPE};
    static const int accept_errors[] = {EINTR, ECONNABORTED, EMFILE, ENOMEM};
    uint8_t what = bytes_get_u8(r);

    if (what >= 0xf8)
        fuzz_kernel_fail(FUZZ_KERNEL_ACCEPT, 0, accept_errors[what & 3]);
    else if ((what & 0x80) != 0)
        fuzz_kernel_advance((what & 0x7fu) * 16u * CLOCK_NS_PER_MS);
    else if ((what & 0x40) != 0)
        fuzz_kernel_fail(what % 2 == 0 ? FUZZ_KERNEL_SEND : FUZZ_KERNEL_RECV,
            what >> 4 & 3, errors[what >> 1 & 3]);
    else if ((what & 0x20) != 0)
        fuzz_kernel_fail(
            FUZZ_KERNEL_RANDOM, what & 3, what < 0x30 ? 0 : errors[what & 1]);
    else if ((what & 0x10) != 0)
        fuzz_kernel_fail(
            (what & 8) != 0 ? FUZZ_KERNEL_EPOLL_CTL : FUZZ_KERNEL_FALLOCATE,
            what & 3, ENOMEM);
    else
        g->lazy = (what & 1) != 0;
    fuzz_guest_run(g);
}

void fuzz_guest_step(struct fuzz_guest *g, struct bytes_reader *r)
{
    uint8_t what = bytes_get_u8(r);
    unsigned int queue = (what >> 4) % g->queue_count;

    switch (what % 16) {
    case 0:
        poke(g, r);
        break;
    case 1:
        access_any(g, r);
        break;
    case 2:
        reload(g, r, 0);
        break;
    case 3:
        reload(g, r, (uint8_t)(1 + (what >> 6)));
        break;
    case 4:
        quiesce(g);
        break;
    case 5:
        fuzz_guest_resume(g);
        break;
    case 6:
        reset_queue(g, queue, r);
        break;
    case 7:
        be_host(g, r);
        break;
    case 8:
        /* As a snapshot's state, a quiesced device is not the driver's. */
        if (g->quiesced)
            fuzz_guest_resume(g);
        fuzz_guest_restart(g);
        break;
    case 9:
        run_away(g, queue, r);
        break;
    case 10:
        break_chain(g, queue, r);
        break;
    case 11:
        set_wishes(g, queue, r);
        break;
    case 12:
    case 13:
        jump(g, r);
        break;
    case 14:
        start_badly(g, r);
        break;
    default:
        /* Now and then a queue that there is not. */
        fuzz_guest_kick(g, what == 0xff ? VIRTIO_QUEUES_MAX : queue);
        break;
    }
}
