/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How each limit is written in either version of cgroups, and how controllers
 * are given to the children of a cgroup.
 *
 * Thread rule: none. Works on folders that the caller has open.
 */
#ifndef JAIL_CGROUP_LIMITS_H
#define JAIL_CGROUP_LIMITS_H

#include <stdbool.h>

#include "jail/cgroup.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

enum cgroup_limit {
    CGROUP_LIMIT_MEMORY,
    CGROUP_LIMIT_PIDS,
    CGROUP_LIMIT_CPU,
    CGROUP_LIMIT_IO,
    CGROUP_LIMITS,
};

/* Its controller's name: "blkio" in version 1 is "io" in version 2. */
const char *cgroup_limit_controller(enum cgroup_limit limit, bool is_v2);

/* Whether a configuration sets it. */
bool cgroup_limit_is_set(
    enum cgroup_limit limit, const struct cgroup_config *config);

/* Writes it to the cgroup whose folder is `dir`. */
CC_MUST_CHECK int cgroup_limit_write(int dir, bool is_v2,
    enum cgroup_limit limit, const struct cgroup_config *config,
    struct err *err);

CC_MUST_CHECK int cgroup_pair_write(
    int dir, const struct cgroup_pair *pair, struct err *err);

/*
 * Gives the controllers of a list ("memory pids") to the children of a cgroup
 * of version 2, called `path`, as far as they do not have them already.
 * -EOPNOTSUPP if it has not got one itself, -EBUSY if processes in it are in
 * the way, -EACCES or -EPERM if it was not delegated.
 */
CC_MUST_CHECK int cgroup_enable(
    int dir, const char *path, const char *controllers, struct err *err);

/*
 * A new cgroup of the cpuset controller in version 1 has no CPUs and takes no
 * process. Called on the way down, from folder to folder, it copies those of
 * the one above where there is nothing yet; `state` begins all zero.
 */
struct cgroup_cpuset {
    char cpus[512];
    char mems[512];
};
CC_MUST_CHECK int cgroup_cpuset_inherit(
    int dir, const char *path, struct cgroup_cpuset *state, struct err *err);

#endif
