/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device with several queues and limits, in front of disks in memory
 * and of an overlay over two of them: requests that are mostly well formed, of
 * any cut, operations that complete late, out of order or with an error, and a
 * host that changes limits and exchanges the disk. What every device must
 * stand is played and checked by fuzz_guest. The disks assert that they never
 * see a range beyond their end or a write that they must not get.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tests/fuzz/support/fuzz_guest.h"
#include "tests/unit/support/mem_disk.h"
#include "virtio/blk.h"
#include "virtio/blk_overlay.h"
#include "virtio/blk_overlay_clusters.h"
#include "virtio/blk_overlay_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SECTORS  61u
#define CLUSTERS 8u
#define OFFSET   (3u * BLK_OVERLAY_BLOCK)
#define UPPER    (OFFSET + CLUSTERS * BLK_CLUSTER)
#define RANGE_AT 64u /* in the driver's text, behind the header */
#define BUFS     8u

enum { PLAIN, OTHER, BASE, TOP, DISKS };

struct rig {
    struct fuzz_guest guest;
    struct blk blk;
    uint8_t data[DISKS][UPPER];
    struct mem_disk disks[DISKS];
    struct blk_overlay overlay;
    bool read_only;
};

static void make_disks(struct rig *g)
{
    static const uint64_t sectors[DISKS] = {
        SECTORS, 80, SECTORS, UPPER / BLK_SECTOR};
    const struct blk_overlay_config config = {.base = &g->disks[BASE].backend,
        .upper = &g->disks[TOP].backend,
        .data_offset = OFFSET,
        .persistent = true,
        .inline_only = false};

    for (unsigned int i = 0; i < DISKS; i++)
        mem_disk_init(&g->disks[i], g->data[i], sectors[i]);
    fuzz_require(blk_overlay_init(&g->overlay, &config, NULL) == 0);
}

/* As new; what is costly to make is kept. */
static void reset_disks(struct rig *g, bool read_only, bool persistent)
{
    struct blk_overlay *o = &g->overlay;

    if (o->tasks == NULL)
        make_disks(g);
    for (unsigned int i = 0; i < DISKS; i++) {
        struct mem_disk *d = &g->disks[i];

        mem_disk_init(d, d->data, d->backend.capacity);
        d->backend.read_only = i == BASE || (read_only && i != TOP);
    }
    blk_map_set(&o->map, 0, CLUSTERS, BLK_CLUSTER_BASE);
    blk_overlay_take_dirty(o, NULL);
    bitmap_clear_all(&o->map.unsaved);
    o->config.persistent = persistent;
    o->adopted = false;
    g->read_only = read_only;
}

static unsigned int held(const struct rig *g)
{
    unsigned int n = 0;

    for (unsigned int i = 0; i < DISKS; i++)
        n += g->disks[i].held_count;
    return n;
}

static void finish(struct rig *g, uint8_t which)
{
    struct mem_disk *d = &g->disks[which % DISKS];

    if (d->held_count == 0)
        return;
    mem_disk_finish(d, which / DISKS % d->held_count);
    d->backend.batch_done(d->backend.opaque);
}

static void put_header(struct rig *g, struct bytes_reader *r)
{
    static const uint32_t types[] = {BLK_T_IN, BLK_T_OUT, BLK_T_FLUSH,
        BLK_T_GET_ID, BLK_T_DISCARD, BLK_T_WRITE_ZEROES, BLK_T_OUT, 99};
    uint8_t what = bytes_get_u8(r);
    uint8_t at = bytes_get_u8(r);
    const struct blk_header h = {.type = le32_put(types[what % 8]),
        .sector = le64_put(what >= 0xf0 ? bytes_get_u64(r) : at % SECTORS)};
    const struct blk_range range = {.sector = le64_put(at % SECTORS),
        .sectors =
            le32_put(what >= 0xe0 ? bytes_get_u32(r) : (uint32_t)(what >> 3)),
        .flags = le32_put(at >> 7)};

    fuzz_guest_put(&g->guest, 0, &h, sizeof(h));
    fuzz_guest_put(&g->guest, RANGE_AT, &range, sizeof(range));
}

/* A request: the header in two, pieces of data, the status. */
static void request(struct rig *g, struct bytes_reader *r, unsigned int queue)
{
    struct drive_buffer bufs[BUFS];
    uint8_t shape = bytes_get_u8(r);
    uint8_t cut = shape % 17;
    uint16_t n = 0;

    put_header(g, r);
    bufs[n++] = (struct drive_buffer){FUZZ_TEXT, cut, false};
    bufs[n++] = (struct drive_buffer){FUZZ_TEXT + cut, 16u - cut, false};
    if ((shape & 0x80) != 0)
        bufs[n++] = (struct drive_buffer){
            FUZZ_TEXT + RANGE_AT, sizeof(struct blk_range), false};
    for (uint8_t i = 0; i < (shape >> 5) % 4; i++) {
        uint8_t len = bytes_get_u8(r);
        bool writable = (len & 0x40) != 0;

        bufs[n] = fuzz_guest_buffer(r, writable, 20000);
        if ((len & 0x80) == 0)
            bufs[n] = (struct drive_buffer){
                writable ? FUZZ_WRITABLE + len * UINT64_C(4096) : FUZZ_FIXED,
                len % 16 * 512u, writable};
        n++;
    }
    if (shape != 0xff)
        bufs[n++] = (struct drive_buffer){
            FUZZ_WRITABLE + shape, 1, (shape & 0x1f) != 3};
    fuzz_guest_add(&g->guest, queue, bufs, n, (shape & 2) != 0);
}

static void set_rate(struct rig *g, struct bytes_reader *r)
{
    uint8_t how = bytes_get_u8(r);
    const struct rate_change change = {.has_bytes = (how & 1) != 0,
        .has_ops = (how & 2) != 0,
        .limits = {.bytes = {.size = bytes_get_u16(r), .refill_ms = how >> 2},
            .ops = {.size = how % 8,
                .refill_ms = how == 0xff ? UINT64_MAX : how >> 3,
                .burst = how % 3}}};

    /* A refill time that is too long is refused, whatever bucket it is of. */
    fuzz_require((blk_set_rate(&g->blk, &change, NULL) == 0) == (how != 0xff));
}

static void exchange(struct rig *g, uint8_t which)
{
    struct blk_backend *to = &g->disks[which % 2 == 0 ? PLAIN : OTHER].backend;
    struct blk_backend *old = g->blk.backend;

    if (which % 3 == 0)
        to = &g->overlay.backend;
    if (to == old)
        return;
    if (blk_set_backend(&g->blk, to, &old, NULL) == 0)
        fuzz_require(old != to && g->blk.state.capacity == to->capacity);
    else
        fuzz_require(to->read_only != old->read_only);
}

static void set_disk(struct rig *g, uint8_t what)
{
    struct mem_disk *d = &g->disks[what % DISKS];

    d->holds = (what & 0x80) != 0;
    d->fails_with = (what & 0x40) == 0 ? 0 : what % 3 == 0 ? -ENOSPC : -EIO;
    d->reads_fail = (what & 0x20) != 0;
    d->tears = (what & 0x10) != 0;
}

/* A snapshot engine at work between a quiesce and a resume. */
static void save_and_put(struct rig *g, uint8_t what)
{
    struct blk_overlay *o = &g->overlay;
    uint8_t data[2 * BLK_CLUSTER];
    uint64_t first = what % (CLUSTERS - 1);
    int rc;

    if (g->blk.backend != &o->backend || g->guest.quiesced)
        return;
    fuzz_require(g->guest.dev->ops->quiesce(g->guest.dev, NULL) == 0);
    fuzz_require(held(g) == 0);
    rc = blk_overlay_read(o, first, 2, data);
    if (rc == 0)
        rc = blk_overlay_put(
            o, first, 2, what % 3, what % 3 == BLK_CLUSTER_DATA ? data : NULL);
    fuzz_require(rc <= 0);
    blk_overlay_take_dirty(o, NULL);
    g->guest.dev->ops->resume(g->guest.dev);
}

static void step(struct rig *g, struct bytes_reader *r)
{
    uint8_t what = bytes_get_u8(r);
    unsigned int queue = what / 16 % g->guest.queue_count;

    switch (what % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        request(g, r, queue);
        fuzz_guest_kick(&g->guest, queue);
        break;
    case 5:
        request(g, r, queue);
        break;
    case 6:
    case 7:
        finish(g, bytes_get_u8(r));
        break;
    case 8:
        set_disk(g, bytes_get_u8(r));
        break;
    case 9:
        set_rate(g, r);
        break;
    case 10:
        exchange(g, bytes_get_u8(r));
        break;
    case 11:
        save_and_put(g, bytes_get_u8(r));
        break;
    default:
        fuzz_guest_step(&g->guest, r);
        break;
    }
    fuzz_guest_check(&g->guest, false);
    for (unsigned int i = 0; i < g->guest.queue_count && held(g) == 0; i++)
        fuzz_require(g->blk.virtio.queues[i].q.inflight == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    struct rig *g = &rig;
    struct blk_config config = {
        .id = "vda", .serial = "fuzz", .queue_size = FUZZ_QUEUE_SIZE};
    uint64_t features = BLK_F_MQ;
    struct virtio_host host;
    struct bytes_reader r;
    uint8_t wish;
    uint8_t offer;

    bytes_reader_init(&r, data, size);
    host = fuzz_guest_prepare(&g->guest, bytes_get_u8(&r));
    wish = bytes_get_u8(&r);
    offer = bytes_get_u8(&r);
    reset_disks(g, (offer & 1) != 0, (offer & 2) != 0);
    config.backend =
        (offer & 5) == 4 ? &g->overlay.backend : &g->disks[PLAIN].backend;
    config.unsafe = (offer & 8) != 0;
    config.queue_count = (uint16_t)(1 + (offer >> 4) % VIRTIO_QUEUES_MAX);
    config.rate.ops = (struct rate_bucket_config){
        .size = offer >> 7, .refill_ms = 10, .burst = 3};
    if ((wish & 8) == 0)
        features |= BLK_F_FLUSH | BLK_F_DISCARD | BLK_F_WRITE_ZEROES;
    if (blk_init(&g->blk, &config, &host, NULL) == 0) {
        fuzz_guest_start(
            &g->guest, &g->blk.virtio, config.queue_count, wish, features);
        while (bytes_left(&r) > 0)
            step(g, &r);
        fuzz_guest_finish(&g->guest, data, size);
        fuzz_require(held(g) == 0 && g->overlay.active == NULL);
        blk_fini(&g->blk);
    }
    fuzz_guest_end(&g->guest);
    return 0;
}
