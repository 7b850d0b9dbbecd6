/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that AFL++ shares with its targets, named by environment variables:
 * System V segments by number, or POSIX ones by name, which AFL++ can be built
 * to use.
 *
 * Thread rule: one thread. AFL++ is trusted; what it says is still checked.
 */
#ifndef FUZZ_AFL_SHM_H
#define FUZZ_AFL_SHM_H

#include <stddef.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define AFL_SHM_MAP   "__AFL_SHM_ID"
#define AFL_SHM_INPUT "__AFL_SHM_FUZZ_ID"
#define AFL_SHM_CMP   "__AFL_CMPLOG_SHM_ID"

struct afl_shm {
    void *at;    /* NULL: AFL++ shares none */
    size_t size; /* bytes, whole pages */
};

/* It stays for as long as the process. */
CC_MUST_CHECK int afl_shm_open(
    const char *variable, struct afl_shm *ret_shm, struct err *err);

#endif
