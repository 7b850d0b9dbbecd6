/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel modules that came in the initrd: for stock kernels, whose virtio
 * and file systems are not built in. One thread.
 */
#ifndef GUEST_AGENT_MODULES_H
#define GUEST_AGENT_MODULES_H

/*
 * Loads the files that /modules/order names, one a line, in that order,
 * relative to /modules. No such file: nothing to do. A module that the kernel
 * has already is fine; any other failure is reported and passed over, since
 * the machine may do without.
 */
void modules_load(void);

#endif
