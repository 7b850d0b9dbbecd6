/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device in front of a disk in memory, with requests that are
 * mostly well formed, of any cut, and sometimes broken, and operations that
 * complete late, out of order or with an error. The backend must never see a
 * range beyond the disk, and every request is answered once.
 */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/blk.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"
#include "vmm/base/num.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM     NUM_MIB
#define RINGS   UINT64_C(0x1000)
#define TABLE   UINT64_C(0x4000)
#define HEADER  UINT64_C(0x5000)
#define DATA    UINT64_C(0x10000)
#define SIZE    ((uint16_t)16)
#define SECTORS 64u
#define BUFS    8u

struct disk {
    struct blk_backend backend;
    uint8_t data[SECTORS * BLK_SECTOR];
    struct blk_io *held[SIZE];
    uint32_t held_count;
    bool holds;
    bool fails;
};

struct rig {
    struct gmem mem;
    struct disk disk;
    struct blk blk;
    struct device *dev;
    struct drive_queue d;
};

static void finish(struct disk *d, uint32_t i)
{
    struct blk_io *io = d->held[i];
    uint64_t at = io->offset;

    d->held[i] = d->held[--d->held_count];
    for (unsigned int k = 0; k < io->iov_count && !d->fails; k++) {
        if (io->kind == BLK_READ)
            memcpy(io->iov[k].iov_base, d->data + at, io->iov[k].iov_len);
        else
            memcpy(d->data + at, io->iov[k].iov_base, io->iov[k].iov_len);
        at += io->iov[k].iov_len;
    }
    assert(d->fails || io->iov_count == 0 || at == io->offset + io->len);
    io->done(io, d->fails ? -EIO : 0);
}

static void disk_submit(struct blk_backend *b, struct blk_io *io)
{
    struct disk *d = container_of(b, struct disk, backend);

    assert(num_range_within(io->offset, io->len, sizeof(d->data)));
    assert(d->held_count < SIZE);
    assert(!b->read_only || io->kind == BLK_READ || io->kind == BLK_FLUSH);
    d->held[d->held_count++] = io;
    if (!d->holds)
        finish(d, d->held_count - 1);
}

static void disk_commit(struct blk_backend *b)
{
    (void)b;
}

static void disk_drain(struct blk_backend *b)
{
    struct disk *d = container_of(b, struct disk, backend);

    while (d->held_count > 0)
        finish(d, d->held_count / 2);
    b->batch_done(b->opaque);
}

static const struct blk_backend_ops disk_ops = {
    .submit = disk_submit, .commit = disk_commit, .drain = disk_drain};

static void set_up(struct rig *g, bool read_only)
{
    const struct blk_config config = {.id = "vda",
        .serial = "fuzz",
        .backend = &g->disk.backend,
        .queue_size = SIZE,
        .queue_count = 1};
    const struct virtio_host host = {.mem = &g->mem, .irq = {.fd = -1}};

    if (g->mem.host == NULL && gmem_init(&g->mem, RAM, NULL) < 0)
        abort();
    g->disk.backend = (struct blk_backend){.ops = &disk_ops,
        .capacity = SECTORS,
        .block_size = 512,
        .physical_size = 4096,
        .read_only = read_only,
        .can_discard = true,
        .can_zero = true};
    g->disk.holds = false;
    g->disk.fails = false;
    if (blk_init(&g->blk, &config, &host, NULL) < 0)
        abort();
    g->dev = &g->blk.virtio.base;
}

static void begin(struct rig *g, uint64_t features)
{
    /* Before the rings go: they are the device's until it is reset. */
    drive_write(g->dev, VIRTIO_MMIO_STATUS, 0);
    drive_queue_init(&g->d, &g->mem, RINGS, SIZE);
    drive_start(g->dev, features & g->blk.virtio.features, &g->d, 1);
}

static void put_header(struct rig *g, struct bytes_reader *r)
{
    static const uint32_t types[] = {BLK_T_IN, BLK_T_OUT, BLK_T_FLUSH,
        BLK_T_GET_ID, BLK_T_DISCARD, BLK_T_WRITE_ZEROES, BLK_T_IN, 99};
    uint8_t what = bytes_get_u8(r);
    const struct blk_header h = {.type = le32_put(types[what % 8]),
        .sector = le64_put(
            (what & 0x80) != 0 ? bytes_get_u64(r) : bytes_get_u8(r) % SECTORS)};

    if (gmem_write(&g->mem, gpa(HEADER), &h, sizeof(h)) < 0)
        abort();
}

/* A request: the header, up to BUFS - 2 pieces of data, the status. */
static void request(struct rig *g, struct bytes_reader *r)
{
    struct drive_buffer bufs[BUFS];
    uint8_t shape = bytes_get_u8(r);
    uint16_t n = 0;
    uint8_t cut = shape % 17;

    put_header(g, r);
    bufs[n++] = (struct drive_buffer){HEADER, cut, false};
    bufs[n++] = (struct drive_buffer){HEADER + cut, 16u - cut, false};
    for (uint8_t i = 0; i < (shape >> 5) % 5; i++) {
        uint8_t len = bytes_get_u8(r);

        bufs[n++] = (struct drive_buffer){DATA + bytes_get_u16(r) * UINT64_C(4),
            (len & 0x80) != 0 ? len : len % 9 * 512u, (len & 0x40) != 0};
    }
    bufs[n++] = (struct drive_buffer){HEADER + 64, 1, (shape & 1) == 0};
    if ((shape & 2) != 0)
        (void)drive_add_indirect(&g->d, TABLE, bufs, n);
    else
        (void)drive_add(&g->d, bufs, n);
}

static void poke(struct rig *g, struct bytes_reader *r)
{
    uint16_t at = bytes_get_u16(r);
    uint8_t len = (uint8_t)(bytes_get_u8(r) % 17);
    uint8_t buf[16];

    bytes_get(r, buf, len);
    if (gmem_write(&g->mem, gpa(RINGS + at), buf, len) < 0)
        abort();
}

static void quiesce(struct rig *g)
{
    int rc = g->dev->ops->quiesce(g->dev, NULL);

    assert(rc == 0 && g->blk.virtio.queues[0].q.inflight == 0);
    rc = g->dev->ops->post_load(g->dev, NULL);
    assert(rc == 0);
    (void)rc;
    g->dev->ops->resume(g->dev);
}

static void step(struct rig *g, struct bytes_reader *r, uint64_t features)
{
    uint8_t what = bytes_get_u8(r);
    struct disk *d = &g->disk;

    switch (what % 8) {
    case 0:
    case 1:
        request(g, r);
        break;
    case 2:
        drive_kick(g->dev, 0);
        break;
    case 3:
        poke(g, r);
        break;
    case 4:
        if (d->held_count > 0)
            finish(d, what % d->held_count);
        break;
    case 5:
        d->holds = (what & 0x80) != 0;
        d->fails = (what & 0x40) != 0;
        break;
    case 6:
        quiesce(g);
        break;
    default:
        if ((what & 0x80) != 0)
            begin(g, features);
        else
            (void)drive_read(g->dev, VIRTIO_MMIO_CONFIG + (what & 0x7cu));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    struct rig *g = &rig;
    struct bytes_reader r;
    uint64_t features = VIRTIO_F_VERSION_1;
    uint8_t wish;

    bytes_reader_init(&r, data, size);
    wish = bytes_get_u8(&r);
    if ((wish & 1) != 0)
        features |= VIRTIO_F_INDIRECT_DESC;
    if ((wish & 2) != 0)
        features |= VIRTIO_F_EVENT_IDX;
    if ((wish & 4) != 0)
        features |= BLK_F_FLUSH | BLK_F_DISCARD | BLK_F_WRITE_ZEROES;
    set_up(g, (wish & 8) != 0);
    begin(g, features);
    while (bytes_left(&r) > 0)
        step(g, &r, features);
    /* In flight is what the disk holds, no more and no less. */
    assert(g->blk.virtio.queues[0].q.inflight == g->disk.held_count);
    g->dev->ops->reset(g->dev);
    assert(g->disk.held_count == 0);
    blk_fini(&g->blk);
    return 0;
}
