/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Levels of an overlay: states of a disk, in memory, to which it can be put
 * back. Each level keeps the clusters that were written since the one before,
 * the first one all that are in the overlay, so that a level costs what was
 * written for it, and going back to one what was written since. A cluster is
 * looked for from the top down: a binary search in each level that does not
 * have it.
 *
 * Owns the overlay's dirty set. Thread rule: that of
 * virtio/blk_overlay_clusters.h. Nothing is guest-controlled but how much
 * there is to keep.
 */
#ifndef VIRTIO_BLK_LEVELS_H
#define VIRTIO_BLK_LEVELS_H

#include <stdint.h>

#include "virtio/blk_overlay.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* As many as RAM may have: the root, and 4096 above it. */
#define BLK_LEVELS_MAX 4097u

/* A cluster as a level found it. */
struct blk_level_entry {
    uint64_t cluster;
    uint64_t data; /* DATA: the number of its bytes in the level */
    enum blk_cluster_state state;
};

struct blk_level {
    struct blk_level_entry *entries; /* by cluster */
    uint64_t count;
    uint8_t *data; /* NULL if none has any */
};

struct blk_levels {
    struct blk_overlay *overlay; /* borrowed */
    struct bitmap changed;       /* scratch, clear between calls */
    unsigned int count;
    unsigned int room;
    struct blk_level *levels;
};

CC_MUST_CHECK int blk_levels_init(
    struct blk_levels *l, struct blk_overlay *o, struct err *err);
void blk_levels_fini(struct blk_levels *l);

/*
 * Makes the disk as it is a new level, number l->count - 1 then. -ENOSPC when
 * there are BLK_LEVELS_MAX; -ENOMEM or what reading says, and then no level
 * is made and the dirty set is as it was.
 */
CC_MUST_CHECK int blk_levels_push(struct blk_levels *l, struct err *err);

/*
 * Forgets the top level; l->count > 0. The disk stays as it is, and what
 * differs from the level below is dirty.
 */
void blk_levels_pop(struct blk_levels *l);

/*
 * Puts the disk back to level `level` < l->count and forgets those above it.
 * On failure the disk is neither; it may be tried again.
 */
CC_MUST_CHECK int blk_levels_reset(
    struct blk_levels *l, unsigned int level, struct err *err);

#endif
