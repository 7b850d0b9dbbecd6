/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A drive of a machine: a virtio block device and the disk behind it, which
 * is a file, or a file that is only read under an overlay that takes the
 * writes.
 *
 * Thread rule: made before and freed after the vCPUs run; the rest on the
 * loop's thread, without the device's lock. Nothing is guest-controlled.
 */
#ifndef VMM_MACHINE_DRIVE_H
#define VMM_MACHINE_DRIVE_H

#include "snapshot/id.h"
#include "virtio/blk.h"
#include "virtio/blk_file.h"
#include "virtio/blk_levels.h"
#include "virtio/blk_overlay_file.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"
#include "vmm/core/rate.h"
#include "vmm/core/uring.h"

/* What is behind a drive's file and in front of it. */
struct machine_drive_options {
    bool has_overlay; /* the file is only read; not for a read-only drive */
    enum blk_overlay_kind overlay;
    const char *overlay_path; /* a folder for TEMPORARY, a file for FILE */
    uint64_t overlay_limit;   /* bytes; 0: none but the disk's size */
    uint16_t queues;          /* 1 to VIRTIO_QUEUES_MAX; 0: 1 */
    struct rate_config rate;  /* all zero: no limit */
    bool direct;              /* past the host's page cache */
};

/* A disk: one of the two. */
struct machine_drive_disk {
    char *path; /* of the file, as the kernel knew it when it was opened */
    bool has_overlay;
    struct blk_file file;
    struct blk_overlay_file overlay;
};

struct machine_drive {
    struct blk blk;
    const struct config_drive *config; /* borrowed */
    struct machine_drive_options options;
    struct uring *uring; /* borrowed; NULL: none for this drive */
    struct machine_drive_disk *disk;
    /* Its overlay's marks count from this snapshot; zero: none has it. */
    struct snapshot_id saved;
    bool is_pinned;            /* a save is going on; under the lock */
    struct blk_levels *levels; /* NULL until vmm/machine_drive_reset.h */
};

/*
 * Opens the file that `config` names; `config` and the strings of `options`
 * outlive the drive.
 */
CC_MUST_CHECK int machine_drive_open(const struct config_drive *config,
    const struct machine_drive_options *options, struct uring *uring,
    const struct virtio_host *host, struct machine_drive **ret_drive,
    struct err *err);

/* The same with the options that `config` has. */
CC_MUST_CHECK int machine_drive_new(const struct config_drive *config,
    struct uring *uring, const struct virtio_host *host,
    struct machine_drive **ret_drive, struct err *err);

/*
 * Puts the file `path` behind the drive while the guest runs; it may be the
 * one that it has, which has another size by now. `fd` is that file where
 * `path` is only what it is called (borrowed; -EACCES if a drive that is
 * written to cannot write to it), or -1. An overlay in memory or
 * without a name begins anew; -EINVAL for one that has a file, since it is
 * bound to its image, -EBUSY while it is being saved, and once the machine has
 * levels that it is put back to. What fails leaves the drive as it was.
 */
CC_MUST_CHECK int machine_drive_replace(
    struct machine_drive *drive, const char *path, int fd, struct err *err);

/* blk_set_rate. */
CC_MUST_CHECK int machine_drive_set_rate(struct machine_drive *drive,
    const struct rate_change *change, struct err *err);

/* The descriptor of its file, which the drive keeps. */
int machine_drive_fd(const struct machine_drive *drive);

/* The overlay, for those who save and put back disks, or NULL. */
struct blk_overlay *machine_drive_overlay(struct machine_drive *drive);

/*
 * Completes what is in flight first, and has an overlay's file keep what was
 * written; NULL is fine.
 */
void machine_drive_free(struct machine_drive *drive);

#endif
