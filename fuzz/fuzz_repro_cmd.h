/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore fuzz repro: what a target makes of inputs.
 */
#ifndef FUZZ_FUZZ_REPRO_CMD_H
#define FUZZ_FUZZ_REPRO_CMD_H

/* The command line from its own word on; the exit status. */
int fuzz_repro_cmd(int argc, char **argv);

#endif
