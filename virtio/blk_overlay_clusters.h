/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clusters of an overlay, for those who save a disk and put it back.
 *
 *   take     blk_overlay_take_dirty; then for each cluster of the set
 *            blk_map_get and, where that is DATA, blk_overlay_read
 *   reset    blk_overlay_take_dirty; then for each of the set blk_overlay_put
 *            of what it was when the snapshot was taken
 *
 * so that either costs the clusters that were written and no more. A first
 * snapshot takes all of blk_map_next_used. What a cluster was is for the
 * caller to keep; virtio/blk_levels.h does it in memory.
 *
 * Thread rule: for a quiesced device, with its lock held. Clusters count from
 * the start of the disk; the last one may lie half beyond its end. Nothing is
 * guest-controlled.
 */
#ifndef VIRTIO_BLK_OVERLAY_CLUSTERS_H
#define VIRTIO_BLK_OVERLAY_CLUSTERS_H

#include "virtio/blk_overlay.h"

/* blk_map_take_dirty: what was written since this was last called. */
void blk_overlay_take_dirty(struct blk_overlay *o, struct bitmap *into);

/*
 * Clusters from `first` on that are in one place, at most `max` > 0. The
 * offset in the upper is that of the disk: data_offset is to be added. Needs
 * the lock only.
 */
uint64_t blk_overlay_locate(const struct blk_overlay *o, uint64_t first,
    uint64_t max, struct blk_source *ret_source);

/* What the guest would read of whole clusters: 0 or -errno. */
CC_MUST_CHECK int blk_overlay_read(
    struct blk_overlay *o, uint64_t first, uint64_t count, uint8_t *ret_data);

/*
 * Makes clusters what they were: as the base, zeroes, or (DATA) `data`, which
 * is NULL for the others. They do not become dirty, and the space of those
 * that leave the upper stays with it for the next writes, unless it is limited
 * and goes back to the host. 0, or -errno with contents that are unspecified.
 */
CC_MUST_CHECK int blk_overlay_put(struct blk_overlay *o, uint64_t first,
    uint64_t count, enum blk_cluster_state state, const uint8_t *data);

/* A FLUSH, waited for. */
CC_MUST_CHECK int blk_overlay_sync(struct blk_overlay *o);

#endif
