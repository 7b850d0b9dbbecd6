/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptors that a jail keeps.
 *
 * Thread rule: the process's only thread.
 */
#ifndef JAIL_FDS_H
#define JAIL_FDS_H

#include <stddef.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/*
 * Closes all but 0 to 2 and those in `keep`, in any order, -1 for none. A
 * folder in it is closed, too, but for the one that is `folder` (-1: none).
 */
CC_MUST_CHECK int fds_close_others(
    const int *keep, size_t keep_count, int folder, struct err *err);

/*
 * Closes descriptors of folders but `keep`, which would lead out of an empty
 * root. New descriptors get the lowest numbers that are free, so it looks from
 * 3 on and as far as numbers are in use, with gaps of up to FDS_GAP_MAX; those
 * that were inherited with higher numbers are in fds_close_others' list, which
 * takes no folder. /proc/self/fd would tell all, but the kernel makes an
 * inode for each to list them, which took 0.1 ms. The number closed.
 */
#define FDS_GAP_MAX 128
int fds_close_folders(int keep);

#endif
