/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore fuzz: targets for fuzzers, made and looked after. One file for each of
 * its commands: fuzz_*_cmd.
 */
#ifndef FUZZ_FUZZ_CMD_H
#define FUZZ_FUZZ_CMD_H

/* The command line from its own word on; the exit status. */
int cmd_fuzz(int argc, char **argv);

#endif
