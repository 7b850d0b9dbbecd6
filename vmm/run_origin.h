/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snapshot that `spore run --from` starts a machine from.
 *
 * Thread rule: before the machine is built. The snapshot is hostile; nothing
 * of it is used before it was checked (snap_open), its pages either were
 * verified by this host's store before, are now, or are when they are first
 * used (restore_memory.h).
 */
#ifndef VMM_RUN_ORIGIN_H
#define VMM_RUN_ORIGIN_H

#include <stdbool.h>

#include "snapshot/prefetch.h"
#include "snapshot/snap.h"
#include "snapshot/store.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/machine_restore.h"
#include "vmm/restore_memory.h"
#include "vmm/run_options.h"

/* Who writes the working set for a process that opens no file any more. */
typedef int run_origin_record_fn(
    void *opaque, const struct bitmap *touched, struct err *err);

struct run_origin {
    struct store store;
    struct snap snap;
    struct machine_origin origin;
    struct restore_memory memory;
    struct working_set ahead; /* to be brought in */
    struct prefetch prefetch;
    int record_fd; /* the snapshot's directory; -1: nothing to record here */
    bool record_adds;
    int pagemap_fd; /* opened while there is still a /proc; -1 */
    run_origin_record_fn *recorder; /* instead of record_fd; NULL: nobody */
    void *recorder_opaque;
    bool is_open;
};

/*
 * Opens options->from and makes options->config the machine's in it; what
 * the options say of the host's side stays. `lost` is for a machine whose
 * memory a page server gives it.
 */
CC_MUST_CHECK int run_origin_open(struct run_origin *o,
    struct run_options *options, const struct page_client_host *lost,
    struct err *err);

/*
 * Last before the machine starts: notes that the snapshot is used, where its
 * guest has no generation device that tells it of its copies. -EEXIST if it
 * was used before, and nobody allows that.
 */
CC_MUST_CHECK int run_origin_use(
    struct run_origin *o, const struct run_options *options, struct err *err);

/* As soon as the machine is built. One that is not open is let be. */
void run_origin_close(struct run_origin *o);

/*
 * Begins to bring in what earlier restores needed, before the guest runs. Due
 * is a run_origin_settle before the machine's memory `mem` ends.
 */
void run_origin_prefetch(struct run_origin *o, struct gmem *mem);

/*
 * What is to be recorded is, from here on, by `recorder`; run_origin_record
 * opens nothing. Nothing to do where nothing is to be recorded.
 */
CC_MUST_CHECK int run_origin_hand_over(struct run_origin *o,
    run_origin_record_fn *recorder, void *opaque, struct err *err);

/* Whether there is a working set to be recorded. */
bool run_origin_wants_record(const struct run_origin *o);

/*
 * Records the working set, if that is to be done and was not yet: what of
 * `mem`, a machine's that exists, was touched until now. Costs a look at every
 * page of RAM, once. That it cannot be recorded is a line in the log.
 */
void run_origin_record(struct run_origin *o, const struct gmem *mem);

/* The same, and nothing more is brought in. */
void run_origin_settle(struct run_origin *o, const struct gmem *mem);

/* When the machine is no more. */
void run_origin_release(struct run_origin *o);

#define RUN_ORIGIN_NONE                                                        \
    {                                                                          \
        .memory = RESTORE_MEMORY_NONE, .record_fd = -1, .pagemap_fd = -1       \
    }

#endif
