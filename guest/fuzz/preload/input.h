/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input, and how a program gets it: in place, through standard input or
 * as a file. The executor writes the bytes into memory of this library. What
 * a program reads with read(2) or through stdin comes straight from there,
 * without entering the kernel; the file, and standard input where a program
 * has other ways to it (C++ streams, a child), are given their content by one
 * pwrite at the beginning of a run.
 */
#ifndef GUEST_FUZZ_PRELOAD_INPUT_H
#define GUEST_FUZZ_PRELOAD_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/fuzz/abi.h"

int input_init(void); /* 0 or -1 */

/* As AFL++ has it: a length of four bytes, and the bytes. */
void *input_shm(void);

const uint8_t *input_bytes(void);
size_t input_size(void);

void input_tell(struct fuzz_abi_hello *hello);

/* A run has begun. */
void input_begin(void);

/* Standard input, if it is still the input. */
bool input_is_stdin(int fd);
ssize_t input_read(void *buf, size_t n);
off_t input_seek(off_t offset, int whence);

/* fd is closed or becomes something else. */
void input_forget(int fd);

/* Before something that this library does not see reads the file. */
void input_materialise(void);

#endif
