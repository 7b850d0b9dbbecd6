/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request to a control socket, and its reply.
 *
 * Blocking: for commands, not for what runs a loop. Thread rule: one thread a
 * client. What the server sends is parsed as any other input: a reply of more
 * than HTTP_CLIENT_BODY_MAX bytes, or one that is none, is an error.
 */
#ifndef VMM_API_HTTP_CLIENT_H
#define VMM_API_HTTP_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/api/http_server.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define HTTP_CLIENT_BODY_MAX (4u * 1024u * 1024u)

struct http_reply {
    int status;
    char *body; /* a NUL follows; NULL if it has none */
    size_t body_len;
};

/*
 * Sends a request with a JSON body (or NULL) on a connected socket, and waits
 * for the reply. http_reply_fini afterwards.
 */
CC_MUST_CHECK int http_client_request(int fd, enum http_verb verb,
    const char *path, const char *body, struct http_reply *ret_reply,
    struct err *err);

/*
 * The two halves of it, for what takes a while; and with descriptors, which
 * the server may take copies of, at most HTTP_SERVER_FDS_MAX.
 */
CC_MUST_CHECK int http_client_send(int fd, enum http_verb verb,
    const char *path, const char *body, const int *fds, uint32_t fd_count,
    struct err *err);
CC_MUST_CHECK int http_client_receive(
    int fd, struct http_reply *ret_reply, struct err *err);

/*
 * Asks for another protocol ("vsock") on `path`. 0: the server has agreed and
 * the next byte that is read is of that protocol. -ECONNREFUSED: it closed
 * instead. Another refusal is -EPROTO with the server's words.
 */
CC_MUST_CHECK int http_client_upgrade(
    int fd, const char *path, const char *protocol, struct err *err);

/* 0 for a status of success, else -EPROTO with the server's words. */
CC_MUST_CHECK int http_reply_check(
    const struct http_reply *reply, struct err *err);

void http_reply_fini(struct http_reply *reply);

#endif
