/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a snapshot needs of a machine that runs, or is paused, into files that
 * the caller has opened: the first half of a save (snapshot/capture.h). No
 * path is looked up and no store is known here.
 *
 * machine_save_begin and machine_save_copy run on a thread of the caller's
 * while the guest goes on: RAM is copied, and what was written meanwhile
 * again, until little is left. machine_save_stop runs on the loop's thread and
 * stops the guest for as long as it takes to note its state and set aside the
 * pages that are left. machine_save_finish writes those behind the running
 * guest, and what was captured. Disks go along, in the same steps
 * (vmm/machine_drive_save.h). Whether there is a snapshot then is for others
 * to say: machine_save_commit, or machine_save_fini without it, after which
 * all that was taken counts as changed still.
 *
 * Thread rule: as said; one save of a machine at a time. Guest-controlled:
 * the bytes of RAM, and how much of it changes meanwhile: the rounds are
 * bounded, and what a busy guest costs is a longer stop. The files may be
 * another process's: that they are what was asked for is checked.
 */
#ifndef VMM_MACHINE_SAVE_H
#define VMM_MACHINE_SAVE_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/capture.h"
#include "snapshot/id.h"
#include "snapshot/parts.h"
#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/machine.h"
#include "vmm/machine_drive_save.h"

struct machine_save_options {
    /*
     * What the pages that did not change since are taken from: the snapshot
     * that the machine was last saved to or came from, which is the plan's
     * base. Zero: all of RAM.
     */
    struct snapshot_id parent;
    bool sync;  /* files of disks that the guest writes to are on the disk */
    bool track; /* follow writes from here on, so that a diff can come next */
    const bool *is_cancelled; /* set from any thread: give up; NULL: never */
};

struct machine_save {
    struct machine *machine;
    struct machine_save_options options;
    struct capture_image image;
    struct machine_drive_save drives[CONFIG_DRIVES_MAX];
    struct bitmap todo;   /* pages to be copied yet */
    struct bitmap taken;  /* all that this save has out of machine.changed */
    uint8_t *staging;     /* pages on their way */
    uint32_t *left;       /* pages that were set aside at the stop, */
    uint8_t *left_copies; /* and their bytes: a mapping as large as RAM */
    size_t left_count;
    size_t left_room; /* pages that `left` can list */
    bool is_running;  /* the guest, as machine_save_copy was told */
    bool has_started; /* the tracking of writes, for this save */
    bool is_committed;
    struct frozen frozen;
    uint64_t stopped_ns; /* how long the guest stood still */
};

/* Which files a save of the machine needs; not while one is going on. */
void machine_save_plan(const struct machine *m, struct capture_plan *ret_plan);

/*
 * `image_fds` are those of the plan's images, borrowed until
 * machine_save_finish returns. On failure nothing is left, and
 * machine_save_fini need not be called.
 */
CC_MUST_CHECK int machine_save_begin(struct machine_save *s, struct machine *m,
    const int *image_fds, uint32_t count,
    const struct machine_save_options *options, struct err *err);

/* Copies RAM and disks, again where a guest that runs writes meanwhile. */
CC_MUST_CHECK int machine_save_copy(
    struct machine_save *s, bool is_running, struct err *err);

/*
 * Takes the state; the guest runs again (if it did) when this returns, also on
 * failure.
 */
CC_MUST_CHECK int machine_save_stop(
    struct machine_save *s, bool is_running, struct err *err);

/* Writes the rest, and the capture into an empty file. */
CC_MUST_CHECK int machine_save_finish(
    struct machine_save *s, int capture_fd, struct err *err);

/* The snapshot is there, as `id`: the next diff counts from it. */
CC_MUST_CHECK int machine_save_commit(
    struct machine_save *s, const struct snapshot_id *id, struct err *err);

/* Frees; a save that was not committed has taken nothing. */
void machine_save_fini(struct machine_save *s);

#endif
