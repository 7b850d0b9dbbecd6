/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the server and its kinds of connections have in common. For server*.c
 * only.
 *
 * A connection is in its server's list from server_conn_open on, and leaves it
 * with server_conn_close, which frees it: the last thing that a handler does
 * with it.
 */
#ifndef VMM_SERVE_SERVER_CONN_H
#define VMM_SERVE_SERVER_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/log.h"
#include "vmm/core/loop.h"
#include "vmm/serve/serve_gate.h"
#include "vmm/serve/server.h"

struct server_conn {
    struct server *server;
    struct server_conn *prev;
    struct server_conn *next;
    struct loop_source source; /* owns its fd; -1: given away */
    struct loop_timer timer;
    struct serve_job job;
    uint64_t accepted_ns;
    bool lingers;
    bool is_idle; /* may be closed to make room for another */
    size_t discarded;
};

struct server_kind_ops {
    size_t size; /* of the struct that begins with a server_conn */
    /* What handles the source, and fires the timer. */
    void (*handle)(void *opaque, uint32_t events);
    void (*fire)(void *opaque);
    /* A fresh one, its source not added; it may be closed from within. */
    void (*open)(struct server_conn *conn);
    /* What it has besides is to be released; the request has left. */
    void (*fini)(struct server_conn *conn);
    /* To be closed as soon as what has begun is done; or NULL. */
    void (*drain)(struct server_conn *conn);
    /* What is said to one that there is no room for; or NULL. */
    const char *refusal;
};

extern const struct server_kind_ops server_stream_ops;
extern const struct server_kind_ops server_exec_ops;
extern const struct server_kind_ops server_http_ops;

struct server_listener {
    struct server *server;
    struct loop_source source; /* owns its fd */
};

struct server {
    struct server_config config;
    const struct server_kind_ops *ops;
    struct serve_metrics metrics;
    struct serve_gate gate;
    struct server_listener listeners[SERVER_LISTEN_MAX];
    uint32_t listener_count;
    struct loop_timer retry;   /* of accepting, when descriptors ran out */
    int spare_fd;              /* given up to refuse one then; or -1 */
    struct server_conn *conns; /* newest first */
    struct server_conn *oldest;
    uint32_t conn_count;
    bool is_draining;
    bool has_drained;
    struct loop_call drained;
    /* SERVER_EXEC: what commands write to standard error. */
    struct loop_source errors; /* owns the pipe's reading end */
    int errors_fd;             /* the writing end */
    struct log_rate errors_log;
    struct log_rate exec_log;
};

/* Ends the request as SERVE_STOPPED if it is still in, and frees it. */
void server_conn_close(struct server_conn *conn);

/*
 * Nothing more is sent. What the client still sends is thrown away for a
 * while, so that it takes the end for one and not for a failure; then it is
 * closed. The request has left.
 */
void server_conn_linger(struct server_conn *conn);

/* Moves it to the front of the list: it has just been of use. */
void server_conn_touch(struct server_conn *conn);

/* Adds, changes or removes the source's watch; -errno. */
CC_MUST_CHECK int server_conn_watch(struct server_conn *conn, uint32_t events);

/* A pair of connected stream sockets, the first of them non-blocking. */
CC_MUST_CHECK int server_pair(int ret_fds[2]);

/* For SERVER_EXEC. */
CC_MUST_CHECK int server_exec_init(struct server *server, struct err *err);
void server_exec_fini(struct server *server);

#endif
