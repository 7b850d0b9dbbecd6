/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot that is open for reading.
 *
 * snap_open reads and checks everything that a restore stands on but the
 * pages: `state` (its own hash), then `index`, `manifest.json` and every other
 * small file against its record in `state`, and that each image file is there
 * with the size that the index says. The pages are for verify.h, the hashes
 * are read when asked for. Removing the snapshot does not disturb one that is
 * open: its images are open too. Everything that is read is hostile until
 * checked. Thread rule: constant once open, but for the sections taken.
 */
#ifndef SNAPSHOT_SNAP_H
#define SNAPSHOT_SNAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/disks.h"
#include "snapshot/id.h"
#include "snapshot/manifest.h"
#include "snapshot/page_hashes.h"
#include "snapshot/page_index.h"
#include "snapshot/state_file.h"
#include "snapshot/store.h"
#include "snapshot/working_set.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define SNAP_FILE_MAX ((size_t)64 << 20) /* bytes of a small file */

/* What it has of a drive that had an overlay. */
struct snap_disk {
    uint32_t drive; /* its number in the machine */
    struct page_index map;
    int *image_fds; /* of the map's files, read-only */
};

struct snap {
    int dir_fd;
    struct snapshot_id id;
    struct state_file state;
    struct page_index index;
    int *image_fds; /* of the index's files, read-only */
    uint32_t disk_count;
    struct snap_disk disks[DISKS_MAX]; /* by drive */
};

/*
 * 0, or -errno with a line that names the file and what is wrong with it:
 * -ENOENT (no such snapshot, or a file is missing), -EBADMSG (damaged),
 * -ENOTSUP (of the future), -EMFILE (more image files than this process may
 * open).
 */
CC_MUST_CHECK int snap_open(const struct store *store,
    const struct snapshot_id *id, struct snap *ret_snap, struct err *err);
void snap_close(struct snap *snap);

/*
 * A file that `state` has a record of, checked against it; the caller frees
 * *ret_data. -ENOENT without a record, -EBADMSG if it is not what it was.
 */
CC_MUST_CHECK int snap_read_file(const struct snap *snap, const char *name,
    uint8_t **ret_data, size_t *ret_size, struct err *err);

CC_MUST_CHECK int snap_read_manifest(
    const struct snap *snap, struct manifest *ret_manifest, struct err *err);
CC_MUST_CHECK int snap_read_hashes(
    const struct snap *snap, struct page_hashes *ret_hashes, struct err *err);

/* What it has of drive `drive`, or NULL; the hashes of such a disk's pages. */
const struct snap_disk *snap_find_disk(const struct snap *snap, uint32_t drive);
CC_MUST_CHECK int snap_read_disk_hashes(const struct snap *snap,
    const struct snap_disk *disk, struct page_hashes *ret_hashes,
    struct err *err);

/*
 * The working set; -ENOENT if none was recorded. A bad one is logged and is
 * -ENOENT too.
 */
CC_MUST_CHECK int snap_read_working_set(
    const struct snap *snap, struct working_set *ret_set);

/* The mark of a snapshot that has been restored; an empty file. */
#define SNAP_USED_FILE_NAME "used"

/*
 * Notes that a guest goes on from the snapshot, for guests that cannot tell
 * that others do too. 0 the first time, -EEXIST afterwards, for whoever of
 * several at the same moment is not the first; -EROFS and so on if it cannot
 * be noted.
 */
CC_MUST_CHECK int snap_mark_used(const struct snap *snap, struct err *err);

#endif
