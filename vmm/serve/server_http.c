/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clone for each HTTP request.
 *
 * A request's head, and its body up to COLLECT_MAX, is read before anything is
 * asked for, so that a slow client has no clone. Then the request, written
 * anew, goes to the server in the clone over a connection of its own, and the
 * response back, both as they come, with at most WEB_HIGH bytes (and what one
 * read brings) kept on the way. The clone goes as soon as its response is here.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/serve/server_http.h"

/* Of a body, before a clone is asked for. */
#define COLLECT_MAX 65536u

/* What a client must send or take within the time for that. */
#define STALL_BYTES 4096u

#define RETRY_S 1u

bool web_is_head(const struct web_conn *c)
{
    return c->request.phase != RELAY_HEAD &&
           c->request.parser.method == HTTP_HEAD;
}

/* ---- ends of a request -------------------------------------------------- */

bool web_may_keep_alive(const struct web_conn *c)
{
    return c->request.phase == RELAY_WHOLE && c->request.keeps_alive &&
           !c->base.server->is_draining;
}

static void answer(struct web_conn *c, int status, const char *text)
{
    c->phase = WEB_ANSWERING;
    c->has_answered = true;
    c->keeps_alive = web_may_keep_alive(c);
    relay_out_answer(&c->out, status, text, web_is_head(c), c->keeps_alive,
        status == 503 ? RETRY_S : 0);
}

/* The request comes to nothing: the client is told, if that can be. */
void web_fail(struct web_conn *c, enum serve_outcome outcome, int status,
    const char *text)
{
    if (c->base.job.state == SERVE_JOB_OUT)
        c->base.server->metrics.outcomes[outcome]++;
    serve_job_leave(&c->base.job, outcome);
    web_close_guest(c);
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
    web_close_guest(c);
    c->is_over = true;
}

/* The whole response is in `out`. */
void web_finish(struct web_conn *c)
{
    serve_job_leave(&c->base.job, SERVE_OK);
    web_close_guest(c);
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

/* ---- the clone ---------------------------------------------------------- */

static void on_clone(void *opaque)
{
    struct web_conn *c = opaque;

    web_connect(c);
    web_settle(c);
}

static void on_refused(void *opaque, enum serve_outcome outcome)
{
    struct web_conn *c = opaque;

    answer(c, 503,
        outcome == SERVE_QUEUE_TIMEOUT ? "no VM was free in time"
                                       : "there is no VM");
    web_settle(c);
}

static void on_timeout(void *opaque)
{
    struct web_conn *c = opaque;

    web_fail(c, SERVE_TIMEOUT, 504, "the VM took too long");
    web_settle(c);
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
        web_connect(c);
}

/* ---- the client's side -------------------------------------------------- */

static void take_request_head(struct web_conn *c)
{
    struct relay_in *r = &c->request;

    if (r->has_length && r->length > c->base.server->config.body_max) {
        web_fail(c, SERVE_BAD_REQUEST, 413, "the body is too long");
        return;
    }
    if (r->wants_go_on && (r->is_chunked || r->length > 0))
        serve_buf_text(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
    web_begin_request(c);
    relay_out_request(r, &c->to_guest);
}

static void take_request_body(struct web_conn *c)
{
    struct relay_in *r = &c->request;

    c->body_bytes += r->body_len;
    if (c->body_bytes > c->base.server->config.body_max) {
        web_fail(c, SERVE_BAD_REQUEST, 413, "the body is too long");
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
           c->guest_takes && serve_buf_len(&c->to_guest) < WEB_HIGH;
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
        web_fail(c, SERVE_BAD_REQUEST, r->status, r->text);
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
    ssize_t n = serve_buf_recv(&c->in, c->base.source.fd, WEB_READ_SIZE);

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
        web_send_request(c);
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

/* ---- watching ----------------------------------------------------------- */

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

/* The last thing that an entry does: the connection may be gone behind it. */
void web_settle(struct web_conn *c)
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
    if (watch_client(c) < 0 || web_watch_guest(c) < 0) {
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
    web_settle(c);
}

static void on_timer(void *opaque)
{
    struct web_conn *c = opaque;
    uint64_t deadline = client_deadline(c);

    if (deadline != 0 && deadline <= clock_now_ns()) {
        if (c->phase != WEB_READING)
            abandon(c, SERVE_CLIENT_SLOW);
        else if (c->has_begun)
            web_fail(c, SERVE_CLIENT_SLOW, 408, "the request took too long");
        else
            c->is_over = true;
    }
    web_settle(c);
}

/* ---- the connection ----------------------------------------------------- */

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
    web_settle(c);
}

static void fini_conn(struct server_conn *conn)
{
    struct web_conn *c = container_of(conn, struct web_conn, base);

    web_close_guest(c);
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
