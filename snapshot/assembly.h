/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The making of a snapshot out of what a machine captured: the second half of
 * a save (snapshot/capture.h), for whoever has the store.
 *
 *     assembly_begin     the folder of the new snapshot, and files to fill
 *     (capture)          by the machine, here or in another process
 *     assembly_reclaim   if in another process: nobody else can write to them
 *     assembly_finish    pages that the store has, index, state; then the
 *                        snapshot is there
 *     assembly_fini      of one that did not finish nothing is left
 *
 * Thread rule: one thread. Hostile, unless the capture was made here: all that
 * is in the files, and their sizes. A machine that lies gets a snapshot of
 * other contents than it had, or one whose hashes do not fit, which only its
 * own restores see: pages are shared by their bytes. It names no file and no
 * size that is not of the plan. A diff stands on the snapshot that
 * the plan names, if it is in the store: ids are random, and a machine knows
 * those it came from or was saved to.
 */
#ifndef SNAPSHOT_ASSEMBLY_H
#define SNAPSHOT_ASSEMBLY_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/capture.h"
#include "snapshot/dedupe.h"
#include "snapshot/save.h"
#include "snapshot/snap.h"
#include "snapshot/store.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct assembly_options {
    const char *name;    /* in the store; NULL: none */
    bool diff;           /* on plan->base */
    bool sync;           /* on stable storage before it appears */
    bool share;          /* look for pages that the store has already */
    const char *monitor; /* what made it: "spore 0.1.0" */
    /* Now and then; a negative result ends it. NULL: not wanted. */
    int (*check)(void *arg, struct err *err);
    void *arg;
};

struct assembly {
    struct assembly_options options;
    struct capture_plan plan;
    struct save save; /* save.id is the snapshot's */
    bool has_begun;
    bool has_parent;
    struct snap parent;
    int capture_fd;                    /* to be written */
    int image_fds[CAPTURE_IMAGES_MAX]; /* to be filled, as the plan */
    struct page_image images[CAPTURE_IMAGES_MAX];
    struct dedupe dedupe;
    bool has_dedupe;
    uint8_t *buffer;
    struct manifest manifest;
    uint64_t pages_written; /* of memory that the snapshot has for itself */
};

/* -EINVAL for a bad plan, or a diff without a base. Nothing is left then. */
CC_MUST_CHECK int assembly_begin(struct assembly *a, struct store *store,
    const struct capture_plan *plan, const struct assembly_options *options,
    struct err *err);

/*
 * save_reclaim_image for all, when the capturing process has answered. The
 * descriptors are others afterwards.
 */
CC_MUST_CHECK int assembly_reclaim(struct assembly *a, struct err *err);

/*
 * *ret_id is there afterwards. -EBADMSG: what was captured is not what a
 * machine says.
 */
CC_MUST_CHECK int assembly_finish(
    struct assembly *a, struct snapshot_id *ret_id, struct err *err);

/* A zeroed one is let be. */
void assembly_fini(struct assembly *a);

#endif
