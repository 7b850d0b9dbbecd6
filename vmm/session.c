/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/base/fd.h"

/* The same signal so often is for us, whatever the command does with it. */
#define SIGNALS_TO_KILL 3

int session_add_env(
    struct session_command *command, const char *text, struct err *err)
{
    if (strchr(text, '=') == NULL || text[0] == '=')
        return err_set(err, EINVAL, "--env %s: it must be NAME=VALUE", text);
    if (command->env_count == SESSION_ENV_MAX)
        return err_set(err, E2BIG, "--env: at most %u", SESSION_ENV_MAX);
    command->env[command->env_count++] = text;
    return 0;
}

static void on_end_signal(struct session *s, int signal)
{
    s->signal_count = signal == s->last_signal ? s->signal_count + 1 : 1;
    s->last_signal = signal;
    if (s->has_exec && s->exec.phase == GUEST_EXEC_RUNNING &&
        s->signal_count < SIGNALS_TO_KILL)
        guest_exec_signal(&s->exec, signal);
    else
        s->host.on_signal(s->host.opaque, signal);
}

static void on_signal(void *opaque, uint32_t events)
{
    struct session *s = opaque;
    struct signalfd_siginfo info;
    uint16_t rows;
    uint16_t cols;

    (void)events;
    if (read(s->signals.fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo != SIGWINCH)
        on_end_signal(s, (int)info.ssi_signo);
    else if (s->wants_tty && s->has_exec &&
             tty_size(STDOUT_FILENO, &rows, &cols))
        guest_exec_resize(&s->exec, rows, cols);
}

void session_init(struct session *s, const struct session_host *host)
{
    *s = (struct session){.host = *host, .tty = {.fd = -1}};
    s->signals =
        (struct loop_source){.fd = -1, .handle = on_signal, .opaque = s};
}

void session_fini(struct session *s)
{
    guest_exec_fini(&s->exec);
    session_restore_tty(s);
    if (s->loop != NULL)
        loop_remove(s->loop, &s->signals);
    fd_closep(&s->signals.fd);
    if (s->signals_blocked)
        (void)sigprocmask(SIG_SETMASK, &s->signals_before, NULL);
    s->signals_blocked = false;
}

int session_watch_signals(struct session *s, struct loop *loop, struct err *err)
{
    sigset_t set;
    int rc;

    s->loop = loop;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGQUIT);
    (void)sigaddset(&set, SIGWINCH);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigprocmask(SIG_BLOCK, &set, &s->signals_before);
    s->signals_blocked = true;
    s->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->signals.fd < 0)
        return err_sys(err, errno, "cannot create a signalfd");
    rc = loop_add(loop, &s->signals, EPOLLIN);
    return rc < 0 ? err_sys(err, rc, "cannot watch signals") : 0;
}

static void on_started(void *opaque)
{
    struct session *s = opaque;

    if (s->host.on_started != NULL)
        s->host.on_started(s->host.opaque);
}

static void on_done(void *opaque, const struct guest_exec_result *result)
{
    struct session *s = opaque;

    session_restore_tty(s);
    s->host.on_done(s->host.opaque, result);
}

/* Our terminal's size and kind are the command's; ours passes keys on. */
static int prepare_tty(struct session *s, struct session_command *command,
    struct guest_exec_config *config, struct err *err)
{
    const char *term = getenv("TERM");

    config->tty = true;
    (void)tty_size(STDOUT_FILENO, &config->rows, &config->cols);
    if (term != NULL && command->env_count < SESSION_ENV_MAX) {
        (void)snprintf(s->term, sizeof(s->term), "TERM=%s", term);
        command->env[command->env_count++] = s->term;
    }
    if (command->no_stdin || !isatty(STDIN_FILENO))
        return 0;
    return tty_raw(&s->tty, STDIN_FILENO, err);
}

int session_start(
    struct session *s, int fd, struct session_command *command, struct err *err)
{
    static const char *const shell[] = {"/bin/sh", NULL};
    struct guest_exec_config config = {
        .argv = command->argv != NULL ? command->argv : shell,
        .env = command->env,
        .cwd = command->cwd,
        .user = command->user,
        .stdin_fd = command->no_stdin ? -1 : STDIN_FILENO,
        .stdout_fd = STDOUT_FILENO,
        .stderr_fd = STDERR_FILENO,
        .output_limit = s->output_limit,
        .on_started = on_started,
        .on_done = on_done,
        .opaque = s};
    int rc = 0;

    s->wants_tty = command->tty == SESSION_TTY_ON ||
                   (command->tty == SESSION_TTY_AUTO && isatty(STDIN_FILENO) &&
                       isatty(STDOUT_FILENO));
    if (s->wants_tty)
        rc = prepare_tty(s, command, &config, err);
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    rc = guest_exec_start(&s->exec, s->loop, fd, &config, err);
    s->has_exec = rc == 0;
    return rc;
}

void session_restore_tty(struct session *s)
{
    tty_restore(&s->tty);
}
