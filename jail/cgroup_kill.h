/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Killing all that is in a cgroup. Thread rule: none.
 */
#ifndef JAIL_CGROUP_KILL_H
#define JAIL_CGROUP_KILL_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/*
 * Kills what is in the cgroup with this folder, and waits until it is gone, at
 * most until `deadline_ns` of clock_now_ns: 0, -ETIMEDOUT, or -errno. Version 2
 * does it in one step that no fork gets away from, and version 1 in as many
 * rounds as it takes.
 */
CC_MUST_CHECK int cgroup_kill(
    int dir, bool is_v2, uint64_t deadline_ns, struct err *err);

#endif
