/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs inputs in a target and says of each how it crashed: as a bundle, with
 * its backtrace and the hash of that.
 *
 * Owns an executor, and what names the target's code. Thread rule: one thread,
 * the executor's. File-controlled: the target's directory; guest-controlled:
 * everything about a crash.
 */
#ifndef FUZZ_CRASH_H
#define FUZZ_CRASH_H

#include <stddef.h>
#include <stdint.h>

#include "fuzz/backtrace.h"
#include "fuzz/bundle.h"
#include "fuzz/executor.h"
#include "fuzz/symbols.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* What the agent's process has mapped, as the guest left it (abi.h). */
#define CRASH_MAPS_PATH "dump/maps"

struct crash_runner;

/*
 * Opens the target in `dir` with an executor of its root, which is made first
 * if there is none. Without maps or a list of files there are no names.
 */
CC_MUST_CHECK int crash_open(
    const char *dir, struct crash_runner **ret_runner, struct err *err);

void crash_close(struct crash_runner *runner); /* NULL is fine */

/*
 * Runs an input. The bundle is complete (fuzz/bundle.h) whatever came of it;
 * the caller's to be freed.
 */
CC_MUST_CHECK int crash_run(struct crash_runner *runner, const void *input,
    size_t size, uint64_t timeout_us, struct bundle *ret_bundle,
    struct err *err);

/* Where the last run crashed: one line, "" if it did not. */
const char *crash_top(const struct crash_runner *runner);

/* Why the target's code has no names, or not all: one line, "" if it has. */
const char *crash_note(const struct crash_runner *runner);

struct executor *crash_executor(struct crash_runner *runner);
struct symbols *crash_symbols(struct crash_runner *runner);
const struct files *crash_files(const struct crash_runner *runner);
const struct maps *crash_maps(const struct crash_runner *runner);

#endif
