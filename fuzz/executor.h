/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs one input after another in a guest, each from the same point: the root.
 *
 * Owns a machine with one vCPU and everything that resets it. A target is
 * booted once, to the point where its agent calls ROOT (guest/fuzz/abi.h), and
 * saved there; from then on executors are made of that snapshot, as many as
 * there are workers, which share its pages.
 *
 * Putting the guest back happens when the next run begins, so that after one
 * the guest lies there as the run left it, to be looked at.
 *
 * Thread rule: one thread, on which the guest runs too; there is no other. The
 * signal SIGRTMIN + 1 is the executor's while it exists (it ends runs whose
 * time is up). Guest-controlled: every call and what it points at, the map and
 * all text; file-controlled: the snapshot, as vmm/machine_restore.h has it.
 */
#ifndef FUZZ_EXECUTOR_H
#define FUZZ_EXECUTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz/result.h"
#include "fuzz/target.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct executor;

/* Text that the guest reports, most of it kept: what comes first. */
#define EXECUTOR_TEXT_MAX (1u << 20)

struct fuzz_input {
    const uint8_t *bytes;
    size_t size;
};

struct executor_options {
    /* What the guest prints (PRINTF, its console): a descriptor or -1. */
    int print_fd;
    uint32_t worker; /* its number, which agents are told */
    /*
     * Looked at every few milliseconds of a run (NULL: not): where it is not
     * zero the run ends as one whose time is up. Written to by a signal
     * handler or another process, it outlives the executor.
     */
    const uint32_t *cancel;
    /* Inputs that the root is made warm with; each a whole file. */
    const struct fuzz_input *seeds;
    size_t seed_count;
    /* Beginnings that inputs share are run once (fuzz/levels.h), with a target
     * whose agent tells of places; not while CmpLog's map is laid. */
    bool levels;
    /*
     * A run ends, as FUZZ_SANITIZER, where its report begins, of which there
     * is no text until executor_read_on: it takes seconds where guest kernels
     * are interpreted, most reports are of a crash that is known, and a fuzzer
     * that waits on a clock of its own takes that for a hang.
     */
    bool stops_at_report;
};

/*
 * Boots the target to its root: seconds where guest kernels are interpreted.
 * -ETIMEDOUT, -EPROTO and what the guest said if it does not get there.
 */
CC_MUST_CHECK int executor_boot(const struct fuzz_target *target,
    const struct executor_options *options, struct executor **ret_ex,
    struct err *err);

/*
 * Saves the machine at its root into the target's store, for executor_open.
 * After executor_boot, before the first run.
 */
CC_MUST_CHECK int executor_save(struct executor *ex, struct err *err);

/* Out of what executor_save wrote: milliseconds. -ENOENT: nothing is there. */
CC_MUST_CHECK int executor_open(const struct fuzz_target *target,
    const struct executor_options *options, struct executor **ret_ex,
    struct err *err);

void executor_free(struct executor *ex); /* NULL is fine */

/* Bytes of the target's coverage map, exact; 0: it has none. */
size_t executor_map_size(const struct executor *ex);

/* The largest input, bytes; what is longer is cut. */
size_t executor_input_max(const struct executor *ex);

/*
 * Has the guest's coverage map be `shared`: a page-aligned mapping, MAP_SHARED,
 * of executor_map_size bytes rounded up to whole pages, which goes on to exist
 * by itself. Without a call the executor makes one. The caller clears it
 * before runs if `clears` is false.
 */
CC_MUST_CHECK int executor_lay_map(
    struct executor *ex, void *shared, bool clears, struct err *err);
uint8_t *executor_map(const struct executor *ex);

/* The same for the CmpLog map, 0 and NULL where the target has none. */
size_t executor_cmp_map_size(const struct executor *ex);
CC_MUST_CHECK int executor_lay_cmp_map(
    struct executor *ex, void *shared, struct err *err);

/*
 * One run: puts the guest back, gives it the input and lets it run until it
 * says it is done, or for timeout_us. An error is the host's and leaves the
 * executor of no use; whatever the guest does is a verdict.
 */
CC_MUST_CHECK int executor_run(struct executor *ex, const void *input,
    size_t size, uint64_t timeout_us, struct fuzz_result *ret_result,
    struct err *err);

/*
 * Has a run that ended where its report begins go on to its real end, for at
 * most timeout_us, so that the report is text. After any other run, and a
 * second time, nothing happens.
 */
CC_MUST_CHECK int executor_read_on(
    struct executor *ex, uint64_t timeout_us, struct err *err);

/*
 * What the guest reported in the last run, as text with a terminating zero,
 * and its length. Good until the next run.
 */
const char *executor_text(const struct executor *ex, size_t *ret_size);

struct executor_stats {
    uint64_t runs;
    uint64_t resets;
    uint64_t pages;   /* put back, in all */
    uint64_t hot;     /* of them without a fault of the guest's */
    uint64_t entered; /* runs in which the guest's kernel may have run */
    uint64_t flushes; /* resets after which KVM had to forget RAM */
    uint64_t levels;  /* pushed */
    uint64_t runs_on_levels;
};

struct executor_stats executor_stats(const struct executor *ex);

/* All of the guest's RAM but the kept pages, in one hash: for comparisons. */
CC_MUST_CHECK int executor_hash(
    struct executor *ex, uint64_t *ret_hash, struct err *err);

#endif
