/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root: makes the process ready for runs and calls ROOT. Everything behind
 * root_take() happens once a run, so that nothing there is to enter the
 * kernel.
 */
#ifndef GUEST_FUZZ_PRELOAD_ROOT_H
#define GUEST_FUZZ_PRELOAD_ROOT_H

/* Comes back at the beginning of each run. Once a process. */
void root_take(void);

/* Tells the executor why there will be no root. */
_Noreturn void root_fail(const char *why);

#endif
