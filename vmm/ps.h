/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore ps: the machines that run.
 */
#ifndef VMM_PS_H
#define VMM_PS_H

/* The command line from its own word on; the exit status. */
int cmd_ps(int argc, char **argv);

#endif
