/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input, and how a program gets it: in place, through standard input or
 * as a file. The executor writes the bytes into memory of this library. What a
 * program reads of descriptor 0, or of the input's file, comes straight from
 * there, without entering the kernel: through views, descriptors that are
 * real but empty until something is done with them that only the kernel can
 * do. Then the input is written to them, once a run, and they are let be.
 */
#ifndef GUEST_FUZZ_PRELOAD_INPUT_H
#define GUEST_FUZZ_PRELOAD_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "guest/fuzz/abi.h"

int input_init(void); /* 0 or -1 */

/* As AFL++ has it: a length of four bytes, and the bytes. */
void *input_shm(void);

const uint8_t *input_bytes(void);
size_t input_size(void);

/* Before the root. */
void input_prepare(void);
void input_tell(struct fuzz_abi_hello *hello);

/* A run has begun. */
void input_begin(void);

/* Descriptor 0 or one of input_open, if it is a view in this run. */
bool input_is(int fd);

/* Calls with a view, as the kernel has them; errno is set. */
ssize_t input_read(int fd, void *buf, size_t n);
ssize_t input_read_at(void *buf, size_t n, off_t at);
off_t input_seek(int fd, off_t offset, int whence);
void input_stat(struct stat *ret_stat);

/* A copy of it, behind which are zeroes to the end of the page; NULL if it is
 * taken or `offset` and `n` are not the file's first bytes. */
void *input_map(size_t n, off_t offset);
/* True if it is that copy. */
bool input_unmap(const void *at);

/* True if that is the name of the input's file. */
bool input_is_path(const char *path);

/* True if a path may be that file by another name. */
bool input_may_be_path(const char *path);

/* A view of the input's file, or -1: there are no more. */
int input_open(void);

/* True if that was all there is to closing it. */
bool input_close(int fd);

/* Something that this library does not see will read fd: the kernel is to
 * have the input behind it, in each run if there is none yet. */
void input_share(int fd);

/* fd is something else from now on. */
void input_lose(int fd);

/* The kernel has the input behind all descriptors from here on. */
void input_show(void);

#endif
