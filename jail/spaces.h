/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The namespaces of a jail and its empty root, made on a thread beside its
 * building.
 *
 * A network namespace takes the kernel half a millisecond to make: a thread of
 * its own makes it while the process acquires what it needs, and the process
 * then enters it in a few microseconds.
 *
 * The root is a folder of that thread's own in /proc, which the thread leaves
 * behind: from its end on nothing can be found in it, nothing made, and no
 * thread of the same number brings it back. So there is no mount namespace,
 * which would be a copy of all mounts of the host (1.7 ms for a thousand, and
 * their end as much), and whose owner might mount; no mount is made at all.
 * Processes that enter the same one share nothing by it.
 *
 * Processes that may not even make a socket have nothing to say to each other
 * in a network namespace: many clones of one template share what is made once
 * for them, which is a seventh of what a clone costs.
 *
 * Thread rule: the process's first thread, while it is the only one but for
 * those that have ended.
 */
#ifndef JAIL_SPACES_H
#define JAIL_SPACES_H

#include <pthread.h>
#include <stdbool.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

enum spaces_kind {
    SPACES_NET,
    SPACES_IPC,
    SPACES_UTS,
    SPACES_CGROUP,
    SPACES_KINDS,
};

struct spaces {
    bool is_wanted;
    bool has_thread;
    pthread_t thread;
    int rc; /* what the thread came to; read after it has ended */
    struct err err;
    int fds[SPACES_KINDS]; /* -1: not made */
    int root_fd;           /* of the empty root */
};

/* What spaces_abandon has nothing to do with. */
#define SPACES_NONE                                                            \
    {                                                                          \
        .fds = {-1, -1, -1, -1}, .root_fd = -1                                 \
    }

/* Starts to make them. Needs CAP_SYS_ADMIN in the caller's user namespace. */
CC_MUST_CHECK int spaces_begin(struct spaces *spaces, struct err *err);

/*
 * Those that `made` has, which is done and stays its owner's, as a process that
 * was forked from the owner's has it: what spaces_begin does, at no cost. For
 * root; others are in user namespaces, which may not enter each other's.
 */
void spaces_share(struct spaces *spaces, const struct spaces *made);

/* Waits until they are made, or could not be. */
void spaces_wait(struct spaces *spaces);

/*
 * Waits for them and enters all: the process's root is empty and has no
 * parent from here on, and its network has no interface that is up. Where the
 * kernel does not allow it -EPERM, -EINVAL, or -ENOENT without /proc; some may
 * have been entered then.
 */
CC_MUST_CHECK int spaces_enter(struct spaces *spaces, struct err *err);

/* Instead of spaces_enter. */
void spaces_abandon(struct spaces *spaces);

#endif
