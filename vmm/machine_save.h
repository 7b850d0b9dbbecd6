/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot of a machine that runs, or is paused.
 *
 * A save is three steps. machine_save_begin and machine_save_copy run on a
 * thread of the caller's while the guest goes on: RAM is copied, and what was
 * written meanwhile again, until little is left. machine_save_stop runs on the
 * loop's thread and stops the guest for as long as it takes to note its state
 * and set aside the pages that are left. machine_save_finish writes those
 * behind the running guest and makes the snapshot appear. Disks go along, in
 * the same steps (vmm/machine_drive_save.h).
 *
 * Thread rule: as said; one save of a machine at a time. Guest-controlled:
 * the bytes of RAM, and how much of it changes meanwhile: the rounds are
 * bounded, and what a busy guest costs is a longer stop.
 */
#ifndef VMM_MACHINE_SAVE_H
#define VMM_MACHINE_SAVE_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/dedupe.h"
#include "snapshot/id.h"
#include "snapshot/page_writer.h"
#include "snapshot/parts.h"
#include "snapshot/save.h"
#include "snapshot/store.h"
#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/machine.h"
#include "vmm/machine_drive_save.h"

struct machine_save_options {
    const char *name; /* in the store; NULL: none */
    /*
     * What the pages that did not change since are taken from: the snapshot
     * that the machine was last saved to or came from. NULL: all of RAM.
     */
    const struct snap *parent;
    bool sync;  /* on stable storage before it appears */
    bool track; /* follow writes from here on, so that a diff can come next */
    bool share; /* look for pages that the store has already */
    struct page_writer_progress progress;
};

struct machine_save {
    struct machine *machine;
    struct machine_save_options options;
    struct save save;
    struct page_image own;
    struct page_index_builder index;
    struct page_hashes hashes;
    struct dedupe dedupe;
    bool has_dedupe;
    struct page_writer image;
    int image_fd;
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
    struct state_writer state;
    uint64_t stopped_ns; /* how long the guest stood still */
};

/* On failure nothing is left, and machine_save_fini need not be called. */
CC_MUST_CHECK int machine_save_begin(struct machine_save *s, struct machine *m,
    struct store *store, const struct machine_save_options *options,
    struct err *err);

/* Copies RAM and disks, again where a guest that runs writes meanwhile. */
CC_MUST_CHECK int machine_save_copy(
    struct machine_save *s, bool is_running, struct err *err);

/*
 * Takes the state; the guest runs again (if it did) when this returns, also on
 * failure.
 */
CC_MUST_CHECK int machine_save_stop(
    struct machine_save *s, bool is_running, struct err *err);

/* Writes the rest; *ret_id is the snapshot's. */
CC_MUST_CHECK int machine_save_finish(
    struct machine_save *s, struct snapshot_id *ret_id, struct err *err);

/* Frees; a save that was not finished leaves nothing. */
void machine_save_fini(struct machine_save *s);

/* All steps at once, for a machine whose guest does not run. */
CC_MUST_CHECK int machine_save_paused(struct machine *m, struct store *store,
    const struct machine_save_options *options, struct snapshot_id *ret_id,
    struct err *err);

#endif
