/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An overlay's file after a crash at any point: before each write to it, with
 * any part of what was not synced on the disk, torn between sectors. Each
 * sector has what the last flush left or something that was written since.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "tests/unit/support/mem_disk.h"
#include "virtio/blk_overlay.h"
#include "virtio/blk_overlay_clusters.h"
#include "virtio/blk_overlay_format.h"
#include "vmm/base/num.h"

#define CLUSTERS 24u
#define SECTORS  (CLUSTERS * 8u)
#define BYTES    (SECTORS * BLK_SECTOR)
#define OFFSET   (3u * BLK_OVERLAY_BLOCK)
#define UPPER    (OFFSET + CLUSTERS * BLK_CLUSTER)
#define U_SECTS  (UPPER / BLK_SECTOR)
#define SINCE    64u /* values of a sector between two flushes */
#define CRASHES  6u  /* with different luck at each point */
#define OP_MAX   20u

/* A sector is one number, repeated; 0 is a sector of zeroes. */
struct rig {
    uint64_t seed;
    uint8_t base_data[BYTES];
    uint8_t upper_data[UPPER];
    uint8_t stable[UPPER]; /* what is on the disk whatever happens */
    bool pending[U_SECTS]; /* written, not synced */
    struct mem_disk base;
    struct mem_disk upper;
    struct blk_overlay o;
    uint32_t flushed[SECTORS];
    uint32_t since[SECTORS][SINCE];
    unsigned int since_count[SECTORS];
    uint32_t number;
    unsigned int crashes;
    bool durable;
};

static uint64_t next(struct rig *g, uint64_t below)
{
    g->seed ^= g->seed << 13;
    g->seed ^= g->seed >> 7;
    g->seed ^= g->seed << 17;
    return g->seed % below;
}

static void fill(uint8_t *sector, uint32_t number)
{
    for (size_t i = 0; i < BLK_SECTOR; i += sizeof(number))
        memcpy(sector + i, &number, sizeof(number));
}

/* The number of a sector; a mixture fails. */
static uint32_t number_of(const uint8_t *sector)
{
    uint8_t want[BLK_SECTOR];
    uint32_t number;

    memcpy(&number, sector, sizeof(number));
    fill(want, number);
    assert_memory_equal(sector, want, BLK_SECTOR);
    return number;
}

static void check_sector(const struct rig *g, uint64_t sector, uint32_t number)
{
    if (number == g->flushed[sector])
        return;
    for (unsigned int i = 0; i < g->since_count[sector]; i++) {
        if (g->since[sector][i] == number)
            return;
    }
    fail_msg("sector %llu is %u, was flushed as %u", (unsigned long long)sector,
        number, g->flushed[sector]);
}

/* Reads a file as a monitor that opens it would. */
static void mount(const struct rig *g, const uint8_t *image)
{
    uint64_t sequence;
    struct blk_map map;

    assert_int_equal(blk_map_init(&map, CLUSTERS), 0);
    assert_true(
        blk_overlay_map_decode(image + BLK_OVERLAY_BLOCK, 0, &map, &sequence));
    for (uint64_t i = 0; i < SECTORS; i++) {
        enum blk_cluster_state state = blk_map_get(&map, i / 8);
        uint32_t number = 0;

        if (state == BLK_CLUSTER_DATA)
            number = number_of(image + OFFSET + i * BLK_SECTOR);
        else if (state == BLK_CLUSTER_BASE)
            number = number_of(g->base_data + i * BLK_SECTOR);
        check_sector(g, i, number);
    }
    blk_map_fini(&map);
}

static void crash(struct rig *g)
{
    uint8_t image[UPPER];

    for (unsigned int n = 0; n < CRASHES; n++) {
        /* None of what is pending, all of it, or any part. */
        uint64_t odds = n < 2 ? n : 1 + next(g, 3);

        memcpy(image, g->stable, UPPER);
        for (uint64_t i = 0; i < U_SECTS; i++) {
            if (g->pending[i] && (n == 1 || (n > 1 && next(g, 4) < odds)))
                memcpy(image + i * BLK_SECTOR, g->upper_data + i * BLK_SECTOR,
                    BLK_SECTOR);
        }
        mount(g, image);
        g->crashes++;
    }
}

/* Of the upper, before it has any effect. */
static void on_effect(void *opaque, const struct blk_io *io)
{
    struct rig *g = opaque;

    crash(g);
    if (io->kind == BLK_FLUSH) {
        memcpy(g->stable, g->upper_data, UPPER);
        memset(g->pending, 0, sizeof(g->pending));
    } else if (io->kind != BLK_READ) {
        for (uint64_t i = 0; i < io->len / BLK_SECTOR; i++)
            g->pending[io->offset / BLK_SECTOR + i] = true;
    }
}

static void add_value(struct rig *g, uint64_t sector, uint32_t number)
{
    assert_true(g->since_count[sector] < SINCE);
    g->since[sector][g->since_count[sector]++] = number;
}

/* What a flush that has completed leaves no doubt about. */
static void settle(struct rig *g, uint64_t sector, uint64_t sectors)
{
    for (uint64_t i = sector; i < sector + sectors; i++) {
        if (g->since_count[i] > 0)
            g->flushed[i] = g->since[i][g->since_count[i] - 1];
        g->since_count[i] = 0;
    }
}

struct request {
    struct blk_io io;
    bool is_done;
};

static void on_done(struct blk_io *io, int rc)
{
    assert_int_equal(rc, 0);
    container_of(io, struct request, io)->is_done = true;
}

static void one(
    struct rig *g, enum blk_io_kind kind, uint64_t sector, uint64_t sectors)
{
    uint8_t data[OP_MAX * BLK_SECTOR];
    struct iovec iov = {data, sectors * BLK_SECTOR};
    struct request r = {.io = {.kind = kind,
                            .durable = g->durable && kind != BLK_FLUSH,
                            .may_unmap = next(g, 2) != 0,
                            .offset = sector * BLK_SECTOR,
                            .len = sectors * BLK_SECTOR,
                            .iov = &iov,
                            .iov_count = kind == BLK_WRITE,
                            .done = on_done}};

    for (uint64_t i = 0; i < sectors; i++) {
        uint32_t number = kind == BLK_WRITE ? ++g->number : 0;

        fill(data + i * BLK_SECTOR, number);
        add_value(g, sector + i, number);
    }
    g->o.backend.ops->submit(&g->o.backend, &r.io);
    assert_true(r.is_done);
    if (kind == BLK_FLUSH)
        settle(g, 0, SECTORS);
    else if (g->durable)
        settle(g, sector, sectors);
    crash(g);
}

static void run(uint64_t seed, bool durable)
{
    struct rig *g = calloc(1, sizeof(*g));
    struct blk_overlay_config config = {
        .data_offset = OFFSET, .persistent = true};

    assert_non_null(g);
    g->seed = seed;
    g->durable = durable;
    for (uint64_t i = 0; i < SECTORS; i++) {
        g->flushed[i] = UINT32_C(0xba5e0000) + (uint32_t)i;
        fill(g->base_data + i * BLK_SECTOR, g->flushed[i]);
    }
    mem_disk_init(&g->base, g->base_data, SECTORS);
    mem_disk_init(&g->upper, g->upper_data, U_SECTS);
    config.base = &g->base.backend;
    config.upper = &g->upper.backend;
    assert_int_equal(blk_overlay_init(&g->o, &config, NULL), 0);
    blk_overlay_map_encode(&g->o.map, 0, 0, g->upper_data + BLK_OVERLAY_BLOCK);
    bitmap_clear_all(&g->o.map.unsaved);
    memcpy(g->stable, g->upper_data, UPPER);
    g->upper.on_effect = on_effect;
    g->upper.opaque = g;
    for (unsigned int i = 0; i < 300; i++) {
        uint64_t sector = next(g, SECTORS);
        uint64_t sectors = num_min(1 + next(g, OP_MAX), SECTORS - sector);

        if (next(g, 12) == 0)
            one(g, BLK_FLUSH, 0, 0);
        else
            one(g, next(g, 3) == 0 ? BLK_ZERO : BLK_WRITE, sector, sectors);
    }
    assert_true(g->crashes > 300 * CRASHES);
    blk_overlay_fini(&g->o);
    free(g);
}

static void test_flushed_data_survives_a_crash(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++)
        run(seed * 0x9e3779b97f4a7c15u, false);
}

/* 5.2.6.2: without FLUSH each write that has completed is there. */
static void test_durable_writes_survive_a_crash(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++)
        run(seed * 0xdeadbeefcafeu, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flushed_data_survives_a_crash),
        cmocka_unit_test(test_durable_writes_survive_a_crash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
