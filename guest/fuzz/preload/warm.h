/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has the kernel make pages present before the root: a page fault in a run is
 * one in every run, since the reset undoes what it has done.
 */
#ifndef GUEST_FUZZ_PRELOAD_WARM_H
#define GUEST_FUZZ_PRELOAD_WARM_H

#include <stdint.h>

/* What is mapped, as far as it is of a sensible size, and some stack. */
void warm_all(void);

/* FUZZ_ABI_WARM_MAX entries, for HELLO. */
uint64_t *warm_list(void);

/* The first n of the list, as the executor has filled it in. */
void warm_pages(uint64_t n);

#endif
