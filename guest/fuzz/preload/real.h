/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions behind ours: what the program would have got without this
 * library, which may be a sanitizer's and not libc's.
 *
 * REAL(read)(fd, buf, n) calls one. The name is looked up once; real_prepare()
 * looks up what can be needed where a look-up must not happen (in a signal
 * handler, in a child). Any thread: a look-up that happens twice finds the
 * same.
 */
#ifndef GUEST_FUZZ_PRELOAD_REAL_H
#define GUEST_FUZZ_PRELOAD_REAL_H

#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REAL_EXPORT __attribute__((visibility("default")))

/* Every name that REAL may be used with. */
#define REAL_NAMES(X)                                                          \
    X(read)                                                                    \
    X(write)                                                                   \
    X(readv)                                                                   \
    X(writev)                                                                  \
    X(pread)                                                                   \
    X(lseek)                                                                   \
    X(close)                                                                   \
    X(dup2)                                                                    \
    X(dup3)                                                                    \
    X(open)                                                                    \
    X(openat)                                                                  \
    X(fdopen)                                                                  \
    X(freopen)                                                                 \
    X(posix_spawn)                                                             \
    X(system)                                                                  \
    X(popen)                                                                   \
    X(fopen)                                                                   \
    X(fork)                                                                    \
    X(isatty)                                                                  \
    X(raise)                                                                   \
    X(shmat)                                                                   \
    X(shmdt)                                                                   \
    X(memset)                                                                  \
    X(exit)                                                                    \
    X(_exit)                                                                   \
    X(quick_exit)                                                              \
    X(abort)                                                                   \
    X(clock_gettime)                                                           \
    X(gettimeofday)                                                            \
    X(time)                                                                    \
    X(clock)                                                                   \
    X(nanosleep)                                                               \
    X(clock_nanosleep)                                                         \
    X(sleep)                                                                   \
    X(usleep)                                                                  \
    X(getrandom)                                                               \
    X(getentropy)                                                              \
    X(bind)                                                                    \
    X(listen)                                                                  \
    X(accept)                                                                  \
    X(accept4)                                                                 \
    X(recv)                                                                    \
    X(recvfrom)                                                                \
    X(recvmsg)                                                                 \
    X(recvmmsg)                                                                \
    X(send)                                                                    \
    X(sendto)                                                                  \
    X(sendmsg)                                                                 \
    X(sendmmsg)                                                                \
    X(shutdown)                                                                \
    X(getpeername)                                                             \
    X(setsockopt)                                                              \
    X(getsockopt)                                                              \
    X(poll)                                                                    \
    X(ppoll)                                                                   \
    X(select)                                                                  \
    X(pselect)                                                                 \
    X(epoll_ctl)                                                               \
    X(epoll_wait)                                                              \
    X(epoll_pwait)                                                             \
    X(__libc_start_main)

enum real_name {
#define X(name) REAL_##name,
    REAL_NAMES(X)
#undef X
        REAL_COUNT,
};

void *real_find(enum real_name name);

/* NULL before real_prepare; for what is called before anything can be looked
 * up. */
void *real_known(enum real_name name);

void real_prepare(void);

#define REAL(name) ((__typeof__(&name))real_find(REAL_##name))

/*
 * Has the kernel make memory present and leave it there. A sanitizer's mlock
 * does nothing.
 */
static inline void real_mlock(const void *at, size_t size)
{
    (void)syscall(SYS_mlock, at, size);
}

#endif
