/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes an input smaller while it keeps a property, such as to crash in one
 * place: blocks are left out, from large ones to single bytes, then what is
 * left is replaced by '0', which is as afl-tmin has it. Nothing is random: the
 * same input comes to the same end.
 *
 * Thread rule: none.
 */
#ifndef FUZZ_MINIMIZE_H
#define FUZZ_MINIMIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define MINIMIZE_FILL '0'

struct minimize {
    /* Whether these bytes have the property; an error ends it all. */
    int (*keeps)(void *opaque, const uint8_t *bytes, size_t size,
        bool *ret_keeps, struct err *err);
    void *opaque;
    uint64_t tries_max; /* calls of it, after which it ends as it is */
};

struct minimize_stats {
    uint64_t tries;
    bool is_complete; /* not ended by tries_max */
};

/*
 * In place: `bytes` and *size are those of an input that has the property,
 * which the caller has tried. They have it at any time, after an error too.
 */
CC_MUST_CHECK int minimize_run(const struct minimize *m, uint8_t *bytes,
    size_t *size, struct minimize_stats *ret_stats, struct err *err);

#endif
