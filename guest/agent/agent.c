/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/agent.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/sys.h"

#define EVENTS 32

/* For SIGTERM or Control-Alt-Delete as process 1. */
#define SIGNAL_GRACE_MS 3000u

static int open_signals(const sigset_t *all)
{
    sigset_t wanted;
    int fd;
    int r;

    r = pthread_sigmask(SIG_SETMASK, all, NULL);
    if (r != 0)
        return -r;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

/* What a daemon's caller left open or set must not reach its commands. */
static void shed_inheritance(struct exec_context *exec)
{
    exec->uid = geteuid();
    exec->gid = getegid();
    if (exec->uid == 0)
        (void)setgroups(0, NULL);
    (void)syscall(SYS_NR_CLOSE_RANGE, STDERR_FILENO + 1, UINT32_MAX,
        SYS_CLOSE_RANGE_CLOEXEC);
}

int agent_init(struct agent *a, enum agent_position position)
{
    struct exec_context *exec = &a->shared.exec;
    sigset_t all;
    int r;

    a->listen_fd = -1;
    a->shared.position = position;
    a->shared.power.is_init = position != AGENT_POSITION_DAEMON;
    exec->null_fd = -1;
    for (size_t i = 0; i < AGENT_SESSIONS; i++)
        a->sessions[i].sock = -1;
    if (position == AGENT_POSITION_DAEMON)
        shed_inheritance(exec);
    sigfillset(&all);
    a->signal_fd = open_signals(&all);
    if (a->signal_fd < 0)
        return a->signal_fd;
    exec->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (exec->epoll_fd < 0) {
        r = -errno;
        close(a->signal_fd);
        return r;
    }
    r = watch_add(exec->epoll_fd, a->signal_fd, EPOLLIN, WATCH_SIGNAL, 0);
    if (r != 0) {
        close(exec->epoll_fd);
        close(a->signal_fd);
    }
    return r;
}

/* The one descriptor that is watched for its level: one accept an event. */
static int watch_listener(const struct agent *a, int op, bool wanted)
{
    return watch_set(a->shared.exec.epoll_fd, op, a->listen_fd,
        wanted ? EPOLLIN : 0u, WATCH_LISTEN, 0);
}

int agent_set_listener(struct agent *a, int fd)
{
    int r;

    a->listen_fd = fd;
    r = watch_listener(a, EPOLL_CTL_ADD, true);
    if (r != 0)
        a->listen_fd = -1;
    return r;
}

static struct session *find_free(struct agent *a, uint32_t *ret_slot)
{
    for (uint32_t i = 0; i < AGENT_SESSIONS; i++) {
        if (a->sessions[i].state == SESSION_FREE) {
            *ret_slot = i;
            return &a->sessions[i];
        }
    }
    return NULL;
}

int agent_add(struct agent *a, int fd, bool connecting)
{
    const uint32_t events =
        EPOLLIN | EPOLLRDHUP | (connecting ? (uint32_t)EPOLLOUT : 0u);
    uint32_t slot = 0;
    struct session *s = find_free(a, &slot);
    int r = s == NULL ? -EMFILE
                      : watch_add(a->shared.exec.epoll_fd, fd, events,
                            WATCH_SOCKET, slot);

    if (r != 0) {
        close(fd);
        return r;
    }
    session_open(s, &a->shared, fd, connecting);
    return 0;
}

/*
 * A process of the guest itself can reach a vsock listener too, through the
 * loopback transport; it must not get root's services by that.
 */
static bool peer_is_host(const struct sys_sockaddr_vm *peer)
{
    return peer->family != SYS_AF_VSOCK || peer->cid == AGENT_HOST_CID;
}

static uint32_t count_sessions(const struct agent *a)
{
    uint32_t n = 0;

    for (size_t i = 0; i < AGENT_SESSIONS; i++)
        n += a->sessions[i].state != SESSION_FREE;
    return n;
}

/* Leaves what waits in the listen queue there until a session has ended. */
static void stop_accepting(struct agent *a)
{
    uint32_t n = count_sessions(a);

    if (watch_listener(a, EPOLL_CTL_MOD, false) == 0)
        a->accept_below = n > 0 ? n : 1;
}

static void accept_again(struct agent *a)
{
    if (a->accept_below != 0 && count_sessions(a) < a->accept_below &&
        watch_listener(a, EPOLL_CTL_MOD, true) == 0)
        a->accept_below = 0;
}

static void accept_one(struct agent *a)
{
    struct sys_sockaddr_vm peer = {.family = 0};
    socklen_t len = sizeof(peer);
    uint32_t slot;
    int fd;

    if (find_free(a, &slot) == NULL) {
        stop_accepting(a);
        return;
    }
    fd = accept4(a->listen_fd, (struct sockaddr *)(void *)&peer, &len,
        SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
            stop_accepting(a);
        return;
    }
    if (peer_is_host(&peer))
        (void)agent_add(a, fd, false);
    else
        close(fd);
}

/* ---- processes -------------------------------------------------------- */

static struct session *find_pid(struct agent *a, pid_t pid)
{
    for (size_t i = 0; i < AGENT_SESSIONS; i++) {
        if (a->sessions[i].exec.pid == pid)
            return &a->sessions[i];
    }
    return NULL;
}

/*
 * Commands whose host has gone take their group with them. Only while the
 * leader is not reaped is its number surely still the group's.
 */
static void end_groups(struct agent *a)
{
    for (size_t i = 0; i < AGENT_SESSIONS; i++) {
        struct session *s = &a->sessions[i];
        siginfo_t info = {.si_pid = 0};

        if (s->deadline_ms == 0 || s->exec.pid <= 0)
            continue;
        if (waitid(P_PID, (id_t)s->exec.pid, &info,
                WEXITED | WNOHANG | WNOWAIT) == 0 &&
            info.si_pid != 0)
            session_before_reap(s);
    }
}

/* True when no child is left at all. */
static bool reap(struct agent *a)
{
    for (;;) {
        struct rusage usage;
        struct session *s;
        int status;
        pid_t pid = wait4(-1, &status, WNOHANG, &usage);

        if (pid < 0 && errno == EINTR)
            continue;
        if (pid <= 0)
            return pid < 0;
        s = find_pid(a, pid);
        if (s != NULL)
            session_reaped(s, status, &usage);
    }
}

static void on_signal(struct agent *a)
{
    const struct request_power grace = {.grace_ms = SIGNAL_GRACE_MS};
    struct signalfd_siginfo info[4];
    bool end = false;
    bool child = false;
    ssize_t n;

    /* A short read has emptied it; the next signal is a new edge. */
    do {
        n = read(a->signal_fd, info, sizeof(info));
        for (ssize_t i = 0; i < n / (ssize_t)sizeof(info[0]); i++) {
            if (info[i].ssi_signo == SIGCHLD)
                child = true;
            else
                end = true;
        }
    } while (n == (ssize_t)sizeof(info));
    if (child) {
        end_groups(a);
        (void)reap(a);
    }
    if (!end)
        return;
    if (a->shared.position == AGENT_POSITION_DAEMON)
        a->stop = true;
    else
        power_start(&a->shared.power, &grace, false, session_now_ms());
}

/* ---- loop ------------------------------------------------------------- */

/* Milliseconds until the next deadline; -1: none. */
static int next_timeout(const struct agent *a)
{
    int64_t next = INT64_MAX;
    int64_t left;

    if (a->shared.power.stage != POWER_NONE)
        next = a->shared.power.deadline_ms;
    for (size_t i = 0; i < AGENT_SESSIONS; i++) {
        int64_t deadline = a->sessions[i].deadline_ms;

        if (a->sessions[i].state != SESSION_FREE && deadline != 0 &&
            deadline < next)
            next = deadline;
    }
    if (next == INT64_MAX)
        return -1;
    left = next - session_now_ms();
    if (left < 0)
        left = 0;
    return left < INT_MAX ? (int)left : INT_MAX;
}

static void run_deadlines(struct agent *a)
{
    int64_t now = session_now_ms();

    for (size_t i = 0; i < AGENT_SESSIONS; i++) {
        if (a->sessions[i].state != SESSION_FREE)
            session_timeout(&a->sessions[i], &a->shared, now);
    }
}

/* True if something could go on at once. */
static bool pump_all(struct agent *a)
{
    bool more = false;

    for (uint32_t i = 0; i < AGENT_SESSIONS; i++) {
        if (a->sessions[i].sock >= 0)
            more |= session_pump(&a->sessions[i], &a->shared, i);
    }
    accept_again(a);
    if (a->shared.power.stage != POWER_NONE)
        power_step(&a->shared.power, reap(a), session_now_ms());
    return more;
}

static void dispatch(struct agent *a, const struct epoll_event *event)
{
    switch (watch_kind(event)) {
    case WATCH_LISTEN:
        accept_one(a);
        break;
    case WATCH_SIGNAL:
        on_signal(a);
        break;
    case WATCH_SOCKET:
    case WATCH_STDIN:
    case WATCH_STDOUT:
    case WATCH_STDERR:
    case WATCH_FORWARD:
    default:
        session_event(&a->sessions[watch_slot(event) % AGENT_SESSIONS],
            watch_kind(event), event->events);
        break;
    }
}

int agent_step(struct agent *a)
{
    struct epoll_event events[EVENTS];
    bool more = pump_all(a);
    int timeout = more ? 0 : next_timeout(a);
    int n = epoll_wait(a->shared.exec.epoll_fd, events, EVENTS, timeout);

    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++)
        dispatch(a, &events[i]);
    if (timeout >= 0)
        run_deadlines(a);
    return 0;
}

void agent_fini(struct agent *a)
{
    for (size_t i = 0; i < AGENT_SESSIONS; i++)
        session_abandon(&a->sessions[i]);
    if (a->listen_fd >= 0)
        close(a->listen_fd);
    if (a->shared.exec.null_fd >= 0)
        close(a->shared.exec.null_fd);
    close(a->shared.exec.epoll_fd);
    close(a->signal_fd);
}
