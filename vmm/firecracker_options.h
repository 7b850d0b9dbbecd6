/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of `spore-firecracker`: Firecracker's options, each a word
 * with two dashes and perhaps another word behind it.
 *
 * Thread rule: one thread. The command line is the user's and is checked;
 * strings point into it.
 */
#ifndef VMM_FIRECRACKER_OPTIONS_H
#define VMM_FIRECRACKER_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

enum firecracker_option {
    FIRECRACKER_API_SOCK,
    FIRECRACKER_ID,
    FIRECRACKER_SECCOMP_FILTER,
    FIRECRACKER_NO_SECCOMP,
    FIRECRACKER_START_TIME,
    FIRECRACKER_START_CPU_TIME,
    FIRECRACKER_PARENT_CPU_TIME,
    FIRECRACKER_CONFIG_FILE,
    FIRECRACKER_METADATA,
    FIRECRACKER_NO_API,
    FIRECRACKER_LOG_PATH,
    FIRECRACKER_LEVEL,
    FIRECRACKER_MODULE,
    FIRECRACKER_SHOW_LEVEL,
    FIRECRACKER_SHOW_ORIGIN,
    FIRECRACKER_METRICS_PATH,
    FIRECRACKER_BOOT_TIMER,
    FIRECRACKER_VERSION,
    FIRECRACKER_SNAPSHOT_VERSION,
    FIRECRACKER_DESCRIBE_SNAPSHOT,
    FIRECRACKER_PAYLOAD_MAX,
    FIRECRACKER_MMDS_LIMIT,
    FIRECRACKER_ENABLE_PCI,
    FIRECRACKER_HELP,
    FIRECRACKER_OPTIONS,
};

struct firecracker_options {
    bool given[FIRECRACKER_OPTIONS];
    const char *values[FIRECRACKER_OPTIONS]; /* NULL: not given, or no value */
};

/*
 * -EINVAL, in the words of Firecracker's parser, for what is no option, given
 * twice, without its value, or not to be given with another.
 */
CC_MUST_CHECK int firecracker_options_parse(struct firecracker_options *options,
    int argc, char **argv, struct err *err);

void firecracker_options_help(FILE *out);

#endif
