/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/escape/run.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "jail/jail.h"
#include "tests/escape/host.h"
#include "vmm/base/fd.h"
#include "vmm/base/thread.h"

/* Far beyond what any attempt takes. */
#define HANG_MS 20000

/* A process of the same user that does nothing. */
static pid_t start_victim(void)
{
    pid_t driver = getpid();
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    while (getppid() == driver)
        (void)pause();
    _exit(0);
}

/* The rest of a process that tries. */
struct trial {
    struct escape escape;
    const struct escape_attempt *attempt;
    enum run_jail kind;
    enum jail_role role;
    struct jail jail;
};

CC_NORETURN static void give_up(struct trial *t, int rc, const char *why)
{
    struct escape_report *report = t->escape.report;

    if (why != NULL)
        (void)snprintf(report->why, sizeof(report->why), "%s", why);
    report->result = rc;
    _exit(0);
}

CC_NORETURN static void try_it(struct trial *t)
{
    struct escape_report *report = t->escape.report;
    int rc;

    report->stage = ESCAPE_STAGE_TRY;
    rc = t->attempt->go(&t->escape);
    report->result = rc < 0 ? rc : 0;
    report->stage = ESCAPE_STAGE_DONE;
    _exit(0);
}

static void confine(struct trial *t, enum jail_role role)
{
    struct err err;
    int rc;

    if (t->kind == RUN_UNFILTERED)
        return;
    rc = jail_confine(&t->jail, role, &err);
    if (rc < 0)
        give_up(t, rc, err.text);
}

static void *try_on_thread(void *opaque)
{
    struct trial *t = opaque;

    confine(t, t->role);
    try_it(t);
}

static void start_thread(struct trial *t, pthread_t *ret_thread)
{
    const struct thread_config config = {.run = try_on_thread, .opaque = t};
    int rc = thread_start(ret_thread, &config);

    if (rc < 0)
        give_up(t, rc, "cannot start a thread");
}

/*
 * As the monitor does: vCPUs have their threads before the main one is held to
 * its list, workers come out of that, the others are processes.
 */
CC_NORETURN static void try_in_role(struct trial *t)
{
    pthread_t thread;

    switch (t->role) {
    case JAIL_ROLE_VCPU:
        start_thread(t, &thread);
        confine(t, JAIL_ROLE_MAIN);
        break;
    case JAIL_ROLE_WORKER:
        confine(t, JAIL_ROLE_MAIN);
        start_thread(t, &thread);
        break;
    case JAIL_ROLE_MAIN:
    case JAIL_ROLE_PAGE_SERVER:
    case JAIL_ROLE_FUZZ:
    case JAIL_ROLES:
    default:
        confine(t, t->role);
        try_it(t);
    }
    (void)pthread_join(thread, NULL);
    _exit(1);
}

static void prepare(struct trial *t)
{
    int rc = escape_hold(&t->escape, t->kind != RUN_FREE);

    if (rc < 0)
        give_up(t, rc, NULL);
    t->escape.report->why[0] = '\0';
    if (t->attempt->prepare != NULL)
        rc = t->attempt->prepare(&t->escape);
    if (rc < 0)
        give_up(t, rc, "cannot be prepared");
    t->escape.report->stage = ESCAPE_STAGE_ENTER;
}

CC_NORETURN static void run_free(struct trial *t)
{
    prepare(t);
    try_it(t);
}

CC_NORETURN static void run_jailed(struct trial *t, const struct cell *cell)
{
    const struct jail_config config = {
        .level = JAIL_STRICT, .uid = JAIL_ID_OWN, .gid = JAIL_ID_OWN};
    const int keep[] = {cell->link_fd, t->escape.victim_fd};
    struct err err;
    int rc;

    t->escape.report->stage = ESCAPE_STAGE_ENTER;
    rc = jail_begin(&t->jail, &config, cell, keep, ARRAY_SIZE(keep), &err);
    if (rc < 0)
        give_up(t, rc, err.text);
    t->escape.report->stage = ESCAPE_STAGE_PREPARE;
    prepare(t);
    /* A user for this driver's attempts is as good as one for each. */
    rc = jail_enter(&t->jail, t->escape.keeper, &err);
    if (rc < 0)
        give_up(t, rc, err.text);
    try_in_role(t);
}

/* The process that tries: its id, and the keeper's end of the link. */
static pid_t start_trial(struct trial *t, int *ret_link, struct err *err)
{
    /* A page server sees the processes that it serves. */
    const struct cell_options options = {.strict = true,
        .shares_pids = t->role == JAIL_ROLE_PAGE_SERVER,
        .cgroup_fd = -1};
    struct cell cell = CELL_NONE;
    int fds[2];
    pid_t pid;
    int rc;

    if (t->kind != RUN_FREE) {
        rc = cell_fork(&cell, &options, err);
        if (rc < 0)
            return rc;
        t->escape.socket = cell.link_fd;
        if (rc == 0)
            run_jailed(t, &cell);
        *ret_link = cell.link_fd;
        return cell.pid;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return err_sys(err, errno, "a socket to the keeper");
    pid = fork();
    if (pid == 0) {
        (void)close(fds[0]);
        t->escape.socket = fds[1];
        run_free(t);
    }
    (void)close(fds[1]);
    *ret_link = fds[0];
    return pid < 0 ? err_sys(err, errno, "fork") : pid;
}

/* Waits for its end, and makes one. */
static int await(pid_t pid, bool *ret_hung, int *ret_status)
{
    CC_CLEANUP(fd_closep) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd event = {.fd = fd, .events = POLLIN};
    int rc;

    do {
        rc = fd < 0 ? 0 : poll(&event, 1, HANG_MS);
    } while (rc < 0 && errno == EINTR);
    *ret_hung = rc == 0;
    if (rc == 0)
        (void)kill(pid, SIGKILL);
    while (waitpid(pid, ret_status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

/* Builds that name the call exit by a handler. */
static bool is_killed(int status)
{
#ifdef ESCAPE_NAMES_CALLS
    if (WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGSYS)
        return true;
#endif
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static void judge(const struct escape_report *report, int status, bool is_hung,
    struct run_result *ret_result)
{
    *ret_result = (struct run_result){.stage = report->stage,
        .result = report->result,
        .status = status,
        .last_call = report->last_call};
    memcpy(ret_result->why, report->why, sizeof(ret_result->why));
    ret_result->why[sizeof(ret_result->why) - 1] = '\0';
    if (is_hung)
        ret_result->end = RUN_HUNG;
    else if (is_killed(status))
        ret_result->end =
            report->stage < ESCAPE_STAGE_TRY ? RUN_UNTRIED : RUN_KILLED;
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        ret_result->end = RUN_DIED;
    else if (report->stage < ESCAPE_STAGE_TRY)
        ret_result->end = RUN_UNTRIED;
    else
        ret_result->end =
            report->stage == ESCAPE_STAGE_DONE ? RUN_RETURNED : RUN_DIED;
}

static int run_trial(struct run_host *host, struct trial *t,
    struct run_result *ret_result, struct err *err)
{
    CC_CLEANUP(fd_closep) int link_fd = -1;
    bool is_hung = false;
    int status = 0;
    pid_t pid;
    int rc;

    pid = start_trial(t, &link_fd, err);
    if (pid < 0)
        return pid;
    rc = await(pid, &is_hung, &status);
    if (rc < 0)
        return err_sys(err, rc, "waitpid");
    judge(host->report, status, is_hung, ret_result);
    return 0;
}

int run_attempt(struct run_host *host, const struct escape_attempt *attempt,
    enum run_jail kind, enum jail_role role, struct run_result *ret_result,
    struct err *err)
{
    struct trial t = {.attempt = attempt, .kind = kind, .role = role};
    CC_CLEANUP(fd_closep) int victim_fd = -1;
    pid_t victim;
    int rc = host_begin_attempt(host, err);

    if (rc < 0)
        return rc;
    victim = start_victim();
    if (victim < 0)
        return err_sys(err, errno, "fork");
    victim_fd = (int)syscall(SYS_pidfd_open, victim, 0);
    t.jail = (struct jail)JAIL_NONE;
    t.escape = (struct escape){.report = host->report,
        .dir = host->dir,
        .abstract = host->abstract,
        .abstract_dgram = host->abstract_dgram,
        .path_dgram = host->path_dgram,
        .terminal = host->terminal,
        .port = host->port,
        .keeper = getpid(),
        .victim = victim,
        .victim_fd = victim_fd,
        .leak = host->leak};
    (void)snprintf(
        t.escape.path, sizeof(t.escape.path), "%s/attempt", host->dir);
    rc = victim_fd < 0 ? err_sys(err, errno, "pidfd_open")
                       : run_trial(host, &t, ret_result, err);
    (void)kill(victim, SIGKILL);
    (void)waitpid(victim, NULL, 0);
    /* Those of CLONE_PARENT. */
    while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
        ;
    if (rc < 0)
        return rc;
    return host_end_attempt(host, err);
}
