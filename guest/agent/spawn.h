/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a process: all that happens between clone and execve. One thread.
 * The plan was checked by request.c; whether its user, directory and command
 * exist is found out here.
 *
 * The new process shares the caller's memory until its execve, and the caller
 * waits for that: a fork would copy page tables only to throw them away, and
 * a failure can be left in the caller's memory: no pipe, four system calls
 * less.
 */
#ifndef GUEST_AGENT_SPAWN_H
#define GUEST_AGENT_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "guest/agent/proto.h"
#include "guest/agent/user.h"

struct spawn_plan {
    char **argv; /* ended by NULL, as execve wants them */
    char **envp;
    const char *search; /* directories, joined by colons */
    const char *cwd;    /* NULL: home, or / if that cannot be entered */
    const struct user *user;
    bool switch_user; /* false: already is who it shall be */
    bool tty;         /* stdio[0] becomes the controlling terminal */
    int stdio[3];     /* all above 2 and close-on-exec */
};

struct spawn_failure {
    enum agent_stage stage;
    int error; /* positive errno */
};

/*
 * Starts the process, as leader of a session. 0 and *ret_pid, or -errno and
 * *ret_failure. All signals must be blocked by the caller and are unblocked
 * in the process.
 */
int spawn_run(const struct spawn_plan *plan, pid_t *ret_pid,
    struct spawn_failure *ret_failure);

#endif
