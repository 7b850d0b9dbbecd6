/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls of event loop and sockets, answered in memory: a harness
 * that is linked with them wrapped (FUZZ_WRAPS in tests/CMakeLists.txt) makes
 * none of these calls, which makes it ten times as fast, gives the same for
 * the same input, and lets it have calls fail that never would.
 *
 * Descriptors made here are FUZZ_KERNEL_FD and up; calls on others, which are
 * libFuzzer's and those of guest memory, go to the system. One epoll
 * descriptor at a time. Time stands still until the harness moves it.
 *
 * Stream sockets behave as Unix ones: what is sent is there at once, up to
 * `room` bytes; a peer that closes with unread data resets the connection.
 *
 * Thread rule: one thread; all of it is one static table.
 */
#ifndef TESTS_FUZZ_SUPPORT_FUZZ_KERNEL_H
#define TESTS_FUZZ_SUPPORT_FUZZ_KERNEL_H

#include <stdint.h>

#define FUZZ_KERNEL_FD       0x100000
#define FUZZ_KERNEL_FDS      160
#define FUZZ_KERNEL_ROOM_MAX (256u << 10)

/* What can be made to fail, once: the n-th call from now on. */
enum fuzz_kernel_call {
    FUZZ_KERNEL_EPOLL_CTL, /* adding and changing */
    FUZZ_KERNEL_EVENTFD,
    FUZZ_KERNEL_SEND,
    FUZZ_KERNEL_RECV,
    FUZZ_KERNEL_ACCEPT,
    FUZZ_KERNEL_RANDOM,
    FUZZ_KERNEL_FALLOCATE,
    FUZZ_KERNEL_SYNC,
    FUZZ_KERNEL_CALLS,
};

/*
 * Before an input: time is 1 s, nothing fails, sockets take `room` bytes at
 * most. All descriptors of the input before are closed.
 */
void fuzz_kernel_prepare(uint32_t room);

/*
 * The call of this kind after `skip` others fails with `error`; 0 makes a
 * call for random bytes come short by half.
 */
void fuzz_kernel_fail(enum fuzz_kernel_call call, uint8_t skip, int error);

void fuzz_kernel_advance(uint64_t ns);

/* Descriptors that are open: those that an input leaves are a leak. */
unsigned int fuzz_kernel_count(void);

/* Whether epoll_wait would report something. */
int fuzz_kernel_is_due(void);

/*
 * The guest's memory: a hole is punched by zeroing. The lowest offset of one
 * in this input, UINT64_MAX if there was none.
 */
void fuzz_kernel_set_ram(uint8_t *ram, uint64_t size);
uint64_t fuzz_kernel_discarded_from(void);

/* A pair of connected stream sockets. */
void fuzz_kernel_pair(int ret_fds[2]);

/* A listening socket; and somebody who connects to it, -1 if there are many. */
int fuzz_kernel_listen(void);
int fuzz_kernel_call(int listen_fd);

/*
 * connect(2) succeeds for paths that end in an even digit; the other end of
 * the latest such socket, which is then the caller's, or -1.
 */
int fuzz_kernel_called(void);

#endif
