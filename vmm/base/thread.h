/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that no signal of the process ends up in.
 *
 * Thread rule: any thread.
 */
#ifndef VMM_BASE_THREAD_H
#define VMM_BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

#include "vmm/base/cc.h"

struct thread_config {
    void *(*run)(void *opaque);
    void *opaque;
    size_t stack_bytes; /* 0: as many as the system gives */
    int signal;         /* the one that is let through; 0: none is */
};

/*
 * Starts a thread, which has every signal but one blocked from its first
 * instruction on (and SIGSYS, by which a debug build tells what its jail does
 * not allow): 0 or -errno. *ret_thread is written before it runs, and is
 * of no use on failure.
 */
CC_MUST_CHECK int thread_start(
    pthread_t *ret_thread, const struct thread_config *config);

#endif
