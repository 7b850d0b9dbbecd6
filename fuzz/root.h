/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the root of a target that has none: whoever attaches first boots it,
 * others wait.
 *
 * Thread rule: one thread; a process of its own does the work, outside the
 * jail, as it writes the snapshot. It runs the target up to its root, and no
 * input but the seeds.
 */
#ifndef FUZZ_ROOT_H
#define FUZZ_ROOT_H

#include "fuzz/target.h"
#include "fuzz/worker.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/*
 * Boots the target to its root and saves that, unless it is there by now.
 * Lines on standard error say what takes so long.
 */
CC_MUST_CHECK int root_make(const struct fuzz_target *target, struct err *err);

/* worker_start, after root_make where there is no root. */
CC_MUST_CHECK int root_start_worker(const struct fuzz_target *target,
    const struct worker_options *options, struct worker **ret_worker,
    size_t *ret_need, struct err *err);

#endif
