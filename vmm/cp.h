/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore cp: files and trees into and out of a machine that runs.
 */
#ifndef VMM_CP_H
#define VMM_CP_H

/* The command line from its own word on; the exit status. */
int cmd_cp(int argc, char **argv);

#endif
