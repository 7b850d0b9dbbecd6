/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/api/http_server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/api/http_message.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define INPUT_SIZE   4096u
#define ACCEPT_BATCH 16u

/* Reads and requests of one connection before others have their turn. */
#define ADVANCE_BATCH 16u

#define RETRY_NS (100 * CLOCK_NS_PER_MS)

#define JSON "application/json"

#define SERVER "Server: Firecracker API\r\n"

static const char too_many[] =
    "HTTP/1.1 503\r\n" SERVER "Connection: close\r\n"
    "Content-Length: 40\r\n\r\n{ \"error\": \"Too many open connections\" }";

static const char go_on[] =
    "HTTP/1.1 100 \r\n" SERVER "Connection: keep-alive\r\n\r\n";

enum conn_phase {
    CONN_READING, /* a request is being received */
    CONN_WHOLE,   /* one is there and to be handled */
    CONN_WAITING, /* one was handled, and is answered later */
    CONN_CLOSING, /* told why; what it still sends is thrown away */
};

struct http_conn {
    struct http_server *server;
    struct http_conn *next;
    struct loop_source source; /* owns its fd */
    enum conn_phase phase;
    bool keep_alive;
    bool answered;
    bool deprecates; /* the reply says so */
    bool broken;     /* the client is gone, or memory */
    struct http_message message;
    void (*on_gone)(void *opaque); /* or NULL */
    void *opaque;

    int fds[HTTP_SERVER_FDS_MAX]; /* passed with the request; -1: taken */
    uint32_t fd_count;
    bool had_too_many_fds;

    char input[INPUT_SIZE]; /* bytes [at, end) are not parsed yet */
    size_t input_at;
    size_t input_end;
    size_t discarded;

    char *out; /* bytes [out_at, out_end) are to be sent */
    size_t out_at;
    size_t out_end;
};

const char *http_verb_name(enum http_verb verb)
{
    static const char *const names[] = {
        [HTTP_VERB_GET] = "GET",
        [HTTP_VERB_PUT] = "PUT",
        [HTTP_VERB_PATCH] = "PATCH",
        [HTTP_VERB_DELETE] = "DELETE",
    };

    return names[verb];
}

static void close_fds(struct http_conn *conn)
{
    for (uint32_t i = 0; i < conn->fd_count; i++)
        fd_closep(&conn->fds[i]);
    conn->fd_count = 0;
}

static void close_conn(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    struct http_conn **at = &server->conns;

    while (*at != conn)
        at = &(*at)->next;
    *at = conn->next;
    server->conn_count--;
    loop_remove(server->loop, &conn->source);
    fd_closep(&conn->source.fd);
    close_fds(conn);
    http_message_fini(&conn->message);
    free(conn->out);
    if (conn->on_gone != NULL)
        conn->on_gone(conn->opaque);
    free(conn);
}

/* ---- output ------------------------------------------------------------ */

static void flush(struct http_conn *conn)
{
    while (!conn->broken && conn->out_at < conn->out_end) {
        ssize_t n = send(conn->source.fd, conn->out + conn->out_at,
            conn->out_end - conn->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            conn->broken = true;
        else
            conn->out_at += (size_t)n;
    }
    free(conn->out);
    conn->out = NULL;
    conn->out_at = 0;
    conn->out_end = 0;
}

/* Behind what waits already; a reply never follows another that waits. */
static void send_bytes(struct http_conn *conn, const char *data, size_t len)
{
    size_t left = conn->out_end - conn->out_at;
    char *out = malloc(left + len);

    if (out == NULL) {
        conn->broken = true;
        return;
    }
    if (left > 0)
        memcpy(out, conn->out + conn->out_at, left);
    memcpy(out + left, data, len);
    free(conn->out);
    conn->out = out;
    conn->out_at = 0;
    conn->out_end = left + len;
    flush(conn);
}

static void reply(
    struct http_conn *conn, int status, const char *type, const char *body)
{
    const char *connection = conn->keep_alive ? "keep-alive" : "close";
    const char *deprecation = conn->deprecates ? "Deprecation: true\r\n" : "";
    char *text = NULL;
    int n;

    assert(!conn->answered);
    conn->answered = true;
    if (body == NULL)
        n = asprintf(&text,
            "HTTP/1.1 %d \r\n" SERVER "Connection: %s\r\n%s\r\n", status,
            connection, deprecation);
    else
        n = asprintf(&text,
            "HTTP/1.1 %d \r\n" SERVER "Connection: %s\r\n%s"
            "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
            status, connection, deprecation, type, strlen(body), body);
    conn->deprecates = false;
    if (n < 0) {
        conn->broken = true;
        return;
    }
    send_bytes(conn, text, (size_t)n);
    free(text);
}

/* Answers what is no request, or too long a one; the connection ends. */
static void refuse(struct http_conn *conn, int status, const char *text)
{
    char json[256];

    (void)snprintf(json, sizeof(json),
        "{ \"error\": \"%s\\nAll previous unanswered requests will be "
        "dropped.\" }",
        text);
    conn->keep_alive = false;
    conn->answered = false;
    reply(conn, status, JSON, json);
    conn->phase = CONN_CLOSING;
}

int http_conn_take(struct http_conn *conn, int *ret_fd)
{
    int fd;

    assert(!conn->answered);
    if (conn->input_at < conn->input_end || conn->out_end > conn->out_at)
        return -EPROTO;
    fd = fcntl(conn->source.fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

void http_conn_deprecate(struct http_conn *conn)
{
    conn->deprecates = true;
}

void http_conn_watch(
    struct http_conn *conn, void (*on_gone)(void *opaque), void *opaque)
{
    conn->on_gone = on_gone;
    conn->opaque = opaque;
}

int http_conn_take_fd(struct http_conn *conn, uint32_t i)
{
    assert(i < conn->fd_count && conn->fds[i] >= 0);
    return fd_steal(&conn->fds[i]);
}

void http_conn_defer(struct http_conn *conn)
{
    assert(!conn->answered);
    conn->phase = CONN_WAITING;
}

void http_conn_end(struct http_conn *conn)
{
    assert(!conn->answered);
    conn->answered = true;
    conn->broken = true;
}

/* ---- requests ---------------------------------------------------------- */

static void handle_request(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    struct http_request request;
    const char *fault = http_message_get(&conn->message, &request);

    conn->phase = CONN_READING;
    conn->answered = false;
    if (fault == NULL && conn->had_too_many_fds)
        fault = "Too many descriptors were passed.";
    if (fault != NULL) {
        refuse(conn, 400, fault);
        return;
    }
    request.fds = conn->fds;
    request.fd_count = conn->fd_count;
    server->requests++;
    server->handle(server->opaque, conn, &request);
    assert(conn->answered || conn->phase == CONN_WAITING);
    http_message_clear(&conn->message);
    close_fds(conn);
    if (conn->answered && !conn->keep_alive)
        conn->phase = CONN_CLOSING;
}

/* Parses what has been read, up to the end of a request. */
static void parse(struct http_conn *conn)
{
    struct http_message *m = &conn->message;
    size_t n = http_message_parse(
        m, conn->input + conn->input_at, conn->input_end - conn->input_at);

    conn->input_at += n;
    assert(conn->input_at <= conn->input_end);
    if (m->wants_go_on)
        send_bytes(conn, go_on, sizeof(go_on) - 1);
    if (m->out_of_memory)
        conn->broken = true;
    else if (m->refusal != 0)
        refuse(conn, m->refusal, m->refusal_text);
    else if (m->is_whole)
        conn->phase = CONN_WHOLE;
    conn->keep_alive = conn->phase == CONN_WHOLE && m->keep_alive;
}

/*
 * Descriptors that came with what was read. Those that were too many for the
 * room of the message are closed already; then none is of use.
 */
static void collect_fds(struct http_conn *conn, struct msghdr *msg)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);

    conn->had_too_many_fds |= (msg->msg_flags & MSG_CTRUNC) != 0;
    for (; c != NULL; c = CMSG_NXTHDR(msg, c)) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
            conn->had_too_many_fds |= conn->fd_count == HTTP_SERVER_FDS_MAX;
            if (conn->had_too_many_fds || conn->phase == CONN_CLOSING)
                (void)close(fd);
            else
                conn->fds[conn->fd_count++] = fd;
        }
    }
    if (conn->had_too_many_fds)
        close_fds(conn);
}

/* Reads once; false if there is nothing, or nothing more will come. */
static bool fill(struct http_conn *conn)
{
    _Alignas(struct cmsghdr)
        uint8_t control[CMSG_SPACE(HTTP_SERVER_FDS_MAX * sizeof(int))];
    struct iovec iov = {
        .iov_base = conn->input, .iov_len = sizeof(conn->input)};
    struct msghdr msg = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(conn->source.fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n >= 0)
        collect_fds(conn, &msg);
    if (n <= 0) {
        conn->broken = true;
        return false;
    }
    conn->input_at = 0;
    conn->input_end = (size_t)n;
    return true;
}

static bool has_output(const struct http_conn *conn)
{
    return conn->out_at < conn->out_end;
}

/*
 * A client that closes with bytes unread would take the answer for a reset:
 * some of what it still sends is taken, and thrown away.
 */
static void discard(struct http_conn *conn)
{
    conn->discarded += conn->input_end - conn->input_at;
    conn->input_at = conn->input_end;
    if (conn->discarded > HTTP_SERVER_DISCARD_MAX)
        conn->broken = true;
}

/* As far as input, the client's taking of replies and its turn allow. */
static void advance(struct http_conn *conn)
{
    flush(conn);
    for (unsigned int i = 0; i < ADVANCE_BATCH && !conn->broken &&
                             conn->phase != CONN_WAITING && !has_output(conn);
         i++) {
        if (conn->phase == CONN_CLOSING && conn->discarded == 0)
            (void)shutdown(conn->source.fd, SHUT_WR);
        if (conn->input_at == conn->input_end && !fill(conn))
            break;
        if (conn->phase == CONN_CLOSING)
            discard(conn);
        else if (conn->input_at < conn->input_end)
            parse(conn);
        if (conn->phase == CONN_WHOLE)
            handle_request(conn);
    }
}

/* Has the loop call when it can go on, or closes it. */
static void await(struct http_conn *conn, uint32_t wanted)
{
    if (!conn->broken &&
        loop_change(conn->server->loop, &conn->source, wanted) < 0)
        conn->broken = true;
    if (conn->broken)
        close_conn(conn);
}

static void on_conn(void *opaque, uint32_t events)
{
    struct http_conn *conn = opaque;
    uint32_t wanted = EPOLLIN;

    /* What waits has nobody any more who reads it. */
    if ((has_output(conn) || conn->phase == CONN_WAITING) &&
        (events & (EPOLLHUP | EPOLLERR)) != 0)
        conn->broken = true;
    advance(conn);
    /* Input that is here already has its turn when the socket is writable. */
    if (has_output(conn) || conn->input_at < conn->input_end)
        wanted = EPOLLOUT;
    /* That it ends is told in any case. */
    if (conn->phase == CONN_WAITING && !has_output(conn))
        wanted = 0;
    await(conn, wanted);
}

void http_conn_reply(struct http_conn *conn, int status, const char *json)
{
    http_conn_reply_text(conn, status, JSON, json);
}

void http_conn_reply_text(
    struct http_conn *conn, int status, const char *type, const char *text)
{
    bool is_late = conn->phase == CONN_WAITING;

    if (is_late)
        conn->phase = conn->keep_alive ? CONN_READING : CONN_CLOSING;
    reply(conn, status, type, text);
    /* It goes on from the loop. */
    if (is_late)
        await(conn, EPOLLOUT);
}

/* ---- connections ------------------------------------------------------- */

static void add_conn(struct http_server *server, int fd)
{
    struct http_conn *conn;

    if (server->conn_count == HTTP_SERVER_CONNECTIONS_MAX) {
        server->refused++;
        (void)send(
            fd, too_many, sizeof(too_many) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)close(fd);
        return;
    }
    conn = calloc(1, sizeof(*conn));
    if (conn == NULL) {
        (void)close(fd);
        return;
    }
    conn->server = server;
    conn->source =
        (struct loop_source){.fd = fd, .handle = on_conn, .opaque = conn};
    http_message_init(&conn->message, server->body_max);
    if (loop_add(server->loop, &conn->source, EPOLLIN) < 0) {
        (void)close(fd);
        free(conn);
        return;
    }
    conn->next = server->conns;
    server->conns = conn;
    server->conn_count++;
}

static void on_listen(void *opaque, uint32_t events)
{
    struct http_server *server = opaque;

    (void)events;
    for (unsigned int i = 0; i < ACCEPT_BATCH; i++) {
        int fd = accept4(
            server->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            add_conn(server, fd);
            continue;
        }
        if (errno == ECONNABORTED || errno == EINTR)
            continue;
        if (errno != EAGAIN) {
            /* Out of descriptors or memory: the client waits in the queue. */
            loop_remove(server->loop, &server->listener);
            loop_timer_arm(
                server->loop, &server->retry, clock_now_ns() + RETRY_NS);
        }
        return;
    }
}

static void on_retry(void *opaque)
{
    struct http_server *server = opaque;

    if (loop_add(server->loop, &server->listener, EPOLLIN) < 0)
        loop_timer_arm(server->loop, &server->retry, clock_now_ns() + RETRY_NS);
}

int http_server_init(struct http_server *server, struct loop *loop,
    int listen_fd, http_handler_fn *handle, void *opaque, struct err *err)
{
    int rc = fd_set_nonblocking(listen_fd, true);

    *server = (struct http_server){.loop = loop,
        .body_max = HTTP_SERVER_BODY_MAX,
        .handle = handle,
        .opaque = opaque};
    server->retry = (struct loop_timer){.fire = on_retry, .opaque = server};
    server->listener = (struct loop_source){
        .fd = listen_fd, .handle = on_listen, .opaque = server};
    if (rc == 0)
        rc = loop_add(loop, &server->listener, EPOLLIN);
    if (rc < 0) {
        *server = (struct http_server){0};
        return err_sys(err, rc, "cannot watch the control socket");
    }
    return 0;
}

void http_server_fini(struct http_server *server)
{
    if (server->loop == NULL)
        return;
    while (server->conns != NULL) {
        server->conns->on_gone = NULL;
        close_conn(server->conns);
    }
    loop_remove(server->loop, &server->listener);
    loop_timer_disarm(server->loop, &server->retry);
    fd_closep(&server->listener.fd);
    server->loop = NULL;
}
