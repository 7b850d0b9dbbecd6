/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The namespaces of a jail and its empty root, made on a thread beside its
 * building.
 *
 * A network namespace takes the kernel half a millisecond to make, and one of
 * mounts 1.7 ms where the host has a thousand: a thread of its own makes them
 * while the process acquires what it needs, and the process then enters them
 * in a few microseconds. The root is a file system without a file, mounted by
 * nobody else. Without a mount namespace of its own (SPACES_MOUNT left out)
 * that mount is in no namespace at all, and what the jail costs does not
 * depend on what the host has mounted.
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
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

enum spaces_kind {
    SPACES_MOUNT,
    SPACES_NET,
    SPACES_IPC,
    SPACES_UTS,
    SPACES_CGROUP,
    SPACES_KINDS,
};

#define SPACES_BIT(kind) (UINT32_C(1) << (kind))
#define SPACES_ALL       (SPACES_BIT(SPACES_KINDS) - 1)

struct spaces {
    uint32_t wanted; /* bit per enum spaces_kind */
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
        .fds = {-1, -1, -1, -1, -1}, .root_fd = -1                             \
    }

/* Starts to make them. Needs CAP_SYS_ADMIN in the caller's user namespace. */
CC_MUST_CHECK int spaces_begin(
    struct spaces *spaces, uint32_t wanted, struct err *err);

/*
 * Those that `made` has, which is done and stays its owner's, as a process that
 * was forked from the owner's has it: what spaces_begin does, at the cost of
 * an empty root. Root's only, and none of mounts may be among them.
 */
void spaces_share(struct spaces *spaces, const struct spaces *made);

/* Waits until they are made, or could not be. */
void spaces_wait(struct spaces *spaces);

/*
 * Waits for them and enters all: the process's root is empty and has no
 * parent from here on, and its network has no interface that is up. -EPERM and
 * -EINVAL where the kernel does not allow it; then nothing has changed.
 */
CC_MUST_CHECK int spaces_enter(struct spaces *spaces, struct err *err);

/* Instead of spaces_enter. */
void spaces_abandon(struct spaces *spaces);

#endif
