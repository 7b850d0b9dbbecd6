/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of a connection for HTTP requests: one to a server in a
 * clone, for the request that is under way.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/serve/server_http.h"

/* Responses that only say that the real one comes, for each of those. */
#define INTERIMS_MAX 16u

static bool is_forwarded(const struct web_conn *c)
{
    return c->base.server->config.port_is_tcp;
}

void web_close_guest(struct web_conn *c)
{
    loop_remove(c->base.server->config.loop, &c->guest);
    fd_closep(&c->guest.fd);
    serve_buf_clear(&c->to_guest);
}

void web_begin_request(struct web_conn *c)
{
    const struct guest_forward_request request =
        guest_forward_request((uint16_t)c->base.server->config.port);

    if (is_forwarded(c))
        serve_buf_put(&c->to_guest, &request, sizeof(request));
}

/* ---- the guest's side --------------------------------------------------- */

static void take_response_head(struct web_conn *c)
{
    struct relay_in *r = &c->response;

    if (r->is_interim) {
        if (++c->interims > INTERIMS_MAX)
            web_fail(
                c, SERVE_BAD_RESPONSE, 502, "no response, but interim ones");
        /* A 100 is ours to send; HTTP/1.0 knows none of them. */
        else if (r->parser.status_code != 100 && !c->request.is_1_0)
            relay_out_response(r, &c->request, true, &c->out);
        return;
    }
    c->framing = relay_out_framing(r, &c->request);
    c->keeps_alive = web_may_keep_alive(c) && c->framing != RELAY_UNTIL_END;
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
    web_finish(c);
}

static void parse_response(struct web_conn *c, char *data, size_t len)
{
    struct relay_in *r = &c->response;
    size_t at = 0;

    while (at < len && c->phase == WEB_RELAYING && !c->is_over) {
        bool was_head = r->phase == RELAY_HEAD;

        at += relay_in_feed(r, data + at, len - at);
        if (r->phase == RELAY_BROKEN) {
            web_fail(c, SERVE_BAD_RESPONSE, 502, r->text);
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
        web_fail(c, c->ended, 502, "the VM ended before its response did");
    else if (is_nothing)
        web_fail(c, SERVE_NOT_CONNECTED, 502, "no server in the VM answered");
    else
        web_fail(c, SERVE_BAD_RESPONSE, 502, "a response that was cut short");
}

void web_send_request(struct web_conn *c)
{
    if (c->guest.fd < 0 || !c->guest_takes)
        return;
    if (serve_buf_send(&c->to_guest, c->guest.fd) < 0) {
        /* It may have answered before it closed. */
        c->guest_takes = false;
        serve_buf_clear(&c->to_guest);
    }
}

/* What the agent says comes before what the server says. */
static void take_bytes(struct web_conn *c, char *data, size_t len)
{
    struct server *server = c->base.server;
    struct err err;
    size_t taken = 0;

    if (is_forwarded(c) && !c->forward.is_open &&
        guest_forward_feed(&c->forward, data, len, &taken, &err) < 0) {
        log_limited(&server->exec_log, LOG_WARN, "serve", "%s", err.text);
        web_fail(c, SERVE_NOT_CONNECTED, 502, "no server in the VM answered");
        return;
    }
    if (taken < len)
        parse_response(c, data + taken, len - taken);
}

static void on_guest(void *opaque, uint32_t events)
{
    struct web_conn *c = opaque;
    char buf[WEB_READ_SIZE];
    ssize_t n;

    web_send_request(c);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 &&
        serve_buf_len(&c->out) < WEB_HIGH) {
        do {
            n = recv(c->guest.fd, buf, sizeof(buf), MSG_DONTWAIT);
        } while (n < 0 && errno == EINTR);
        if (n > 0)
            take_bytes(c, buf, (size_t)n);
        else if (n == 0 || errno != EAGAIN)
            end_response(c);
    }
    web_settle(c);
}

/* Our end of a connection to the server in the clone, or to its agent. */
static int reach_guest(struct web_conn *c, int *ret_fd, struct err *err)
{
    int fds[2];
    int rc;

    if (is_forwarded(c))
        return clone_call_agent(
            c->base.job.clone, SERVE_GATE_COOKIE, ret_fd, err);
    rc = server_pair(fds);
    if (rc < 0)
        return err_sys(err, rc, "cannot make a connection to a VM");
    rc = clone_connect(c->base.job.clone, c->base.server->config.port, fds[1],
        SERVE_GATE_COOKIE, err);
    if (rc < 0)
        (void)close(fds[0]);
    else
        *ret_fd = fds[0];
    return rc;
}

void web_connect(struct web_conn *c)
{
    struct err err;
    int fd = -1;

    if (reach_guest(c, &fd, &err) < 0) {
        log_limited(
            &c->base.server->exec_log, LOG_WARN, "serve", "%s", err.text);
        web_fail(c, SERVE_NOT_CONNECTED, 502, "the VM cannot be reached");
        return;
    }
    c->phase = WEB_RELAYING;
    c->guest = (struct loop_source){.fd = fd, .handle = on_guest, .opaque = c};
    c->guest_takes = true;
    c->forward = (struct guest_forward){0};
    c->interims = 0;
    c->ended = SERVE_OK;
    relay_in_next(
        &c->response, web_is_head(c) ? RELAY_RESPONSE_TO_HEAD : RELAY_RESPONSE);
}

/* Not at all when nothing is wanted: its end would be told without end. */
int web_watch_guest(struct web_conn *c)
{
    struct loop *loop = c->base.server->config.loop;
    uint32_t events = 0;

    if (c->guest.fd < 0)
        return 0;
    if (serve_buf_len(&c->out) < WEB_HIGH)
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
