/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore fuzz run: a campaign of afl-fuzz with a target.
 */
#ifndef FUZZ_FUZZ_RUN_CMD_H
#define FUZZ_FUZZ_RUN_CMD_H

/* The command line from its own word on; the exit status. */
int fuzz_run_cmd(int argc, char **argv);

#endif
