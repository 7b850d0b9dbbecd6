/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of a cgroup as people write them on the command line.
 *
 * Thread rule: pure functions. The text is the user's and is checked. Errors
 * quote it; the caller puts the option in front.
 */
#ifndef JAIL_CGROUP_TEXT_H
#define JAIL_CGROUP_TEXT_H

#include "jail/cgroup.h"

/*
 * CPU time, to config->cpu_quota_us and cpu_period_us: "50%" and "250%" of one
 * CPU, or "QUOTA/PERIOD" in microseconds. Quota at least 1 ms, period 1 ms to
 * 1 s: what the kernel takes.
 */
CC_MUST_CHECK int cgroup_parse_cpu_max(
    const char *text, struct cgroup_config *config, struct err *err);

/* "1" to "10000". */
CC_MUST_CHECK int cgroup_parse_cpu_weight(
    const char *text, struct cgroup_config *config, struct err *err);

/*
 * One more device: "MAJ:MIN,rbps=N,wbps=N,riops=N,wiops=N", blanks in place of
 * commas if one likes, each limit once and at least one; "max" is none.
 */
CC_MUST_CHECK int cgroup_parse_io_max(
    const char *text, struct cgroup_config *config, struct err *err);

/*
 * One more "FILE=VALUE", FILE a controller's ("memory.high", "cpuset.cpus"), no
 * path and none of "cgroup.*"; VALUE one line. `text` must outlive `config`.
 */
CC_MUST_CHECK int cgroup_parse_pair(
    const char *text, struct cgroup_config *config, struct err *err);

/* "/a/b", or "a/b" for the same: no "..", and short enough. */
CC_MUST_CHECK int cgroup_parse_parent(
    const char *text, struct cgroup_config *config, struct err *err);

#endif
