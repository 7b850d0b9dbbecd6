/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's agent has told of itself: where map, input and the rest are,
 * and which pages of RAM that comes to.
 *
 * Owns the lists of pages. Kept in a file of the target beside the snapshot, as
 * the guest told it once and for all before its root.
 *
 * Thread rule: one thread. Guest-controlled: every address and size; file-
 * controlled: the same again, so fuzz_agent_load trusts the file no more than
 * the guest.
 */
#ifndef FUZZ_FUZZ_AGENT_H
#define FUZZ_FUZZ_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz/guest_view.h"
#include "guest/fuzz/abi.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define AGENT_FILE "root.json" /* in the target's directory */

#define AGENT_SPACES_MAX 8u
#define AGENT_KEPT_MAX   64u

/* Pages of RAM that hold a range of virtual addresses, in its order. */
struct agent_range {
    uint64_t at; /* virtual; 0: there is none */
    uint64_t size;
    uint32_t *pages;
    uint32_t count;
};

struct fuzz_agent {
    bool restores_fpu;
    bool has_spoken;               /* it is known where the input goes */
    struct page_tables_regs space; /* that the addresses are of */
    /* Processes that may run between the root and the end of a run. */
    uint32_t space_count;
    struct page_tables_regs spaces[AGENT_SPACES_MAX];
    uint32_t counter;  /* that the APIC's timer counted down from; 0: none */
    bool has_deadline; /* it was in use by deadline */
    struct agent_range map;
    struct agent_range cmp_map;
    struct agent_range input;      /* the bytes */
    struct agent_range input_size; /* a uint32_t */
    struct agent_range warm;
    uint32_t kept_count; /* single pages that resets leave alone */
    uint32_t kept[AGENT_KEPT_MAX];
};

void fuzz_agent_fini(struct fuzz_agent *agent); /* a zeroed one is let be */

/*
 * Takes a range: finds its pages in `view`, whose registers must be those of
 * the agent's process. -EFAULT if a byte of it is not in RAM, -EINVAL if it is
 * larger than `max` or wraps around.
 */
CC_MUST_CHECK int fuzz_agent_set_range(struct agent_range *range,
    const struct guest_view *view, uint64_t at, uint64_t size, uint64_t max,
    struct err *err);

/* FUZZ_ABI_HELLO: *hello is a copy. */
CC_MUST_CHECK int fuzz_agent_hello(struct fuzz_agent *agent,
    const struct guest_view *view, const struct fuzz_abi_hello *hello,
    struct err *err);

/* Notes an address space; -ENOSPC when there are AGENT_SPACES_MAX others. */
CC_MUST_CHECK int fuzz_agent_add_space(
    struct fuzz_agent *agent, const struct page_tables_regs *regs);

/*
 * Adds the page at virtual address `at` to those that no reset is to touch.
 * -EFAULT if it is not in RAM, -ENOSPC with AGENT_KEPT_MAX others.
 */
CC_MUST_CHECK int agent_keep_page(
    struct fuzz_agent *agent, const struct guest_view *view, uint64_t at);

/* All pages that no reset is to touch; free *ret_pages. -ENOMEM. */
CC_MUST_CHECK int fuzz_agent_kept_pages(
    const struct fuzz_agent *agent, uint32_t **ret_pages, uint32_t *ret_count);

/* Puts the input in its place, cut to what there is room for. */
void fuzz_agent_put_input(const struct fuzz_agent *agent, struct gmem *mem,
    const uint8_t *bytes, size_t size);

CC_MUST_CHECK int fuzz_agent_save(
    const struct fuzz_agent *agent, const char *dir, struct err *err);
/* With `view` on the memory of the root, whatever its registers. */
CC_MUST_CHECK int fuzz_agent_load(struct fuzz_agent *agent, const char *dir,
    const struct guest_view *view, struct err *err);

#endif
