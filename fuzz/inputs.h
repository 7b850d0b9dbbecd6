/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inputs of a target out of files and folders.
 *
 * Owns the bytes. Thread rule: one thread. File-controlled: all of it, within
 * the bounds below.
 */
#ifndef FUZZ_INPUTS_H
#define FUZZ_INPUTS_H

#include <stddef.h>

#include "fuzz/executor.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define INPUTS_MAX     65536u
#define INPUTS_BYTES   (UINT64_C(1) << 30) /* of all together */
#define INPUT_FILE_MAX (1u << 20)          /* as afl-fuzz has it */

struct inputs {
    struct fuzz_input *list;
    char **names; /* paths, as many */
    size_t count;
    size_t room;
    size_t bytes;
};

/*
 * Adds a file, or each file of a folder in the order of their names (but those
 * that begin with a dot, and folders within it). -EFBIG for a file beyond
 * INPUT_FILE_MAX, -E2BIG for too many.
 */
CC_MUST_CHECK int inputs_add(
    struct inputs *inputs, const char *path, struct err *err);

/* A zeroed one is let be. */
void inputs_fini(struct inputs *inputs);

#endif
