/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk_map.h"

#include <assert.h>

#include "vmm/base/num.h"

#define GROUP UINT64_C(4096) /* clusters: a page of the bitmap's words is 8 */

int blk_map_init(struct blk_map *m, uint64_t clusters)
{
    int rc;

    *m = (struct blk_map){.clusters = clusters};
    rc = bitmap_init(&m->data, clusters);
    if (rc == 0)
        rc = bitmap_init(&m->zero, clusters);
    if (rc == 0)
        rc = bitmap_init(&m->dirty, clusters);
    if (rc == 0)
        rc = bitmap_init(&m->dirty_groups, num_div_up(clusters, GROUP));
    if (rc == 0)
        rc = bitmap_init(
            &m->unsaved, num_div_up(clusters, BLK_MAP_BLOCK_CLUSTERS));
    if (rc < 0)
        blk_map_fini(m);
    return rc;
}

void blk_map_fini(struct blk_map *m)
{
    bitmap_fini(&m->data);
    bitmap_fini(&m->zero);
    bitmap_fini(&m->dirty);
    bitmap_fini(&m->dirty_groups);
    bitmap_fini(&m->unsaved);
}

enum blk_cluster_state blk_map_get(const struct blk_map *m, uint64_t cluster)
{
    if (bitmap_test(&m->data, cluster))
        return BLK_CLUSTER_DATA;
    return bitmap_test(&m->zero, cluster) ? BLK_CLUSTER_ZERO : BLK_CLUSTER_BASE;
}

void blk_map_set(struct blk_map *m, uint64_t first, uint64_t count,
    enum blk_cluster_state state)
{
    uint64_t block = first / BLK_MAP_BLOCK_CLUSTERS;

    if (count == 0)
        return;
    if (state == BLK_CLUSTER_DATA)
        bitmap_set(&m->data, first, count);
    else
        bitmap_clear(&m->data, first, count);
    if (state == BLK_CLUSTER_ZERO)
        bitmap_set(&m->zero, first, count);
    else
        bitmap_clear(&m->zero, first, count);
    bitmap_set(&m->unsaved, block,
        (first + count - 1) / BLK_MAP_BLOCK_CLUSTERS - block + 1);
}

uint64_t blk_map_run(const struct blk_map *m, uint64_t first, uint64_t max,
    enum blk_cluster_state *ret_state)
{
    enum blk_cluster_state state = blk_map_get(m, first);
    uint64_t n = 1;

    while (n < max && blk_map_get(m, first + n) == state)
        n++;
    *ret_state = state;
    return n;
}

bool blk_map_is_data(const struct blk_map *m, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (!bitmap_test(&m->data, first + i))
            return false;
    }
    return true;
}

bool blk_map_may_have_data(
    const struct blk_map *m, uint64_t first, uint64_t count)
{
    if (count > GROUP)
        return true;
    for (uint64_t i = 0; i < count; i++) {
        if (bitmap_test(&m->data, first + i))
            return true;
    }
    return false;
}

bool blk_map_next_used(const struct blk_map *m, uint64_t from,
    uint64_t *ret_first, uint64_t *ret_count, enum blk_cluster_state *ret_state)
{
    size_t data_at;
    size_t data_n;
    size_t zero_at;
    size_t zero_n;
    bool has_data = bitmap_next_run(&m->data, from, &data_at, &data_n);
    bool has_zero = bitmap_next_run(&m->zero, from, &zero_at, &zero_n);

    if (!has_data && !has_zero)
        return false;
    if (has_data && (!has_zero || data_at < zero_at)) {
        *ret_first = data_at;
        *ret_count = data_n;
        *ret_state = BLK_CLUSTER_DATA;
    } else {
        *ret_first = zero_at;
        *ret_count = zero_n;
        *ret_state = BLK_CLUSTER_ZERO;
    }
    return true;
}

void blk_map_mark_dirty(struct blk_map *m, uint64_t first, uint64_t count)
{
    uint64_t group = first / GROUP;

    if (count == 0)
        return;
    bitmap_set(&m->dirty, first, count);
    bitmap_set(
        &m->dirty_groups, group, (first + count - 1) / GROUP - group + 1);
}

bool blk_map_next_dirty(const struct blk_map *m, uint64_t from,
    uint64_t *ret_first, uint64_t *ret_count)
{
    size_t group;
    size_t groups;
    size_t first;
    size_t count;

    if (from >= m->clusters ||
        !bitmap_next_run(&m->dirty_groups, from / GROUP, &group, &groups) ||
        !bitmap_next_run(
            &m->dirty, num_max(from, group * GROUP), &first, &count))
        return false;
    *ret_first = first;
    *ret_count = count;
    return true;
}

void blk_map_take_dirty(struct blk_map *m, struct bitmap *into)
{
    size_t group = 0;
    size_t groups;

    assert(into == NULL || into->bits == m->clusters);
    while (bitmap_next_run(&m->dirty_groups, group, &group, &groups)) {
        uint64_t from = group * GROUP;
        uint64_t to = num_min((group + groups) * GROUP, m->clusters);
        size_t first = from;
        size_t count;

        while (into != NULL &&
               bitmap_next_run(&m->dirty, first, &first, &count) &&
               first < to) {
            bitmap_set(into, first, count);
            first += count;
        }
        bitmap_clear(&m->dirty, from, to - from);
        bitmap_clear(&m->dirty_groups, group, groups);
        group += groups;
    }
}
