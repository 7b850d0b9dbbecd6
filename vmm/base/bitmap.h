/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fixed-size bitmap with atomic set and clear, and a walk over runs of set
 * bits.
 *
 * Its words are zero pages of the host until a bit in them is set. Thread
 * rule: bitmap_set, bitmap_clear, bitmap_test and bitmap_take from any thread
 * at any time; the walks see what was set before they began and may miss what
 * is set meanwhile.
 *
 * bitmap_set and bitmap_take are full barriers between them: who takes a bit
 * sees what its setter wrote before it, and a bit that is set while another
 * takes it is either in what was taken or still there. A set that looked
 * first whether the bit is there already would not be: its write could become
 * visible only after the taker has looked.
 */
#ifndef VMM_BASE_BITMAP_H
#define VMM_BASE_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"

struct bitmap {
    uint64_t *words;
    uint64_t *summary; /* a bit per word: may have bits; for bitmap_take */
    size_t bits;
};

/* `bits` bits, all clear: 0 or -ENOMEM. */
CC_MUST_CHECK int bitmap_init(struct bitmap *map, size_t bits);
void bitmap_fini(struct bitmap *map);

/* Set or clear [first, first + count), which must lie within the bitmap. */
void bitmap_set(struct bitmap *map, size_t first, size_t count);
void bitmap_clear(struct bitmap *map, size_t first, size_t count);

/*
 * Clears one word that has bits, the first at or after *word: true, its number
 * in *word and what it held in *ret_bits; or false when there is none. Bit b
 * of word w is bit 64 * w + b. Costs by what is set, and a look at a bit per
 * 64 words.
 */
CC_MUST_CHECK bool bitmap_take(
    struct bitmap *map, size_t *word, uint64_t *ret_bits);
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
