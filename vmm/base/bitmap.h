/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fixed-size bitmap with atomic set and clear, and a walk over runs of set
 * bits.
 *
 * Its words are zero pages of the host until a bit in them is set. Thread
 * rule: bitmap_set, bitmap_clear and bitmap_test from any thread at any time;
 * the walks see what was set before they began and may miss what is set
 * meanwhile.
 */
#ifndef VMM_BASE_BITMAP_H
#define VMM_BASE_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"

struct bitmap {
    uint64_t *words;
    size_t bits;
};

/* `bits` bits, all clear: 0 or -ENOMEM. */
CC_MUST_CHECK int bitmap_init(struct bitmap *map, size_t bits);
void bitmap_fini(struct bitmap *map);

/* Set or clear [first, first + count), which must lie within the bitmap. */
void bitmap_set(struct bitmap *map, size_t first, size_t count);
void bitmap_clear(struct bitmap *map, size_t first, size_t count);
bool bitmap_test(const struct bitmap *map, size_t bit);
void bitmap_clear_all(struct bitmap *map);
size_t bitmap_count(const struct bitmap *map);

/*
 * The first run of set bits at or after `from`: true and [*ret_first,
 * *ret_first + *ret_count), or false when there is none.
 */
CC_MUST_CHECK bool bitmap_next_run(const struct bitmap *map, size_t from,
    size_t *ret_first, size_t *ret_count);

#endif
