/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker and its caller share: one page, text and input, in memory
 * that the worker got by being forked. There is no descriptor of it that a
 * worker which was taken over could cut short.
 *
 * The caller writes `asked` and what is beside it, the worker `answered` and
 * what is beside that. To the worker its caller is trusted; to the caller
 * everything in here is hostile: copied once, then checked.
 */
#ifndef FUZZ_WORKER_WIRE_H
#define FUZZ_WORKER_WIRE_H

#include <stdint.h>

#include "fuzz/executor.h"
#include "fuzz/result.h"
#include "guest/fuzz/abi.h"
#include "vmm/base/err.h"
#include "vmm/base/num.h"

enum worker_command {
    WORKER_RUN,
    WORKER_READ_ON, /* executor_read_on */
};

struct worker_page {
    /* The caller's. `asked` counts commands; a futex. */
    _Alignas(64) uint32_t asked;
    uint32_t command;
    uint32_t size; /* of the input */
    uint64_t timeout_us;
    uint32_t cancel; /* not zero: the run's time is up */

    /* The worker's. `answered` follows `asked`; a futex. */
    _Alignas(64) uint32_t answered;
    int32_t rc;
    uint32_t text_size;
    struct fuzz_result result;
    struct err err;
};

#define WORKER_TEXT_AT  NUM_PAGE_SIZE
#define WORKER_INPUT_AT (WORKER_TEXT_AT + EXECUTOR_TEXT_MAX)
#define WORKER_BYTES    (WORKER_INPUT_AT + FUZZ_ABI_INPUT_MAX)

_Static_assert(sizeof(struct worker_page) <= WORKER_TEXT_AT, "fits its page");

/* Over the cell's link, once each: who the worker is, and what it has. */
struct worker_greeting {
    int32_t pid; /* as the host knows it */
};

struct worker_hello {
    int32_t rc;
    uint32_t input_max;
    uint64_t map_size;
    uint64_t cmp_map_size;
    struct err err;
};

#endif
