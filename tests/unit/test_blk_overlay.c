/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The overlay against a flat model: random requests that complete late, out
 * of order and sometimes with an error, levels that it is put back to, and
 * crashes at every write of the upper.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support/mem_disk.h"
#include "virtio/blk_levels.h"
#include "virtio/blk_overlay.h"
#include "virtio/blk_overlay_clusters.h"
#include "virtio/blk_overlay_format.h"
#include "vmm/base/num.h"

#define CLUSTERS 40u
#define SECTORS  (CLUSTERS * 8u - 3u) /* the last cluster is cut */
#define BYTES    (SECTORS * BLK_SECTOR)
#define OFFSET   (3u * BLK_OVERLAY_BLOCK) /* header and one map block */
#define UPPER    (OFFSET + CLUSTERS * BLK_CLUSTER)
#define SLOTS    12u /* requests in flight */
#define OP_MAX   40u /* sectors */
#define PIECES   5u
#define LEVELS   8u

/* A request under way and its memory. */
struct slot {
    struct rig *rig;
    struct blk_io io;
    struct iovec iov[PIECES];
    uint8_t data[OP_MAX * BLK_SECTOR];
    uint64_t sector;
    uint64_t sectors;
    enum blk_io_kind kind;
    bool busy;
    bool expects_error; /* the upper fails: what it does is open */
};

struct rig {
    uint64_t seed;
    uint8_t base_data[BYTES];
    uint8_t upper_data[UPPER];
    struct mem_disk base;
    struct mem_disk upper;
    struct blk_overlay o;
    uint8_t model[BYTES];
    bool unknown[SECTORS];
    bool touched[CLUSTERS];
    struct slot slots[SLOTS];
    unsigned int completed;
    unsigned int failed;
};

static uint64_t next(struct rig *g, uint64_t below)
{
    g->seed ^= g->seed << 13;
    g->seed ^= g->seed >> 7;
    g->seed ^= g->seed << 17;
    return g->seed % below;
}

static void ignore_batch(void *opaque)
{
    (void)opaque;
}

static void make_overlay(struct rig *g, bool persistent)
{
    const struct blk_overlay_config config = {.base = &g->base.backend,
        .upper = &g->upper.backend,
        .data_offset = OFFSET,
        .persistent = persistent};

    assert_int_equal(blk_overlay_init(&g->o, &config, NULL), 0);
    g->o.backend.batch_done = ignore_batch;
}

static struct rig *make_rig(uint64_t seed, bool persistent)
{
    struct rig *g = calloc(1, sizeof(*g));

    assert_non_null(g);
    g->seed = seed;
    for (uint64_t i = 0; i < BYTES; i++)
        g->base_data[i] = (uint8_t)next(g, 256);
    memcpy(g->model, g->base_data, BYTES);
    /* What the upper has where nothing was written must not matter. */
    memset(g->upper_data, 0xee, UPPER);
    mem_disk_init(&g->base, g->base_data, SECTORS);
    mem_disk_init(&g->upper, g->upper_data, UPPER / BLK_SECTOR);
    g->base.backend.read_only = true;
    make_overlay(g, persistent);
    for (unsigned int i = 0; i < SLOTS; i++)
        g->slots[i].rig = g;
    return g;
}

static void drain(struct rig *g)
{
    g->o.backend.ops->drain(&g->o.backend);
    for (unsigned int i = 0; i < SLOTS; i++)
        assert_false(g->slots[i].busy);
}

static void free_rig(struct rig *g)
{
    drain(g);
    blk_overlay_fini(&g->o);
    free(g);
}

static void check_read(const struct rig *g, const struct slot *s)
{
    for (uint64_t i = 0; i < s->sectors; i++) {
        if (!g->unknown[s->sector + i])
            assert_memory_equal(s->data + i * BLK_SECTOR,
                g->model + (s->sector + i) * BLK_SECTOR, BLK_SECTOR);
    }
}

static void on_done(struct blk_io *io, int rc)
{
    struct slot *s = container_of(io, struct slot, io);
    struct rig *g = s->rig;

    assert_true(s->busy);
    s->busy = false;
    g->completed++;
    if (rc < 0) {
        assert_true(s->expects_error);
        g->failed++;
    }
    if (s->kind == BLK_READ && rc == 0)
        check_read(g, s);
    if (s->kind == BLK_READ || s->kind == BLK_FLUSH)
        return;
    for (uint64_t i = 0; i < s->sectors; i++)
        g->unknown[s->sector + i] = rc < 0 || s->kind == BLK_DISCARD;
    if (rc == 0 && s->kind == BLK_WRITE)
        memcpy(g->model + s->sector * BLK_SECTOR, s->data,
            s->sectors * BLK_SECTOR);
    else if (rc == 0)
        memset(g->model + s->sector * BLK_SECTOR, 0, s->sectors * BLK_SECTOR);
}

/* Requests in flight share clusters, but no sectors: those would be races. */
static bool is_free(const struct rig *g, uint64_t sector, uint64_t sectors)
{
    for (unsigned int i = 0; i < SLOTS; i++) {
        const struct slot *s = &g->slots[i];

        if (s->busy && s->kind != BLK_FLUSH && s->sector < sector + sectors &&
            sector < s->sector + s->sectors)
            return false;
    }
    return true;
}

static void cut(struct rig *g, struct slot *s)
{
    uint64_t left = s->sectors * BLK_SECTOR;
    uint8_t *at = s->data;
    unsigned int n = 0;

    while (left > 0) {
        uint64_t len = n == PIECES - 1 ? left : 1 + next(g, left);

        s->iov[n++] = (struct iovec){at, len};
        at += len;
        left -= len;
    }
    s->io.iov = s->iov;
    s->io.iov_count = n;
}

static void submit(struct rig *g, struct slot *s, enum blk_io_kind kind,
    uint64_t sector, uint64_t sectors)
{
    s->busy = true;
    s->kind = kind;
    s->sector = sector;
    s->sectors = sectors;
    s->expects_error = g->upper.fails_with != 0;
    s->io = (struct blk_io){.kind = kind,
        .offset = sector * BLK_SECTOR,
        .len = sectors * BLK_SECTOR,
        .may_unmap = next(g, 2) != 0,
        .done = on_done};
    if (kind == BLK_READ || kind == BLK_WRITE)
        cut(g, s);
    if (kind == BLK_WRITE) {
        s->io.durable = next(g, 8) == 0;
        for (uint64_t i = 0; i < s->io.len; i++)
            s->data[i] = (uint8_t)next(g, 256);
    }
    if (kind != BLK_READ && kind != BLK_FLUSH) {
        for (uint64_t i = sector / 8; i <= (sector + sectors - 1) / 8; i++)
            g->touched[i] = true;
    }
    g->o.backend.ops->submit(&g->o.backend, &s->io);
}

static void random_submit(struct rig *g)
{
    static const enum blk_io_kind kinds[] = {BLK_READ, BLK_READ, BLK_READ,
        BLK_WRITE, BLK_WRITE, BLK_WRITE, BLK_ZERO, BLK_ZERO, BLK_DISCARD,
        BLK_FLUSH};
    enum blk_io_kind kind = kinds[next(g, ARRAY_SIZE(kinds))];
    uint64_t sector = next(g, SECTORS);
    uint64_t sectors =
        num_min(1 + next(g, next(g, 4) == 0 ? OP_MAX : 6), SECTORS - sector);
    unsigned int i = 0;

    while (i < SLOTS && g->slots[i].busy)
        i++;
    if (i == SLOTS)
        return;
    if (kind == BLK_FLUSH)
        submit(g, &g->slots[i], kind, 0, 0);
    else if (is_free(g, sector, sectors))
        submit(g, &g->slots[i], kind, sector, sectors);
}

static void finish_one(struct rig *g)
{
    struct mem_disk *d = next(g, 2) == 0 ? &g->base : &g->upper;

    if (d->held_count > 0)
        mem_disk_finish(d, (unsigned int)next(g, d->held_count));
}

static void check_all(struct rig *g)
{
    uint8_t got[CLUSTERS * BLK_CLUSTER];

    assert_int_equal(blk_overlay_read(&g->o, 0, CLUSTERS, got), 0);
    for (uint64_t i = 0; i < SECTORS; i++) {
        if (!g->unknown[i])
            assert_memory_equal(
                got + i * BLK_SECTOR, g->model + i * BLK_SECTOR, BLK_SECTOR);
    }
}

static void check_dirty(struct rig *g)
{
    struct bitmap dirty;

    assert_int_equal(bitmap_init(&dirty, CLUSTERS), 0);
    blk_overlay_take_dirty(&g->o, &dirty);
    for (unsigned int i = 0; i < CLUSTERS; i++)
        assert_int_equal(bitmap_test(&dirty, i), g->touched[i]);
    bitmap_fini(&dirty);
    memset(g->touched, 0, sizeof(g->touched));
    assert_int_equal(bitmap_count(&g->o.map.dirty), 0);
}

static void random_run(bool persistent, bool errors)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct rig *g = make_rig(seed * 0x9e3779b97f4a7c15u, persistent);

        for (unsigned int step = 0; step < 4000; step++) {
            g->base.holds = step / 500 % 2 == 0;
            g->upper.holds = step / 250 % 2 == 0;
            if (errors && next(g, 50) == 0) {
                g->upper.fails_with = next(g, 2) == 0 ? -EIO : -ENOSPC;
                g->upper.tears = next(g, 2) == 0;
                for (unsigned int i = 0; i < SLOTS; i++)
                    g->slots[i].expects_error |= g->slots[i].busy;
            } else if (next(g, 10) == 0) {
                g->upper.fails_with = 0;
            }
            if (next(g, 2) == 0)
                random_submit(g);
            else
                finish_one(g);
            if (next(g, 300) != 0)
                continue;
            drain(g);
            check_dirty(g);
            g->upper.fails_with = 0;
            check_all(g);
        }
        drain(g);
        assert_true(g->completed > 1000);
        assert_true(errors ? g->failed > 10 : g->failed == 0);
        free_rig(g);
    }
}

static void test_random_requests_match_the_model(void **state)
{
    (void)state;
    random_run(false, false);
    random_run(true, false);
}

static void test_failures_cost_the_request_only(void **state)
{
    (void)state;
    random_run(false, true);
    random_run(true, true);
}

/* The base is only read: what it has is what it had. */
static void test_base_is_left_alone(void **state)
{
    struct rig *g = make_rig(7, false);
    uint8_t before[BYTES];

    (void)state;
    memcpy(before, g->base_data, BYTES);
    for (unsigned int i = 0; i < 500; i++)
        random_submit(g);
    drain(g);
    assert_memory_equal(g->base_data, before, BYTES);
    assert_int_equal(g->base.writes + g->base.zeroes + g->base.flushes, 0);
    free_rig(g);
}

static void one(
    struct rig *g, enum blk_io_kind kind, uint64_t sector, uint64_t sectors)
{
    submit(g, &g->slots[0], kind, sector, sectors);
    drain(g);
}

static void test_zeroes_take_no_space(void **state)
{
    struct rig *g = make_rig(3, false);

    (void)state;
    one(g, BLK_ZERO, 8, 16);
    assert_int_equal(g->upper.writes + g->upper.zeroes, 0);
    assert_int_equal(blk_map_get(&g->o.map, 1), BLK_CLUSTER_ZERO);
    assert_int_equal(blk_map_get(&g->o.map, 2), BLK_CLUSTER_ZERO);
    one(g, BLK_DISCARD, 24, 12);
    assert_int_equal(blk_map_get(&g->o.map, 3), BLK_CLUSTER_ZERO);
    assert_int_equal(blk_map_get(&g->o.map, 4), BLK_CLUSTER_BASE);
    /* The end of the disk ends its cluster. */
    one(g, BLK_ZERO, SECTORS - 5, 5);
    assert_int_equal(blk_map_get(&g->o.map, CLUSTERS - 1), BLK_CLUSTER_ZERO);
    one(g, BLK_WRITE, 9, 1);
    assert_int_equal(blk_map_get(&g->o.map, 1), BLK_CLUSTER_DATA);
    /* Zeroes are not read from anywhere. */
    assert_int_equal(g->base.reads, 0);
    one(g, BLK_DISCARD, 8, 8);
    assert_int_equal(g->upper.zeroes, 1);
    check_all(g);
    free_rig(g);
}

static void test_whole_clusters_are_not_copied(void **state)
{
    struct rig *g = make_rig(4, false);

    (void)state;
    one(g, BLK_WRITE, 16, 24);
    assert_int_equal(g->base.reads, 0);
    one(g, BLK_WRITE, 81, 2);
    assert_int_equal(g->base.reads, 1);
    one(g, BLK_WRITE, 97, 16);
    assert_int_equal(g->base.reads, 3);
    one(g, BLK_WRITE, 97, 16);
    assert_int_equal(g->base.reads, 3);
    check_all(g);
    free_rig(g);
}

/* Two halves of one cluster at once: the second waits for the first. */
static void test_writes_to_one_cluster_exclude_each_other(void **state)
{
    struct rig *g = make_rig(5, false);

    (void)state;
    g->base.holds = true;
    g->upper.holds = true;
    submit(g, &g->slots[0], BLK_WRITE, 0, 3);
    submit(g, &g->slots[1], BLK_WRITE, 3, 3);
    submit(g, &g->slots[2], BLK_WRITE, 8, 3);
    assert_int_equal(g->base.held_count, 2);
    assert_non_null(g->o.waiting.head);
    drain(g);
    check_all(g);
    /* A write that fails leaves the cluster as it was. */
    g->upper.fails_with = -ENOSPC;
    g->upper.tears = true;
    submit(g, &g->slots[0], BLK_WRITE, 81, 3);
    drain(g);
    assert_int_equal(blk_map_get(&g->o.map, 10), BLK_CLUSTER_BASE);
    for (unsigned int i = 81; i < 84; i++)
        g->unknown[i] = false;
    g->upper.fails_with = 0;
    check_all(g);
    free_rig(g);
}

/* More requests than tasks: each has its turn. */
static void test_many_requests_wait_their_turn(void **state)
{
    static struct slot many[100];
    struct rig *g = make_rig(6, false);

    (void)state;
    g->base.holds = true;
    for (unsigned int i = 0; i < ARRAY_SIZE(many); i++) {
        many[i] = (struct slot){.rig = g};
        submit(g, &many[i], BLK_WRITE, i * 3, 1);
    }
    assert_int_equal(g->base.held_count, 32);
    drain(g);
    assert_int_equal(g->completed, ARRAY_SIZE(many));
    check_all(g);
    free_rig(g);
}

static void put_back(struct rig *g, struct blk_levels *l, unsigned int level,
    uint8_t models[][BYTES])
{
    struct err err;

    drain(g);
    if (blk_levels_reset(l, level, &err) < 0)
        fail_msg("%s", err.text);
    memcpy(g->model, models[level], BYTES);
    memset(g->unknown, 0, sizeof(g->unknown));
    check_all(g);
    assert_int_equal(bitmap_count(&g->o.map.dirty), 0);
}

static void test_levels(void **state)
{
    static uint8_t models[LEVELS][BYTES];

    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct rig *g = make_rig(seed * 0xabcdef12345u, seed % 2 == 0);
        struct blk_levels l;
        struct err err;
        uint8_t got[CLUSTERS * BLK_CLUSTER];

        assert_int_equal(blk_levels_init(&l, &g->o, NULL), 0);
        for (unsigned int round = 0; round < 200; round++) {
            for (unsigned int i = 0; i < 30; i++) {
                random_submit(g);
                finish_one(g);
            }
            drain(g);
            /* The top goes, and what it had is put back by the next one. */
            if (l.count > 1 && next(g, 8) == 0) {
                blk_levels_pop(&l);
                put_back(g, &l, l.count - 1, models);
                continue;
            }
            if (l.count > 0 && next(g, 3) != 0) {
                put_back(g, &l, (unsigned int)next(g, l.count), models);
                continue;
            }
            if (l.count == LEVELS) {
                put_back(g, &l, 0, models);
                continue;
            }
            /* What a discard left is what it is from here on. */
            assert_int_equal(blk_overlay_read(&g->o, 0, CLUSTERS, got), 0);
            if (blk_levels_push(&l, &err) < 0)
                fail_msg("%s", err.text);
            memcpy(models[l.count - 1], got, BYTES);
        }
        blk_levels_fini(&l);
        free_rig(g);
    }
}

/* As many as there may be, then one more; back to some of them. */
static void test_deep_levels(void **state)
{
    struct rig *g = make_rig(11, false);
    struct blk_levels l;
    struct err err;

    (void)state;
    assert_int_equal(blk_levels_init(&l, &g->o, NULL), 0);
    for (unsigned int i = 0; i < BLK_LEVELS_MAX; i++) {
        one(g, BLK_WRITE, (i * 3) % (SECTORS - 2), 2);
        assert_int_equal(blk_levels_push(&l, &err), 0);
    }
    assert_int_equal(blk_levels_push(&l, &err), -ENOSPC);
    for (unsigned int i = 0; i < 2000; i++)
        blk_levels_pop(&l);
    assert_int_equal(blk_levels_reset(&l, 7, &err), 0);
    assert_int_equal(l.count, 8);
    /* Eight writes to an overlay that was empty. */
    for (unsigned int i = 0; i < CLUSTERS; i++)
        assert_int_equal(blk_map_get(&g->o.map, i) == BLK_CLUSTER_DATA,
            i <= (7 * 3 + 1) / 8);
    blk_levels_fini(&l);
    free_rig(g);
}

static void test_reset_costs_what_was_written(void **state)
{
    static uint8_t models[1][BYTES];
    struct rig *g = make_rig(9, false);
    struct blk_levels l;
    unsigned int writes;

    (void)state;
    one(g, BLK_WRITE, 0, 40);
    assert_int_equal(blk_levels_init(&l, &g->o, NULL), 0);
    assert_int_equal(blk_levels_push(&l, NULL), 0);
    memcpy(models[0], g->model, BYTES);
    one(g, BLK_WRITE, 9, 2);
    one(g, BLK_WRITE, 160, 8);
    writes = g->upper.writes;
    put_back(g, &l, 0, models);
    /* One cluster had been written to; the other one is the base's again. */
    assert_int_equal(g->upper.writes, writes + 1);
    assert_int_equal(blk_map_get(&g->o.map, 20), BLK_CLUSTER_BASE);
    blk_levels_fini(&l);
    free_rig(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_requests_match_the_model),
        cmocka_unit_test(test_failures_cost_the_request_only),
        cmocka_unit_test(test_base_is_left_alone),
        cmocka_unit_test(test_zeroes_take_no_space),
        cmocka_unit_test(test_whole_clusters_are_not_copied),
        cmocka_unit_test(test_writes_to_one_cluster_exclude_each_other),
        cmocka_unit_test(test_many_requests_wait_their_turn),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_deep_levels),
        cmocka_unit_test(test_reset_costs_what_was_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
