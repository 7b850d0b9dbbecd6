/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clone's own process: a machine out of a template's snapshot, in a jail,
 * that stands before its guest's next step until it is given something to do.
 *
 * Thread rule: clone_process_run on the only thread of a process that was
 * forked for it (jail/cell.h).
 */
#ifndef VMM_SERVE_CLONE_PROCESS_H
#define VMM_SERVE_CLONE_PROCESS_H

#include <stdbool.h>

#include "jail/cell.h"
#include "jail/cgroup.h"
#include "vmm/run_options.h"
#include "vmm/run_origin.h"

struct clone_process {
    struct run_options *options; /* as `spore run --from` has them */
    struct run_origin *origin;   /* open */
    const struct cgroup *cgroup; /* NULL: none */
    struct cell *cell;
    int control_fd; /* to whoever takes it (clone_wire.h) */
    bool with_resets;
};

/* Ends the process. */
void clone_process_run(const struct clone_process *setup);

#endif
