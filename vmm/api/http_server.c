/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/api/http_server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define INPUT_SIZE   4096u
#define VALUE_MAX    31u
#define ACCEPT_BATCH 16u

/* Reads and requests of one connection before others have their turn. */
#define ADVANCE_BATCH 16u

#define RETRY_NS (100 * CLOCK_NS_PER_MS)

#define SERVER "Server: Firecracker API\r\n"

static const char too_many[] =
    "HTTP/1.1 503\r\n" SERVER "Connection: close\r\n"
    "Content-Length: 40\r\n\r\n{ \"error\": \"Too many open connections\" }";

static const char go_on[] =
    "HTTP/1.1 100 \r\n" SERVER "Connection: keep-alive\r\n\r\n";

/* The headers whose values are of interest. */
enum header { HEADER_OTHER, HEADER_EXPECT, HEADER_UPGRADE, HEADER_COUNT };

enum conn_phase {
    CONN_READING, /* a request is being received */
    CONN_WHOLE,   /* one is there and to be handled */
    CONN_CLOSING, /* told why; what it still sends is thrown away */
};

struct http_conn {
    struct http_server *server;
    struct http_conn *next;
    struct loop_source source; /* owns its fd */
    enum conn_phase phase;
    bool keep_alive;
    bool answered;
    bool broken; /* the client is gone, or memory */
    http_parser parser;

    char input[INPUT_SIZE]; /* bytes [at, end) are not parsed yet */
    size_t input_at;
    size_t input_end;
    size_t discarded;

    enum header header; /* whose value comes next */
    bool in_value;
    char name[VALUE_MAX + 1];
    size_t name_len;
    char values[HEADER_COUNT][VALUE_MAX + 1];

    char path[HTTP_SERVER_PATH_MAX + 1];
    size_t path_len;
    char *body;
    size_t body_len;
    size_t body_room;
    int refusal; /* status to refuse the request with, or 0 */
    char refusal_text[160];

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
    free(conn->body);
    free(conn->out);
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

void http_conn_reply(struct http_conn *conn, int status, const char *json)
{
    const char *connection = conn->keep_alive ? "keep-alive" : "close";
    char *text = NULL;
    int n;

    assert(!conn->answered);
    conn->answered = true;
    if (json == NULL)
        n = asprintf(&text, "HTTP/1.1 %d \r\n" SERVER "Connection: %s\r\n\r\n",
            status, connection);
    else
        n = asprintf(&text,
            "HTTP/1.1 %d \r\n" SERVER "Connection: %s\r\n"
            "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
            status, connection, strlen(json), json);
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
    http_conn_reply(conn, status, json);
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

void http_conn_end(struct http_conn *conn)
{
    assert(!conn->answered);
    conn->answered = true;
    conn->broken = true;
}

/* ---- the parser's callbacks -------------------------------------------- */

static void reject(struct http_conn *conn, int status, const char *text)
{
    if (conn->refusal != 0)
        return;
    conn->refusal = status;
    (void)snprintf(conn->refusal_text, sizeof(conn->refusal_text), "%s", text);
}

static int on_begin(http_parser *parser)
{
    struct http_conn *conn = parser->data;

    conn->path_len = 0;
    conn->body_len = 0;
    conn->name_len = 0;
    conn->in_value = false;
    conn->header = HEADER_OTHER;
    memset(conn->values, 0, sizeof(conn->values));
    return 0;
}

static int on_url(http_parser *parser, const char *data, size_t len)
{
    struct http_conn *conn = parser->data;

    if (len > HTTP_SERVER_PATH_MAX - conn->path_len) {
        reject(conn, 400, "Invalid URI: it is too long");
        return -1;
    }
    memcpy(conn->path + conn->path_len, data, len);
    conn->path_len += len;
    return 0;
}

/* Appends as much as fits to a text of VALUE_MAX bytes. */
static void append(char *text, const char *data, size_t len)
{
    size_t have = strlen(text);
    size_t n = num_min(len, VALUE_MAX - have);

    memcpy(text + have, data, n);
    text[have + n] = '\0';
}

static int on_field(http_parser *parser, const char *data, size_t len)
{
    struct http_conn *conn = parser->data;

    if (conn->in_value || conn->name_len == 0)
        conn->name[0] = '\0';
    conn->in_value = false;
    append(conn->name, data, len);
    conn->name_len = strlen(conn->name);
    return 0;
}

static int on_value(http_parser *parser, const char *data, size_t len)
{
    struct http_conn *conn = parser->data;

    if (!conn->in_value) {
        conn->in_value = true;
        conn->header = strcasecmp(conn->name, "expect") == 0    ? HEADER_EXPECT
                       : strcasecmp(conn->name, "upgrade") == 0 ? HEADER_UPGRADE
                                                                : HEADER_OTHER;
        conn->values[conn->header][0] = '\0';
    }
    append(conn->values[conn->header], data, len);
    return 0;
}

static void reject_length(struct http_conn *conn, uint64_t length)
{
    char text[128];

    (void)snprintf(text, sizeof(text),
        "Request payload with size %llu is larger than the limit of %u allowed "
        "by server.",
        (unsigned long long)length, HTTP_SERVER_BODY_MAX);
    reject(conn, 413, text);
}

static int on_headers(http_parser *parser)
{
    struct http_conn *conn = parser->data;
    bool has_length = (parser->flags & F_CONTENTLENGTH) != 0;

    if (has_length && parser->content_length > HTTP_SERVER_BODY_MAX) {
        reject_length(conn, parser->content_length);
        return -1;
    }
    /*
     * Who asks for another protocol and has a body, or for one that is not
     * ours, is served as if it had not asked.
     */
    if (strcasecmp(conn->values[HEADER_UPGRADE], "vsock") != 0)
        parser->upgrade = 0;
    if (strcasecmp(conn->values[HEADER_EXPECT], "100-continue") == 0 &&
        ((has_length && parser->content_length > 0) ||
            (parser->flags & F_CHUNKED) != 0))
        send_bytes(conn, go_on, sizeof(go_on) - 1);
    return 0;
}

static int on_body(http_parser *parser, const char *data, size_t len)
{
    struct http_conn *conn = parser->data;
    size_t room = conn->body_room;
    char *body;

    if (len > HTTP_SERVER_BODY_MAX - conn->body_len) {
        reject_length(conn, conn->body_len + len);
        return -1;
    }
    while (room < conn->body_len + len + 1)
        room = room == 0 ? 512 : 2 * room;
    if (room > conn->body_room) {
        body = realloc(conn->body, room);
        if (body == NULL) {
            conn->broken = true;
            return -1;
        }
        conn->body = body;
        conn->body_room = room;
    }
    memcpy(conn->body + conn->body_len, data, len);
    conn->body_len += len;
    conn->body[conn->body_len] = '\0';
    return 0;
}

static int on_complete(http_parser *parser)
{
    struct http_conn *conn = parser->data;

    conn->phase = CONN_WHOLE;
    conn->keep_alive = http_should_keep_alive(parser) != 0;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings settings = {
    .on_message_begin = on_begin,
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_headers_complete = on_headers,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

/* ---- requests ---------------------------------------------------------- */

static bool get_verb(unsigned int method, enum http_verb *ret_verb)
{
    switch (method) {
    case HTTP_GET:
        *ret_verb = HTTP_VERB_GET;
        return true;
    case HTTP_PUT:
        *ret_verb = HTTP_VERB_PUT;
        return true;
    case HTTP_PATCH:
        *ret_verb = HTTP_VERB_PATCH;
        return true;
    case HTTP_DELETE:
        *ret_verb = HTTP_VERB_DELETE;
        return true;
    default:
        return false;
    }
}

/* The path of "/path" and of "http://host/path"; NULL if there is none. */
static const char *get_path(struct http_conn *conn)
{
    static const char scheme[] = "http://";

    conn->path[conn->path_len] = '\0';
    if (strncasecmp(conn->path, scheme, sizeof(scheme) - 1) == 0)
        return strchr(conn->path + sizeof(scheme) - 1, '/');
    return conn->path[0] == '/' ? conn->path : NULL;
}

static void handle_request(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    struct http_request request = {.path = get_path(conn),
        .body = conn->body_len == 0 ? "" : conn->body,
        .body_len = conn->body_len,
        .upgrade = conn->parser.upgrade ? conn->values[HEADER_UPGRADE] : NULL};

    conn->phase = CONN_READING;
    conn->answered = false;
    if (!get_verb(conn->parser.method, &request.verb)) {
        refuse(conn, 400, "Invalid HTTP Method.");
        return;
    }
    if (request.path == NULL) {
        refuse(conn, 400, "Invalid URI.");
        return;
    }
    server->requests++;
    server->handle(server->opaque, conn, &request);
    assert(conn->answered);
    free(conn->body);
    conn->body = NULL;
    conn->body_room = 0;
    conn->body_len = 0;
    if (!conn->keep_alive)
        conn->phase = CONN_CLOSING;
}

/* Parses what has been read, up to the end of a request. */
static void parse(struct http_conn *conn)
{
    size_t n = http_parser_execute(&conn->parser, &settings,
        conn->input + conn->input_at, conn->input_end - conn->input_at);

    conn->input_at += n;
    assert(conn->input_at <= conn->input_end);
    if (conn->phase == CONN_WHOLE) {
        http_parser_pause(&conn->parser, 0);
        return;
    }
    if (conn->refusal != 0)
        refuse(conn, conn->refusal, conn->refusal_text);
    else if (HTTP_PARSER_ERRNO(&conn->parser) != HPE_OK)
        refuse(conn, 400,
            http_errno_description(HTTP_PARSER_ERRNO(&conn->parser)));
}

/* Reads once; false if there is nothing, or nothing more will come. */
static bool fill(struct http_conn *conn)
{
    ssize_t n =
        recv(conn->source.fd, conn->input, sizeof(conn->input), MSG_DONTWAIT);

    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && errno == EAGAIN)
        return false;
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
    for (unsigned int i = 0;
         i < ADVANCE_BATCH && !conn->broken && !has_output(conn); i++) {
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

static void on_conn(void *opaque, uint32_t events)
{
    struct http_conn *conn = opaque;
    struct loop *loop = conn->server->loop;
    uint32_t wanted;

    /* Replies that wait have no reader any more. */
    if (has_output(conn) && (events & (EPOLLHUP | EPOLLERR)) != 0)
        conn->broken = true;
    advance(conn);
    /* Input that is here already has its turn when the socket is writable. */
    wanted = has_output(conn) || conn->input_at < conn->input_end ? EPOLLOUT
                                                                  : EPOLLIN;
    if (!conn->broken && loop_change(loop, &conn->source, wanted) < 0)
        conn->broken = true;
    if (conn->broken)
        close_conn(conn);
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
    http_parser_init(&conn->parser, HTTP_REQUEST);
    conn->parser.data = conn;
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

    *server =
        (struct http_server){.loop = loop, .handle = handle, .opaque = opaque};
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
    while (server->conns != NULL)
        close_conn(server->conns);
    loop_remove(server->loop, &server->listener);
    loop_timer_disarm(server->loop, &server->retry);
    fd_closep(&server->listener.fd);
    server->loop = NULL;
}
