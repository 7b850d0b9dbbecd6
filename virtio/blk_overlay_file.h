/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that leaves its image alone: the image, only read and shared with
 * any number of others, and an overlay in memory, in a file that is gone with
 * the process, or in a file that stays (virtio/blk_overlay_format.h).
 *
 * Owns the descriptors and their locks: shared on the image, exclusive on the
 * overlay. Thread rule: as virtio/blk_file.h. The overlay file is hostile
 * when it is opened: header and map are checked in whole, and what does not
 * fit the image is refused.
 */
#ifndef VIRTIO_BLK_OVERLAY_FILE_H
#define VIRTIO_BLK_OVERLAY_FILE_H

#include "virtio/blk_file.h"
#include "virtio/blk_overlay.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/uring.h"

enum blk_overlay_kind {
    BLK_OVERLAY_MEMORY,
    BLK_OVERLAY_TEMPORARY, /* a file without a name in the folder `path` */
    BLK_OVERLAY_FILE,      /* `path`, made if it is missing or empty */
};

struct blk_overlay_file_config {
    const char *base_path; /* the image */
    int base_fd;           /* as blk_file_config.fd */
    enum blk_overlay_kind kind;
    const char *path;
    struct uring *uring; /* borrowed; NULL: plain system calls */
    bool direct;         /* as blk_file_config.direct, for image and overlay */
    uint64_t limit;      /* bytes that it may hold; 0: as many as the disk */
};

struct blk_overlay_file {
    struct blk_file base;
    struct blk_file upper;
    struct blk_overlay overlay; /* its backend is the disk */
    struct blk_below below;     /* all zero: it was not restored */
};

/*
 * Opens a disk. Errors name the file and the cure: -EBUSY if another user has
 * either locked, -EINVAL for a file that is no overlay or a damaged one,
 * -ESTALE if the image is not the one the overlay was made over or was
 * written to since. *ret_warning as blk_file_open.
 */
CC_MUST_CHECK int blk_overlay_file_open(struct blk_overlay_file *f,
    const struct blk_overlay_file_config *config, const char **ret_warning,
    struct err *err);

/*
 * Puts what a snapshot has of the disk under the overlay, which is in memory
 * or without a name, and new; as blk_below_init for the disk's clusters.
 */
CC_MUST_CHECK int blk_overlay_file_set_below(struct blk_overlay_file *f,
    struct blk_below_run *runs, size_t run_count, const int *fds,
    uint32_t file_count, struct err *err);

/* Where the bytes of clusters are. */
struct blk_overlay_place {
    enum blk_cluster_state state;
    int fd;          /* DATA: borrowed, */
    uint64_t offset; /* and where in it, bytes */
};

/*
 * Clusters from `first` on that are in one place, at most `max` > 0; BASE:
 * neither the overlay nor a snapshot below it has them. Needs the lock only.
 */
uint64_t blk_overlay_file_locate(const struct blk_overlay_file *f,
    uint64_t first, uint64_t max, struct blk_overlay_place *ret_place);

/* Nothing may be in flight. What was not flushed of a file may be lost. */
void blk_overlay_file_close(struct blk_overlay_file *f);

#endif
