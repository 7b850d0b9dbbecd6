/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of which a 64-bit guest on one vCPU writes one at least whenever it
 * goes from ring 3 to ring 0: those of the stacks that its TSS names (Intel
 * SDM vol. 3, 8.7), and of the TSS itself, where Linux keeps the user's stack
 * pointer during SYSCALL.
 *
 * Thread rule: no vCPU in the guest. Guest-controlled: the TSS.
 */
#ifndef FUZZ_ENTRY_PAGES_H
#define FUZZ_ENTRY_PAGES_H

#include <stdint.h>

#include "fuzz/guest_view.h"

#define ENTRY_PAGES_MAX 16u

/*
 * Their number; 0 if the TSS at `tss` is none that tells, so that nothing can
 * be said about entries.
 */
uint32_t entry_pages_find(const struct guest_view *view, uint64_t tss,
    uint32_t ret_pages[ENTRY_PAGES_MAX]);

#endif
