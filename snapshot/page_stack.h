/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest's RAM held at several points in time, each above the other:
 * the root, which knows every page, and levels that hold the pages which had
 * changed since the one below.
 *
 * Owns the copies. A page is found in constant time however many levels there
 * are. Each level lies in an address range of its own as large as RAM, of which
 * only the pages that it holds take memory.
 *
 * Thread rule: one thread. Nothing in it is guest-controlled but the bytes of
 * pages, which are copied and never looked at.
 */
#ifndef SNAPSHOT_PAGE_STACK_H
#define SNAPSHOT_PAGE_STACK_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/gmem.h"

/* Levels above the root. */
#define PAGE_STACK_LEVELS_MAX 4096u

struct page_level {
    uint8_t *copies;  /* page n at n * NUM_PAGE_SIZE */
    uint32_t *held;   /* pages, in the order in which they came */
    uint16_t *before; /* for each: the level that it was found in before */
    uint32_t count;
};

struct page_stack {
    uint64_t pages; /* of RAM */
    const uint8_t *root;
    bool owns_root;     /* else it is the caller's mapping */
    uint16_t *found_in; /* for each page: the topmost level that holds it */
    uint32_t top;       /* 0: only the root */
    struct page_level *levels; /* room for all; [0] is unused */
};

/*
 * A stack whose root is a copy of what `mem` holds now. Takes the time and
 * memory of a copy of every page that was ever written to.
 */
CC_MUST_CHECK int page_stack_init_copy(
    struct page_stack *s, const struct gmem *mem, struct err *err);

/*
 * A stack whose root is `view`: a mapping of `pages` pages that does not
 * change and outlives the stack, such as the image that the guest's private
 * memory was mapped from.
 */
CC_MUST_CHECK int page_stack_init_view(
    struct page_stack *s, const uint8_t *view, uint64_t pages, struct err *err);

/* A zeroed stack is let be. */
void page_stack_fini(struct page_stack *s);

/*
 * A new top level, holding the listed pages, each once, as `mem` has them
 * now. -ENOSPC above PAGE_STACK_LEVELS_MAX.
 */
CC_MUST_CHECK int page_stack_push(struct page_stack *s, const struct gmem *mem,
    const uint32_t *pages, uint32_t count, struct err *err);

/* Takes the top level off; false and nothing done if only the root is left. */
bool page_stack_pop(struct page_stack *s);

/* The pages that the top level holds; none for the root. */
const uint32_t *page_stack_top(const struct page_stack *s, uint32_t *ret_count);

/* The bytes of a page as of the top level. */
static inline const uint8_t *page_stack_get(
    const struct page_stack *s, uint64_t page)
{
    uint16_t level = s->found_in[page];
    const uint8_t *copies = level == 0 ? s->root : s->levels[level].copies;

    return copies + (page << NUM_PAGE_SHIFT);
}

#endif
