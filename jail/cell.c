/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/cell.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
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

/*
 * fork(2) with namespaces. The C library's own cannot be told of them; what it
 * does beyond the system call is for processes with several threads. It goes
 * on with the parent's thread id cached, which nothing here asks it for.
 */
static pid_t clone_into(uint64_t flags, int cgroup_fd)
{
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};

    if (cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)(unsigned int)cgroup_fd;
    }
    return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

static int begin_child(
    const struct cell *cell, uid_t uid, gid_t gid, struct err *err)
{
    int rc = cell_tie(err);

    return rc == 0 && cell->has_user_space ? map_self(uid, gid, err) : rc;
}

int cell_tie(struct err *err)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return err_sys(err, errno, "cannot be tied to the parent");
    return 0;
}

int cell_fork(
    struct cell *cell, const struct cell_options *options, struct err *err)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    bool has_user_space = uid != 0 && !options->is_plain;
    bool has_pid_space = !options->shares_pids && !options->is_plain;
    uint64_t flags = has_user_space ? CLONE_NEWUSER : 0;
    int fds[2];
    int rc;

    *cell = (struct cell)CELL_NONE;
    if (has_pid_space)
        flags |= CLONE_NEWPID;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return err_sys(err, errno, "cannot make a link to the jail");
    cell->has_pid_space = has_pid_space;
    cell->has_user_space = has_user_space;
    cell->pid = clone_into(flags, options->cgroup_fd);
    if (cell->pid < 0 && !options->strict && flags != 0) {
        log_warn(
            "jail", "no namespaces (%s): less is held back", strerror(errno));
        cell->has_pid_space = false;
        cell->has_user_space = false;
        cell->pid = clone_into(0, options->cgroup_fd);
    }
    if (cell->pid < 0) {
        rc = err_sys(err, errno,
            "cannot start a process in %snamespaces of its own "
            "(user.max_user_namespaces, kernel.unprivileged_userns_clone, a "
            "chroot?)",
            uid != 0 ? "user and PID " : "");
        fd_closep(&fds[0]);
        fd_closep(&fds[1]);
        return rc;
    }
    fd_closep(&fds[cell->pid > 0 ? 1 : 0]);
    cell->link_fd = fds[cell->pid > 0 ? 0 : 1];
    return cell->pid > 0 ? 1 : begin_child(cell, uid, gid, err);
}
