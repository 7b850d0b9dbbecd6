/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file systems of process 1. One thread, before anything else runs.
 * Every function returns 0 or -errno; mount points that do not exist are made
 * where they can be.
 */
#ifndef GUEST_AGENT_MOUNT_H
#define GUEST_AGENT_MOUNT_H

#include <stdbool.h>

#include "guest/agent/options.h"

/* How long a root device may take to appear. */
#define MOUNT_ROOT_WAIT_MS 10000

/* proc on /proc; 0 also if it is mounted already. */
int mount_proc(void);

/* devtmpfs on /dev; 0 also if it is mounted already. */
int mount_dev(void);

/*
 * Mounts o->root and makes it the root of this process, with /proc and /dev
 * taken along; with o->overlay under one that keeps what is written in
 * memory. Waits for the device's uevent, not by polling. *ret_step says
 * in words what failed.
 */
int mount_switch_root(const struct options *o, const char **ret_step);

/* True if the root is the initrd's. */
bool mount_root_is_initrd(void);

/*
 * What commands expect and readiness does not need: /sys, /dev if need be,
 * /dev/pts, /dev/shm, /run, and /tmp if the root is read-only. Where the
 * directory is missing, or it is mounted already, nothing happens.
 */
void mount_rest(bool root_is_writable);

/*
 * Shows the name server of the kernel's ip= as /etc/resolv.conf, where there
 * is such a file; the file below stays as it is.
 */
void mount_resolver(void);

#endif
