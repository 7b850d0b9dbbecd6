/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/support/fuzz_guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/support/fuzz_kernel.h"
#include "virtio/spec.h"
#include "vmm/base/clock.h"

/* The neighbour's ring and, behind it, its two buffers. */
#define NEIGHBOUR_DATA (FUZZ_NEIGHBOUR + 0x1000)
#define NEIGHBOUR_END  (FUZZ_NEIGHBOUR + 0x2000)
#define NEIGHBOUR_LEN  8u

/* One in so many inputs has all of memory looked at. */
#define COSTLY 64u

/* Bytes that a socket takes; and rounds of the loop that come to an end. */
#define SOCKET_ROOM 4096u
#define ROUNDS_MAX  4096u

/* Where a wire form of struct virtio_state has the places of the rings. */
#define PLACES     32u
#define PLACES_LEN ((size_t)VIRTIO_QUEUES_MAX * 3 * 8)

void fuzz_failed(const char *file, int line, const char *what)
{
    (void)fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}

static void put(struct fuzz_guest *g, uint64_t at, const void *src, size_t len)
{
    fuzz_require(gmem_write(g->mem, gpa(at), src, len) == 0);
}

static void get(const struct fuzz_guest *g, uint64_t at, void *dst, size_t len)
{
    fuzz_require(gmem_read(g->mem, gpa(at), dst, len) == 0);
}

static void start_neighbour(struct fuzz_guest *g)
{
    drive_write(g->bench.dev, VIRTIO_MMIO_STATUS, 0);
    drive_queue_init(&g->bench.d[0], g->mem, FUZZ_NEIGHBOUR, ECHO_SIZE);
    drive_start(g->bench.dev, ECHO_F_ALL, g->bench.d, 1);
}

static void make(struct fuzz_guest *g)
{
    struct gslice all;

    g->mem = &g->bench.mem;
    fuzz_require(gmem_init(g->mem, FUZZ_RAM, NULL) == 0);
    fuzz_require(gmem_slice(g->mem, gpa(0), FUZZ_RAM, &all) == 0);
    fuzz_kernel_set_ram(gslice_iovec(&all).iov_base, FUZZ_RAM);
    g->bench.irq = -1;
    echo_init(&g->bench, &g->bench.e, NULL);
    g->bench.dev = &g->bench.e.virtio.base;
    for (size_t i = 0; i < sizeof(g->fixed); i++)
        g->fixed[i] = (uint8_t)(i * 167 + (i >> 8));
    put(g, FUZZ_FIXED, g->fixed, sizeof(g->fixed));
    start_neighbour(g);
}

/* Pages that stay from input to input. */
static bool is_permanent(uint64_t at)
{
    return (at >= FUZZ_FIXED && at < FUZZ_FIXED + FUZZ_FIXED_LEN) ||
           (at >= FUZZ_NEIGHBOUR && at < NEIGHBOUR_END);
}

/* All that was written to goes back to zero: it is marked dirty. */
static void clean(struct fuzz_guest *g)
{
    size_t first = 0;
    size_t count;

    while (bitmap_next_run(&g->mem->dirty, first, &first, &count)) {
        for (; count > 0; count--, first++) {
            uint64_t at = first << NUM_PAGE_SHIFT;

            if (!is_permanent(at))
                fuzz_require(gmem_zero(g->mem, gpa(at), NUM_PAGE_SIZE) == 0);
        }
    }
    bitmap_clear_all(&g->mem->dirty);
}

struct virtio_host fuzz_guest_prepare(struct fuzz_guest *g, uint8_t how)
{
    if (g->mem == NULL)
        make(g);
    clean(g);
    if (g->wild) {
        put(g, FUZZ_FIXED, g->fixed, sizeof(g->fixed));
        start_neighbour(g);
    }
    memset(g->text, 0, sizeof(g->text));
    g->wild = false;
    g->quiesced = false;
    g->was_broken = false;
    g->lazy = false;
    g->eager = 0;
    g->has_loop = (how & 1) != 0;
    fuzz_kernel_prepare(SOCKET_ROOM);
    if (g->has_loop) {
        fuzz_require(loop_init(&g->loop, NULL) == 0);
        if (how >= 0xf0)
            fuzz_kernel_fail(FUZZ_KERNEL_EVENTFD, how >> 1 & 3, EMFILE);
        else if (how >= 0xe0)
            fuzz_kernel_fail(FUZZ_KERNEL_EPOLL_CTL, how >> 1 & 3, ENOSPC);
    }
    return (struct virtio_host){.mem = g->mem,
        .loop = g->has_loop ? &g->loop : NULL,
        .irq = {.fd = -1}};
}

/* Bytes of descriptors and available ring, in this order and in one piece. */
static size_t kept_bytes(const struct drive_queue *d)
{
    return (size_t)(virtq_desc_bytes(d->size) + virtq_avail_bytes(d->size));
}

static void keep(struct fuzz_guest *g, unsigned int queue)
{
    const struct drive_queue *d = &g->queues[queue];

    get(g, d->desc, g->kept[queue], kept_bytes(d));
}

static void check_kept(const struct fuzz_guest *g)
{
    uint8_t now[sizeof(g->kept[0])];

    for (unsigned int i = 0; i < g->queue_count; i++) {
        size_t n = kept_bytes(&g->queues[i]);

        get(g, g->queues[i].desc, now, n);
        fuzz_require(memcmp(now, g->kept[i], n) == 0);
    }
}

/* Fresh rings of a queue, which must not be in use. */
static void lay_out(struct fuzz_guest *g, unsigned int i, uint16_t size)
{
    drive_queue_init(
        &g->queues[i], g->mem, FUZZ_RINGS + i * NUM_PAGE_SIZE, size);
    keep(g, i);
}

static void resume(struct fuzz_guest *g)
{
    g->quiesced = false;
    device_lock(g->dev);
    g->dev->ops->resume(g->dev);
    device_unlock(g->dev);
}

void fuzz_guest_restart(struct fuzz_guest *g)
{
    /* Before the rings go: they are the device's until it is reset. */
    drive_write(g->dev, VIRTIO_MMIO_STATUS, 0);
    fuzz_require(g->v->state->status == 0);
    for (unsigned int i = 0; i < g->queue_count; i++)
        lay_out(g, i,
            (uint16_t)num_min(FUZZ_QUEUE_SIZE, g->v->queues[i].q.size_max));
    drive_start(g->dev, g->features, g->queues, g->queue_count);
    fuzz_require(virtio_is_live(g->v));
    g->was_broken = false;
}

void fuzz_guest_start(struct fuzz_guest *g, struct virtio_device *v,
    unsigned int queue_count, uint8_t wish, uint64_t features)
{
    g->v = v;
    g->dev = &v->base;
    g->queue_count = queue_count;
    g->features = VIRTIO_F_VERSION_1 | (features & v->features);
    if ((wish & 1) != 0)
        g->features |= VIRTIO_F_INDIRECT_DESC;
    if ((wish & 2) != 0)
        g->features |= VIRTIO_F_EVENT_IDX;
    if ((wish & 4) != 0)
        g->features |= VIRTIO_F_RING_RESET;
    fuzz_guest_restart(g);
}

void fuzz_guest_put(
    struct fuzz_guest *g, uint32_t at, const void *src, uint32_t len)
{
    fuzz_require(num_range_within(at, len, sizeof(g->text)));
    memcpy(g->text + at, src, len);
    put(g, FUZZ_TEXT + at, src, len);
}

struct drive_buffer fuzz_guest_buffer(
    struct bytes_reader *r, bool writable, uint32_t most)
{
    uint8_t how = bytes_get_u8(r);
    uint64_t start = writable ? FUZZ_WRITABLE : 0;
    uint64_t at = start + bytes_get_u16(r) % (FUZZ_RAM - start);
    uint64_t len = (uint64_t)bytes_get_u8(r) * how % ((uint64_t)most + 1);

    if (how < 0xf0)
        at -= at % 8;
    else if (how < 0xf2)
        len = 0;
    else if (how < 0xf4)
        len = FUZZ_RAM - at;
    else if (how < 0xf6)
        len = FUZZ_RAM - at + 1;
    else if (how < 0xf8)
        len = UINT32_MAX;
    else if (how < 0xfa)
        at = FUZZ_RAM - 1;
    else if (how < 0xfc)
        at = UINT64_MAX - len / 2;
    else if (how < 0xfe)
        at = FUZZ_RAM + GMEM_GAP_END;
    else
        len = bytes_get_u32(r);
    return (struct drive_buffer){at, (uint32_t)len, writable};
}

void fuzz_guest_add(struct fuzz_guest *g, unsigned int queue,
    const struct drive_buffer *bufs, uint16_t n, bool indirect)
{
    if (indirect)
        (void)drive_add_indirect(&g->queues[queue], FUZZ_TABLE, bufs, n);
    else
        (void)drive_add(&g->queues[queue], bufs, n);
    keep(g, queue);
}

void fuzz_guest_kick(struct fuzz_guest *g, unsigned int queue)
{
    drive_kick(g->dev, queue);
}

void fuzz_guest_run(struct fuzz_guest *g)
{
    unsigned int rounds = 0;

    while (g->has_loop && fuzz_kernel_is_due() != 0) {
        fuzz_require(loop_run_once(&g->loop, 0) == 0);
        /* Rings that overlap make work without end. */
        if (++rounds == ROUNDS_MAX) {
            fuzz_require(g->wild);
            return;
        }
    }
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

    keep(g, queue);
    fuzz_guest_kick(g, queue);
    fuzz_guest_run(g);
    fuzz_require(!sees || !virtio_is_live(g->v));
}

/* The driver's index runs away: by more than the queue has. */
static void run_away(
    struct fuzz_guest *g, unsigned int queue, struct bytes_reader *r)
{
    struct drive_queue *d = &g->queues[queue];
    uint16_t by = (uint16_t)(FUZZ_QUEUE_SIZE + 1 + bytes_get_u16(r) % 0x8000);

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
    resume(g);
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
        lay_out(g, i, g->queues[i].size);
        drive_queue_set_index(&g->queues[i], start);
        keep(g, i);
        s->avail_next = start;
        s->used_next = start;
        s->signalled = start;
    }
    device_lock(g->dev);
    fuzz_require(g->dev->ops->post_load(g->dev, NULL) == 0);
    device_unlock(g->dev);
    resume(g);
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
    lay_out(g, queue, (uint16_t)(1u << (how >> 2) % 5));
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
    keep(g, queue);
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
        resume(g);
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
            resume(g);
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

void fuzz_guest_check(struct fuzz_guest *g, bool idle)
{
    const struct virtio_state *s = g->v->state;
    bool broken;

    if (!g->lazy)
        fuzz_guest_run(g);
    broken = (s->status & VIRTIO_STATUS_NEEDS_RESET) != 0;
    fuzz_require((s->status & ~VIRTIO_STATUS_ALL) == 0);
    fuzz_require((s->interrupt_status & ~3u) == 0);
    fuzz_require((s->status & VIRTIO_STATUS_FEATURES_OK) == 0 ||
                 (s->driver_features & ~g->v->features) == 0);
    for (unsigned int i = 0; i < g->v->ops->queue_count && idle; i++)
        fuzz_require(g->v->queues[i].q.inflight == 0);
    if (broken && g->was_broken)
        fuzz_require(g->v->stats.requests == g->served);
    g->was_broken = broken;
    g->served = g->v->stats.requests;
    if (g->wild)
        return;
    check_kept(g);
    fuzz_require(fuzz_kernel_discarded_from() >= FUZZ_WRITABLE);
}

/* A page that is not marked has not been written to. */
static void check_marks(const struct fuzz_guest *g)
{
    static const uint8_t none[NUM_PAGE_SIZE];
    uint8_t page[NUM_PAGE_SIZE];

    for (uint64_t at = 0; at < FUZZ_RAM; at += NUM_PAGE_SIZE) {
        if (is_permanent(at) ||
            bitmap_test(&g->mem->dirty, at >> NUM_PAGE_SHIFT))
            continue;
        get(g, at, page, sizeof(page));
        fuzz_require(memcmp(page, none, sizeof(page)) == 0);
    }
}

/* Whatever became of the device, the one beside it answers. */
static void check_neighbour(struct fuzz_guest *g)
{
    static const char text[NEIGHBOUR_LEN] = "as ever";
    const struct drive_buffer bufs[] = {{NEIGHBOUR_DATA, NEIGHBOUR_LEN, false},
        {NEIGHBOUR_DATA + 64, NEIGHBOUR_LEN, true}};
    char answer[NEIGHBOUR_LEN] = {0};
    uint32_t id;
    uint32_t len;

    /* A guest that writes all over its memory does so to these rings too. */
    if (g->wild)
        start_neighbour(g);
    put(g, NEIGHBOUR_DATA, text, sizeof(text));
    put(g, NEIGHBOUR_DATA + 64, answer, sizeof(answer));
    (void)drive_add(&g->bench.d[0], bufs, 2);
    drive_kick(g->bench.dev, 0);
    fuzz_require(drive_get_used(&g->bench.d[0], &id, &len));
    fuzz_require(len == NEIGHBOUR_LEN);
    get(g, NEIGHBOUR_DATA + 64, answer, sizeof(answer));
    fuzz_require(memcmp(answer, text, sizeof(text)) == 0);
}

/* What the driver gave to be read is as it was. */
static void check_readable(const struct fuzz_guest *g)
{
    uint8_t now[FUZZ_FIXED_LEN];

    get(g, FUZZ_FIXED, now, sizeof(now));
    fuzz_require(memcmp(now, g->fixed, sizeof(now)) == 0);
    get(g, FUZZ_TEXT, now, sizeof(g->text));
    fuzz_require(memcmp(now, g->text, sizeof(g->text)) == 0);
}

static bool is_costly(const uint8_t *data, size_t size)
{
    uint32_t sum = (uint32_t)size;

    for (size_t i = 0; i < size; i++)
        sum = sum * 31 + data[i];
    return (sum ^ sum >> 16) % COSTLY == 0;
}

void fuzz_guest_finish(struct fuzz_guest *g, const uint8_t *data, size_t size)
{
    if (g->quiesced)
        resume(g);
    fuzz_guest_check(g, false);
    device_lock(g->dev);
    g->dev->ops->reset(g->dev);
    device_unlock(g->dev);
    for (unsigned int i = 0; i < g->v->ops->queue_count; i++)
        fuzz_require(g->v->queues[i].q.inflight == 0);
    if (!g->wild)
        check_readable(g);
    check_neighbour(g);
    if (is_costly(data, size))
        check_marks(g);
}

void fuzz_guest_end(struct fuzz_guest *g)
{
    if (g->has_loop)
        loop_fini(&g->loop);
    fuzz_require(fuzz_kernel_count() == 0);
}
