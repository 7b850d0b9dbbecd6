/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process in a jail, and the one outside that waits for it.
 *
 * cell_fork splits: the child is the first process of a PID namespace, so that
 * whatever it starts ends with it, and ends itself with its parent. For a
 * user other than root it is in a user namespace, too, which maps nobody but
 * the user and gives it the right to make namespaces of the other kinds
 * (spaces.h). The parent stays where it was.
 *
 * Thread rule: the process's only thread. Not trusted by the parent: all that
 * comes over the link once the child has entered its jail.
 */
#ifndef JAIL_CELL_H
#define JAIL_CELL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct cell {
    pid_t pid;   /* of the child, as the parent sees it */
    int link_fd; /* SOCK_SEQPACKET between the two; -1 */
    bool has_pid_space;
    bool has_user_space;
};

#define CELL_NONE                                                              \
    {                                                                          \
        .link_fd = -1                                                          \
    }

struct cell_options {
    bool strict;
    bool shares_pids; /* no PID namespace: it sees whom it talks to */
    bool is_plain;    /* no namespace at all: there is to be no jail */
    int cgroup_fd;    /* -1: the parent's cgroup */
};

/*
 * 0 in the child, 1 in the parent, or -errno. Where the kernel allows no
 * namespaces the child is a child like any other, and has_pid_space false;
 * with `strict` that is an error. With `cgroup_fd` not negative, the folder of
 * a cgroup (v2), the child is in that from its first instruction on.
 */
CC_MUST_CHECK int cell_fork(
    struct cell *cell, const struct cell_options *options, struct err *err);

/* In the child, when it has become another user: it ends with its parent. */
CC_MUST_CHECK int cell_tie(struct err *err);

#endif
