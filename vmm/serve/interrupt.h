/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The signals that end processes, while something is under way that must not
 * be left lying about: they are held back, seen by whoever waits, and let
 * through when all is tidy.
 *
 * Thread rule: the process's main thread; what is started meanwhile by
 * child_start has them as usual.
 */
#ifndef VMM_SERVE_INTERRUPT_H
#define VMM_SERVE_INTERRUPT_H

#include <signal.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct interrupt {
    int fd; /* readable when one waits; for a loop */
    sigset_t before;
};

CC_MUST_CHECK int interrupt_begin(struct interrupt *i, struct err *err);

/* One that came ends the process here. */
void interrupt_end(struct interrupt *i);

/* -ECANCELED when one has come. */
CC_MUST_CHECK int interrupt_check(const struct interrupt *i, struct err *err);

/*
 * Waits until `fd` is readable, or with -1 for the time only: 1, or 0 after
 * timeout_ms (-1: never); -ECANCELED when a signal comes.
 */
CC_MUST_CHECK int interrupt_wait(
    const struct interrupt *i, int fd, int timeout_ms, struct err *err);

#endif
