/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/cell.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"

static int write_file(const char *path, const char *text, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        return err_sys(err, errno, "%s", path);
    return 0;
}

/* The user is who it was, and nobody else is anybody. */
static int map_self(uid_t uid, gid_t gid, struct err *err)
{
    char text[64];
    int rc = write_file("/proc/self/setgroups", "deny", err);

    if (rc < 0)
        return rc;
    (void)snprintf(text, sizeof(text), "%u %u 1\n", uid, uid);
    rc = write_file("/proc/self/uid_map", text, err);
    if (rc < 0)
        return rc;
    (void)snprintf(text, sizeof(text), "%u %u 1\n", gid, gid);
    return write_file("/proc/self/gid_map", text, err);
}

static int enter_spaces(struct cell *cell, struct err *err)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (uid != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWPID) < 0)
            return err_sys(err, errno,
                "cannot make a user namespace (user.max_user_namespaces, "
                "kernel.unprivileged_userns_clone, a chroot?)");
        cell->has_user_space = true;
        cell->has_pid_space = true;
        return map_self(uid, gid, err);
    }
    if (unshare(CLONE_NEWPID) < 0)
        return err_sys(err, errno, "cannot make a PID namespace");
    cell->has_pid_space = true;
    return 0;
}

int cell_tie(struct err *err)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return err_sys(err, errno, "cannot be tied to the parent");
    return 0;
}

int cell_fork(struct cell *cell, bool strict, struct err *err)
{
    int fds[2];
    int rc;

    *cell = (struct cell)CELL_NONE;
    rc = enter_spaces(cell, err);
    if (rc < 0 && (strict || cell->has_user_space))
        return rc;
    if (rc < 0)
        log_info("jail", "%s", err->text);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return err_sys(err, errno, "cannot make a link to the jail");
    cell->pid = fork();
    if (cell->pid < 0) {
        rc = err_sys(err, errno, "cannot start a process");
        fd_closep(&fds[0]);
        fd_closep(&fds[1]);
        return rc;
    }
    if (cell->pid > 0) {
        fd_closep(&fds[1]);
        cell->link_fd = fds[0];
        return 1;
    }
    fd_closep(&fds[0]);
    cell->link_fd = fds[1];
    return cell_tie(err);
}
