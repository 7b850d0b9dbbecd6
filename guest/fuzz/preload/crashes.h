/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crashes: signals that would kill the program, abort, failed assertions and
 * reports of sanitizers, each with its text. A program that handles a signal
 * itself goes on doing so.
 */
#ifndef GUEST_FUZZ_PRELOAD_CRASHES_H
#define GUEST_FUZZ_PRELOAD_CRASHES_H

/* Before the root: what comes before is no crash of a run. */
void crashes_install(void);

#endif
