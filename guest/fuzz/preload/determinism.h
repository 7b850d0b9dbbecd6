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
void random_fill(void *bytes, size_t n);

/* The kernel's files of random numbers. */
bool random_is_path(const char *path);
void random_remember(int fd);
bool random_is(int fd);
void random_forget(int fd);

#endif
