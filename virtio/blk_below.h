/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies between an overlay and its base in a machine that was restored:
 * the clusters that a snapshot has of the disk, which stay in the snapshot's
 * image files and are read there, by this machine and every other clone of it.
 *
 * Owns the runs, and the files with a shared lock on each. Thread rule: that
 * of virtio/blk_overlay.h; constant once made, but for what is in flight. The
 * runs are asserted to be what blk_below_init says: who makes them has checked
 * the snapshot. What the files hold is the guest's business.
 */
#ifndef VIRTIO_BLK_BELOW_H
#define VIRTIO_BLK_BELOW_H

#include <stddef.h>
#include <stdint.h>

#include "virtio/blk.h"
#include "virtio/blk_file.h"
#include "virtio/blk_map.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/uring.h"

struct blk_below_run {
    uint64_t first; /* clusters */
    uint64_t count; /* not 0 */
    enum blk_cluster_state state;
    uint32_t file; /* DATA: its number, */
    uint64_t at;   /* and the first cluster in it */
};

struct blk_below {
    struct blk_below_run *runs;
    size_t run_count;
    struct blk_file *files;
    uint32_t file_count;
};

/* Where a run of clusters has its bytes. */
struct blk_source {
    struct blk_backend *backend; /* NULL: they are zeroes */
    uint64_t offset;             /* of the first one there, bytes */
};

/*
 * `runs` (from malloc, not none) cover `clusters` clusters in order and
 * without a gap; they are taken over, also on failure. `fds` are copied. 0 or
 * -errno. Until the disk is used by a device, `uring` may be anything.
 */
CC_MUST_CHECK int blk_below_init(struct blk_below *b,
    struct blk_below_run *runs, size_t run_count, uint64_t clusters,
    const int *fds, uint32_t file_count, struct uring *uring, struct err *err);

/* Nothing may be in flight; a zeroed one is let be. */
void blk_below_fini(struct blk_below *b);

/* The files serve the device that `base` serves, and tell whom it tells. */
void blk_below_adopt(struct blk_below *b, const struct blk_backend *base);

/* blk_backend_ops of all files. */
void blk_below_commit(struct blk_below *b);
void blk_below_drain(struct blk_below *b);

/*
 * Clusters from `first` on that have their bytes in one place, at most `max`
 * > 0; `base` is where those are that no run has.
 */
uint64_t blk_below_locate(const struct blk_below *b, uint64_t first,
    uint64_t max, struct blk_backend *base, struct blk_source *ret_source);

#endif
