/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of a host: HELLO, a request, its operation, its end. Owns the
 * socket, both buffers and whatever the operation has open, and after the
 * connection's loss the command until it is dead. One thread; never blocks on
 * a peer (files are read and written where they stand).
 *
 * Everything that arrives is the host's word and is decoded by request.c. A
 * frame that is wrong ends this session and no other.
 */
#ifndef GUEST_AGENT_SESSION_H
#define GUEST_AGENT_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/agent/copy_in.h"
#include "guest/agent/copy_out.h"
#include "guest/agent/exec.h"
#include "guest/agent/forward.h"
#include "guest/agent/frame.h"
#include "guest/agent/power.h"
#include "guest/agent/system.h"
#include "guest/agent/watch.h"

/* From SIGHUP to SIGKILL for a command whose host has gone. */
#define SESSION_KILL_MS 1000
/* For the host to take the OK of POWEROFF. */
#define SESSION_LINGER_MS 500

enum session_state {
    SESSION_FREE,
    SESSION_REQUEST, /* none received yet */
    SESSION_EXEC,
    SESSION_COPY_IN,
    SESSION_COPY_OUT,
    SESSION_FORWARD, /* no frames any more */
    SESSION_CLOSING, /* the closing frame is in out */
    SESSION_LINGER,  /* POWEROFF: waiting for the host to close first */
    SESSION_DYING,   /* no connection; the command is being ended */
};

/* What all sessions of an agent share. */
struct session_shared {
    enum agent_position position;
    uint8_t boot_id[16];
    struct exec_context exec;
    struct power power;
    struct system_generation generation;
};

struct session {
    enum session_state state;
    int sock;
    bool connecting; /* nothing can be sent or received yet */
    bool readable;
    bool writable;
    bool watches_output; /* epoll was asked to say when there is room */
    bool gone;           /* the host has closed both directions */
    bool out_shut;       /* FORWARD: the host knows of the server's end */
    bool hup;            /* an end of the stream is to come: read on to it */
    bool wants_power;    /* CLOSING ends in LINGER */
    bool wants_restart;
    int64_t deadline_ms; /* LINGER, DYING: CLOCK_MONOTONIC; 0: none */
    struct request_power power;
    struct frame_in in;
    struct frame_out out;
    struct exec exec;
    union {
        struct copy_in copy_in;   /* SESSION_COPY_IN */
        struct copy_out copy_out; /* SESSION_COPY_OUT */
        struct forward forward;   /* SESSION_FORWARD */
    };
};

/* Takes a socket, watched for this session already, and prepares HELLO. The
 * session was SESSION_FREE. */
void session_open(struct session *s, const struct session_shared *shared,
    int sock, bool connecting);

/* Notes what epoll said about a descriptor of this session. */
void session_event(struct session *s, enum watch_kind kind, uint32_t events);

/*
 * Does what can be done without waiting, but not for ever: true if more could
 * be done at once. now_ms is read only when a deadline begins.
 */
bool session_pump(
    struct session *s, struct session_shared *shared, uint32_t slot);

/*
 * The process that this session waits for is about to be reaped: with the
 * host gone, the rest of its group goes with it.
 */
void session_before_reap(const struct session *s);

/* It was reaped. */
void session_reaped(struct session *s, int status, const struct rusage *usage);

/* deadline_ms is past. */
void session_timeout(
    struct session *s, struct session_shared *shared, int64_t now_ms);

/* The agent ends: the connection too, and its command gets SIGHUP. */
void session_abandon(struct session *s);

/*
 * For operation.c: the ends of an operation. Each appends the closing frame
 * and gives up what the operation has open; a command still running is ended.
 */

/* ERROR with a negative errno and a text. status: see struct agent_error. */
void session_fail(struct session *s, enum agent_stage stage, int error,
    uint16_t status, const char *text);

/* The same with the text "what 'name': reason"; name may be empty. */
void session_fail_about(struct session *s, enum agent_stage stage, int error,
    uint16_t status, const char *what, const char *name);

/* OK. */
void session_finish(struct session *s, uint64_t entries, uint64_t bytes);

/* The closing frame was appended by the caller. */
void session_begin_closing(struct session *s);

/* CLOCK_MONOTONIC in milliseconds. */
int64_t session_now_ms(void);

#endif
