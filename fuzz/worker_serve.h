/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's side: what the process does that worker_start forks.
 *
 * Thread rule: that process's only thread.
 */
#ifndef FUZZ_WORKER_SERVE_H
#define FUZZ_WORKER_SERVE_H

#include "fuzz/worker.h"
#include "fuzz/worker_wire.h"
#include "jail/cell.h"
#include "vmm/base/cc.h"

struct worker_setup {
    const struct fuzz_target *target;
    const struct worker_options *options;
    bool clears; /* the map of the options, before each run */
    struct worker_page *page;
    const struct cell *cell;
};

/*
 * Opens the executor, enters the jail, says hello over the link, and serves
 * commands until it is killed.
 */
CC_NORETURN void worker_serve(const struct worker_setup *setup);

/*
 * Opens the executor with its maps where the options want them: for callers
 * that have no process for it, too, and no `cell`.
 */
CC_MUST_CHECK int worker_open_executor(const struct worker_setup *setup,
    struct executor **ret_ex, size_t *ret_need, struct err *err);

#endif
