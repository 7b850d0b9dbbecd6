/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore fuzz check: whether a target is good to be fuzzed.
 */
#ifndef FUZZ_FUZZ_CHECK_CMD_H
#define FUZZ_FUZZ_CHECK_CMD_H

/* The command line from its own word on; the exit status. */
int fuzz_check_cmd(int argc, char **argv);

#endif
