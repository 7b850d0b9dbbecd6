/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `spore jail show`: what a monitor in its jail may ask the kernel for, by
 * role (jail/policy.h), and what this host has for the rest of the jail.
 * Thread rule: the process has one thread, because a probe forks.
 */
#ifndef VMM_JAIL_CMD_H
#define VMM_JAIL_CMD_H

/* argv[0] is "jail". 0; 2 for a bad command line; 125 for failures. */
int cmd_jail(int argc, char **argv);

#endif
