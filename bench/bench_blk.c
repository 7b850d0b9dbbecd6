/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random 4 KiB requests at queue depth 32: through the block device, driven by
 * virtqueues in this process, beside plain io_uring on the same files. The
 * difference is what the device model costs, without any guest. A case is
 * compared with the plain run of its own round, as the machine may be busy;
 * CPU time is that of the whole process, the driver's part and the kernel's
 * workers included.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "bench/stats.h"
#include "virtio/blk.h"
#include "virtio/blk_file.h"
#include "virtio/blk_overlay_file.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define DEPTH      32u
#define QUEUES_MAX 4u
#define QUEUE      ((uint16_t)128)
#define BLOCK      4096u
#define REQUESTS   20000u /* in a round */
#define ROUNDS     10u
#define RINGS      UINT64_C(0x10000) /* of a queue: three pages */
#define RING_BYTES UINT64_C(0x4000)
#define HEADERS    UINT64_C(0x40000)
#define STATUSES   UINT64_C(0x50000)
#define DATA       UINT64_C(0x100000)

/*
 * The driver's side of a queue. It reaches its memory as a guest does, without
 * checks and marks.
 */
struct ring {
    struct gslice avail;
    struct gslice used;
    le16 *entries; /* of the available ring */
    const struct virtq_used_elem *answers;
    uint16_t avail_idx;
    uint16_t used_seen;
    uint16_t before; /* avail_idx when it was last published */
};

/* A device and its disk, which is one of the two. */
struct rig {
    uint64_t blocks;
    uint64_t seed;
    uint32_t type;
    unsigned int queues;
    struct gmem mem;
    struct blk_header *headers; /* in guest memory */
    struct loop loop;
    struct uring uring;
    struct blk_file file;
    struct blk_overlay_file overlay;
    struct blk blk;
    struct ring rings[QUEUES_MAX];
};

struct bench {
    const char *path;
    bool direct;
    int scratch;  /* a copy of the file, for writes */
    int plain[2]; /* what plain io_uring reads and writes */
};

struct result {
    struct stats iops;
    struct stats ratio;     /* of the requests per second */
    struct stats cpu_us;    /* per request */
    struct stats cpu_ratio; /* plain io_uring's CPU time to ours */
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

static void put_desc(struct rig *g, unsigned int q, uint32_t i, uint64_t addr,
    uint32_t len, uint16_t flags)
{
    const struct virtq_desc d = {.addr = le64_put(addr),
        .len = le32_put(len),
        .flags = le16_put(flags),
        .next = le16_put((uint16_t)(i + 1))};

    must(gmem_write(&g->mem, gpa(RINGS + q * RING_BYTES + i * sizeof(d)), &d,
             sizeof(d)) == 0,
        "descriptor");
}

static void *host_of(const struct gslice *s)
{
    return gslice_iovec(s).iov_base;
}

static void start_queue(struct rig *g, unsigned int q)
{
    uint64_t at = RINGS + q * RING_BYTES;
    struct ring *ring = &g->rings[q];

    write_register(g, VIRTIO_MMIO_QUEUE_SEL, q);
    write_register(g, VIRTIO_MMIO_QUEUE_NUM, QUEUE);
    write_register(g, VIRTIO_MMIO_QUEUE_DESC_LOW, at);
    write_register(g, VIRTIO_MMIO_QUEUE_DRIVER_LOW, at + 0x1000);
    write_register(g, VIRTIO_MMIO_QUEUE_DEVICE_LOW, at + 0x2000);
    write_register(g, VIRTIO_MMIO_QUEUE_READY, 1);
    must(gmem_slice(&g->mem, gpa(at + 0x1000), virtq_avail_bytes(QUEUE),
             &ring->avail) == 0 &&
             gmem_slice(&g->mem, gpa(at + 0x2000), virtq_used_bytes(QUEUE),
                 &ring->used) == 0,
        "rings");
    ring->entries =
        (le16 *)(void *)((uint8_t *)host_of(&ring->avail) + VIRTQ_AVAIL_RING);
    ring->answers = (const struct virtq_used_elem *)(void *)((uint8_t *)host_of(
                                                                 &ring->used) +
                                                             VIRTQ_USED_RING);
}

static void start_driver(struct rig *g)
{
    const uint64_t features =
        VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | BLK_F_FLUSH;
    struct gslice headers;

    must(gmem_slice(
             &g->mem, gpa(HEADERS), DEPTH * sizeof(*g->headers), &headers) == 0,
        "headers");
    g->headers = host_of(&headers);
    write_register(g, VIRTIO_MMIO_STATUS, 3);
    for (uint32_t sel = 0; sel < 2; sel++) {
        write_register(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, sel);
        write_register(
            g, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * sel)));
    }
    write_register(g, VIRTIO_MMIO_STATUS, 11);
    for (unsigned int q = 0; q < g->queues; q++)
        start_queue(g, q);
    write_register(g, VIRTIO_MMIO_STATUS, 15);
    must(virtio_is_live(&g->blk.virtio), "the device does not come up");
}

/* The chains of all slots, for requests of one type. */
static void lay_out(struct rig *g, uint32_t type)
{
    uint16_t writable = type == BLK_T_IN ? VIRTQ_DESC_F_WRITE : 0;

    g->type = type;
    for (uint32_t i = 0; i < DEPTH; i++) {
        unsigned int q = i % g->queues;

        put_desc(g, q, 3 * i, HEADERS + i * 16u, 16, VIRTQ_DESC_F_NEXT);
        put_desc(g, q, 3 * i + 1, DATA + i * (uint64_t)BLOCK, BLOCK,
            (uint16_t)(VIRTQ_DESC_F_NEXT | writable));
        put_desc(g, q, 3 * i + 2, STATUSES + i, 1, VIRTQ_DESC_F_WRITE);
    }
}

/* Makes slot `i` available again for another block. */
static void queue_slot(struct rig *g, uint32_t i)
{
    struct ring *ring = &g->rings[i % g->queues];

    g->headers[i] = (struct blk_header){.type = le32_put(g->type),
        .sector = le64_put(next_block(g) * (BLOCK / BLK_SECTOR))};
    ring->entries[ring->avail_idx++ % QUEUE] = le16_put((uint16_t)(3 * i));
}

/* Publishes what was queued; kicks if the device asks for it (2.7.10). */
static void publish(struct rig *g, unsigned int q)
{
    struct ring *ring = &g->rings[q];
    uint16_t event;

    if (ring->avail_idx == ring->before)
        return;
    gslice_store_u16_release(&ring->avail, VIRTQ_AVAIL_IDX, ring->avail_idx);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    event = gslice_load_u16_acquire(
        &ring->used, virtq_used_bytes(QUEUE) - sizeof(uint16_t));
    if ((uint16_t)(ring->avail_idx - event - 1) <
        (uint16_t)(ring->avail_idx - ring->before))
        write_register(g, VIRTIO_MMIO_QUEUE_NOTIFY, q);
    ring->before = ring->avail_idx;
}

/* Takes the answers of a queue; asks again while there is something to ask. */
static uint32_t reap(struct rig *g, unsigned int q, uint32_t *queued)
{
    struct ring *ring = &g->rings[q];
    uint32_t len = g->type == BLK_T_IN ? BLOCK + 1 : 1;
    uint32_t done = 0;

    while (gslice_load_u16_acquire(&ring->used, VIRTQ_USED_IDX) !=
           ring->used_seen) {
        const struct virtq_used_elem elem =
            ring->answers[ring->used_seen++ % QUEUE];

        must(le32_get(elem.len) == len, "a request failed");
        done++;
        if (*queued < REQUESTS) {
            queue_slot(g, le32_get(elem.id) / 3);
            (*queued)++;
        }
    }
    return done;
}

static void run_device(struct rig *g, uint32_t type)
{
    uint32_t queued = DEPTH;
    uint32_t done = 0;

    lay_out(g, type);
    for (uint32_t i = 0; i < DEPTH; i++)
        queue_slot(g, i);
    while (done < REQUESTS) {
        for (unsigned int q = 0; q < g->queues; q++)
            publish(g, q);
        must(loop_run_once(&g->loop, -1) == 0, "loop");
        for (unsigned int q = 0; q < g->queues; q++)
            done += reap(g, q, &queued);
    }
}

static void run_plain(struct rig *g, int fd, bool writes)
{
    uint8_t *data = aligned_alloc(BLOCK, (size_t)DEPTH * BLOCK);
    struct iovec iov[DEPTH];
    struct io_uring ring;
    uint32_t queued = 0;
    uint32_t done = 0;

    must(data != NULL, "memory");
    memset(data, 0, (size_t)DEPTH * BLOCK);
    must(io_uring_queue_init(DEPTH, &ring, 0) == 0, "io_uring");
    must(io_uring_register_files(&ring, &fd, 1) == 0, "io_uring file");
    while (done < REQUESTS) {
        struct io_uring_cqe *cqe;

        while (queued - done < DEPTH && queued < REQUESTS) {
            struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
            uint64_t at = next_block(g) * BLOCK;
            uint32_t slot = queued % DEPTH;

            if (sqe == NULL)
                break;
            /* Slots come free out of order; which buffer is no matter. */
            queued++;
            iov[slot] = (struct iovec){data + (size_t)slot * BLOCK, BLOCK};
            if (writes)
                io_uring_prep_writev(sqe, 0, &iov[slot], 1, at);
            else
                io_uring_prep_readv(sqe, 0, &iov[slot], 1, at);
            io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
        }
        must(io_uring_submit_and_wait(&ring, 1) >= 0, "submit");
        while (io_uring_peek_cqe(&ring, &cqe) == 0) {
            must(cqe->res == (int)BLOCK, "short transfer");
            io_uring_cqe_seen(&ring, cqe);
            done++;
        }
    }
    io_uring_queue_exit(&ring);
    free(data);
}

/* The disks that a device is put in front of. */
enum disk { FILE_READ, FILE_WRITE, OVERLAY_MEMORY, OVERLAY_FILE };

static struct blk_backend *open_disk(
    struct rig *g, const struct bench *b, enum disk disk)
{
    bool writes = disk == FILE_WRITE;
    char *copy = strdup(b->path);
    struct blk_file_config file = {.path = b->path,
        .fd = writes ? fcntl(b->scratch, F_DUPFD_CLOEXEC, 0) : -1,
        .uring = &g->uring,
        .read_only = !writes,
        .direct = b->direct};
    struct blk_overlay_file_config overlay = {.base_path = b->path,
        .base_fd = -1,
        .kind =
            disk == OVERLAY_MEMORY ? BLK_OVERLAY_MEMORY : BLK_OVERLAY_TEMPORARY,
        .uring = &g->uring,
        .direct = b->direct};
    bool plain = disk == FILE_READ || disk == FILE_WRITE;
    const char *warning;
    struct err err;
    int rc;

    must(copy != NULL, "memory");
    overlay.path = dirname(copy);
    rc = plain ? blk_file_open(&g->file, &file, &warning, &err)
               : blk_overlay_file_open(&g->overlay, &overlay, &warning, &err);
    must(rc == 0, err.text);
    free(copy);
    return plain ? &g->file.backend : &g->overlay.overlay.backend;
}

static struct rig *new_rig(
    const struct bench *b, enum disk disk, uint16_t queues)
{
    struct rig *g = calloc(1, sizeof(*g));
    struct blk_config config = {.id = "vda",
        .serial = "bench",
        .queue_size = QUEUE,
        .queue_count = queues};
    struct virtio_host host = {.irq = {.fd = fd_eventfd()}};
    struct err err;

    must(g != NULL, "memory");
    g->seed = 88172645;
    g->queues = queues;
    must(loop_init(&g->loop, &err) == 0, "loop");
    uring_init(&g->uring, &g->loop);
    must(gmem_init(&g->mem, 4 * NUM_MIB, &err) == 0, "memory");
    host.mem = &g->mem;
    host.loop = &g->loop;
    config.backend = open_disk(g, b, disk);
    must(blk_init(&g->blk, &config, &host, &err) == 0, err.text);
    g->blocks = config.backend->capacity / (BLOCK / BLK_SECTOR);
    must(g->blocks > 0, "the file is smaller than a block");
    start_driver(g);
    return g;
}

/* A copy without a name, beside the file. */
static void make_scratch(struct bench *b)
{
    char *copy = strdup(b->path);
    int from = open(b->path, O_RDONLY | O_CLOEXEC);

    must(copy != NULL && from >= 0, "the file cannot be opened");
    b->scratch = open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    must(b->scratch >= 0, "no temporary file beside the file");
    while (sendfile(b->scratch, from, NULL, 1u << 30) > 0)
        continue;
    must(fdatasync(b->scratch) == 0, "copy");
    fd_closep(&from);
    free(copy);
}

static void open_plain(struct bench *b)
{
    int flags = O_CLOEXEC | (b->direct ? O_DIRECT : 0);
    char self[32];

    (void)snprintf(self, sizeof(self), "/proc/self/fd/%d", b->scratch);
    b->plain[0] = open(b->path, O_RDONLY | flags);
    b->plain[1] = open(self, O_RDWR | flags);
    must(b->plain[0] >= 0 && b->plain[1] >= 0, "open");
}

struct one_case {
    const char *name;
    struct rig *rig; /* NULL: plain io_uring */
    uint32_t type;
    struct result result;
};

struct figures {
    double iops;
    double cpu_us;
};

/* One round of a case. */
static struct figures run_case(
    struct one_case *c, const struct bench *b, struct rig *any)
{
    struct figures now;
    uint64_t cpu = clock_process_cpu_ns();
    uint64_t started = clock_now_ns();

    if (c->rig != NULL)
        run_device(c->rig, c->type);
    else
        run_plain(any, b->plain[c->type == BLK_T_OUT], c->type == BLK_T_OUT);
    now.iops = REQUESTS * 1e9 / (double)(clock_now_ns() - started);
    now.cpu_us = (double)(clock_process_cpu_ns() - cpu) / 1e3 / REQUESTS;
    stats_add(&c->result.iops, now.iops);
    stats_add(&c->result.cpu_us, now.cpu_us);
    return now;
}

/* `only` names a case with a device; the plain one of its kind runs too. */
static bool is_wanted(const struct one_case *c, const char *only)
{
    bool writes = c->type == BLK_T_OUT;

    if (only == NULL)
        return true;
    return c->rig == NULL ? writes == (strncmp(only, "write", 5) == 0)
                          : strcmp(only, c->name) == 0;
}

static void print_case(struct one_case *c)
{
    (void)printf(", \"%s\": {", c->name);
    stats_print(&c->result.iops, "iops", "requests/s", stdout);
    (void)printf(
        ", \"cpu_us_p50\": %.2f", stats_quantile(&c->result.cpu_us, 0.5));
    if (c->rig != NULL)
        (void)printf(
            ", \"ratio_p50\": %.3f, \"cpu_ratio_p50\": %.3f, \"kicks\": %llu, "
            "\"interrupts\": %llu, \"submits\": %llu",
            stats_quantile(&c->result.ratio, 0.5),
            stats_quantile(&c->result.cpu_ratio, 0.5),
            (unsigned long long)c->rig->blk.virtio.stats.kicks,
            (unsigned long long)c->rig->blk.virtio.stats.interrupts,
            (unsigned long long)c->rig->uring.submits);
    (void)printf("}");
    stats_free(&c->result.iops);
    stats_free(&c->result.ratio);
    stats_free(&c->result.cpu_us);
    stats_free(&c->result.cpu_ratio);
}

int main(int argc, char **argv)
{
    struct bench b = {.direct = argc > 2 && strcmp(argv[2], "direct") == 0};
    const char *only = NULL;
    struct one_case cases[] = {{.name = "plain_read", .type = BLK_T_IN},
        {.name = "read"}, {.name = "read_4_queues"},
        {.name = "read_overlay_memory"}, {.name = "read_overlay_file"},
        {.name = "plain_write", .type = BLK_T_OUT}, {.name = "write"},
        {.name = "write_4_queues"}, {.name = "write_overlay_memory"},
        {.name = "write_overlay_file"}};

    if (argc < 2 || argc > 4) {
        (void)fputs("usage: bench_blk FILE [direct] [CASE]\n", stderr);
        return 2;
    }
    if (argc == 3 + b.direct)
        only = argv[2 + b.direct];
    b.path = argv[1];
    make_scratch(&b);
    open_plain(&b);
    cases[1].rig = new_rig(&b, FILE_READ, 1);
    cases[2].rig = new_rig(&b, FILE_READ, 4);
    cases[3].rig = new_rig(&b, OVERLAY_MEMORY, 1);
    cases[4].rig = new_rig(&b, OVERLAY_FILE, 1);
    cases[6].rig = new_rig(&b, FILE_WRITE, 1);
    cases[7].rig = new_rig(&b, FILE_WRITE, 4);
    cases[8].rig = cases[3].rig;
    cases[9].rig = cases[4].rig;
    for (size_t i = 6; i < ARRAY_SIZE(cases); i++)
        cases[i].type = BLK_T_OUT;
    for (unsigned int round = 0; round < ROUNDS; round++) {
        struct figures plain = {0};

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
            struct figures now;

            if (!is_wanted(&cases[i], only))
                continue;
            now = run_case(&cases[i], &b, cases[1].rig);
            if (cases[i].rig == NULL) {
                plain = now;
                continue;
            }
            stats_add(&cases[i].result.ratio, now.iops / plain.iops);
            stats_add(&cases[i].result.cpu_ratio, plain.cpu_us / now.cpu_us);
        }
    }
    (void)printf("{\"bench\": \"blk\", \"block\": %u, \"depth\": %u, "
                 "\"requests\": %u, \"direct\": %s, \"uring\": %s",
        BLOCK, DEPTH, REQUESTS, b.direct ? "true" : "false",
        blk_file_uses_uring(&cases[1].rig->file) ? "true" : "false");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (cases[i].result.iops.count > 0)
            print_case(&cases[i]);
    }
    (void)printf("}\n");
    return 0;
}
