/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's loop: the listener, the sessions, the signals. Owns all of them.
 * One thread, one epoll, no allocation: the sessions are an array, and a
 * connection that finds none free waits in the listen queue.
 *
 * Every signal is blocked in the whole process from agent_init on; those that
 * matter come through a descriptor.
 */
#ifndef GUEST_AGENT_AGENT_H
#define GUEST_AGENT_AGENT_H

#include <stdbool.h>

#include "guest/agent/session.h"

#define AGENT_SESSIONS 64u
#define AGENT_BACKLOG  128

struct agent {
    int signal_fd;
    int listen_fd;
    uint32_t accept_below; /* sessions, to accept again; 0: accepting */
    bool stop;             /* a daemon was asked to end */
    struct session_shared shared;
    struct session sessions[AGENT_SESSIONS];
};

/*
 * An agent without listener and sessions. a is all zeros. 0 or -errno, then
 * nothing is to be undone but the signal mask.
 */
int agent_init(struct agent *a, enum agent_position position);

/* Takes a listening, non-blocking socket. 0 or -errno. */
int agent_set_listener(struct agent *a, int fd);

/*
 * Takes a connected socket, or a non-blocking one that is still connecting,
 * as a session. 0 or -errno; fd is then closed.
 */
int agent_add(struct agent *a, int fd, bool connecting);

/* Waits for something and does it. 0, or -errno if waiting failed. */
int agent_step(struct agent *a);

/* Ends all sessions and closes everything. */
void agent_fini(struct agent *a);

#endif
