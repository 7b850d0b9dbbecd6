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

/* Closes all but 0 to 2 and those in `keep`, in any order, -1 for none. */
CC_MUST_CHECK int fds_close_others(
    const int *keep, size_t keep_count, struct err *err);

/*
 * Closes descriptors of folders but `keep`, which would lead out of an empty
 * root. Looks at /proc/self/fd: before that is gone. The number closed, or
 * -errno.
 */
int fds_close_folders(int keep, struct err *err);

#endif
