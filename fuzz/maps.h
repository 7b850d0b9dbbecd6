/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The address space of a process as /proc/PID/maps tells of it.
 *
 * Owns its ranges and their names. Thread rule: one thread. Guest-controlled:
 * all of the text.
 */
#ifndef FUZZ_MAPS_H
#define FUZZ_MAPS_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define MAPS_TEXT_MAX  ((size_t)1 << 20) /* bytes */
#define MAPS_RANGE_MAX 8192u

struct maps_range {
    uint64_t start;
    uint64_t end;    /* > start; all three are multiples of a page */
    uint64_t offset; /* of `start` in its file */
    char perms[5];
    char *name; /* a path, [stack] and the like, or "" */
};

struct maps {
    struct maps_range *ranges; /* ascending, none over another */
    size_t count;
};

/*
 * Reads proc(5)'s format. -EINVAL, naming the line, for text that is not in
 * it, -E2BIG for more than MAPS_RANGE_MAX ranges.
 */
CC_MUST_CHECK int maps_parse(
    const char *text, size_t size, struct maps *ret_maps, struct err *err);

void maps_fini(struct maps *maps); /* a zeroed one is let be */

/* The range that an address is in, or NULL. */
const struct maps_range *maps_find(const struct maps *maps, uint64_t address);

#endif
