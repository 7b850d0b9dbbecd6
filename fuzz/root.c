/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/root.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz/executor.h"
#include "jail/cell.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"

#define LOCK_NAME "root.lock"

/* What the process that does it says when it is done. */
struct outcome {
    int rc;
    struct err err;
};

static void say(const struct fuzz_target *target, const char *what)
{
    (void)fprintf(stderr, "spore: %s: %s\n", target->dir, what);
}

static int lock(const struct fuzz_target *target, int *ret_fd, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    char *path = NULL;
    int rc;

    if (asprintf(&path, "%s/" LOCK_NAME, target->dir) < 0)
        return err_sys(err, ENOMEM, "%s", target->dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        rc = err_sys(err, errno,
            "%s: a target whose root is not made yet must be in a directory "
            "that can be written to",
            path);
        free(path);
        return rc;
    }
    free(path);
    rc = fd_lock(fd, true);
    if (rc == -EAGAIN) {
        say(target, "another process is booting it: waiting for its root");
        rc = fd_lock_wait(fd, true);
    }
    if (rc < 0)
        return err_sys(err, rc, "%s: its lock", target->dir);
    *ret_fd = fd_steal(&fd);
    return 0;
}

static int boot(const struct fuzz_target *target, struct err *err)
{
    const struct executor_options options = {.print_fd = -1};
    struct executor *ex = NULL;
    int rc = executor_open(target, &options, &ex, err);

    if (rc == -ENOENT) {
        say(target, "no root yet: booting it, once (most of a minute where "
                    "KVM is software)");
        rc = executor_boot(target, &options, &ex, err);
        if (rc == 0)
            rc = executor_save(ex, err);
    }
    executor_free(ex);
    return rc;
}

/* The caller's handlers and standard output are not ours; its end is. */
static CC_NORETURN void work(
    const struct fuzz_target *target, int to, pid_t parent)
{
    struct outcome outcome = {.rc = 0};
    CC_CLEANUP(fd_closep) int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (int i = 1; i < NSIG; i++)
        (void)signal(i, SIG_DFL);
    if (null_fd >= 0) {
        (void)dup2(null_fd, STDIN_FILENO);
        (void)dup2(null_fd, STDOUT_FILENO);
    }
    outcome.rc = cell_tie(&outcome.err);
    if (getppid() != parent)
        _exit(EXIT_FAILURE);
    if (outcome.rc == 0)
        outcome.rc = boot(target, &outcome.err);
    (void)!write(to, &outcome, sizeof(outcome));
    _exit(EXIT_SUCCESS);
}

static int tell(
    const struct outcome *outcome, ssize_t got, int status, struct err *err)
{
    if (got == (ssize_t)sizeof(*outcome))
        return outcome->rc < 0
                   ? err_set(err, outcome->rc, "%s", outcome->err.text)
                   : 0;
    return err_set(err, EINTR, "booting it was ended by signal %d",
        WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static int run_worker(const struct fuzz_target *target, struct err *err)
{
    struct outcome outcome = {.rc = 0};
    uint64_t begin_ns = clock_now_ns();
    pid_t self = getpid();
    int status = 0;
    int link[2];
    ssize_t got;
    pid_t pid;
    int rc;

    if (pipe2(link, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot make a pipe");
    pid = fork();
    if (pid == 0)
        work(target, link[1], self);
    (void)close(link[1]);
    if (pid < 0) {
        (void)close(link[0]);
        return err_sys(err, errno, "cannot start a process");
    }
    got = fd_read_full(link[0], &outcome, sizeof(outcome));
    (void)close(link[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    rc = tell(&outcome, got, status, err);
    if (rc < 0)
        return rc;
    (void)fprintf(stderr, "spore: %s: its root is saved, after %llu s\n",
        target->dir,
        (unsigned long long)((clock_now_ns() - begin_ns) / CLOCK_NS_PER_S));
    return 0;
}

int root_make(const struct fuzz_target *target, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    int rc = lock(target, &fd, err);

    return rc < 0 ? rc : run_worker(target, err);
}

int root_start_worker(const struct fuzz_target *target,
    const struct worker_options *options, struct worker **ret_worker,
    size_t *ret_need, struct err *err)
{
    int rc = worker_start(target, options, ret_worker, ret_need, err);

    if (rc != -ENOENT)
        return rc;
    rc = root_make(target, err);
    return rc < 0 ? rc
                  : worker_start(target, options, ret_worker, ret_need, err);
}
