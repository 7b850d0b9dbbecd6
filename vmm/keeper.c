/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/keeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/keeper_requests.h"
#include "vmm/keeper_wire.h"

#define STATUS_MONITOR 125

struct keeper {
    struct cell *cell;
    const struct keeper_config *config;
    struct keeper_requests requests;
    int signal_fd;
    uint64_t oom_kills;
};

/* ---- the monitor's end --------------------------------------------------- */

/*
 * Those of a terminal reach the monitor without us; it is in the same process
 * group.
 */
static void pass_on(const struct keeper *k, const struct signalfd_siginfo *info)
{
    if (info->ssi_code != SI_KERNEL)
        (void)kill(k->cell->pid, (int)info->ssi_signo);
}

/* 1: the monitor has ended, with *ret_status; 0: it goes on; -errno. */
static int reap(const struct keeper *k, int options, int *ret_status)
{
    pid_t pid;

    do {
        pid = waitpid(k->cell->pid, ret_status, options);
    } while (pid < 0 && errno == EINTR);
    return pid < 0 ? -errno : pid == k->cell->pid;
}

/* As reap. */
static int look_at_signals(const struct keeper *k, int *ret_status)
{
    struct signalfd_siginfo info;

    if (read(k->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return 0;
    if (info.ssi_signo != SIGCHLD) {
        pass_on(k, &info);
        return 0;
    }
    return reap(k, WNOHANG, ret_status);
}

static int judge(const struct keeper *k, int status)
{
    const char *command = k->config->command;

    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    if (WTERMSIG(status) == SIGSYS) {
        (void)dprintf(STDERR_FILENO,
            "spore: %s: the monitor tried what its jail does not allow and "
            "was ended: the guest has taken it over, or this is a fault of "
            "spore's (spore jail show; --jail=off)\n",
            command);
        return STATUS_MONITOR;
    }
    if (k->oom_kills > 0) {
        (void)dprintf(STDERR_FILENO,
            "spore: %s: the machine used more memory than its cgroup has and "
            "was ended: give it more (--memory-max, or the cgroup above)\n",
            command);
        return 128 + WTERMSIG(status);
    }
    (void)dprintf(STDERR_FILENO,
        "spore: %s: the monitor was ended by signal %d (%s)\n", command,
        WTERMSIG(status), strsignal(WTERMSIG(status)));
    return 128 + WTERMSIG(status);
}

static int open_signals(struct keeper *k)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGQUIT);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return k->signal_fd < 0 ? -errno : 0;
}

/* 0 and the status that wait(2) has, or -errno: it cannot be waited for. */
static int serve_to_the_end(struct keeper *k, int *ret_status)
{
    struct pollfd fds[] = {{.fd = k->signal_fd, .events = POLLIN},
        {.fd = k->cell->link_fd, .events = POLLIN}};
    /* It may have ended before SIGCHLD was looked for. */
    int rc = reap(k, WNOHANG, ret_status);

    while (rc == 0) {
        if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
            continue;
        if (fds[1].revents != 0 &&
            !keeper_requests_answer(&k->requests, k->cell->link_fd))
            fds[1].fd = -1;
        if (fds[0].revents != 0)
            rc = look_at_signals(k, ret_status);
    }
    return rc < 0 ? rc : 0;
}

/*
 * Nobody would notice its end any more. With ECHILD it has ended already, and
 * its number may be another process's.
 */
static void give_up(const struct keeper *k, int error)
{
    int status;

    if (error == -ECHILD)
        return;
    (void)kill(k->cell->pid, SIGKILL);
    (void)reap(k, 0, &status);
}

static void remove_cgroup(struct keeper *k)
{
    struct err err;

    if (k->config->cgroup == NULL)
        return;
    k->oom_kills = cgroup_oom_kills(k->config->cgroup);
    if (cgroup_remove(k->config->cgroup, &err) < 0)
        log_warn("keeper", "%s", err.text);
}

int keeper_run(struct cell *cell, const struct keeper_config *config)
{
    struct keeper k = {.cell = cell, .config = config, .signal_fd = -1};
    const struct keeper_reply hello = {.pid = (uint32_t)cell->pid};
    const char *what = "signalfd";
    int status = 0;
    int rc;

    keeper_requests_init(&k.requests, config);
    rc = open_signals(&k);
    if (rc == 0) {
        /* The monitor's own standard input and output are what counts. */
        if (keeper_send(cell->link_fd, &hello, sizeof(hello), -1) < 0)
            (void)kill(cell->pid, SIGKILL);
        /* The monitor has what it needs from here, and builds the machine. */
        if (config->cgroup != NULL)
            (void)cgroup_sweep(config->cgroup);
        what = "waitpid";
        rc = serve_to_the_end(&k, &status);
    }
    if (rc < 0)
        give_up(&k, rc);
    remove_cgroup(&k);
    keeper_requests_fini(&k.requests);
    fd_closep(&k.signal_fd);
    fd_closep(&cell->link_fd);
    if (rc < 0) {
        (void)dprintf(STDERR_FILENO,
            "spore: %s: nobody can look after the monitor: %s: %s\n",
            config->command, what, strerrordesc_np(-rc));
        return STATUS_MONITOR;
    }
    return judge(&k, status);
}
