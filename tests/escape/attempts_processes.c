/* SPDX-License-Identifier: Apache-2.0 */
/* More processes, and other programs. */
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/escape/escape.h"
#include "vmm/base/cc.h"
#include "vmm/base/thread.h"

#define PROGRAM "/bin/true"

/* What ends well after this has run the program, which ends with 0. */
static void expect_program(struct escape *e)
{
    e->report->result = 0;
    e->report->stage = ESCAPE_STAGE_DONE;
}

static int failed_program(struct escape *e, int rc)
{
    e->report->stage = ESCAPE_STAGE_TRY;
    return rc;
}

static int try_execve(struct escape *e)
{
    char *argv[] = {NULL, NULL};
    char name[] = PROGRAM;

    argv[0] = name;
    expect_program(e);
    return failed_program(
        e, ESCAPE_CALL(e, SYS_execve, PROGRAM, argv, argv + 1));
}

static int open_program(struct escape *e)
{
    e->fds[0] = open(PROGRAM, O_RDONLY | O_CLOEXEC);
    return e->fds[0] < 0 ? -errno : 0;
}

/* A program in memory, as no file of the host has it. */
static int load_program(struct escape *e)
{
    int from = open(PROGRAM, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    e->fds[0] = memfd_create("program", MFD_CLOEXEC);
    if (from < 0 || e->fds[0] < 0)
        return -errno;
    while ((n = read(from, e->page, ESCAPE_PAGE)) > 0) {
        if (write(e->fds[0], e->page, (size_t)n) != n)
            return -EIO;
    }
    (void)close(from);
    return n < 0 ? -errno : 0;
}

static int try_execveat(struct escape *e)
{
    char *argv[] = {NULL, NULL};
    char name[] = PROGRAM;

    argv[0] = name;
    expect_program(e);
    return failed_program(e, ESCAPE_CALL(e, SYS_execveat, e->fds[0], "", argv,
                                 argv + 1, AT_EMPTY_PATH));
}

/* Both sides of what has made a process come here. */
static int end_child(int rc)
{
    if (rc == 0)
        _exit(0);
    if (rc > 0)
        (void)waitpid(rc, NULL, 0);
    return rc;
}

static int try_fork(struct escape *e)
{
    return end_child(ESCAPE_CALL(e, SYS_fork, 0));
}

static int try_clone(struct escape *e)
{
    return end_child(ESCAPE_CALL(e, SYS_clone, SIGCHLD, 0L, 0L, 0L, 0L));
}

static int try_clone3(struct escape *e)
{
    struct clone_args args = {.exit_signal = SIGCHLD};

    return end_child(ESCAPE_CALL(e, SYS_clone3, &args, sizeof(args)));
}

/*
 * A child that has this stack, too: it touches none of it, and ends at once.
 * The calls look at no argument but the first two.
 */
static int make_brief(struct escape *e, long number, unsigned long flags)
{
    long rc;

    escape_mark(e, number);
    __asm__ volatile("syscall\n"
                     "test %%rax, %%rax\n"
                     "jnz 1f\n"
                     "mov %[end], %%eax\n"
                     "xor %%edi, %%edi\n"
                     "syscall\n"
                     "1:"
                     : "=a"(rc), "+D"(flags)
                     : "0"(number), "S"(0L), [end] "i"(SYS_exit)
                     : "rcx", "r11", "memory");
    return (int)rc;
}

static int try_vfork(struct escape *e)
{
    return end_child(make_brief(e, SYS_vfork, 0));
}

static int try_clone_vm(struct escape *e)
{
    return end_child(
        make_brief(e, SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD));
}

#define THREAD                                                                 \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |        \
        CLONE_SYSVSEM)

/* Threads are allowed to some, by the flags of the C library. */
static int try_thread_other(struct escape *e)
{
    return make_brief(e, SYS_clone, THREAD | CLONE_UNTRACED);
}

static int try_thread_net(struct escape *e)
{
    return make_brief(e, SYS_clone, THREAD | CLONE_NEWNET);
}

/* A sibling: the driver's child and not this process's. */
static int try_clone_parent(struct escape *e)
{
    struct clone_args args = {.flags = CLONE_PARENT};
    int rc = ESCAPE_CALL(e, SYS_clone3, &args, sizeof(args));

    if (rc == 0)
        _exit(0);
    return rc;
}

#define CLONE(name, flag)                                                      \
    static int try_clone_##name(struct escape *e)                              \
    {                                                                          \
        struct clone_args args = {.flags = (flag), .exit_signal = SIGCHLD};    \
                                                                               \
        return end_child(ESCAPE_CALL(e, SYS_clone3, &args, sizeof(args)));     \
    }

CLONE(user, CLONE_NEWUSER)
CLONE(mount, CLONE_NEWNS)
CLONE(pid, CLONE_NEWPID)
CLONE(net, CLONE_NEWNET)
CLONE(ipc, CLONE_NEWIPC)
CLONE(uts, CLONE_NEWUTS)
CLONE(cgroup, CLONE_NEWCGROUP)

#define BOMB 64

static int try_fork_bomb(struct escape *e)
{
    int made = 0;
    int rc = 0;

    for (; made < BOMB; made++) {
        rc = ESCAPE_CALL(e, SYS_fork, 0);
        if (rc == 0) {
            (void)pause();
            _exit(0);
        }
        if (rc < 0)
            break;
        (void)kill(rc, SIGKILL);
    }
    while (wait(NULL) > 0)
        ;
    return rc < 0 ? rc : 0;
}

#define CLONED(kind)                                                           \
    {                                                                          \
        .name = "clone3 into a new " #kind " namespace",                       \
        .gain = "parts of the kernel that are for root only",                  \
        .call = SYS_clone3, .go = try_clone_##kind,                            \
        .inside =                                                              \
            {[JAIL_ROLE_MAIN] = -ENOSYS, [JAIL_ROLE_PAGE_SERVER] = -ENOSYS},   \
        .lacks = {                                                             \
            ESCAPE_ROOT_ONLY                                                   \
        }                                                                      \
    }

#define THREADS 512

static void *wait_for_ever(void *opaque)
{
    const struct escape *e = opaque;
    char byte;

    (void)!read(e->fds[0], &byte, sizeof(byte));
    return NULL;
}

/* By the C library, whose flags are allowed to some. */
static int try_thread_bomb(struct escape *e)
{
    const struct thread_config config = {
        .run = wait_for_ever, .opaque = e, .stack_bytes = 1u << 16};
    pthread_t thread;
    int rc = 0;

    escape_mark(e, SYS_clone3);
    for (int made = 0; made < THREADS && rc == 0; made++)
        rc = thread_start(&thread, &config);
    return rc;
}

static int prepare_pipe(struct escape *e)
{
    return pipe2(e->fds, O_CLOEXEC) < 0 ? -errno : 0;
}

#define DESCRIPTORS 4096

static int try_descriptor_bomb(struct escape *e)
{
    int rc = 0;

    for (int made = 0; made < DESCRIPTORS && rc >= 0; made++)
        rc = ESCAPE_CALL(e, SYS_fcntl, e->event, F_DUPFD_CLOEXEC, 0L);
    return rc;
}

static const struct escape_attempt attempts[] = {
    {.name = "execve",
        .gain = "programs of the host",
        .call = SYS_execve,
        .go = try_execve},
    {.name = "execveat of a program left open",
        .gain = "programs of the host",
        .call = SYS_execveat,
        .go = try_execveat,
        .prepare = open_program},
    {.name = "execveat of a program in memory",
        .gain = "programs of its own",
        .call = SYS_execveat,
        .go = try_execveat,
        .prepare = load_program},
    {.name = "fork",
        .gain = "processes that nobody counts",
        .call = SYS_fork,
        .go = try_fork},
    {.name = "vfork",
        .gain = "processes that nobody counts",
        .call = SYS_vfork,
        .go = try_vfork},
    {.name = "clone",
        .gain = "processes that nobody counts",
        .call = SYS_clone,
        .go = try_clone},
    {.name = "clone with the parent's memory",
        .gain = "processes that nobody counts",
        .call = SYS_clone,
        .go = try_clone_vm},
    {.name = "clone of a thread by other flags",
        .gain = "threads that nobody traces",
        .call = SYS_clone,
        .go = try_thread_other},
    {.name = "clone of a thread into a network namespace",
        .gain = "parts of the kernel that are for root only",
        .call = SYS_clone,
        .go = try_thread_net,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "clone3",
        .gain = "processes, by arguments that no filter sees",
        .call = SYS_clone3,
        .go = try_clone3,
        .inside =
            {[JAIL_ROLE_MAIN] = -ENOSYS, [JAIL_ROLE_PAGE_SERVER] = -ENOSYS}},
    {.name = "clone3 as a child of its parent",
        .gain = "a process outside",
        .call = SYS_clone3,
        .go = try_clone_parent,
        .inside =
            {[JAIL_ROLE_MAIN] = -ENOSYS, [JAIL_ROLE_PAGE_SERVER] = -ENOSYS}},
    CLONED(user),
    CLONED(mount),
    CLONED(pid),
    CLONED(net),
    CLONED(ipc),
    CLONED(uts),
    CLONED(cgroup),
    {.name = "fork bomb",
        .gain = "all of the host's processes",
        .call = SYS_fork,
        .go = try_fork_bomb},
    {.name = "thread bomb",
        .gain = "all of the host's processes",
        .call = SYS_clone3,
        .go = try_thread_bomb,
        .prepare = prepare_pipe,
        .inside =
            {[JAIL_ROLE_MAIN] = -EAGAIN, [JAIL_ROLE_PAGE_SERVER] = -EAGAIN}},
    {.name = "descriptor bomb",
        .gain = "all of the host's open files",
        .call = SYS_fcntl,
        .go = try_descriptor_bomb,
        .inside = {[JAIL_ROLE_MAIN] = -EMFILE, [JAIL_ROLE_WORKER] = -EMFILE},
        .lacks = {{.error = -EMFILE, .why = "the limit here is less"}}},
};

const struct escape_list escape_processes = {attempts, ARRAY_SIZE(attempts)};
