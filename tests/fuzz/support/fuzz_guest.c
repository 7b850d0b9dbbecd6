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

void fuzz_guest_keep(struct fuzz_guest *g, unsigned int queue)
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

void fuzz_guest_lay_out(struct fuzz_guest *g, unsigned int i, uint16_t size)
{
    drive_queue_init(
        &g->queues[i], g->mem, FUZZ_RINGS + i * NUM_PAGE_SIZE, size);
    fuzz_guest_keep(g, i);
}

void fuzz_guest_resume(struct fuzz_guest *g)
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
        fuzz_guest_lay_out(g, i,
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
        (void)drive_add_indirect(
            &g->queues[queue], FUZZ_TABLE + queue * FUZZ_TABLE_LEN, bufs, n);
    else
        (void)drive_add(&g->queues[queue], bufs, n);
    fuzz_guest_keep(g, queue);
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
        fuzz_guest_resume(g);
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
