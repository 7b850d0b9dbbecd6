/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resource limits of a process (setrlimit(2)) by name, and those that a
 * monitor has if nobody says otherwise.
 *
 * They are a second line behind the cgroup and the list of system calls: what
 * each process may have by itself. Some are counted per user and not per
 * process (nproc, memlock, msgqueue, sigpending), and are of use as a count
 * only for a process with a user id or user namespace of its own. Texts are the
 * user's and are checked. Thread rule: one thread.
 */
#ifndef JAIL_RLIMITS_H
#define JAIL_RLIMITS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define RLIMITS_COUNT 16

struct rlimits {
    struct {
        bool is_set;
        bool may_be_less; /* lowered to what the process can have */
        uint64_t soft;    /* RLIM_INFINITY for none */
        uint64_t hard;
    } list[RLIMITS_COUNT]; /* by RLIMIT_... */
};

/*
 * The limits of a monitor, over what is in `limits`:
 *
 * core 0:         a core would hold the guest's memory and fill a disk
 * nofile 2048:    500 connections of vsock, with a descriptor on either side
 *                 while they are made, and 32 vCPUs and all devices beside
 * msgqueue 0:     it has no message queues
 * memlock 8M:     rings on kernels before 5.12; guest memory is never locked
 * nice 0, rtprio 0: it may not put itself above its neighbours
 * nproc 256, sigpending 1024: with `own_user` only; 32 vCPUs, the threads of
 *                 io_uring and savers. Without, others' processes would count
 *
 * None of fsize, as, data, cpu: a disk's and a memory's size are the user's to
 * say, and what grows while it runs is bounded by the device that writes.
 */
void rlimits_set_defaults(struct rlimits *limits, bool own_user);

/*
 * "NAME=VALUE" or "NAME=SOFT:HARD", NAME as in limits.conf or Firecracker's
 * (no-file); VALUE a number, of bytes also with K, M or G behind it, or
 * "unlimited". Set over what is in `limits`. -ENOENT for a name that is none.
 */
CC_MUST_CHECK int rlimits_parse(
    const char *text, struct rlimits *limits, struct err *err);

/* "nofile" for RLIMIT_NOFILE; NULL for none of them. */
const char *rlimits_name(int resource);

/*
 * Applies what is set to a process, 0 for this one. -EPERM, with the limit in
 * the error, if one is above the hard limit and this process may not raise it.
 */
CC_MUST_CHECK int rlimits_apply(
    const struct rlimits *limits, pid_t pid, struct err *err);

#endif
