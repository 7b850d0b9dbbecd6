/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk_levels.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "virtio/blk_overlay_clusters.h"
#include "vmm/base/num.h"

int blk_levels_init(
    struct blk_levels *l, struct blk_overlay *o, struct err *err)
{
    int rc;

    *l = (struct blk_levels){.overlay = o};
    rc = bitmap_init(&l->changed, o->map.clusters);
    return rc < 0 ? err_sys(err, rc, "disk levels") : 0;
}

static void free_level(struct blk_level *level)
{
    free(level->entries);
    free(level->data);
    *level = (struct blk_level){0};
}

void blk_levels_fini(struct blk_levels *l)
{
    for (unsigned int i = 0; i < l->count; i++)
        free_level(&l->levels[i]);
    free(l->levels);
    bitmap_fini(&l->changed);
    *l = (struct blk_levels){0};
}

/* Room for one more. */
static int reserve(struct blk_levels *l)
{
    unsigned int room = (unsigned int)num_max(2 * l->room, 8);
    struct blk_level *bigger;

    if (l->count < l->room)
        return 0;
    bigger = reallocarray(l->levels, room, sizeof(*bigger));
    if (bigger == NULL)
        return -ENOMEM;
    l->levels = bigger;
    l->room = room;
    return 0;
}

/* Takes back what was taken from the dirty set: nothing came of it. */
static void give_back(struct blk_levels *l)
{
    size_t first = 0;
    size_t count;

    while (bitmap_next_run(&l->changed, first, &first, &count)) {
        blk_map_mark_dirty(&l->overlay->map, first, count);
        bitmap_clear(&l->changed, first, count);
        first += count;
    }
}

/* The clusters of a new level, in l->changed. */
static void collect(struct blk_levels *l)
{
    const struct blk_map *map = &l->overlay->map;
    enum blk_cluster_state state;
    uint64_t first = 0;
    uint64_t count;

    blk_overlay_take_dirty(l->overlay, &l->changed);
    while (l->count == 0 &&
           blk_map_next_used(map, first, &first, &count, &state)) {
        bitmap_set(&l->changed, first, count);
        first += count;
    }
}

static int fill_level(struct blk_levels *l, struct blk_level *level)
{
    struct blk_overlay *o = l->overlay;
    uint64_t filled = 0;
    size_t first = 0;
    size_t count;
    int rc = 0;

    while (rc == 0 && bitmap_next_run(&l->changed, first, &first, &count)) {
        for (; rc == 0 && count > 0; count--, first++) {
            struct blk_level_entry *e = &level->entries[level->count++];

            *e = (struct blk_level_entry){
                .cluster = first, .state = blk_map_get(&o->map, first)};
            if (e->state != BLK_CLUSTER_DATA)
                continue;
            e->data = filled++;
            rc = blk_overlay_read(
                o, first, 1, level->data + e->data * BLK_CLUSTER);
        }
    }
    return rc;
}

/* Clusters of l->changed whose bytes a level has to keep. */
static uint64_t count_data(const struct blk_levels *l)
{
    uint64_t n = 0;
    size_t first = 0;
    size_t count;

    while (bitmap_next_run(&l->changed, first, &first, &count)) {
        for (; count > 0; count--, first++)
            n += blk_map_get(&l->overlay->map, first) == BLK_CLUSTER_DATA;
    }
    return n;
}

int blk_levels_push(struct blk_levels *l, struct err *err)
{
    struct blk_level level = {0};
    uint64_t clusters;
    int rc;

    if (l->count == BLK_LEVELS_MAX)
        return err_set(err, ENOSPC,
            "a disk has at most %u levels; go back to one first",
            BLK_LEVELS_MAX);
    rc = reserve(l);
    collect(l);
    clusters = count_data(l);
    level.entries =
        calloc(num_max(bitmap_count(&l->changed), 1), sizeof(*level.entries));
    if (clusters > 0)
        level.data = calloc(clusters, BLK_CLUSTER);
    if (level.entries == NULL || (level.data == NULL && clusters > 0))
        rc = -ENOMEM;
    if (rc == 0)
        rc = fill_level(l, &level);
    if (rc < 0) {
        free_level(&level);
        give_back(l);
        return err_sys(err, rc, "disk level of %llu KiB",
            (unsigned long long)(clusters * BLK_CLUSTER / NUM_KIB));
    }
    bitmap_clear_all(&l->changed);
    l->levels[l->count++] = level;
    return 0;
}

static const struct blk_level_entry *find(
    const struct blk_level *level, uint64_t cluster)
{
    uint64_t low = 0;
    uint64_t high = level->count;

    while (low < high) {
        uint64_t mid = low + (high - low) / 2;

        if (level->entries[mid].cluster < cluster)
            low = mid + 1;
        else
            high = mid;
    }
    return low < level->count && level->entries[low].cluster == cluster
               ? &level->entries[low]
               : NULL;
}

/* What is in no level was never written to: it is as the base. */
static int restore(struct blk_levels *l, unsigned int level, uint64_t cluster)
{
    for (unsigned int i = level + 1; i-- > 0;) {
        const struct blk_level_entry *e = find(&l->levels[i], cluster);

        if (e != NULL)
            return blk_overlay_put(l->overlay, cluster, 1, e->state,
                e->state == BLK_CLUSTER_DATA
                    ? l->levels[i].data + e->data * BLK_CLUSTER
                    : NULL);
    }
    return blk_overlay_put(l->overlay, cluster, 1, BLK_CLUSTER_BASE, NULL);
}

void blk_levels_pop(struct blk_levels *l)
{
    struct blk_level *level;

    assert(l->count > 0);
    level = &l->levels[l->count - 1];
    for (uint64_t i = 0; i < level->count; i++)
        blk_map_mark_dirty(&l->overlay->map, level->entries[i].cluster, 1);
    free_level(level);
    l->count--;
}

int blk_levels_reset(struct blk_levels *l, unsigned int level, struct err *err)
{
    size_t first = 0;
    size_t count;
    int rc = 0;

    assert(level < l->count);
    blk_overlay_take_dirty(l->overlay, &l->changed);
    for (unsigned int i = level + 1; i < l->count; i++) {
        for (uint64_t k = 0; k < l->levels[i].count; k++)
            bitmap_set(&l->changed, l->levels[i].entries[k].cluster, 1);
    }
    while (rc == 0 && bitmap_next_run(&l->changed, first, &first, &count)) {
        for (uint64_t k = 0; rc == 0 && k < count; k++)
            rc = restore(l, level, first + k);
        if (rc < 0) {
            give_back(l);
            return err_sys(err, rc, "disk cannot be put back");
        }
        bitmap_clear(&l->changed, first, count);
        first += count;
    }
    for (unsigned int i = level + 1; i < l->count; i++)
        free_level(&l->levels[i]);
    l->count = level + 1;
    return 0;
}
