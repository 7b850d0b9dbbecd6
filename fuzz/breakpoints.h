/* SPDX-License-Identifier: Apache-2.0 */
/*
 * int3 in the code of a stopped guest: in RAM and in files that are mapped
 * behind it, of which the machine then has pages of its own. Resets leave them
 * be.
 *
 * Owns what the bytes were before. Thread rule: that of the vCPU, which is not
 * in the guest. Guest-controlled: page tables and code.
 */
#ifndef FUZZ_BREAKPOINTS_H
#define FUZZ_BREAKPOINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz/guest_view.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* Lines of a large program. */
#define BREAKPOINTS_MAX (1u << 21)

struct breakpoint {
    uint64_t address;  /* virtual */
    uint64_t physical; /* once it has been put in */
    uint8_t old;
    bool is_in;
};

struct breakpoints {
    struct breakpoint *list; /* by address, each once */
    size_t count;
    size_t room;
};

void breakpoints_fini(struct breakpoints *b); /* a zeroed one is let be */

/*
 * Adds addresses, in any order; those that are there already stay one. -E2BIG
 * for more than BREAKPOINTS_MAX in all. None is put in yet.
 */
CC_MUST_CHECK int breakpoints_add(struct breakpoints *b,
    const uint64_t *addresses, size_t count, struct err *err);

/* The number of the one at an address, or -ENOENT. */
int64_t breakpoints_find(const struct breakpoints *b, uint64_t address);

/*
 * Puts one in or takes it out. -EFAULT if its page is not there (in the view's
 * page tables) or the file has been cut.
 */
CC_MUST_CHECK int breakpoints_put(
    struct breakpoints *b, const struct guest_view *view, size_t index);
CC_MUST_CHECK int breakpoints_take(
    struct breakpoints *b, const struct guest_view *view, size_t index);

/* Forgets one that is out; those behind it move up. */
void breakpoints_drop(struct breakpoints *b, size_t index);

/*
 * Puts in all that are out, and says how many there is no page for.
 */
size_t breakpoints_put_all(
    struct breakpoints *b, const struct guest_view *view);

/* Has bytes that were read at `at` be as if no breakpoint were in. */
void breakpoints_hide(
    const struct breakpoints *b, uint64_t at, void *bytes, size_t size);

#endif
