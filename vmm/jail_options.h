/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of every command that runs a machine in a jail: how much of one,
 * as whom, and what its processes may use of the host.
 *
 * Thread rule: one thread. Values come from the command line and are checked;
 * they must stay as long as the options.
 */
#ifndef VMM_JAIL_OPTIONS_H
#define VMM_JAIL_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include "jail/cgroup.h"
#include "jail/jail.h"
#include "jail/rlimits.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* What --jail is where it is not given. */
#define JAIL_OPTIONS_ENV "SPORE_JAIL"

struct jail_options {
    struct jail_config jail;
    const char *netns; /* the host's side of networks is in; NULL: here */
    bool has_cgroup;
    struct cgroup_config cgroup; /* its name is for who makes it */
};

enum jail_option {
    JAIL_OPTION_JAIL,
    JAIL_OPTION_UID,
    JAIL_OPTION_GID,
    JAIL_OPTION_NETNS,
    JAIL_OPTION_CGROUP,
    JAIL_OPTION_MEMORY_MAX,
    JAIL_OPTION_PIDS_MAX,
    JAIL_OPTION_CPU_MAX,
    JAIL_OPTION_CPU_WEIGHT,
    JAIL_OPTION_IO_MAX,
    JAIL_OPTION_RLIMIT,
    JAIL_OPTIONS,
};

/* The rows for getopt_long, whose values are `base` + enum jail_option. */
#define JAIL_OPTIONS_ROWS(base)                                                \
    {"jail", required_argument, NULL, (base) + JAIL_OPTION_JAIL},              \
        {"uid", required_argument, NULL, (base) + JAIL_OPTION_UID},            \
        {"gid", required_argument, NULL, (base) + JAIL_OPTION_GID},            \
        {"netns", required_argument, NULL, (base) + JAIL_OPTION_NETNS},        \
        {"cgroup", required_argument, NULL, (base) + JAIL_OPTION_CGROUP},      \
        {"memory-max", required_argument, NULL,                                \
            (base) + JAIL_OPTION_MEMORY_MAX},                                  \
        {"pids-max", required_argument, NULL, (base) + JAIL_OPTION_PIDS_MAX},  \
        {"cpu-max", required_argument, NULL, (base) + JAIL_OPTION_CPU_MAX},    \
        {"cpu-weight", required_argument, NULL,                                \
            (base) + JAIL_OPTION_CPU_WEIGHT},                                  \
        {"io-max", required_argument, NULL, (base) + JAIL_OPTION_IO_MAX},      \
    {                                                                          \
        "rlimit", required_argument, NULL, (base) + JAIL_OPTION_RLIMIT         \
    }

/* The defaults, after what the environment says. */
CC_MUST_CHECK int jail_options_init(
    struct jail_options *options, struct err *err);

CC_MUST_CHECK int jail_options_set(struct jail_options *options,
    enum jail_option option, const char *value, struct err *err);

/* What does not fit together, or needs root. */
CC_MUST_CHECK int jail_options_check(
    const struct jail_options *options, struct err *err);

#endif
