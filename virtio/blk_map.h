/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an overlay knows of each cluster of its disk: where its bytes are,
 * whether it was written to since the last mark, and whether the file has
 * been told.
 *
 * A cluster is 4 KiB: the page size and the block size of ext4 and xfs, so
 * that a write of either copies nothing from below; the map then takes two
 * bits per 4 KiB, 64 MiB for a disk of 1 TiB, of which only what is used is
 * touched. Thread rule: that of its owner. Nothing here is guest-controlled
 * but the choice of clusters, which is asserted to lie on the disk.
 */
#ifndef VIRTIO_BLK_MAP_H
#define VIRTIO_BLK_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"

#define BLK_CLUSTER_SHIFT 12u
#define BLK_CLUSTER       (UINT64_C(1) << BLK_CLUSTER_SHIFT)

enum blk_cluster_state {
    BLK_CLUSTER_BASE = 0, /* as below */
    BLK_CLUSTER_DATA = 1, /* in the overlay */
    BLK_CLUSTER_ZERO = 2, /* zeroes, kept nowhere */
};

/* Clusters of one map block of the file (virtio/blk_overlay_format.h). */
#define BLK_MAP_BLOCK_CLUSTERS UINT64_C(16256)

struct blk_map {
    uint64_t clusters;
    struct bitmap data;
    struct bitmap zero;         /* disjoint from data */
    struct bitmap dirty;        /* written since the last mark */
    struct bitmap dirty_groups; /* 4096 clusters each: some are dirty */
    struct bitmap unsaved;      /* map blocks that the file does not have */
};

/* All BASE, nothing dirty: 0 or -ENOMEM; fini need not be called then. */
CC_MUST_CHECK int blk_map_init(struct blk_map *m, uint64_t clusters);
void blk_map_fini(struct blk_map *m);

enum blk_cluster_state blk_map_get(const struct blk_map *m, uint64_t cluster);

/* Changes states and nothing else but `unsaved`. */
void blk_map_set(struct blk_map *m, uint64_t first, uint64_t count,
    enum blk_cluster_state state);

/* Clusters from `first` with one and the same state, at most `max` > 0. */
uint64_t blk_map_run(const struct blk_map *m, uint64_t first, uint64_t max,
    enum blk_cluster_state *ret_state);

/* Whether all of a range has its bytes in the overlay. */
bool blk_map_is_data(const struct blk_map *m, uint64_t first, uint64_t count);

/* False if none of a range has; a long range is not looked through. */
bool blk_map_may_have_data(
    const struct blk_map *m, uint64_t first, uint64_t count);

/*
 * The first run of clusters at or after `from` that are not BASE, with one
 * state; false if there is none.
 */
CC_MUST_CHECK bool blk_map_next_used(const struct blk_map *m, uint64_t from,
    uint64_t *ret_first, uint64_t *ret_count,
    enum blk_cluster_state *ret_state);

void blk_map_mark_dirty(struct blk_map *m, uint64_t first, uint64_t count);

/* The first run of dirty clusters at or after `from`. */
CC_MUST_CHECK bool blk_map_next_dirty(const struct blk_map *m, uint64_t from,
    uint64_t *ret_first, uint64_t *ret_count);

/*
 * Adds the dirty clusters to `into` (NULL: forgets them), a bitmap of as many
 * bits, and begins anew. Costs what is dirty, and a look at each 16 MiB.
 */
void blk_map_take_dirty(struct blk_map *m, struct bitmap *into);

#endif
