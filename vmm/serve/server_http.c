/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clone for each HTTP request.
 *
 * A request's head, and its body up to COLLECT_MAX, is read before anything is
 * asked for, so that a slow client has no clone. Then the request, written
 * anew, goes to the server in the clone over a connection of its own, and the
 * response back, both as they come, with at most HIGH bytes (and what one read
 * brings) kept on the way. The clone goes as soon as its response is here.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/serve/relay_out.h"
#include "vmm/serve/serve_buf.h"
#include "vmm/serve/server_conn.h"

/* Bytes that wait for one side, above which the other is not read from. */
#define HIGH 65536u
/* Of a body, before a clone is asked for. */
#define COLLECT_MAX 65536u
#define READ_SIZE   16384u

/* Responses that only say that the real one comes, for each of those. */
#define INTERIMS_MAX 16u

/* What a client must send or take within the time for that. */
#define STALL_BYTES 4096u

#define RETRY_S 1u

enum web_phase {
    WEB_READING,   /* a request, as far as it is waited for */
    WEB_WAITING,   /* for a clone */
    WEB_RELAYING,  /* to and from it */
    WEB_ANSWERING, /* all there is to be sent is in `out` */
};

struct web_conn {
    struct server_conn base;
    enum web_phase phase;
    struct serve_buf in;       /* from the client, not parsed yet */
    struct serve_buf out;      /* to it */
    struct serve_buf to_guest; /* the request, written anew */
    struct loop_source guest;  /* owns the connection to it; -1 */
    bool guest_takes;          /* it still reads */
    struct relay_in request;
    struct relay_in response;
    enum relay_framing framing;
    unsigned int interims;
    bool has_begun;    /* a byte of the request is here */
    bool has_answered; /* some of a response is in `out` or beyond */
    bool keeps_alive;  /* the client's connection, after this response */
    bool is_over;      /* to be closed */
    uint64_t body_bytes;
    uint64_t served;          /* requests before this one */
    enum serve_outcome ended; /* how its clone did; SERVE_OK: not */

    uint64_t since_ns; /* of what is waited for: a request, its rest */
    uint64_t moved;    /* bytes from and to the client */
    uint64_t stall_mark;
    uint64_t stall_ns; /* since when the client is waited for; 0: it is not */
};

static void settle(struct web_conn *c);

static bool is_head(const struct web_conn *c)
{
    return c->request.phase != RELAY_HEAD &&
           c->request.parser.method == HTTP_HEAD;
}

static void close_guest(struct web_conn *c)
{
    loop_remove(c->base.server->config.loop, &c->guest);
    fd_closep(&c->guest.fd);
    serve_buf_clear(&c->to_guest);
}

/* ---- ends of a request ----------------------------------------------------
 */

static bool may_keep_alive(const struct web_conn *c)
{
    return c->request.phase == RELAY_WHOLE && c->request.keeps_alive &&
           !c->base.server->is_draining;
}

static void answer(struct web_conn *c, int status, const char *text)
{
    c->phase = WEB_ANSWERING;
    c->has_answered = true;
    c->keeps_alive = may_keep_alive(c);
    relay_out_answer(&c->out, status, text, is_head(c), c->keeps_alive,
        status == 503 ? RETRY_S : 0);
}

/* The request comes to nothing: the client is told, if that can be. */
static void fail(struct web_conn *c, enum serve_outcome outcome, int status,
    const char *text)
{
    if (c->base.job.state == SERVE_JOB_OUT)
        c->base.server->metrics.outcomes[outcome]++;
    serve_job_leave(&c->base.job, outcome);
    close_guest(c);
    if (c->has_answered)
        c->is_over = true;
    else
        answer(c, status, text);
}

static void abandon(struct web_conn *c, enum serve_outcome outcome)
{
    if (c->base.job.state == SERVE_JOB_OUT && c->has_begun &&
        c->phase == WEB_READING)
        c->base.server->metrics.outcomes[outcome]++;
    serve_job_leave(&c->base.job, outcome);
    close_guest(c);
    c->is_over = true;
}

/* The whole response is in `out`. */
static void finish(struct web_conn *c)
{
    serve_job_leave(&c->base.job, SERVE_OK);
    close_guest(c);
    c->phase = WEB_ANSWERING;
}

static void next_request(struct web_conn *c)
{
    relay_in_next(&c->request, RELAY_REQUEST);
    c->phase = WEB_READING;
    c->has_begun = false;
    c->has_answered = false;
    c->body_bytes = 0;
    c->served++;
    c->since_ns = clock_now_ns();
    server_conn_touch(&c->base);
}

/* ---- the guest's side -----------------------------------------------------
 */

static void take_response_head(struct web_conn *c)
{
    struct relay_in *r = &c->response;

    if (r->is_interim) {
        if (++c->interims > INTERIMS_MAX)
            fail(c, SERVE_BAD_RESPONSE, 502, "no response, but interim ones");
        /* A 100 is ours to send; HTTP/1.0 knows none of them. */
        else if (r->parser.status_code != 100 && !c->request.is_1_0)
            relay_out_response(r, &c->request, true, &c->out);
        return;
    }
    c->framing = relay_out_framing(r, &c->request);
    c->keeps_alive = may_keep_alive(c) && c->framing != RELAY_UNTIL_END;
    c->has_answered = true;
    serve_job_note_byte(&c->base.job);
    relay_out_response(r, &c->request, c->keeps_alive, &c->out);
}

static void take_response_end(struct web_conn *c)
{
    if (c->response.is_interim) {
        relay_in_next(&c->response, c->response.kind);
        return;
    }
    relay_out_end(&c->out, c->framing == RELAY_CHUNKS);
    finish(c);
}

static void parse_response(struct web_conn *c, char *data, size_t len)
{
    struct relay_in *r = &c->response;
    size_t at = 0;

    while (at < len && c->phase == WEB_RELAYING && !c->is_over) {
        bool was_head = r->phase == RELAY_HEAD;

        at += relay_in_feed(r, data + at, len - at);
        if (r->phase == RELAY_BROKEN) {
            fail(c, SERVE_BAD_RESPONSE, 502, r->text);
            return;
        }
        if (was_head && r->phase != RELAY_HEAD)
            take_response_head(c);
        if (c->phase != WEB_RELAYING || c->is_over)
            return;
        relay_out_body(
            &c->out, r->body, r->body_len, c->framing == RELAY_CHUNKS);
        if (r->phase == RELAY_WHOLE)
            take_response_end(c);
    }
}

static void end_response(struct web_conn *c)
{
    bool is_nothing =
        c->response.phase == RELAY_HEAD && c->response.head_len == 0;

    relay_in_end(&c->response);
    if (c->response.phase == RELAY_WHOLE)
        take_response_end(c);
    else if (c->ended != SERVE_OK)
        fail(c, c->ended, 502, "the VM ended before its response did");
    else if (is_nothing)
        fail(c, SERVE_NOT_CONNECTED, 502, "no server in the VM answered");
    else
        fail(c, SERVE_BAD_RESPONSE, 502, "a response that was cut short");
}

static void send_request(struct web_conn *c)
{
    if (c->guest.fd < 0 || !c->guest_takes)
        return;
    if (serve_buf_send(&c->to_guest, c->guest.fd) < 0) {
        /* It may have answered before it closed. */
        c->guest_takes = false;
        serve_buf_clear(&c->to_guest);
    }
}

static void on_guest(void *opaque, uint32_t events)
{
    struct web_conn *c = opaque;
    char buf[READ_SIZE];
    ssize_t n;

    send_request(c);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 &&
        serve_buf_len(&c->out) < HIGH) {
        do {
            n = recv(c->guest.fd, buf, sizeof(buf), MSG_DONTWAIT);
        } while (n < 0 && errno == EINTR);
        if (n > 0)
            parse_response(c, buf, (size_t)n);
        else if (n == 0 || errno != EAGAIN)
            end_response(c);
    }
    settle(c);
}

/* ---- the clone ------------------------------------------------------------
 */

static void connect_clone(struct web_conn *c)
{
    struct server *server = c->base.server;
    struct err err;
    int fds[2];

    if (server_pair(fds) < 0) {
        fail(c, SERVE_HOST_ERROR, 503, "out of descriptors");
        return;
    }
    if (clone_connect(c->base.job.clone, server->config.port, fds[1],
            SERVE_GATE_COOKIE, &err) < 0) {
        (void)close(fds[0]);
        log_limited(&server->exec_log, LOG_WARN, "serve", "%s", err.text);
        fail(c, SERVE_NOT_CONNECTED, 502, "the VM cannot be reached");
        return;
    }
    c->phase = WEB_RELAYING;
    c->guest =
        (struct loop_source){.fd = fds[0], .handle = on_guest, .opaque = c};
    c->guest_takes = true;
    c->interims = 0;
    c->ended = SERVE_OK;
    relay_in_next(
        &c->response, is_head(c) ? RELAY_RESPONSE_TO_HEAD : RELAY_RESPONSE);
}

static void on_clone(void *opaque)
{
    struct web_conn *c = opaque;

    connect_clone(c);
    settle(c);
}

static void on_refused(void *opaque, enum serve_outcome outcome)
{
    struct web_conn *c = opaque;

    answer(c, 503,
        outcome == SERVE_QUEUE_TIMEOUT ? "no VM was free in time"
                                       : "there is no VM");
    settle(c);
}

static void on_timeout(void *opaque)
{
    struct web_conn *c = opaque;

    fail(c, SERVE_TIMEOUT, 504, "the VM took too long");
    settle(c);
}

static void on_closed(void *opaque)
{
    /* The connection itself says so, behind what it still has. */
    (void)opaque;
}

static void on_end(void *opaque, enum serve_outcome outcome)
{
    struct web_conn *c = opaque;

    /* What it sent before is in the connection. */
    c->ended = outcome;
}

static const struct serve_job_host host = {
    .on_clone = on_clone,
    .on_refused = on_refused,
    .on_timeout = on_timeout,
    .on_closed = on_closed,
    .on_end = on_end,
};

static void ask_for_clone(struct web_conn *c)
{
    struct server *server = c->base.server;
    uint64_t from = c->served == 0 ? c->base.accepted_ns : c->since_ns;
    int rc;

    serve_metrics_time(
        &server->metrics, SERVE_STAGE_ACCEPT, clock_now_ns() - from);
    c->phase = WEB_WAITING;
    rc = serve_gate_enter(&server->gate, &c->base.job, &host, c);
    if (rc < 0)
        answer(c, 503, rc == -EBUSY ? "too many requests" : "there is no VM");
    else if (rc > 0)
        connect_clone(c);
}

/* ---- the client's side ----------------------------------------------------
 */

static void take_request_head(struct web_conn *c)
{
    struct relay_in *r = &c->request;

    if (r->has_length && r->length > c->base.server->config.body_max) {
        fail(c, SERVE_BAD_REQUEST, 413, "the body is too long");
        return;
    }
    if (r->wants_go_on && (r->is_chunked || r->length > 0))
        serve_buf_text(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
    relay_out_request(r, &c->to_guest);
}

static void take_request_body(struct web_conn *c)
{
    struct relay_in *r = &c->request;

    c->body_bytes += r->body_len;
    if (c->body_bytes > c->base.server->config.body_max) {
        fail(c, SERVE_BAD_REQUEST, 413, "the body is too long");
        return;
    }
    /* Who reads no more gets no more; the rest is thrown away at the end. */
    if (c->phase == WEB_RELAYING && !c->guest_takes)
        return;
    relay_out_body(&c->to_guest, r->body, r->body_len, r->is_chunked);
    if (r->phase == RELAY_WHOLE)
        relay_out_end(&c->to_guest, r->is_chunked);
}

static bool reads_request(const struct web_conn *c)
{
    if (c->is_over)
        return false;
    if (c->phase == WEB_READING)
        return true;
    return c->phase == WEB_RELAYING && c->request.phase == RELAY_BODY &&
           c->guest_takes && serve_buf_len(&c->to_guest) < HIGH;
}

/* Once through the parser, which stops at ends of heads and of messages. */
static void parse_request(struct web_conn *c)
{
    struct relay_in *r = &c->request;
    bool was_head = r->phase == RELAY_HEAD;
    size_t n;

    if (!c->has_begun) {
        c->has_begun = true;
        c->since_ns = clock_now_ns();
    }
    n = relay_in_feed(r, serve_buf_at(&c->in), serve_buf_len(&c->in));
    if (r->phase == RELAY_BROKEN) {
        /* Where the next one would begin is not known. */
        serve_buf_clear(&c->in);
        fail(c, SERVE_BAD_REQUEST, r->status, r->text);
        return;
    }
    if (was_head && r->phase != RELAY_HEAD) {
        take_request_head(c);
        c->since_ns = clock_now_ns();
    }
    if (c->phase == WEB_READING || c->phase == WEB_RELAYING)
        take_request_body(c);
    serve_buf_take(&c->in, n);
    if (c->phase == WEB_READING &&
        (r->phase == RELAY_WHOLE ||
            (r->phase == RELAY_BODY &&
                serve_buf_len(&c->to_guest) >= COLLECT_MAX)))
        ask_for_clone(c);
}

static void read_client(struct web_conn *c)
{
    ssize_t n = serve_buf_recv(&c->in, c->base.source.fd, READ_SIZE);

    if (n == -EAGAIN)
        return;
    if (n > 0)
        c->moved += (uint64_t)n;
    else
        abandon(c, n == -ENOMEM ? SERVE_HOST_ERROR : SERVE_CLIENT_GONE);
}

static void flush_client(struct web_conn *c)
{
    size_t before = serve_buf_len(&c->out);

    if (before == 0)
        return;
    if (serve_buf_send(&c->out, c->base.source.fd) < 0)
        abandon(c, SERVE_CLIENT_GONE);
    else
        c->moved += before - serve_buf_len(&c->out);
}

/* As far as what is here allows, in both directions. */
static void advance(struct web_conn *c)
{
    for (;;) {
        flush_client(c);
        send_request(c);
        if (c->out.failed || c->to_guest.failed)
            abandon(c, SERVE_HOST_ERROR);
        if (c->is_over)
            return;
        if (c->phase == WEB_ANSWERING) {
            if (c->base.server->is_draining && serve_buf_len(&c->in) == 0)
                c->keeps_alive = false;
            if (serve_buf_len(&c->out) > 0 || !c->keeps_alive)
                return;
            next_request(c);
        }
        if (serve_buf_len(&c->in) == 0 || !reads_request(c))
            return;
        parse_request(c);
    }
}

/* ---- watching -------------------------------------------------------------
 */

static bool waits_for_client(const struct web_conn *c)
{
    return serve_buf_len(&c->out) > 0 ||
           (c->phase == WEB_RELAYING && reads_request(c));
}

/* When the client has had its time; 0: it has as much as it likes. */
static uint64_t client_deadline(struct web_conn *c)
{
    const struct server_config *config = &c->base.server->config;

    if (c->phase == WEB_READING && !c->has_begun && c->served > 0)
        return c->since_ns + config->idle_timeout_ns;
    if (c->phase == WEB_READING)
        return c->since_ns + config->header_timeout_ns;
    if (!waits_for_client(c)) {
        c->stall_ns = 0;
        return 0;
    }
    if (c->stall_ns == 0 || c->moved - c->stall_mark >= STALL_BYTES) {
        c->stall_ns = clock_now_ns();
        c->stall_mark = c->moved;
    }
    return c->stall_ns + config->stall_timeout_ns;
}

/* A timer that is early is armed again when it fires, which is cheaper. */
static void set_timer(struct web_conn *c)
{
    uint64_t deadline = client_deadline(c);

    if (deadline != 0 &&
        (!c->base.timer.armed || c->base.timer.deadline_ns > deadline))
        loop_timer_arm(c->base.server->config.loop, &c->base.timer, deadline);
}

static int watch_client(struct web_conn *c)
{
    uint32_t events = 0;

    if (reads_request(c))
        events |= EPOLLIN;
    if (serve_buf_len(&c->out) > 0)
        events |= EPOLLOUT;
    return server_conn_watch(&c->base, events);
}

/* Not at all when nothing is wanted: its end would be told without end. */
static int watch_guest(struct web_conn *c)
{
    struct loop *loop = c->base.server->config.loop;
    uint32_t events = 0;

    if (c->guest.fd < 0)
        return 0;
    if (serve_buf_len(&c->out) < HIGH)
        events |= EPOLLIN;
    if (c->guest_takes && serve_buf_len(&c->to_guest) > 0)
        events |= EPOLLOUT;
    if (events == 0) {
        loop_remove(loop, &c->guest);
        return 0;
    }
    return c->guest.added ? loop_change(loop, &c->guest, events)
                          : loop_add(loop, &c->guest, events);
}

/* The last thing that an entry does: the connection may be gone behind it. */
static void settle(struct web_conn *c)
{
    advance(c);
    if (c->is_over) {
        server_conn_close(&c->base);
        return;
    }
    if (c->phase == WEB_ANSWERING && serve_buf_len(&c->out) == 0) {
        server_conn_linger(&c->base);
        return;
    }
    c->base.is_idle = c->phase == WEB_READING;
    if (watch_client(c) < 0 || watch_guest(c) < 0) {
        abandon(c, SERVE_HOST_ERROR);
        server_conn_close(&c->base);
        return;
    }
    set_timer(c);
}

static void on_client(void *opaque, uint32_t events)
{
    struct web_conn *c = opaque;

    if (c->phase != WEB_READING && (events & (EPOLLHUP | EPOLLERR)) != 0)
        abandon(c, SERVE_CLIENT_GONE);
    else if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 &&
             reads_request(c))
        read_client(c);
    settle(c);
}

static void on_timer(void *opaque)
{
    struct web_conn *c = opaque;
    uint64_t deadline = client_deadline(c);

    if (deadline != 0 && deadline <= clock_now_ns()) {
        if (c->phase != WEB_READING)
            abandon(c, SERVE_CLIENT_SLOW);
        else if (c->has_begun)
            fail(c, SERVE_CLIENT_SLOW, 408, "the request took too long");
        else
            c->is_over = true;
    }
    settle(c);
}

/* ---- the connection -------------------------------------------------------
 */

static void open_conn(struct server_conn *conn)
{
    struct web_conn *c = container_of(conn, struct web_conn, base);
    size_t head_max = conn->server->config.header_max;

    c->guest.fd = -1;
    relay_in_init(&c->request, RELAY_REQUEST, head_max);
    relay_in_init(&c->response, RELAY_RESPONSE, head_max);
    c->since_ns = conn->accepted_ns;
    /* Most have sent something already. */
    read_client(c);
    settle(c);
}

static void fini_conn(struct server_conn *conn)
{
    struct web_conn *c = container_of(conn, struct web_conn, base);

    close_guest(c);
    serve_buf_fini(&c->in);
    serve_buf_fini(&c->out);
    serve_buf_fini(&c->to_guest);
    relay_in_fini(&c->request);
    relay_in_fini(&c->response);
}

static void drain_conn(struct server_conn *conn)
{
    struct web_conn *c = container_of(conn, struct web_conn, base);

    if (c->phase == WEB_READING && !c->has_begun && c->served > 0)
        server_conn_close(conn);
}

const struct server_kind_ops server_http_ops = {
    .size = sizeof(struct web_conn),
    .handle = on_client,
    .fire = on_timer,
    .open = open_conn,
    .fini = fini_conn,
    .drain = drain_conn,
    .refusal = "HTTP/1.1 503 Service Unavailable\r\nServer: spore\r\n"
               "Retry-After: 1\r\nConnection: close\r\n"
               "Content-Type: text/plain\r\nContent-Length: 21\r\n\r\n"
               "too many connections\n",
};
