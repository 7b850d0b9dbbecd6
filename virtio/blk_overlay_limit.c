/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk_overlay_limit.h"

#include <assert.h>

#include "virtio/blk_overlay.h"

/* Clusters of a range that are held. */
static uint64_t count_held(
    const struct blk_overlay_limit *l, uint64_t first, uint64_t count)
{
    uint64_t n = 0;
    size_t at = first;
    size_t len;

    while (bitmap_next_run(&l->bits, at, &at, &len) && at < first + count) {
        uint64_t left = first + count - at;

        n += len < left ? len : left;
        at += len;
    }
    return n;
}

int blk_overlay_limit_set(struct blk_overlay *o, uint64_t max)
{
    struct blk_overlay_limit *l = &o->limit;
    size_t at = 0;
    size_t len;
    int rc;

    blk_overlay_limit_fini(o);
    if (max == 0)
        return 0;
    rc = bitmap_init(&l->bits, o->map.clusters);
    if (rc < 0)
        return rc;
    l->max = max;
    while (bitmap_next_run(&o->map.data, at, &at, &len)) {
        blk_overlay_limit_force(o, at, len);
        at += len;
    }
    return 0;
}

void blk_overlay_limit_fini(struct blk_overlay *o)
{
    if (o->limit.max != 0)
        bitmap_fini(&o->limit.bits);
    o->limit = (struct blk_overlay_limit){0};
}

void blk_overlay_limit_force(
    struct blk_overlay *o, uint64_t first, uint64_t count)
{
    struct blk_overlay_limit *l = &o->limit;

    if (l->max == 0 || count == 0)
        return;
    l->held += count - count_held(l, first, count);
    bitmap_set(&l->bits, first, count);
}

/* All that is missing of a range, or nothing. */
static bool take(struct blk_overlay *o, uint64_t first, uint64_t count)
{
    const struct blk_overlay_limit *l = &o->limit;
    uint64_t more;

    more = count - count_held(l, first, count);
    if (more == 0)
        return true;
    if (l->held >= l->max || more > l->max - l->held)
        return false;
    blk_overlay_limit_force(o, first, count);
    return true;
}

bool blk_overlay_limit_take(struct blk_overlay *o, const struct blk_io *io)
{
    uint64_t end = io->offset + io->len;
    uint64_t first = io->offset / BLK_CLUSTER;
    uint64_t last = (end - 1) / BLK_CLUSTER;
    bool good = true;

    if (o->limit.max == 0)
        return true;
    if (io->kind == BLK_WRITE)
        return take(o, first, last - first + 1);
    if (io->kind != BLK_ZERO)
        return true;
    /* Of zeroes only an end that is in part of a cluster has a place. */
    if (io->offset % BLK_CLUSTER != 0 &&
        blk_map_get(&o->map, first) != BLK_CLUSTER_ZERO)
        good = take(o, first, 1);
    if (good && end % BLK_CLUSTER != 0 &&
        end != o->backend.capacity * BLK_SECTOR &&
        blk_map_get(&o->map, last) != BLK_CLUSTER_ZERO)
        good = take(o, last, 1);
    return good;
}

void blk_overlay_limit_give_back(
    struct blk_overlay *o, uint64_t first, uint64_t count)
{
    struct blk_overlay_limit *l = &o->limit;
    uint64_t n;

    if (l->max == 0 || count == 0)
        return;
    n = count_held(l, first, count);
    assert(n <= l->held);
    l->held -= n;
    bitmap_clear(&l->bits, first, count);
}

bool blk_overlay_limit_holds(
    const struct blk_overlay *o, uint64_t first, uint64_t count)
{
    size_t at;
    size_t len;

    return o->limit.max != 0 &&
           bitmap_next_run(&o->limit.bits, first, &at, &len) &&
           at < first + count;
}
