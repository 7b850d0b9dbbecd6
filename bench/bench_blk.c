/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random 4 KiB reads at queue depth 32: through the block device, driven by a
 * virtqueue in this process, beside plain io_uring on the same file. The
 * difference is what the device model costs, without any guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/stats.h"
#include "virtio/blk.h"
#include "virtio/blk_file.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define DEPTH    32u
#define QUEUE    ((uint16_t)128)
#define BLOCK    4096u
#define REQUESTS 20000u /* in a round */
#define ROUNDS   20u
#define RINGS    UINT64_C(0x10000)
#define AVAIL    (RINGS + 0x1000)
#define USED     (RINGS + 0x2000)
#define HEADERS  UINT64_C(0x20000)
#define STATUSES UINT64_C(0x30000)
#define DATA     UINT64_C(0x100000)

struct rig {
    const char *path;
    bool direct;
    uint64_t blocks;
    uint64_t seed;
    struct gmem mem;
    struct loop loop;
    struct uring uring;
    struct blk_file file;
    struct blk blk;
    struct gslice avail;
    struct gslice used;
    uint16_t avail_idx;
    uint16_t used_seen;
};

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "bench_blk: %s\n", what);
    exit(1);
}

static uint64_t next_block(struct rig *g)
{
    g->seed ^= g->seed << 13;
    g->seed ^= g->seed >> 7;
    g->seed ^= g->seed << 17;
    return g->seed % g->blocks;
}

static void write_register(struct rig *g, uint64_t offset, uint64_t value)
{
    struct device *dev = &g->blk.virtio.base;
    struct bus_access a = {
        .offset = offset, .value = value, .len = 4, .is_write = true};

    device_lock(dev);
    dev->ops->access(dev, &a);
    device_unlock(dev);
}

static void put_desc(
    struct rig *g, uint32_t i, uint64_t addr, uint32_t len, uint16_t flags)
{
    const struct virtq_desc d = {.addr = le64_put(addr),
        .len = le32_put(len),
        .flags = le16_put(flags),
        .next = le16_put((uint16_t)(i + 1))};

    must(gmem_write(&g->mem, gpa(RINGS + i * sizeof(d)), &d, sizeof(d)) == 0,
        "descriptor");
}

static void start_driver(struct rig *g)
{
    const uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX;

    for (uint32_t i = 0; i < DEPTH; i++) {
        put_desc(g, 3 * i, HEADERS + i * 16u, 16, VIRTQ_DESC_F_NEXT);
        put_desc(g, 3 * i + 1, DATA + i * (uint64_t)BLOCK, BLOCK,
            VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_WRITE);
        put_desc(g, 3 * i + 2, STATUSES + i, 1, VIRTQ_DESC_F_WRITE);
    }
    write_register(g, VIRTIO_MMIO_STATUS, 3);
    for (uint32_t sel = 0; sel < 2; sel++) {
        write_register(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, sel);
        write_register(
            g, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * sel)));
    }
    write_register(g, VIRTIO_MMIO_STATUS, 11);
    write_register(g, VIRTIO_MMIO_QUEUE_NUM, QUEUE);
    write_register(g, VIRTIO_MMIO_QUEUE_DESC_LOW, RINGS);
    write_register(g, VIRTIO_MMIO_QUEUE_DRIVER_LOW, AVAIL);
    write_register(g, VIRTIO_MMIO_QUEUE_DEVICE_LOW, USED);
    write_register(g, VIRTIO_MMIO_QUEUE_READY, 1);
    write_register(g, VIRTIO_MMIO_STATUS, 15);
    must(gmem_slice(&g->mem, gpa(AVAIL), virtq_avail_bytes(QUEUE), &g->avail) ==
                 0 &&
             gmem_slice(
                 &g->mem, gpa(USED), virtq_used_bytes(QUEUE), &g->used) == 0 &&
             virtio_is_live(&g->blk.virtio),
        "the device does not come up");
}

/* Makes slot `i` available again for another block. */
static void queue_slot(struct rig *g, uint32_t i)
{
    const struct blk_header h = {.type = le32_put(BLK_T_IN),
        .sector = le64_put(next_block(g) * (BLOCK / BLK_SECTOR))};
    const le16 head = le16_put((uint16_t)(3 * i));

    must(gmem_write(&g->mem, gpa(HEADERS + i * 16u), &h, sizeof(h)) == 0,
        "header");
    gslice_write(&g->avail,
        VIRTQ_AVAIL_RING + (uint64_t)(g->avail_idx % QUEUE) * sizeof(head),
        &head, sizeof(head));
    g->avail_idx++;
}

/* Publishes what was queued; kicks if the device asks for it (2.7.10). */
static void publish(struct rig *g, uint16_t before)
{
    uint16_t event;

    gslice_store_u16_release(&g->avail, VIRTQ_AVAIL_IDX, g->avail_idx);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    event = gslice_load_u16_acquire(
        &g->used, virtq_used_bytes(QUEUE) - sizeof(uint16_t));
    if ((uint16_t)(g->avail_idx - event - 1) <
        (uint16_t)(g->avail_idx - before))
        write_register(g, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

static double run_device(struct rig *g)
{
    uint64_t started = clock_now_ns();
    uint32_t queued = DEPTH;
    uint32_t done = 0;
    uint16_t before = g->avail_idx;

    for (uint32_t i = 0; i < DEPTH; i++)
        queue_slot(g, i);
    publish(g, before);
    while (done < REQUESTS) {
        must(loop_run_once(&g->loop, -1) == 0, "loop");
        before = g->avail_idx;
        while (
            gslice_load_u16_acquire(&g->used, VIRTQ_USED_IDX) != g->used_seen) {
            struct virtq_used_elem elem;

            gslice_read(&g->used,
                VIRTQ_USED_RING +
                    (uint64_t)(g->used_seen++ % QUEUE) * sizeof(elem),
                &elem, sizeof(elem));
            must(le32_get(elem.len) == BLOCK + 1, "short read");
            done++;
            if (queued < REQUESTS) {
                queue_slot(g, le32_get(elem.id) / 3);
                queued++;
            }
        }
        if (g->avail_idx != before)
            publish(g, before);
    }
    return REQUESTS * 1e9 / (double)(clock_now_ns() - started);
}

static double run_plain(struct rig *g)
{
    int fd = open(g->path, O_RDONLY | O_CLOEXEC | (g->direct ? O_DIRECT : 0));
    uint8_t *data = aligned_alloc(BLOCK, (size_t)DEPTH * BLOCK);
    struct iovec iov[DEPTH];
    struct io_uring ring;
    uint64_t started;
    uint32_t queued = 0;
    uint32_t done = 0;

    must(fd >= 0 && data != NULL, "open");
    must(io_uring_queue_init(DEPTH, &ring, 0) == 0, "io_uring");
    must(io_uring_register_files(&ring, &fd, 1) == 0, "io_uring file");
    started = clock_now_ns();
    while (done < REQUESTS) {
        struct io_uring_cqe *cqe;
        uint32_t slot = queued;

        while (queued - done < DEPTH && queued < REQUESTS) {
            struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

            if (sqe == NULL)
                break;
            /* Slots come free out of order; which buffer is no matter. */
            slot = queued++ % DEPTH;
            iov[slot] = (struct iovec){data + (size_t)slot * BLOCK, BLOCK};
            io_uring_prep_readv(sqe, 0, &iov[slot], 1, next_block(g) * BLOCK);
            io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
        }
        must(io_uring_submit_and_wait(&ring, 1) >= 0, "submit");
        while (io_uring_peek_cqe(&ring, &cqe) == 0) {
            must(cqe->res == (int)BLOCK, "short read");
            io_uring_cqe_seen(&ring, cqe);
            done++;
        }
    }
    started = clock_now_ns() - started;
    io_uring_queue_exit(&ring);
    free(data);
    fd_closep(&fd);
    return REQUESTS * 1e9 / (double)started;
}

static void set_up(struct rig *g)
{
    struct blk_file_config file = {.path = g->path,
        .fd = -1,
        .uring = &g->uring,
        .read_only = true,
        .direct = g->direct};
    struct blk_config config = {.id = "vda",
        .serial = "bench",
        .backend = &g->file.backend,
        .queue_size = QUEUE,
        .queue_count = 1};
    struct virtio_host host = {
        .mem = &g->mem, .loop = &g->loop, .irq = {.fd = fd_eventfd()}};
    const char *warning;
    struct err err;

    must(loop_init(&g->loop, &err) == 0, "loop");
    uring_init(&g->uring, &g->loop);
    must(gmem_init(&g->mem, 4 * NUM_MIB, &err) == 0, "memory");
    if (blk_file_open(&g->file, &file, &warning, &err) < 0 ||
        blk_init(&g->blk, &config, &host, &err) < 0)
        must(false, err.text);
    g->blocks = g->file.backend.capacity / (BLOCK / BLK_SECTOR);
    must(g->blocks > 0, "the file is smaller than a block");
    start_driver(g);
}

int main(int argc, char **argv)
{
    static struct rig rig;
    struct stats device = {0};
    struct stats plain = {0};

    if (argc < 2 || argc > 3 || (argc == 3 && strcmp(argv[2], "direct") != 0)) {
        (void)fputs("usage: bench_blk FILE [direct]\n", stderr);
        return 2;
    }
    rig = (struct rig){.path = argv[1], .direct = argc == 3, .seed = 88172645};
    set_up(&rig);
    for (unsigned int i = 0; i < ROUNDS; i++) {
        stats_add(&plain, run_plain(&rig));
        stats_add(&device, run_device(&rig));
    }
    (void)printf("{\"bench\": \"blk\", \"block\": %u, \"depth\": %u, "
                 "\"requests\": %u, \"direct\": %s, \"uring\": %s, ",
        BLOCK, DEPTH, REQUESTS, rig.direct ? "true" : "false",
        blk_file_uses_uring(&rig.file) ? "true" : "false");
    stats_print(&plain, "plain_io_uring", "requests/s", stdout);
    (void)printf(", ");
    stats_print(&device, "virtio_blk", "requests/s", stdout);
    (void)printf(", \"ratio_p50\": %.3f, \"kicks\": %llu, "
                 "\"interrupts\": %llu, \"submits\": %llu}\n",
        stats_quantile(&device, 0.5) / stats_quantile(&plain, 0.5),
        (unsigned long long)rig.blk.virtio.stats.kicks,
        (unsigned long long)rig.blk.virtio.stats.interrupts,
        (unsigned long long)rig.uring.submits);
    stats_free(&device);
    stats_free(&plain);
    return 0;
}
