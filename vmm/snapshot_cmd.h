/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `spore snapshot`: the snapshots of a store, for people. Needs no KVM.
 * Thread rule: one thread. What is in the store is hostile.
 */
#ifndef VMM_SNAPSHOT_CMD_H
#define VMM_SNAPSHOT_CMD_H

/*
 * argv[0] is "snapshot". 0, 1 if something is not as it should be (verify),
 * 2 for a command line that it does not understand, 125 for other failures.
 */
int cmd_snapshot(int argc, char **argv);

#endif
