/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker: an executor in a process of its own, in the jail of role fuzz, or
 * (SPORE_JAIL=off) in the caller's process.
 *
 * What a fuzzed guest gains by taking its monitor over is then a process that
 * has no files, no network and next to no system calls; and a guest that ends
 * its monitor costs an error that names the cause, never the caller. A run
 * costs a change to the worker and back.
 *
 * The worker ends with the thread that started it, however that ends.
 *
 * Thread rule: one thread, but for worker_cancel. Controlled by the worker,
 * which is hostile: result, text, map; so results are checked, and text is
 * handed out as copies only. The map is the guest's in any case.
 */
#ifndef FUZZ_WORKER_H
#define FUZZ_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz/result.h"
#include "fuzz/target.h"
#include "jail/jail.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct worker;

/* Memory for a map: page-aligned, MAP_SHARED, made before worker_start. */
struct worker_area {
    void *at;    /* NULL: none */
    size_t size; /* bytes, of whole pages */
};

struct worker_options {
    const struct jail_config *jail; /* level JAIL_OFF: in this process */
    int print_fd;                   /* as executor_options has it */
    uint32_t number;
    /*
     * Where the coverage map is to be, which the caller then clears before
     * each run; without one the worker has its own, and clears it.
     */
    struct worker_area map;
    struct worker_area cmp_map; /* for CmpLog */
    bool levels;                /* as executor_options has them */
    bool stops_at_report;
};

/*
 * Opens the target's root, made before (fuzz/root.h): -ENOENT if there is
 * none. -ENOSPC: the area given for a map is too small, of which ret_need
 * (may be NULL) is told.
 */
CC_MUST_CHECK int worker_start(const struct fuzz_target *target,
    const struct worker_options *options, struct worker **ret_worker,
    size_t *ret_need, struct err *err);

void worker_stop(struct worker *worker); /* NULL is fine */

/* Room for an input of worker_input_max bytes: what is there need not be
 * copied for a run. */
uint8_t *worker_input(struct worker *worker);
size_t worker_input_max(const struct worker *worker);

/* Bytes of the target's map, exact; 0: it has none. */
size_t worker_map_size(const struct worker *worker);
uint8_t *worker_map(struct worker *worker);

/*
 * One run, as executor_run. An error leaves the worker of no use, but to be
 * stopped: -ESHUTDOWN if it is gone, -EPROTO if what it answers is nonsense.
 */
CC_MUST_CHECK int worker_run(struct worker *worker, const void *input,
    size_t size, uint64_t timeout_us, struct fuzz_result *ret_result,
    struct err *err);

/* As executor_read_on: what the run reported is text then. Errors are those of
 * worker_run. */
CC_MUST_CHECK int worker_read_on(
    struct worker *worker, uint64_t timeout_us, struct err *err);

/*
 * Ends a run as if its time were up. From a signal handler at any time, too:
 * that is what it is for.
 */
void worker_cancel(const struct worker *worker);

/*
 * The text of the last run: as much of it as `size` bytes hold, without a
 * terminating zero. The number of bytes.
 */
size_t worker_text(struct worker *worker, void *buf, size_t size);
size_t worker_text_size(const struct worker *worker);

#endif
