/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A crash, kept as a directory:
 *
 *     input          what the target was given
 *     result.json    how it ended: verdict, signal, registers, snapshot, hash
 *     backtrace.txt  the calls that led to it
 *     report.txt     all that the guest reported
 *     maps           the process' address space, if it is known
 *
 * Thread rule: one thread. File-controlled: all of it when read; the text in
 * it is the guest's.
 */
#ifndef FUZZ_BUNDLE_H
#define FUZZ_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz/result.h"
#include "fuzz/unwind.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define BUNDLE_RESULT "result.json"

#define BUNDLE_TEXT_MAX     ((size_t)4 << 20) /* bytes of each text */
#define BUNDLE_INPUT_MAX    ((size_t)1 << 20)
#define BUNDLE_SNAPSHOT_MAX 128u

enum bundle_part {
    BUNDLE_INPUT,
    BUNDLE_BACKTRACE,
    BUNDLE_REPORT,
    BUNDLE_MAPS,
    BUNDLE_PARTS,
};

struct bundle_text {
    char *text; /* of any bytes, a NUL behind them; NULL: none */
    size_t size;
};

struct bundle {
    struct bundle_text parts[BUNDLE_PARTS];
    enum fuzz_verdict verdict;
    int32_t status;
    uint32_t signal;
    uint64_t rip;
    uint64_t stack_hash;
    char *snapshot;             /* its id; NULL: unknown */
    uint64_t regs[UNWIND_REGS]; /* at the crash as far as they are known */
    bool has_regs;
};

/* "ok", "crash", "sanitizer", "hang", "input-write", "abort". */
const char *bundle_verdict_name(enum fuzz_verdict verdict);

/*
 * Makes the directory `name` in `parent` (a path), whole or not at all.
 * -EEXIST if something has that name.
 */
CC_MUST_CHECK int bundle_write(const char *parent, const char *name,
    const struct bundle *bundle, struct err *err);

/* -EINVAL, naming the file or member, for what bundle_write did not write. */
CC_MUST_CHECK int bundle_read(
    const char *path, struct bundle *ret_bundle, struct err *err);

/* The input of a bundle, or what a file holds; the caller frees its text. */
CC_MUST_CHECK int bundle_read_input(
    const char *path, struct bundle_text *ret_input, struct err *err);

/* The text of result.json alone; what it says goes into *ret_bundle. */
CC_MUST_CHECK int bundle_parse_result(
    const char *text, size_t size, struct bundle *ret_bundle, struct err *err);

void bundle_fini(struct bundle *bundle); /* a zeroed one is let be */

#endif
