/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each role may ask the kernel for, and why.
 *
 * One constant table, from which the build makes a filter for each role
 * (policy_gen.c, by libseccomp) and `spore jail show` a text, so that the two
 * cannot differ. Everything that is not in it ends the process. A system call
 * stands in several rows where it is allowed with different arguments.
 *
 * Thread rule: constant.
 */
#ifndef JAIL_POLICY_H
#define JAIL_POLICY_H

#include <stddef.h>
#include <stdint.h>

#include "jail/role.h"

#define POLICY_ARGS_MAX 3u

/* Argument `index` of the call, under `mask`, is `value`. */
struct policy_arg {
    uint8_t index;
    uint64_t mask;
    uint64_t value;
};

struct policy_rule {
    int nr; /* of x86-64 */
    const char *name;
    uint32_t roles; /* bit per enum jail_role */
    const char *reason;
    const char *with; /* what `args` mean; NULL: any arguments */
    int refusal; /* not allowed, but -errno instead of an end; 0: allowed */
    uint8_t arg_count;
    struct policy_arg args[POLICY_ARGS_MAX]; /* all of them hold */
};

extern const struct policy_rule policy_rules[];
extern const size_t policy_rule_count;

/* "main", "vcpu", "worker", "page-server", "fuzz". */
const char *policy_role_name(enum jail_role role);

#endif
