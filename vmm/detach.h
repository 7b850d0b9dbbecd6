/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run that goes on behind its caller: a process of its own, in a session of
 * its own, whose starter waits until it is told the machine's id.
 *
 * Thread rule: detach_fork before there is any other thread; the rest in the
 * new process. Until detach_release errors go to the caller's standard error,
 * then to the log.
 */
#ifndef VMM_DETACH_H
#define VMM_DETACH_H

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/rundir.h"

struct detach {
    int starter_fd; /* to who waits; -1: nobody does */
    int log_fd;     /* what standard error becomes; -1 */
};

void detach_init(struct detach *d);

/*
 * 0 in the new process. In the old one 1, when the new one is released or has
 * ended: the id is printed and *ret_status 0, or *ret_status is its status.
 */
CC_MUST_CHECK int detach_fork(
    struct detach *d, int *ret_status, struct err *err);

/*
 * Sends standard output to `path`, or to the file "log" in the machine's
 * folder. Does nothing in a process that was not forked for this, as does
 * detach_release.
 */
CC_MUST_CHECK int detach_log(struct detach *d, const struct rundir *dir,
    const char *path, struct err *err);

/* Tells the starter the id; standard error is the log from here on. */
CC_MUST_CHECK int detach_release(
    struct detach *d, const char *id, struct err *err);

/* Standard error becomes the log, if there is one. */
CC_MUST_CHECK int detach_use_log(struct detach *d, struct err *err);

#endif
