/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/api/http_client.h"

#include <assert.h>
#include <errno.h>
#include <http_parser.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "vmm/base/num.h"

struct reception {
    struct http_reply reply;
    size_t room;
    bool whole;
};

static int on_body(http_parser *parser, const char *data, size_t len)
{
    struct reception *r = parser->data;
    size_t want = r->reply.body_len + len + 1;
    char *body;

    if (want > HTTP_CLIENT_BODY_MAX)
        return -1;
    if (want > r->room) {
        r->room = (size_t)num_max(2 * r->room, want);
        body = realloc(r->reply.body, r->room);
        if (body == NULL)
            return -1;
        r->reply.body = body;
    }
    memcpy(r->reply.body + r->reply.body_len, data, len);
    r->reply.body_len += len;
    r->reply.body[r->reply.body_len] = '\0';
    return 0;
}

static int on_complete(http_parser *parser)
{
    struct reception *r = parser->data;

    /* One that only says that the request may go on comes first perhaps. */
    if (parser->status_code == 100)
        return 0;
    r->whole = true;
    r->reply.status = (int)parser->status_code;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings settings = {
    .on_body = on_body,
    .on_message_complete = on_complete,
};

/*
 * Reads up to the end of one reply, `step` bytes at a time: one, where what
 * follows may be of another protocol.
 */
static int receive(int fd, size_t step, struct reception *r, struct err *err)
{
    http_parser parser;

    http_parser_init(&parser, HTTP_RESPONSE);
    parser.data = r;
    while (!r->whole) {
        char buf[4096];
        ssize_t n = recv(fd, buf, num_min(step, sizeof(buf)), 0);
        size_t parsed;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return err_set(err, ETIMEDOUT, "the machine does not answer");
        if (n < 0 && errno != ECONNRESET)
            return err_sys(err, errno, "cannot read from the control socket");
        if (n <= 0)
            return err_set(err, ECONNREFUSED,
                "the machine closed the "
                "connection");
        parsed = http_parser_execute(&parser, &settings, buf, (size_t)n);
        if (!r->whole && parsed != (size_t)n)
            return err_set(err, EPROTO,
                "the control socket sent what is no reply: %s",
                http_errno_description(HTTP_PARSER_ERRNO(&parser)));
    }
    return 0;
}

/* The descriptors go with the first bytes. */
static int send_all(int fd, const char *text, size_t len, const int *fds,
    uint32_t fd_count, struct err *err)
{
    _Alignas(struct cmsghdr)
        uint8_t control[CMSG_SPACE(HTTP_SERVER_FDS_MAX * sizeof(int))] = {0};

    assert(fd_count <= HTTP_SERVER_FDS_MAX);
    while (len > 0) {
        struct iovec iov = {
            .iov_base = (void *)(uintptr_t)text, .iov_len = len};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n;

        if (fd_count > 0) {
            struct cmsghdr *c;

            msg.msg_control = control;
            msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
            c = CMSG_FIRSTHDR(&msg);
            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
            memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
        }
        n = sendmsg(fd, &msg, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "cannot write to the control socket");
        fd_count = 0;
        text += n;
        len -= (size_t)n;
    }
    return 0;
}

static int receive_reply(
    int fd, size_t step, struct http_reply *ret_reply, struct err *err)
{
    struct reception r = {.room = 0};
    int rc = receive(fd, step, &r, err);

    if (rc < 0) {
        http_reply_fini(&r.reply);
        return rc;
    }
    *ret_reply = r.reply;
    return 0;
}

int http_client_send(int fd, enum http_verb verb, const char *path,
    const char *body, const int *fds, uint32_t fd_count, struct err *err)
{
    char *text = NULL;
    int len;
    int rc;

    if (body == NULL)
        len = asprintf(&text, "%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n",
            http_verb_name(verb), path);
    else
        len = asprintf(&text,
            "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
            "application/json\r\nContent-Length: %zu\r\n\r\n%s",
            http_verb_name(verb), path, strlen(body), body);
    if (len < 0)
        return err_sys(err, ENOMEM, "request");
    rc = send_all(fd, text, (size_t)len, fds, fd_count, err);
    free(text);
    return rc;
}

int http_client_receive(int fd, struct http_reply *ret_reply, struct err *err)
{
    return receive_reply(fd, SIZE_MAX, ret_reply, err);
}

int http_client_request(int fd, enum http_verb verb, const char *path,
    const char *body, struct http_reply *ret_reply, struct err *err)
{
    int rc = http_client_send(fd, verb, path, body, NULL, 0, err);

    return rc < 0 ? rc : http_client_receive(fd, ret_reply, err);
}

int http_client_upgrade(
    int fd, const char *path, const char *protocol, struct err *err)
{
    struct http_reply reply;
    char *text = NULL;
    int len = asprintf(&text,
        "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        "Upgrade: %s\r\n\r\n",
        path, protocol);
    int rc;

    if (len < 0)
        return err_sys(err, ENOMEM, "request");
    rc = send_all(fd, text, (size_t)len, NULL, 0, err);
    free(text);
    if (rc == 0)
        rc = receive_reply(fd, 1, &reply, err);
    if (rc < 0)
        return rc;
    if (reply.status != 101)
        rc = http_reply_check(&reply, err);
    if (rc == 0 && reply.status != 101)
        rc = err_set(err, EPROTO, "the machine did not agree to %s", protocol);
    http_reply_fini(&reply);
    return rc;
}

int http_reply_check(const struct http_reply *reply, struct err *err)
{
    const char *text = NULL;
    json_t *json;
    int rc;

    if (reply->status >= 200 && reply->status < 300)
        return 0;
    json = json_loadb(
        reply->body == NULL ? "" : reply->body, reply->body_len, 0, NULL);
    text = json_string_value(json_object_get(json, "fault_message"));
    if (text == NULL)
        text = json_string_value(json_object_get(json, "error"));
    rc = text == NULL
             ? err_set(err, EPROTO, "the machine answered with status %d",
                   reply->status)
             : err_set(err, EPROTO, "%s", text);
    json_decref(json);
    return rc;
}

void http_reply_fini(struct http_reply *reply)
{
    free(reply->body);
    *reply = (struct http_reply){0};
}
