/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's drive in a save: what its overlay holds goes into the snapshot,
 * in steps that go along with those of vmm/machine_save.h.
 *
 *   begin    an image file to fill
 *   copy     while the guest runs: what is to be saved, then again what was
 *            written meanwhile, until little is left
 *   stop     on the loop, devices quiesced: what is left is set aside, and how
 *            the drive's file is
 *   finish   writes what was set aside
 *   end      the snapshot is there, or not: then what it took counts as changed
 *            still
 *
 * How clusters are consistent: whatever is written to marks its cluster dirty
 * before the bytes move. A round takes the marks with nothing in flight (the
 * device is quiesced for that moment, which its guest sees as a slow request)
 * and then copies without holding anything up. A cluster that is written to
 * while it is copied is torn in the copy, but marked, and copied again; at the
 * stop nothing is in flight and nothing can follow. A diff copies what is
 * marked since the parent.
 *
 * A drive without an overlay is only noted: which file, its size, and when it
 * was last written to.
 *
 * Thread rule: begin, copy, finish and end on the caller's thread, one at a
 * time; stop on the loop's. The drive's disk stays what it is from begin to
 * end: machine_drive_replace is refused. Guest-controlled: the bytes, which
 * are never looked at but for being zero, and how many of them change: rounds
 * are bounded, and what a busy guest costs is a longer stop, and memory for
 * what is left then.
 */
#ifndef VMM_MACHINE_DRIVE_SAVE_H
#define VMM_MACHINE_DRIVE_SAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/capture_image.h"
#include "snapshot/disks.h"
#include "snapshot/id.h"
#include "snapshot/page_index.h"
#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/machine_drive.h"

struct machine_drive_left;

struct machine_drive_save_options {
    /*
     * The snapshot that the machine was last saved to or came from, for a
     * diff; zero: a full save. A drive whose disk is not the parent's any more
     * is saved whole.
     */
    struct snapshot_id parent;
    bool sync; /* a file that the guest writes to is on the disk then */
};

struct machine_drive_save {
    struct machine_drive *drive; /* borrowed; NULL: not begun */
    struct machine_drive_save_options options;
    bool has_image; /* the drive has an overlay */
    struct capture_image image;
    struct bitmap todo;  /* clusters to be copied yet */
    struct bitmap taken; /* all marks that this save took */
    uint8_t *staging;
    struct machine_drive_left *left; /* clusters set aside at the stop, */
    uint8_t *left_copies;            /* and the bytes of those with any */
    size_t left_count;
    struct disk_record record; /* as of the stop; path: owned */
};

/* Pages of the image that a save of the drive needs; 0: it needs none. */
uint64_t machine_drive_save_pages(struct machine_drive *drive);

/*
 * `image_fd` is borrowed until machine_drive_save_release, and of as many
 * pages as machine_drive_save_pages said; -1 for a drive that needs none. On
 * failure nothing is left to be ended. -EFBIG for a disk that an index cannot
 * hold.
 */
CC_MUST_CHECK int machine_drive_save_begin(struct machine_drive_save *s,
    struct machine_drive *drive, int image_fd,
    const struct machine_drive_save_options *options, struct err *err);

CC_MUST_CHECK int machine_drive_save_copy(
    struct machine_drive_save *s, bool is_running, struct err *err);

CC_MUST_CHECK int machine_drive_save_stop(
    struct machine_drive_save *s, struct err *err);

CC_MUST_CHECK int machine_drive_save_finish(
    struct machine_drive_save *s, struct err *err);

/* How the drive's file is now; the caller frees ret_record->path. */
CC_MUST_CHECK int machine_drive_note_file(const struct machine_drive *drive,
    struct disk_record *ret_record, struct err *err);

/* Frees all that is not needed for machine_drive_save_end. */
void machine_drive_save_release(struct machine_drive_save *s);

/*
 * Frees all; `id` is that of the snapshot that is there, from which the next
 * diff counts, or NULL. A zeroed one is let be.
 */
void machine_drive_save_end(
    struct machine_drive_save *s, const struct snapshot_id *id);

#endif
