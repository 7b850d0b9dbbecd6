/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `spore run`: boot, run one command, end with its status.
 */
#ifndef VMM_RUN_H
#define VMM_RUN_H

#include "vmm/base/err.h"
#include "vmm/run_options.h"

/* The whole subcommand; `argv[0]` is "run". Returns the exit status. */
int cmd_run(int argc, char **argv);

/*
 * The same for another front end: `parse` makes the run's options out of its
 * command line, and has a complaint else.
 */
int run_main(int argc, char **argv,
    int (*parse)(
        struct run_options *options, int argc, char **argv, struct err *err));

#endif
