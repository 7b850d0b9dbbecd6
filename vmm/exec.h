/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore exec: a command in a machine that runs.
 */
#ifndef VMM_EXEC_H
#define VMM_EXEC_H

/* The command line from its own word on; the exit status. */
int cmd_exec(int argc, char **argv);

#endif
