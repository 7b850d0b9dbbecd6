/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter of a role (policy.h), compiled when spore is built, and its
 * loading.
 *
 * Thread rule: seccomp_confine is for the calling thread and those it makes
 * later, which can only lose by a filter of their own.
 */
#ifndef JAIL_SECCOMP_H
#define JAIL_SECCOMP_H

#include <linux/filter.h>
#include <stddef.h>

#include "jail/role.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct seccomp_program {
    const struct sock_filter *insns;
    unsigned short count;
};

/* By role; made by policy_gen. */
extern const struct seccomp_program seccomp_programs[JAIL_ROLES];

/*
 * Holds the calling thread to its role's system calls: any other ends the
 * process with SIGSYS. Privileges must have been given up before
 * (PR_SET_NO_NEW_PRIVS). -EINVAL: a kernel without seccomp filters.
 */
CC_MUST_CHECK int seccomp_confine(enum jail_role role, struct err *err);

/*
 * Before seccomp_confine, in builds that are made to find faults: what is not
 * allowed is named on standard error before the process ends.
 */
void seccomp_name_calls(void);

#endif
