/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the program prints. In a run it goes nowhere, since each write would
 * enter the kernel, but the end of it is kept for the report of a crash.
 *
 * The bytes are the program's and can be anything.
 */
#ifndef GUEST_FUZZ_PRELOAD_OUTPUT_H
#define GUEST_FUZZ_PRELOAD_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

void output_init(void);

/* What was printed up to here is not of a run. */
void output_mark(void);

/* Descriptors 1 and 2, as long as they are what they were, in a run. */
bool output_takes(int fd);
void output_take(const void *bytes, size_t n);

/* fd is closed or becomes something else. */
void output_forget(int fd);

/* Text for the report: what has been printed in this run. */
void output_report(void);

/* Text for the report; any thread, also in a signal handler. */
void output_say(const void *text, size_t n);

#endif
