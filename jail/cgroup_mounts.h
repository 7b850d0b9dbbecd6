/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel says of one mount, asked by a path in it (statmount(2), Linux
 * 6.11): at a cost that does not depend on how many others there are, as that
 * of reading /proc/self/mountinfo does (2 ms for a thousand where measured).
 *
 * Thread rule: none. Names in it are others' choice.
 */
#ifndef JAIL_CGROUP_MOUNTS_H
#define JAIL_CGROUP_MOUNTS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"

struct cgroup_mount {
    bool is_read_only;
    const char *type;    /* all four within `buf` */
    const char *root;    /* which part of its file system it shows */
    const char *point;   /* where it is */
    const char *options; /* of the file system, separated by commas */
    uint64_t buf[512];
};

/*
 * The mount that `name` below `dir` is in: 0, -ENOSYS or -EOPNOTSUPP from
 * kernels that do not say, or -errno.
 */
CC_MUST_CHECK int cgroup_mount_describe(
    int dir, const char *name, struct cgroup_mount *ret_mount);

#endif
