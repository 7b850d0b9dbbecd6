/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's disks in resets: what the guest writes to a drive with an
 * overlay goes back with its RAM. A drive that writes into its file, and a
 * persistent memory, cannot go back: a machine that has one is refused.
 *
 * Thread rule: the thread that owns the machine, no vCPU in the guest; device
 * locks are taken here. Nothing is guest-controlled but how much was written.
 */
#ifndef VMM_MACHINE_DRIVE_RESET_H
#define VMM_MACHINE_DRIVE_RESET_H

#include <stdint.h>

#include "snapshot/reset.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/machine.h"

_Static_assert(CONFIG_DRIVES_MAX <= RESET_DISKS_MAX, "a disk for each drive");

/*
 * The disks that are to go back with the machine, for reset_config.disks:
 * good until the machine is freed. -ENOTSUP names the first file that the
 * guest can write to for good, and the cure; -ENOMEM. From here on another
 * disk cannot be put behind a drive (machine_drive_replace).
 */
CC_MUST_CHECK int machine_drive_reset_disks(struct machine *m,
    struct reset_disk ret_disks[RESET_DISKS_MAX], uint32_t *ret_count,
    struct err *err);

#endif
