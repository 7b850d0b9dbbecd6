/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/cgroup_kill.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/cgroup_files.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"

#define ROUND_MAX 64u
/* The first so many process numbers of cgroup.procs are looked at. */
#define PROCS_TEXT_MAX 8192u

static int ms_until(uint64_t deadline_ns)
{
    uint64_t now = clock_now_ns();
    uint64_t left = now >= deadline_ns ? 0 : deadline_ns - now;

    return left > 3600 * CLOCK_NS_PER_S
               ? 3600 * 1000
               : (int)((left + CLOCK_NS_PER_MS - 1) / CLOCK_NS_PER_MS);
}

/*
 * The processes that cgroup.procs begins with, ROUND_MAX at most. Its numbers
 * are of at most 7 digits: a text that is cut short has more than that.
 */
static ssize_t read_procs(int dir, pid_t *ret_pids)
{
    CC_CLEANUP(fd_closep)
    int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char text[PROCS_TEXT_MAX];
    ssize_t n;

    if (fd < 0)
        return -errno;
    n = fd_read_full(fd, text, sizeof(text) - 1);
    if (n < 0)
        return n;
    text[n] = '\0';
    return cgroup_text_pids(text, ret_pids, ROUND_MAX);
}

static bool has_pid(const pid_t *pids, size_t count, pid_t pid)
{
    for (size_t i = 0; i < count; i++) {
        if (pids[i] == pid)
            return true;
    }
    return false;
}

static int wait_gone(const int *fds, size_t count, uint64_t deadline_ns)
{
    for (size_t i = 0; i < count; i++) {
        struct pollfd p = {.fd = fds[i], .events = POLLIN};
        int n;

        if (fds[i] < 0)
            continue;
        do {
            n = poll(&p, 1, ms_until(deadline_ns));
        } while (n < 0 && errno == EINTR);
        if (n <= 0)
            return n == 0 ? -ETIMEDOUT : -errno;
    }
    return 0;
}

/*
 * A process number may be given to another between reading it and opening it;
 * if it is still listed afterwards, then what was opened is what is listed.
 */
static int kill_round(
    int dir, const pid_t *pids, size_t count, int *fds, uint64_t deadline_ns)
{
    pid_t again[ROUND_MAX];
    ssize_t n;

    for (size_t i = 0; i < count; i++)
        fds[i] = (int)syscall(SYS_pidfd_open, pids[i], 0);
    n = read_procs(dir, again);
    if (n < 0)
        return (int)n;
    for (size_t i = 0; i < count; i++) {
        if (fds[i] < 0)
            continue;
        if (!has_pid(again, (size_t)n, pids[i]))
            fd_closep(&fds[i]);
        else if (syscall(SYS_pidfd_send_signal, fds[i], SIGKILL, NULL, 0) < 0 &&
                 errno != ESRCH)
            return -errno;
    }
    return wait_gone(fds, count, deadline_ns);
}

static int kill_each(int dir, uint64_t deadline_ns, struct err *err)
{
    for (;;) {
        pid_t pids[ROUND_MAX];
        int fds[ROUND_MAX];
        ssize_t n = read_procs(dir, pids);
        int rc;

        if (n == 0)
            return 0;
        if (n < 0)
            return err_sys(err, (int)n, "cgroup: cgroup.procs");
        if (has_pid(pids, (size_t)n, 0))
            return err_set(err, EBUSY,
                "cgroup: there are processes in it that cannot be seen from "
                "this pid namespace");
        if (has_pid(pids, (size_t)n, getpid()))
            return err_set(err, EBUSY, "cgroup: this process is in it itself");
        rc = kill_round(dir, pids, (size_t)n, fds, deadline_ns);
        for (size_t i = 0; i < (size_t)n; i++)
            fd_closep(&fds[i]);
        if (rc == 0 && ms_until(deadline_ns) == 0)
            rc = -ETIMEDOUT;
        if (rc < 0)
            return err_sys(err, rc,
                "cgroup: process %d in it does not end on SIGKILL",
                (int)pids[0]);
    }
}

/* Until cgroup.events says that nothing is left; changes raise POLLPRI. */
static int wait_empty(int dir, uint64_t deadline_ns)
{
    CC_CLEANUP(fd_closep)
    int fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return -errno;
    for (;;) {
        char text[512];
        ssize_t n = fd_pread_full(fd, text, sizeof(text) - 1, 0);
        struct pollfd p = {.fd = fd, .events = POLLPRI};
        uint64_t populated = 1;
        int rc;

        if (n < 0)
            return (int)n;
        text[n] = '\0';
        rc = cgroup_text_key(text, "populated", &populated);
        if (rc < 0 || populated == 0)
            return rc;
        if (ms_until(deadline_ns) == 0)
            return -ETIMEDOUT;
        if (poll(&p, 1, ms_until(deadline_ns)) < 0 && errno != EINTR)
            return -errno;
    }
}

int cgroup_kill(int dir, bool is_v2, uint64_t deadline_ns, struct err *err)
{
    int rc;

    if (!is_v2)
        return kill_each(dir, deadline_ns, err);
    rc = cgroup_file_write(dir, "cgroup.kill", "1");
    /* Linux 5.14 has it. */
    if (rc == -ENOENT)
        return kill_each(dir, deadline_ns, err);
    if (rc == 0)
        rc = wait_empty(dir, deadline_ns);
    if (rc < 0)
        return err_sys(
            err, rc, "cgroup: what is in it does not end on SIGKILL");
    return 0;
}
