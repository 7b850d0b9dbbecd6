/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same in every run: the time, which stands at the root and moves by a
 * little with each look at it and by what a program sleeps, and random
 * numbers, which come from a generator with a fixed start.
 *
 * The generator is no secret of anybody's.
 */
#ifndef GUEST_FUZZ_PRELOAD_DETERMINISM_H
#define GUEST_FUZZ_PRELOAD_DETERMINISM_H

#include <stdbool.h>
#include <stddef.h>

/* The time stands from here. */
void clock_hold(void);

void random_init(void);

/* At the root: getpid is answered from here in runs. */
void process_hold(void);

void random_fill(void *bytes, size_t n);

/* The kernel's files of random numbers. */
bool random_is_path(const char *path);
/* At the root; then random_open gives one in a run without the kernel, -1 when
 * there is none left, and random_close takes it back if it is one. */
void random_prepare(void);
int random_open(void);
bool random_close(int fd);
void random_remember(int fd);
bool random_is(int fd);
void random_forget(int fd);

#endif
