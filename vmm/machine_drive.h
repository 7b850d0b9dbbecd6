/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A drive of a machine: a virtio block device and the file behind it.
 *
 * Thread rule: made before and freed after the vCPUs run.
 */
#ifndef VMM_MACHINE_DRIVE_H
#define VMM_MACHINE_DRIVE_H

#include "virtio/blk.h"
#include "virtio/blk_file.h"
#include "vmm/base/err.h"
#include "vmm/config.h"
#include "vmm/core/uring.h"

struct machine_drive {
    struct blk blk;
    struct blk_file file;
};

/* Opens the file that `config` names; `config` outlives the drive. */
CC_MUST_CHECK int machine_drive_new(const struct config_drive *config,
    struct uring *uring, const struct virtio_host *host,
    struct machine_drive **ret_drive, struct err *err);

/* Completes what is in flight first; NULL is fine. */
void machine_drive_free(struct machine_drive *drive);

#endif
