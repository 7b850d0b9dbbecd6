/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 (RFC 9112) on a Unix stream socket, on the event loop.
 *
 * Owns the listening socket and its connections. Requests of a connection are
 * handled in order and one at a time: while a reply waits to be taken nothing
 * more is read, so a client that sends without reading holds one request and
 * one reply of memory, and nobody else up. Framing and error texts are those
 * of Firecracker's API server, as its clients compare them.
 *
 * Thread rule: the loop's thread. Not trusted: everything that clients send,
 * and when they go away. Bounded are their number, the length of a path and
 * of a body, and the bytes of headers (http_parser's 80 KiB, none of it kept).
 */
#ifndef VMM_API_HTTP_SERVER_H
#define VMM_API_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"

#define HTTP_SERVER_CONNECTIONS_MAX 10u
#define HTTP_SERVER_BODY_MAX        51200u
#define HTTP_SERVER_PATH_MAX        1024u

/* Of what a client takes before it is answered that its request was bad. */
#define HTTP_SERVER_DISCARD_MAX (1024u * 1024u)

enum http_verb {
    HTTP_VERB_GET,
    HTTP_VERB_PUT,
    HTTP_VERB_PATCH,
    HTTP_VERB_DELETE,
};

/* A whole request; valid until the handler returns. */
struct http_request {
    enum http_verb verb;
    const char *path; /* begins with a slash; query included */
    const char *body; /* a NUL follows its last byte */
    size_t body_len;
    const char *upgrade; /* the protocol asked for, or NULL */
};

struct http_conn;

/*
 * Answers a request with exactly one of http_conn_reply and http_conn_end,
 * before it returns. It may not end the server.
 */
typedef void http_handler_fn(
    void *opaque, struct http_conn *conn, const struct http_request *request);

struct http_server {
    struct loop *loop;
    struct loop_source listener; /* owns its fd */
    struct loop_timer retry;     /* accepts again when descriptors ran out */
    struct http_conn *conns;
    uint32_t conn_count;
    http_handler_fn *handle;
    void *opaque;
    uint64_t requests; /* handed to `handle` */
    uint64_t refused;  /* connections that were too many */
};

/*
 * Serves `listen_fd`, a listening Unix stream socket that it owns from then
 * on; on failure the caller keeps it.
 */
CC_MUST_CHECK int http_server_init(struct http_server *server,
    struct loop *loop, int listen_fd, http_handler_fn *handle, void *opaque,
    struct err *err);

/* Closes everything; fine on a zeroed one. */
void http_server_fini(struct http_server *server);

/*
 * Answers with a status and a body that is JSON, or NULL. Without memory for
 * it the connection is closed.
 */
void http_conn_reply(struct http_conn *conn, int status, const char *json);

/*
 * Another descriptor of the connection, the caller's to own, from which
 * nothing behind the request has been read; -EPROTO if the client did not wait
 * for the answer. Either http_conn_end or a reply (and the descriptor closed)
 * comes next.
 */
CC_MUST_CHECK int http_conn_take(struct http_conn *conn, int *ret_fd);

/* Ends the server's part in a connection, which has been taken. */
void http_conn_end(struct http_conn *conn);

/* "GET" and so on. */
const char *http_verb_name(enum http_verb verb);

#endif
