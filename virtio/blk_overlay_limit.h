/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much of its host an overlay may take.
 *
 * Counted is every cluster of the upper that may have space, whether the map
 * speaks of it or not: what a reset or zeroes have left behind is held until
 * the host's file has given it back. So the bound is one of the file and not
 * only of what the guest can read. Without a limit nothing is counted and
 * nothing allocated.
 *
 * Thread rule: that of virtio/blk_overlay.h. Guest-controlled: which clusters
 * are asked for, and how often.
 */
#ifndef VIRTIO_BLK_OVERLAY_LIMIT_H
#define VIRTIO_BLK_OVERLAY_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"

struct blk_io;
struct blk_overlay;

struct blk_overlay_limit {
    uint64_t max;       /* clusters; 0: there is no limit */
    uint64_t held;      /* of them, in use */
    struct bitmap bits; /* which; none without a limit */
};

/*
 * Limits the overlay to `max` clusters from now on, those included that its
 * map says are there; that may be more already, and then it grows no further.
 * 0: no limit. 0 or -ENOMEM.
 */
CC_MUST_CHECK int blk_overlay_limit_set(struct blk_overlay *o, uint64_t max);
void blk_overlay_limit_fini(struct blk_overlay *o);

/*
 * Takes what a request is going to fill: false if that is too much, and then
 * it is not to be done.
 */
CC_MUST_CHECK bool blk_overlay_limit_take(
    struct blk_overlay *o, const struct blk_io *io);

/* Counts a range that the host puts back, for which no limit holds. */
void blk_overlay_limit_force(
    struct blk_overlay *o, uint64_t first, uint64_t count);

/* The upper has no space there any more. */
void blk_overlay_limit_give_back(
    struct blk_overlay *o, uint64_t first, uint64_t count);

/* Whether some of a range is held; false without a limit. */
bool blk_overlay_limit_holds(
    const struct blk_overlay *o, uint64_t first, uint64_t count);

#endif
