/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/netswitch_join.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/netswitch_place.h"
#include "vmm/switch.h"

/* Of looks at a switch that is on its way up or down. */
#define WAIT_MS  2
#define LIMIT_NS (5 * CLOCK_NS_PER_S)

/* A descriptor of `fd` that is out of the way of those to be filled. */
static int move_up(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, SWITCH_FD_END + 1);
}

/*
 * In the new process, between fork and exec: only what is async-signal-safe.
 * Nothing of the caller's may stay open in it, whether it was meant to be
 * inherited or not: somebody may wait for the other end of a pipe. `report`
 * was moved up.
 */
static int become_switch(const struct netswitch_place *place, int report)
{
    /* exec does not change them, whatever its prototype says. */
    char *const argv[] = {(char[]){"spore"}, (char[]){"switch"},
        (char[]){"--inherited"}, (char[]){"--until-empty"},
        (char[]){"--listen"}, (char *)(uintptr_t)place->addr.sun_path, NULL};
    int listen_fd = move_up(place->listen_fd);
    int lock_fd = move_up(place->lock_fd);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigset_t none;

    if (listen_fd < 0 || lock_fd < 0 || null < 0)
        return -errno;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (null != fd && dup2(null, fd) < 0)
            return -errno;
    }
    if (dup2(listen_fd, SWITCH_FD_LISTEN) < 0 ||
        dup2(lock_fd, SWITCH_FD_LOCK) < 0 ||
        close_range(SWITCH_FD_END, (unsigned int)report - 1, 0) < 0 ||
        close_range((unsigned int)report + 1, ~0U, 0) < 0 || chdir("/") < 0)
        return -errno;
    for (int s = 1; s < NSIG; s++)
        (void)signal(s, SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)execv("/proc/self/exe", argv);
    return -errno;
}

/* The first child: it ends at once, so that its own is nobody's zombie. */
CC_NORETURN static void detach(const struct netswitch_place *place, int report)
{
    pid_t pid = -1;
    int rc = 0;

    (void)setsid();
    report = move_up(report);
    if (report >= 0)
        pid = fork();
    if (pid < 0)
        rc = -errno;
    if (pid == 0)
        rc = become_switch(place, report);
    if (rc < 0 && write(report, &rc, sizeof(rc)) != (ssize_t)sizeof(rc))
        _exit(1);
    _exit(0);
}

/* Hands what listens over to a switch of its own, which takes care of it. */
static int start_switch(const struct netswitch_place *place, struct err *err)
{
    CC_CLEANUP(fd_closep) int read_end = -1;
    CC_CLEANUP(fd_closep) int write_end = -1;
    int ends[2];
    int failure = 0;
    int status = 0;
    pid_t pid;
    ssize_t n;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot start a switch");
    read_end = ends[0];
    write_end = ends[1];
    pid = fork();
    if (pid < 0)
        return err_sys(err, errno, "cannot start a switch");
    if (pid == 0)
        detach(place, write_end);
    fd_closep(&write_end);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0)
        return err_set(err, EAGAIN, "cannot start a switch: no descriptor");
    /* Ends with the exec, or says why there was none. */
    n = fd_read_full(read_end, &failure, sizeof(failure));
    if (n == (ssize_t)sizeof(failure))
        return err_sys(err, failure, "cannot start a switch");
    return n < 0 ? err_sys(err, (int)n, "cannot start a switch") : 0;
}

/* *ret_fd, or -errno without a text. */
static int connect_to(const struct sockaddr_un *addr, int *ret_fd)
{
    CC_CLEANUP(fd_closep)
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    /* Never in progress: a full queue of the listener is -EAGAIN. */
    if (connect(
            fd, (const struct sockaddr *)(const void *)addr, sizeof(*addr)) < 0)
        return -errno;
    *ret_fd = fd_steal(&fd);
    return 0;
}

/* Listens in the place of a switch, connects, and then starts it. */
static int join_first(
    const struct sockaddr_un *addr, int *ret_fd, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    struct netswitch_place place;
    int rc = netswitch_place_open(&place, addr, err);

    if (rc < 0)
        return rc;
    rc = connect_to(addr, &fd);
    if (rc < 0)
        rc = err_sys(err, rc, "switch: cannot connect to %s", addr->sun_path);
    else
        rc = start_switch(&place, err);
    if (rc < 0) {
        netswitch_place_close(&place);
        return rc;
    }
    /* Files, lock and listener are the switch's now. */
    fd_closep(&place.listen_fd);
    fd_closep(&place.lock_fd);
    *ret_fd = fd_steal(&fd);
    return 0;
}

int netswitch_join(const char *where, int *ret_fd, struct err *err)
{
    uint64_t limit_ns = clock_now_ns() + LIMIT_NS;
    struct sockaddr_un addr;
    int rc = netswitch_place_find(where, &addr, err);

    if (rc < 0)
        return rc;
    for (;;) {
        bool is_absent;

        rc = connect_to(&addr, ret_fd);
        if (rc == 0)
            return 0;
        is_absent = rc == -ENOENT || rc == -ECONNREFUSED;
        if (is_absent && !netswitch_place_is_name(where))
            return err_set(err, rc,
                "nobody listens at %s; start `spore switch --listen %s` first",
                where, where);
        if (is_absent) {
            rc = join_first(&addr, ret_fd, err);
            if (rc != -EBUSY && rc != -EADDRINUSE)
                return rc;
        } else if (rc != -EAGAIN) {
            return err_sys(
                err, rc, "switch: cannot connect to %s", addr.sun_path);
        }
        /*
         * Another one is between its lock and listening, or on its way out,
         * and there is nothing to wait on for that.
         */
        if (clock_now_ns() >= limit_ns)
            return err_set(err, ETIMEDOUT,
                "switch: the one at %s does not answer: end it and try again",
                addr.sun_path);
        (void)poll(NULL, 0, WAIT_MS);
    }
}
