/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `spore run`: boot, run one command, end with its status.
 */
#ifndef VMM_RUN_H
#define VMM_RUN_H

/* The whole subcommand; `argv[0]` is "run". Returns the exit status. */
int cmd_run(int argc, char **argv);

#endif
