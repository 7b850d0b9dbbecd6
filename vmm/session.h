/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command in a guest on our own standard streams: terminal, signals and
 * window size around guest_exec. Used by every command that runs one.
 *
 * Owns the signalfd, the terminal's settings and the command's connection.
 * Thread rule: the loop's thread, one session in a process, since signals and
 * the terminal are the process's.
 */
#ifndef VMM_SESSION_H
#define VMM_SESSION_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"
#include "vmm/guest_exec.h"
#include "vmm/tty.h"

#define SESSION_ENV_MAX 256u

enum session_tty { SESSION_TTY_AUTO, SESSION_TTY_ON, SESSION_TTY_OFF };

/* The command; strings are borrowed until session_start returns. */
struct session_command {
    const char *const *argv; /* NULL: a shell */
    const char *env[SESSION_ENV_MAX + 1];
    uint32_t env_count;
    const char *cwd;
    const char *user;
    enum session_tty tty;
    bool no_stdin; /* the command gets no input */
};

/* Who has the session; `on_*` are called from the loop. */
struct session_host {
    void (*on_started)(void *opaque);
    void (*on_done)(void *opaque, const struct guest_exec_result *result);
    /* A signal that is not the command's: there is none, or it insists. */
    void (*on_signal)(void *opaque, int signal);
    void *opaque;
};

struct session {
    struct loop *loop;
    struct session_host host;
    struct guest_exec exec;
    struct output_limit *output_limit; /* the owner's to set; NULL: none */
    struct tty tty;
    struct loop_source signals; /* owns its fd */
    sigset_t signals_before;
    bool signals_blocked;
    int last_signal;
    int signal_count;
    bool has_exec;
    bool wants_tty;
    char term[64]; /* TERM=..., for the command */
};

/* NAME=VALUE for the command's environment. */
CC_MUST_CHECK int session_add_env(
    struct session_command *command, const char *text, struct err *err);

void session_init(struct session *s, const struct session_host *host);

/* Terminal as it was, signals too; the connection closed. */
void session_fini(struct session *s);

/* From here on the signals that end processes come to the session. */
CC_MUST_CHECK int session_watch_signals(
    struct session *s, struct loop *loop, struct err *err);

/* Runs the command over `fd`, a connection to the agent that it takes over. */
CC_MUST_CHECK int session_start(struct session *s, int fd,
    struct session_command *command, struct err *err);

/* The terminal as it was; what follows are lines for people. */
void session_restore_tty(struct session *s);

#endif
