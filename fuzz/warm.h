/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of a process runs have made present or writable: where the
 * guest's kernel is interpreted, a page fault costs more than a whole run, so
 * the root is given them beforehand.
 *
 * Owns its lists. Thread rule: one thread, no vCPU in the guest. Guest-
 * controlled: page tables, which may lead in circles: no more than
 * WARM_TABLES_MAX of them are looked at and WARM_PAGES_MAX pages listed.
 */
#ifndef FUZZ_WARM_H
#define FUZZ_WARM_H

#include <stddef.h>
#include <stdint.h>

#include "fuzz/guest_view.h"
#include "vmm/base/cc.h"

#define WARM_PAGES_MAX  (1u << 20)
#define WARM_TABLES_MAX (1u << 16)
#define WARM_WRITE      UINT64_C(1) /* in an address: it is writable */

/* Pages of user memory by ascending address, each with WARM_WRITE or not. */
struct warm_list {
    uint64_t *pages;
    size_t count;
    size_t room;
};

void warm_fini(struct warm_list *list); /* a zeroed one is let be */

/* What is present in the address space of view->regs. -ENOMEM. */
CC_MUST_CHECK int warm_take(
    struct warm_list *list, const struct guest_view *view);

/*
 * Marks all of that memory as accessed, and as dirty where it is writable, as
 * the processor does at first use: a run then leaves the tables as they are.
 * 0, -ENOMEM, or -EFAULT for tables that are not RAM.
 */
CC_MUST_CHECK int warm_set_used(const struct guest_view *view);

/*
 * Adds to *more, which stays in order, what `after` has and `before` has not,
 * or only for reading. -ENOMEM.
 */
CC_MUST_CHECK int warm_add_new(struct warm_list *more,
    const struct warm_list *before, const struct warm_list *after);

#endif
