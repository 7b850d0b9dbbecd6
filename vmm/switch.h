/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `spore switch`: a virtual network between VMs, without any privilege.
 *
 * Thread rule: one thread.
 */
#ifndef VMM_SWITCH_H
#define VMM_SWITCH_H

/* Where --inherited finds its listening socket and its lock. */
#define SWITCH_FD_LISTEN 3
#define SWITCH_FD_LOCK   4
#define SWITCH_FD_END    5 /* the first that is not inherited */

/*
 * argv[0] is "switch". 0 at the end, 1 if it cannot listen, 2 for options
 * that it does not have.
 */
int cmd_switch(int argc, char **argv);

#endif
