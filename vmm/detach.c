/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/detach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/fd.h"

void detach_init(struct detach *d)
{
    *d = (struct detach){.starter_fd = -1, .log_fd = -1};
}

/* What the new process says, or how it ended without a word. */
static int wait_for(pid_t pid, int fd, int *ret_status, struct err *err)
{
    char id[RUNDIR_ID_SIZE + 1];
    ssize_t n = fd_read_full(fd, id, sizeof(id) - 1);
    int status;

    if (n > 0) {
        id[n] = '\0';
        (void)puts(id);
        *ret_status = 0;
        return 1;
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return err_sys(err, errno, "cannot wait for the machine");
    }
    *ret_status =
        WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return 1;
}

/* Of the caller's own, the new process keeps standard error for now. */
static int leave_caller(struct err *err)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return err_sys(err, errno, "/dev/null");
    (void)setsid();
    /* A clone was started as /proc/self/exe, which tells nobody anything. */
    (void)prctl(PR_SET_NAME, "spore");
    (void)dup2(null, STDIN_FILENO);
    (void)dup2(null, STDOUT_FILENO);
    (void)close(null);
    return 0;
}

int detach_fork(struct detach *d, int *ret_status, struct err *err)
{
    int fds[2];
    pid_t pid;
    int rc;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot make a pipe");
    pid = fork();
    if (pid < 0) {
        rc = err_sys(err, errno, "cannot start a process");
        fd_closep(&fds[0]);
        fd_closep(&fds[1]);
        return rc;
    }
    if (pid == 0) {
        fd_closep(&fds[0]);
        d->starter_fd = fds[1];
        return leave_caller(err);
    }
    fd_closep(&fds[1]);
    rc = wait_for(pid, fds[0], ret_status, err);
    fd_closep(&fds[0]);
    return rc;
}

int detach_log(struct detach *d, const struct rundir *dir, const char *path,
    struct err *err)
{
    const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC |
                      O_NOCTTY | O_NONBLOCK;

    if (d->starter_fd < 0)
        return 0;
    d->log_fd = path != NULL ? open(path, flags, 0600)
                             : openat(dir->fd, "log", flags, 0600);
    if (d->log_fd < 0)
        return err_sys(err, errno, "%s", path != NULL ? path : "log");
    if (dup2(d->log_fd, STDOUT_FILENO) < 0)
        return err_sys(err, errno, "standard output");
    return 0;
}

int detach_use_log(struct detach *d, struct err *err)
{
    if (d->log_fd >= 0 && dup2(d->log_fd, STDERR_FILENO) < 0)
        return err_sys(err, errno, "standard error");
    fd_closep(&d->log_fd);
    return 0;
}

int detach_release(struct detach *d, const char *id, struct err *err)
{
    int rc;

    if (d->starter_fd < 0)
        return 0;
    rc = fd_write_full(d->starter_fd, id, strlen(id));
    fd_closep(&d->starter_fd);
    if (rc < 0)
        return err_sys(err, rc, "who asked for the machine has gone");
    return detach_use_log(d, err);
}
