/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a run came to.
 *
 * Plain data. Guest-controlled: signal, address, status and all text.
 */
#ifndef FUZZ_RESULT_H
#define FUZZ_RESULT_H

#include <stdbool.h>
#include <stdint.h>

enum fuzz_verdict {
    FUZZ_OK,
    FUZZ_CRASH,
    FUZZ_SANITIZER,   /* a crash that a sanitizer found, KASAN included */
    FUZZ_HANG,        /* the time was up */
    FUZZ_INPUT_WRITE, /* the target wrote to its input */
    FUZZ_ABORT,       /* the agent cannot go on: the text says why */
    FUZZ_VERDICTS,
};

struct fuzz_result {
    enum fuzz_verdict verdict;
    int32_t status;    /* of the target, as wait(2) has it; 0 if unknown */
    uint32_t signal;   /* that ended it, 0 if none */
    uint32_t pages;    /* put back to get from the run before to this one */
    uint64_t rip;      /* where it crashed, 0 if unknown */
    uint64_t run_ns;   /* in the guest */
    uint64_t reset_ns; /* before it */
};

#endif
