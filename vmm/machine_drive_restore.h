/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of a machine that comes out of a snapshot.
 *
 * Each file must be as it was when the machine was saved, since what the guest
 * has in its memory is of that disk; of another file, which somebody has named
 * in its place, only the size is held against that. What the snapshot has of a
 * drive's overlay goes under the machine's own, which is new: it is read where
 * it is, in the snapshot's image files, by all machines that come from it, and
 * costs a restore its extents and no copy. An overlay in a file is to be enough
 * by itself: there the clusters are copied into it, and it must be a new one.
 *
 * Thread rule: as machine_init; nothing of the machine runs. Hostile: the
 * snapshot, of which snap_open has checked the maps.
 */
#ifndef VMM_MACHINE_DRIVE_RESTORE_H
#define VMM_MACHINE_DRIVE_RESTORE_H

#include <stdbool.h>

#include "snapshot/disks.h"
#include "snapshot/snap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"
#include "vmm/machine.h"

/*
 * Makes `config`, as the snapshot describes the machine, one that another
 * process can have: files by the path that they had in the end (but for
 * descriptors, which it must be given anew), and overlays in
 * memory, since one in a file is the saved machine's, which may still run. A
 * snapshot without the section is let be: it is of a version of spore that
 * did not save disks.
 */
CC_MUST_CHECK int machine_drive_restore_config(
    const struct snap *snap, struct config *config, struct err *err);

/*
 * Gives one drive what `snap` has of it. -ESTALE, unless `allow_changed`, for
 * a file that is not as it was; -EINVAL for a drive that cannot have what was
 * saved. `disk` is NULL if the snapshot has nothing of the drive.
 */
CC_MUST_CHECK int machine_drive_restore(struct machine_drive *drive,
    const struct disk_record *record, const struct snap_disk *disk,
    const struct snapshot_id *id, bool allow_changed, struct err *err);

/* All drives of a machine; takes the section. */
CC_MUST_CHECK int machine_drive_restore_all(
    struct machine *m, struct snap *snap, bool allow_changed, struct err *err);

#endif
