/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a target does: whether its runs are the same each time, what they cost,
 * and what is wrong with it, in words.
 *
 * The target runs in this process, without a jail, as whole RAM is looked at.
 * Thread rule: one thread, as an executor's. Guest-controlled: all that is
 * measured.
 */
#ifndef FUZZ_CHECKUP_H
#define FUZZ_CHECKUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz/executor.h"
#include "fuzz/inputs.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define CHECKUP_RUNS_MAX     1000000u
#define CHECKUP_FINDINGS_MAX 16u
#define CHECKUP_TEXT_MAX     400u

struct checkup_spread {
    uint64_t median;
    uint64_t p99;
};

struct checkup_finding {
    bool is_wrong; /* else it only costs */
    char text[CHECKUP_TEXT_MAX];
};

struct checkup {
    size_t map_size; /* bytes, 0: there is none */
    size_t input_max;
    uint32_t runs;         /* measured */
    uint32_t map_edges;    /* bytes of the map that are set after a run; of the
                              input with the most */
    uint32_t map_compared; /* runs that were compared with the first of their */
    uint32_t map_differs;  /* input */
    uint32_t ram_compared;
    uint32_t ram_differs;
    uint32_t bad_ends;           /* runs that were not FUZZ_OK */
    uint32_t entered;            /* the guest's kernel, maybe */
    struct checkup_spread pages; /* put back for a run */
    struct checkup_spread run_ns;
    struct checkup_spread reset_ns;
    uint64_t wall_ns; /* of the runs all together, ours included */
    struct checkup_finding findings[CHECKUP_FINDINGS_MAX];
    size_t finding_count;
};

struct checkup_options {
    const struct inputs *inputs; /* at least one */
    uint32_t runs;               /* in all, 1 to CHECKUP_RUNS_MAX */
    uint32_t ram_runs; /* of those at first, after which RAM is hashed */
    uint64_t timeout_us;
};

/* The executor is as executor_open leaves it; errors are the host's. */
CC_MUST_CHECK int checkup_run(struct executor *ex,
    const struct checkup_options *options, struct checkup *ret_checkup,
    struct err *err);

/*
 * What the numbers mean: fills the findings. Does nothing else, so that it can
 * be tested by itself.
 */
void checkup_judge(struct checkup *checkup);

#endif
