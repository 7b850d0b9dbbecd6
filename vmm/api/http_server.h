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
 * A client may pass descriptors with a request (SCM_RIGHTS, unix(7)), with the
 * first of its bytes at best. They are closed when it has been handled, but
 * for those that the handler took.
 *
 * Thread rule: the loop's thread. Not trusted: everything that clients send,
 * and when they go away. Bounded are their number, the length of a path and
 * of a body, the bytes of headers (http_parser's 80 KiB, none of it kept), and
 * the descriptors of a request: with more it is refused, and none is kept.
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
#define HTTP_SERVER_FDS_MAX         24u

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
    const int *fds;      /* passed with it; anything that a descriptor can be */
    uint32_t fd_count;
};

struct http_conn;

/*
 * Answers a request with exactly one of http_conn_reply, http_conn_defer and
 * http_conn_end, before it returns. It may not end the server.
 */
typedef void http_handler_fn(
    void *opaque, struct http_conn *conn, const struct http_request *request);

struct http_server {
    struct loop *loop;
    struct loop_source listener; /* owns its fd */
    struct loop_timer retry;     /* accepts again when descriptors ran out */
    struct http_conn *conns;
    uint32_t conn_count;
    size_t body_max; /* HTTP_SERVER_BODY_MAX; the owner may change it */
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
 * it the connection is closed. Of a deferred one: on_gone may have been called
 * when this returns.
 */
void http_conn_reply(struct http_conn *conn, int status, const char *json);

/* The same with a body of another type ("text/plain"). */
void http_conn_reply_text(
    struct http_conn *conn, int status, const char *type, const char *text);

/* The next reply says that something in its request is deprecated. */
void http_conn_deprecate(struct http_conn *conn);

/*
 * Another descriptor of the connection, the caller's to own, from which
 * nothing behind the request has been read; -EPROTO if the client did not wait
 * for the answer. Either http_conn_end or a reply (and the descriptor closed)
 * comes next.
 */
CC_MUST_CHECK int http_conn_take(struct http_conn *conn, int *ret_fd);

/* The reply comes later, from outside of a handler; nothing is read before. */
void http_conn_defer(struct http_conn *conn);

/*
 * Calls `on_gone` once when the connection ends, for whatever reason but
 * http_server_fini; or never, with NULL. Of one that waits for a deferred
 * reply it is noticed, too.
 */
void http_conn_watch(
    struct http_conn *conn, void (*on_gone)(void *opaque), void *opaque);

/* Descriptor `i` of the request that is being handled, the caller's now. */
int http_conn_take_fd(struct http_conn *conn, uint32_t i);

/* Ends the server's part in a connection, which has been taken. */
void http_conn_end(struct http_conn *conn);

/* "GET" and so on. */
const char *http_verb_name(enum http_verb verb);

#endif
