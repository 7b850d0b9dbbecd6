/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore fuzz pack: a program to a target.
 */
#ifndef FUZZ_FUZZ_PACK_CMD_H
#define FUZZ_FUZZ_PACK_CMD_H

/* The command line from its own word on; the exit status. */
int fuzz_pack_cmd(int argc, char **argv);

#endif
