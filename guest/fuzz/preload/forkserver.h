/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Poses as afl-fuzz towards the runtime that AFL++'s compilers link into a
 * program: the map and the test case as shared memory, and the conversation
 * over descriptors 198 and 199, old handshake and new. The runtime ends it
 * with fork(), which makes no process, and a child closes the descriptors:
 * the root lies behind that, or where the persistent loop clears the map.
 *
 * What the runtime says is the program's and not trusted beyond that.
 */
#ifndef GUEST_FUZZ_PRELOAD_FORKSERVER_H
#define GUEST_FUZZ_PRELOAD_FORKSERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/fuzz/abi.h"

#define FORKSERVER_READ_FD  198
#define FORKSERVER_WRITE_FD 199

/* Memory, environment and descriptors. 0 or -1. */
int forkserver_init(void);

/* What the runtime does to its two descriptors. */
ssize_t forkserver_read(void *buf, size_t n);
ssize_t forkserver_write(const void *buf, size_t n);
/* True if it was one of them; in a child of fork that may not come back. */
bool forkserver_close(int fd);

/* True if fork() is the runtime's; it returns 0 then. */
bool forkserver_forks(void);

/* The memory of that id, or NULL if it is none of ours. */
void *forkserver_shm(int id);
bool forkserver_is_shm(const void *at);

/* The persistent loop begins by clearing the map. */
void forkserver_clears(const void *at, size_t size);

/* Map and CmpLog map. Gives back what is too much of them. */
void forkserver_tell(struct fuzz_abi_hello *hello);

/* The words that the compiler has found, as Nyx's agents give them. */
void forkserver_give_dictionary(void);

#endif
