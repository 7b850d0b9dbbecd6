/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of an executor, for executor.c, which runs inputs, and
 * executor_boot.c, which makes the root. Both as fuzz/executor.h has it.
 */
#ifndef FUZZ_EXECUTOR_PARTS_H
#define FUZZ_EXECUTOR_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz/fuzz_agent.h"
#include "fuzz/calls.h"
#include "fuzz/executor.h"
#include "fuzz/levels.h"
#include "fuzz/runner.h"
#include "snapshot/reset.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* Memory that is laid under the guest's pages. */
struct laid {
    uint8_t *bytes;
    bool is_own; /* mapped here */
};

struct executor {
    struct runner *runner;
    char *dir;
    uint8_t *initrd; /* made for this one; NULL: the constant one */
    struct fuzz_agent agent;
    struct calls calls;
    int share_fd;
    int dump_fd;
    struct reset reset;
    bool has_reset;
    bool is_used; /* a run has left the guest somewhere else */
    bool clears;  /* the map, before each run */
    struct laid map;
    struct laid cmp_map;
    struct levels levels;
    bool has_levels;
    uint64_t runs;
    uint64_t pushes;
    uint64_t runs_on_levels; /* that did not begin at the root */
};

/* Puts the guest back to the top level, if a run has used it. */
CC_MUST_CHECK int executor_put_back(struct executor *ex, struct err *err);

/*
 * Lets the guest run to a call that the caller has to see. A failure of the
 * host is an error; the end of a run is CALLS_END.
 */
CC_MUST_CHECK int executor_go(struct executor *ex, uint64_t deadline_ns,
    struct fuzz_result *result, enum calls_outcome *ret_outcome,
    struct err *err);

/*
 * Puts the guest back, the input in its place, and nothing has run yet. The
 * result is begun.
 */
CC_MUST_CHECK int executor_begin(struct executor *ex, const void *input,
    size_t size, struct fuzz_result *ret_result, struct err *err);

/* executor_run, but that the map is not laid anywhere. */
CC_MUST_CHECK int executor_run_bare(struct executor *ex, const void *input,
    size_t size, uint64_t timeout_ns, struct fuzz_result *ret_result,
    struct err *err);

/* executor_hash, of RAM as it is now. */
CC_MUST_CHECK int executor_hash_now(
    struct executor *ex, uint64_t *ret_hash, struct err *err);

/* The end of the machine, in the text: `why` and the console's last lines. */
void executor_add_console(struct executor *ex, const char *why);

#endif
