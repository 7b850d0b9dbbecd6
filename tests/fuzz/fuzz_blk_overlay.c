/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overlays: the header and the map of a file, damaged in any way and with
 * checksums put right; and requests in any order of submission and completion,
 * with errors, against a flat model.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <zlib.h>

#include "tests/fuzz/support/fuzz_guest.h"
#include "tests/unit/support/mem_disk.h"
#include "virtio/blk_overlay.h"
#include "virtio/blk_overlay_clusters.h"
#include "virtio/blk_overlay_format.h"
#include "vmm/base/bytes.h"
#include "vmm/base/le.h"
#include "vmm/base/num.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLUSTERS 8u
#define SECTORS  (CLUSTERS * 8u - 3u)
#define BYTES    (SECTORS * BLK_SECTOR)
#define OFFSET   (3u * BLK_OVERLAY_BLOCK)
#define UPPER    (OFFSET + CLUSTERS * BLK_CLUSTER)
#define SLOTS    6u
#define OP_MAX   24u
#define MAP_CRC  16u

/* A sector is one byte, repeated: the number of what wrote it last. */
struct slot {
    struct rig *rig;
    struct blk_io io;
    struct iovec iov[2];
    uint8_t data[OP_MAX * BLK_SECTOR];
    uint64_t sector;
    uint64_t sectors;
    enum blk_io_kind kind;
    uint8_t value;
    bool busy;
};

struct rig {
    uint8_t base_data[BYTES];
    uint8_t upper_data[UPPER];
    struct mem_disk base;
    struct mem_disk upper;
    struct blk_overlay o;
    struct blk_map map; /* of the other half */
    uint8_t model[SECTORS];
    bool unknown[SECTORS];
    struct slot slots[SLOTS];
    bool made;
};

static void ignore_batch(void *opaque)
{
    (void)opaque;
}

static void prepare(struct rig *g, bool persistent)
{
    const struct blk_overlay_config config = {.base = &g->base.backend,
        .upper = &g->upper.backend,
        .data_offset = OFFSET,
        .persistent = true};

    mem_disk_init(&g->base, g->base_data, SECTORS);
    mem_disk_init(&g->upper, g->upper_data, UPPER / BLK_SECTOR);
    g->base.backend.read_only = true;
    if (!g->made) {
        fuzz_require(blk_overlay_init(&g->o, &config, NULL) == 0);
        fuzz_require(
            blk_map_init(&g->map, 2 * BLK_MAP_BLOCK_CLUSTERS - 100) == 0);
        g->made = true;
        g->o.backend.batch_done = ignore_batch;
        for (uint64_t i = 0; i < SECTORS; i++)
            memset(g->base_data + i * BLK_SECTOR, (int)(0x80 + i), BLK_SECTOR);
    }
    g->o.adopted = false;
    g->o.config.persistent = persistent;
    blk_map_set(&g->o.map, 0, CLUSTERS, BLK_CLUSTER_BASE);
    blk_map_take_dirty(&g->o.map, NULL);
    for (uint64_t i = 0; i < SECTORS; i++)
        g->model[i] = (uint8_t)(0x80 + i);
    memset(g->unknown, 0, sizeof(g->unknown));
}

static bool is_filled(const uint8_t *sector, uint8_t value)
{
    return sector[0] == value &&
           memcmp(sector, sector + 1, BLK_SECTOR - 1) == 0;
}

static void check(
    const struct rig *g, const uint8_t *data, uint64_t sector, uint64_t sectors)
{
    for (uint64_t i = 0; i < sectors; i++)
        fuzz_require(g->unknown[sector + i] ||
                     is_filled(data + i * BLK_SECTOR, g->model[sector + i]));
}

static void on_done(struct blk_io *io, int rc)
{
    struct slot *s = container_of(io, struct slot, io);
    struct rig *g = s->rig;

    fuzz_require(s->busy);
    s->busy = false;
    if (s->kind == BLK_READ && rc == 0)
        check(g, s->data, s->sector, s->sectors);
    if (s->kind == BLK_READ)
        return;
    for (uint64_t i = s->sector; i < s->sector + s->sectors; i++) {
        g->unknown[i] = rc < 0 || s->kind == BLK_DISCARD;
        g->model[i] = s->value;
    }
}

static bool is_free(const struct rig *g, uint64_t sector, uint64_t sectors)
{
    for (unsigned int i = 0; i < SLOTS; i++) {
        const struct slot *s = &g->slots[i];

        if (s->busy && s->sector < sector + sectors &&
            sector < s->sector + s->sectors)
            return false;
    }
    return true;
}

static void submit(struct rig *g, struct bytes_reader *r)
{
    static const enum blk_io_kind kinds[] = {BLK_READ, BLK_READ, BLK_WRITE,
        BLK_WRITE, BLK_WRITE, BLK_ZERO, BLK_DISCARD, BLK_FLUSH};
    uint8_t what = bytes_get_u8(r);
    uint64_t sector = bytes_get_u8(r) % SECTORS;
    uint8_t len = bytes_get_u8(r);
    struct slot *s = &g->slots[what / 8 % SLOTS];
    uint64_t cut;

    if (s->busy)
        return;
    s->kind = kinds[what % 8];
    s->sector = s->kind == BLK_FLUSH ? 0 : sector;
    s->sectors =
        s->kind == BLK_FLUSH ? 0 : num_min(1u + len % OP_MAX, SECTORS - sector);
    if (!is_free(g, s->sector, s->sectors))
        return;
    s->rig = g;
    s->busy = true;
    s->value = s->kind == BLK_WRITE ? len : 0;
    cut = s->sectors * BLK_SECTOR * (what >> 4) / 16;
    memset(s->data, s->value, s->sectors * BLK_SECTOR);
    s->iov[0] = (struct iovec){s->data, cut};
    s->iov[1] = (struct iovec){s->data + cut, s->sectors * BLK_SECTOR - cut};
    s->io = (struct blk_io){.kind = s->kind,
        .offset = s->sector * BLK_SECTOR,
        .len = s->sectors * BLK_SECTOR,
        .iov = cut == 0 ? s->iov + 1 : s->iov,
        .iov_count = cut == 0 ? 1 : 2,
        .durable = s->kind == BLK_WRITE && (len & 0x80) != 0,
        .may_unmap = (len & 0x40) != 0,
        .done = on_done};
    if (s->kind != BLK_READ && s->kind != BLK_WRITE)
        s->io.iov_count = 0;
    g->o.backend.ops->submit(&g->o.backend, &s->io);
}

static void drain(struct rig *g)
{
    g->o.backend.ops->drain(&g->o.backend);
    for (unsigned int i = 0; i < SLOTS; i++)
        fuzz_require(!g->slots[i].busy);
    fuzz_require(g->o.active == NULL && g->o.waiting.head == NULL);
}

static void check_all(struct rig *g)
{
    uint8_t got[CLUSTERS * BLK_CLUSTER];
    bool fails = g->base.reads_fail || g->upper.reads_fail;

    drain(g);
    g->base.reads_fail = false;
    g->upper.reads_fail = false;
    fuzz_require(blk_overlay_read(&g->o, 0, CLUSTERS, got) == 0);
    check(g, got, 0, SECTORS);
    g->base.reads_fail = fails;
}

static void play(struct rig *g, struct bytes_reader *r)
{
    while (bytes_left(r) > 0) {
        uint8_t what = bytes_get_u8(r);
        struct mem_disk *d = (what & 8) != 0 ? &g->base : &g->upper;

        if (what % 8 < 4) {
            submit(g, r);
        } else if (what % 8 < 6) {
            if (d->held_count > 0)
                mem_disk_finish(d, (what >> 4) % d->held_count);
        } else if (what % 8 == 6) {
            d->holds = (what & 0x80) != 0;
            d->fails_with = (what & 0x40) != 0 ? -ENOSPC : 0;
            d->reads_fail = (what & 0x20) != 0;
            d->tears = (what & 0x10) != 0;
        } else if ((what & 0x80) != 0) {
            check_all(g);
        }
    }
    check_all(g);
}

static void damage(uint8_t *block, size_t size, struct bytes_reader *r)
{
    uint8_t n = (uint8_t)(bytes_get_u8(r) % 32);

    while (n-- > 0) {
        size_t at = bytes_get_u16(r) % size;

        block[at] ^= bytes_get_u8(r);
    }
}

static void put_crc(uint8_t *block, size_t at)
{
    le32 crc = {{0}};

    if (at == MAP_CRC) {
        memcpy(block + at, &crc, sizeof(crc));
        crc = le32_put((uint32_t)crc32(0, block, BLK_OVERLAY_BLOCK));
    } else {
        crc = le32_put((uint32_t)crc32(0, block, (uInt)at));
    }
    memcpy(block + at, &crc, sizeof(crc));
}

static void play_header(struct bytes_reader *r)
{
    uint8_t block[BLK_OVERLAY_BLOCK];
    uint8_t again[BLK_OVERLAY_BLOCK];
    struct blk_overlay_header h = {
        .capacity = 2048, .base = {.bytes = 2048 * 512, .sample = 7}};
    const char *fault;
    uint8_t how = bytes_get_u8(r);

    blk_overlay_header_encode(&h, block);
    damage(block, (how & 1) != 0 ? 64 : sizeof(block), r);
    if ((how & 2) != 0)
        put_crc(block, BLK_OVERLAY_BLOCK - 4);
    fault = blk_overlay_header_decode(block, &h);
    if (fault != NULL)
        return;
    fuzz_require(h.capacity > 0 && h.capacity <= BLK_OVERLAY_SECTORS_MAX);
    fuzz_require(blk_overlay_data_offset(blk_overlay_clusters(h.capacity)) <
                 UINT64_C(1) << 60);
    blk_overlay_header_encode(&h, again);
    fuzz_require(memcmp(again, block, 56) == 0);
}

static void play_map(struct rig *g, struct bytes_reader *r)
{
    uint8_t slots[2 * BLK_OVERLAY_BLOCK];
    uint8_t again[BLK_OVERLAY_BLOCK];
    uint8_t how = bytes_get_u8(r);
    uint64_t index = how & 1;
    uint64_t first = index * BLK_MAP_BLOCK_CLUSTERS;
    uint64_t sequence = bytes_get_u8(r);
    struct blk_map *m = &g->map;
    size_t near = (how & 2) != 0 ? 64 : BLK_OVERLAY_BLOCK;

    blk_map_set(m, 0, m->clusters, BLK_CLUSTER_BASE);
    blk_map_set(m, first + how, 40, (how & 4) != 0);
    blk_overlay_map_encode(m, index, 2 * sequence, slots);
    blk_map_set(m, first, 100, BLK_CLUSTER_ZERO);
    blk_overlay_map_encode(
        m, index, 2 * sequence + 1, slots + BLK_OVERLAY_BLOCK);
    blk_map_set(m, 0, m->clusters, BLK_CLUSTER_BASE);
    damage(slots, near, r);
    damage(slots + BLK_OVERLAY_BLOCK, near, r);
    if ((how & 8) != 0)
        put_crc(slots, MAP_CRC);
    if ((how & 16) != 0)
        put_crc(slots + BLK_OVERLAY_BLOCK, MAP_CRC);
    if (!blk_overlay_map_decode(slots, index, m, &sequence)) {
        fuzz_require(bitmap_count(&m->data) + bitmap_count(&m->zero) == 0);
        return;
    }
    for (size_t i = 0; i < num_div_up(m->clusters, 64); i++)
        fuzz_require((m->data.words[i] & m->zero.words[i]) == 0);
    blk_overlay_map_encode(m, index, sequence, again);
    fuzz_require(
        memcmp(again + 32, slots + (sequence & 1) * BLK_OVERLAY_BLOCK + 32,
            BLK_OVERLAY_BLOCK - 32) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    struct bytes_reader r;
    uint8_t how;

    bytes_reader_init(&r, data, size);
    how = bytes_get_u8(&r);
    prepare(&rig, (how & 4) != 0);
    if (how % 4 == 0)
        play_header(&r);
    else if (how % 4 == 1)
        play_map(&rig, &r);
    else
        play(&rig, &r);
    return 0;
}
