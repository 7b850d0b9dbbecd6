/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lightning rod: a process that AFL++ is told runs the test cases, and that
 * it may kill when it thinks that one takes too long.
 *
 * AFL++ ends a test case by killing the process that it was told of, and then
 * waits for its status. That process does nothing here. A second one waits for
 * its end, has the worker end its run, and starts the next.
 *
 * Thread rule: one thread. The processes end with the one that started them.
 */
#ifndef FUZZ_AFL_ROD_H
#define FUZZ_AFL_ROD_H

#include <stdint.h>
#include <sys/types.h>

#include "fuzz/worker.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct afl_rod {
    struct afl_rod_page *page; /* shared with who watches */
    pid_t watcher;
};

CC_MUST_CHECK int afl_rod_start(
    struct afl_rod *rod, const struct worker *worker, struct err *err);
void afl_rod_stop(struct afl_rod *rod); /* a zeroed one is let be */

/* Whom to tell AFL++ of, and how many of them there were. */
pid_t afl_rod_pid(const struct afl_rod *rod, uint32_t *ret_count);

/* Waits until the one that was the count's is dead and another is there. */
CC_MUST_CHECK int afl_rod_wait(
    const struct afl_rod *rod, uint32_t count, struct err *err);

#endif
