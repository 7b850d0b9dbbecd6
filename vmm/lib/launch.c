/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/lib/wire.h"

#define STACK_SIZE (UINT32_C(64) * 1024)

/* clone(2) by the C library's other name: that one the thread sanitizer of a
 * caller takes for a fork, after which it gives up. */
int __clone(int (*run)(void *), void *stack, int flags, void *arg, ...);

/* What the caller's thread, which stands meanwhile, and both processes share.
 */
struct launch {
    const char *path;
    char **argv;
    int fd;
    char *stack; /* of the second process */
    volatile int error;
};

/* Runs in memory of the caller: system calls only. */
static int run_program(void *opaque)
{
    struct launch *l = opaque;
    int null_fd;

    (void)setsid();
    if (l->fd == LIB_WIRE_FD)
        (void)fcntl(l->fd, F_SETFD, 0);
    else if (dup2(l->fd, LIB_WIRE_FD) < 0)
        goto failed;
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0)
        goto failed;
    for (int i = 0; i < LIB_WIRE_FD; i++) {
        if (i == STDERR_FILENO && i != null_fd && fcntl(i, F_GETFD) >= 0)
            continue;
        if (i == null_fd)
            (void)fcntl(i, F_SETFD, 0);
        else if (dup2(null_fd, i) < 0)
            goto failed;
    }
    (void)syscall(SYS_close_range, LIB_WIRE_FD + 1, ~0u, 0);
    (void)execve(l->path, l->argv, environ);
failed:
    l->error = errno;
    return EXIT_FAILURE;
}

/*
 * Its end raises no signal, since it was started with none; that of what it
 * has started is a matter of whoever takes on orphans.
 */
static int run_starter(void *opaque)
{
    struct launch *l = opaque;

    if (__clone(run_program, l->stack + STACK_SIZE,
            CLONE_VM | CLONE_VFORK | SIGCHLD, l) < 0)
        l->error = errno;
    return EXIT_SUCCESS;
}

int launch_start(const char *path, const char *const *argv, int fd)
{
    struct launch l = {.path = path, .fd = fd};
    uint64_t all = UINT64_MAX;
    uint64_t before;
    char *stacks;
    int rc = 0;
    pid_t pid;

    memcpy(&l.argv, &argv, sizeof(argv));
    stacks = mmap(NULL, (size_t)2 * STACK_SIZE, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stacks == MAP_FAILED)
        return -errno;
    l.stack = stacks + STACK_SIZE;
    /* No handler of the caller's may run in the other process; those that the
     * C library hides from sigprocmask neither. */
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof(all));
    pid = __clone(run_starter, stacks + STACK_SIZE, CLONE_VM | CLONE_VFORK, &l);
    if (pid < 0)
        rc = -errno;
    else
        while (waitpid(pid, NULL, (int)__WCLONE) < 0 && errno == EINTR)
            continue;
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(all));
    (void)munmap(stacks, (size_t)2 * STACK_SIZE);
    return rc < 0 ? rc : -l.error;
}
