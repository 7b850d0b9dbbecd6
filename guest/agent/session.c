/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/session.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "guest/agent/operation.h"
#include "guest/agent/text.h"
#include "guest/agent/version.h"

/* Rounds of one session before the others have their turn. */
#define PUMP_ROUNDS 16

int64_t session_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void put_hello(struct session *s, const struct session_shared *shared)
{
    uint32_t features = AGENT_FEATURE_EXEC | AGENT_FEATURE_TTY |
                        AGENT_FEATURE_COPY | AGENT_FEATURE_TIME |
                        AGENT_FEATURE_ENTROPY | AGENT_FEATURE_FREEZE |
                        AGENT_FEATURE_GENERATION | AGENT_FEATURE_FORWARD;
    struct agent_hello hello = {
        .magic = agent_le32_put(AGENT_MAGIC),
        .version = agent_le16_put(AGENT_VERSION),
        .position = (uint8_t)shared->position,
        .agent_version = AGENT_VERSION_TEXT,
        .payload_max = agent_le32_put(AGENT_PAYLOAD_MAX),
        .stdin_window = agent_le32_put(AGENT_STDIN_WINDOW),
    };

    if (shared->position != AGENT_POSITION_DAEMON)
        features |= AGENT_FEATURE_POWER;
    hello.features = agent_le64_put(features);
    memcpy(hello.boot_id, shared->boot_id, sizeof(hello.boot_id));
    (void)frame_out_put(&s->out, AGENT_HELLO, &hello, sizeof(hello), NULL, 0);
}

void session_open(struct session *s, const struct session_shared *shared,
    int sock, bool connecting)
{
    assert(s->state == SESSION_FREE);
    s->state = SESSION_REQUEST;
    s->sock = sock;
    s->connecting = connecting;
    s->watches_output = connecting;
    s->readable = false; /* epoll says so if it is */
    s->writable = true;
    s->hup = false;
    s->gone = false;
    s->out_shut = false;
    s->wants_power = false;
    s->wants_restart = false;
    s->deadline_ms = 0;
    frame_in_init(&s->in);
    frame_out_init(&s->out);
    exec_init(&s->exec);
    put_hello(s, shared);
}

/* ---- ends ------------------------------------------------------------- */

static void end_operation(struct session *s)
{
    if (s->state == SESSION_COPY_IN)
        copy_in_fini(&s->copy_in);
    if (s->state == SESSION_COPY_OUT)
        copy_out_fini(&s->copy_out);
    if (s->state == SESSION_FORWARD)
        forward_fini(&s->forward);
    exec_close(&s->exec);
    if (s->exec.pid > 0 && s->deadline_ms == 0) {
        kill(-s->exec.pid, SIGHUP);
        /* A stopped one must wake up to die of it. */
        kill(-s->exec.pid, SIGCONT);
        s->deadline_ms = session_now_ms() + SESSION_KILL_MS;
    }
}

/* The connection is over, from whichever side. */
static void close_session(struct session *s)
{
    end_operation(s);
    close(s->sock);
    s->sock = -1;
    s->state = s->exec.pid > 0 ? SESSION_DYING : SESSION_FREE;
}

/* The closing frame was appended. */
void session_begin_closing(struct session *s)
{
    end_operation(s);
    s->state = SESSION_CLOSING;
}

void session_fail(struct session *s, enum agent_stage stage, int error,
    uint16_t status, const char *text)
{
    struct agent_error head = {
        .error = agent_le32_put((uint32_t)-error),
        .stage = agent_le16_put((uint16_t)stage),
        .status = agent_le16_put(status),
    };
    size_t n = strlen(text);

    if (n > AGENT_ERROR_TEXT_MAX)
        n = AGENT_ERROR_TEXT_MAX;
    (void)frame_out_put(&s->out, AGENT_ERROR, &head, sizeof(head), text, n);
    session_begin_closing(s);
}

/* fail with "what 'name': reason" */
void session_fail_about(struct session *s, enum agent_stage stage, int error,
    uint16_t status, const char *what, const char *name)
{
    char buf[AGENT_ERROR_TEXT_MAX + 1];
    struct text t;

    text_init(&t, buf, sizeof(buf));
    text_str(&t, what);
    if (name[0] != '\0') {
        text_str(&t, " '");
        text_str(&t, name);
        text_str(&t, "'");
    }
    text_errno(&t, -error);
    session_fail(s, stage, error, status, buf);
}

void session_finish(struct session *s, uint64_t entries, uint64_t bytes)
{
    struct agent_ok ok = {
        .entries = agent_le64_put(entries),
        .bytes = agent_le64_put(bytes),
    };

    (void)frame_out_put(&s->out, AGENT_OK, &ok, sizeof(ok), NULL, 0);
    session_begin_closing(s);
}

/* ---- frames ----------------------------------------------------------- */

static void take_frames(
    struct session *s, struct session_shared *shared, uint32_t slot)
{
    struct frame_view frame;
    int r;

    while (s->state != SESSION_CLOSING && s->state != SESSION_FORWARD &&
           (r = frame_in_next(&s->in, &frame)) != 0) {
        if (r > 0)
            r = operation_take_frame(s, shared, slot, &frame);
        if (r < 0)
            session_fail(s, AGENT_STAGE_PROTOCOL, r,
                s->state == SESSION_EXEC ? 125 : 0,
                "malformed or unexpected frame");
    }
}

/* ---- the socket ------------------------------------------------------- */

/* True if something was received, or the session is over. */
static bool receive(
    struct session *s, struct session_shared *shared, uint32_t slot)
{
    size_t room;
    uint8_t *space;
    ssize_t n;

    if (!s->readable)
        return false;
    space = frame_in_space(&s->in, &room);
    n = recv(s->sock, space, room, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && errno == EAGAIN) {
        s->readable = false;
        return false;
    }
    if (n <= 0) {
        close_session(s);
        return true;
    }
    if ((size_t)n < room && !s->hup)
        s->readable = false;
    frame_in_commit(&s->in, (size_t)n);
    take_frames(s, shared, slot);
    return true;
}

/*
 * Nothing more fits into the socket. Only now is epoll asked to tell of room:
 * it would wake the agent for every byte that the host takes.
 */
static void await_room(
    struct session *s, const struct session_shared *shared, uint32_t slot)
{
    const uint32_t events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET;

    s->writable = false;
    if (s->watches_output)
        return;
    if (watch_set(shared->exec.epoll_fd, EPOLL_CTL_MOD, s->sock, events,
            WATCH_SOCKET, slot) != 0)
        close_session(s);
    else
        s->watches_output = true;
}

/* True if something was sent, or the session is over. */
static bool transmit(
    struct session *s, const struct session_shared *shared, uint32_t slot)
{
    ssize_t n;

    if (!s->writable || frame_out_pending(&s->out) == 0)
        return false;
    n = send(s->sock, s->out.buf + s->out.start, frame_out_pending(&s->out),
        MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && errno == EAGAIN) {
        await_room(s, shared, slot);
        return false;
    }
    if (n < 0 && s->state == SESSION_FORWARD) {
        /* What it sent before is the server's all the same. */
        s->gone = true;
        frame_out_init(&s->out);
        return true;
    }
    if (n < 0) {
        close_session(s);
        return true;
    }
    frame_out_sent(&s->out, (size_t)n);
    return true;
}

static void begin_power(struct session *s, struct session_shared *shared)
{
    close_session(s);
    power_start(&shared->power, &s->power, s->wants_restart, session_now_ms());
}

/* The host has closed, or sends what nobody reads any more. */
static void linger(struct session *s, struct session_shared *shared)
{
    uint8_t scrap[64];
    ssize_t n;

    do {
        n = recv(s->sock, scrap, sizeof(scrap), MSG_DONTWAIT);
    } while (n > 0 || (n < 0 && errno == EINTR));
    if (n < 0 && errno == EAGAIN)
        return;
    begin_power(s, shared);
}

/* ---- FORWARD ----------------------------------------------------------- */

/* From the host, as far as there is room; true if there was something. */
static bool receive_raw(struct session *s)
{
    struct forward *f = &s->forward;
    size_t room;
    uint8_t *space;
    ssize_t n;

    if (!s->readable || f->in_ended)
        return false;
    space = frame_in_space(&s->in, &room);
    if (room == 0)
        return false;
    n = recv(s->sock, space, room, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && errno == EAGAIN) {
        s->readable = false;
        return false;
    }
    if (n <= 0)
        f->in_ended = true;
    else
        frame_in_commit(&s->in, (size_t)n);
    return true;
}

/* False: the server has not been reached yet, or it was not. */
static bool is_forwarding(struct session *s)
{
    static const struct agent_ok ok;
    bool was_connecting = s->forward.connecting;
    int r = forward_connected(&s->forward);

    if (r < 0)
        session_fail_about(
            s, AGENT_STAGE_SYSTEM, r, 0, "cannot connect to the server", "");
    else if (r > 0 && was_connecting)
        (void)frame_out_put(&s->out, AGENT_OK, &ok, sizeof(ok), NULL, 0);
    return r > 0;
}

/* Each end is passed on once all before it has been. */
static bool pass_ends(struct session *s)
{
    const struct forward *f = &s->forward;

    if (f->out_ended && !s->out_shut && frame_out_pending(&s->out) == 0) {
        (void)shutdown(s->sock, SHUT_WR);
        s->out_shut = true;
    }
    /* A host that is gone is told nothing more. */
    if (!f->in_closed || !(s->out_shut || s->gone))
        return false;
    close_session(s);
    return true;
}

static bool pump_forward(struct session *s)
{
    bool progress = receive_raw(s);
    int error;

    if (!is_forwarding(s))
        return progress || s->state != SESSION_FORWARD;
    progress |= forward_pump(&s->forward, &s->in, &s->out, &error);
    if (error != 0) {
        close_session(s);
        return true;
    }
    return pass_ends(s) || progress;
}

static bool pump_operation(struct session *s)
{
    bool progress = false;
    int r;

    if (s->state == SESSION_FORWARD) {
        progress = pump_forward(s);
    } else if (s->state == SESSION_EXEC) {
        progress = exec_pump(&s->exec, &s->out);
        if (exec_is_finished(&s->exec) && exec_put_exit(&s->exec, &s->out)) {
            session_begin_closing(s);
            progress = true;
        }
    } else if (s->state == SESSION_COPY_OUT) {
        size_t before = frame_out_pending(&s->out);

        r = copy_out_pump(&s->copy_out, &s->out);
        progress =
            r != 0 || s->copy_out.done || frame_out_pending(&s->out) != before;
        if (r != 0)
            session_fail_about(
                s, AGENT_STAGE_PATH, r, 0, "cannot read", s->copy_out.path);
        else if (s->copy_out.done)
            session_begin_closing(s);
    }
    return progress;
}

/* What is sent in one piece costs one system call: send comes last. */
static bool pump_once(
    struct session *s, struct session_shared *shared, uint32_t slot)
{
    bool progress = false;

    if (s->state == SESSION_LINGER) {
        linger(s, shared);
        return false;
    }
    if (s->state != SESSION_CLOSING && s->state != SESSION_FORWARD)
        progress |= receive(s, shared, slot);
    if (s->sock >= 0)
        progress |= pump_operation(s);
    if (s->sock >= 0)
        progress |= transmit(s, shared, slot);
    if (s->state == SESSION_CLOSING && frame_out_pending(&s->out) == 0) {
        if (s->wants_power) {
            s->state = SESSION_LINGER;
            s->deadline_ms = session_now_ms() + SESSION_LINGER_MS;
            return true;
        }
        close_session(s);
    }
    return progress;
}

bool session_pump(
    struct session *s, struct session_shared *shared, uint32_t slot)
{
    if (s->connecting)
        return false;
    for (int i = 0; i < PUMP_ROUNDS; i++) {
        if (s->sock < 0 || !pump_once(s, shared, slot))
            return false;
    }
    return s->sock >= 0;
}

/* ---- events ----------------------------------------------------------- */

static void socket_event(struct session *s, uint32_t events)
{
    bool error = (events & (EPOLLERR | EPOLLHUP)) != 0;

    if (s->sock < 0)
        return;
    if (s->connecting) {
        if (error) {
            close_session(s);
            return;
        }
        if ((events & EPOLLOUT) != 0)
            s->connecting = false;
    }
    s->gone |= error;
    if (error || (events & EPOLLRDHUP) != 0)
        s->hup = true;
    if (s->hup || (events & EPOLLIN) != 0)
        s->readable = true;
    if (error || (events & EPOLLOUT) != 0)
        s->writable = true;
}

static void stream_event(struct exec_stream *stream, uint32_t events)
{
    if ((events & (EPOLLERR | EPOLLHUP)) != 0)
        stream->hup = true;
    if (stream->hup || (events & EPOLLIN) != 0)
        stream->ready = true;
}

void session_event(struct session *s, enum watch_kind kind, uint32_t events)
{
    switch (kind) {
    case WATCH_SOCKET:
        socket_event(s, events);
        break;
    case WATCH_STDIN:
        s->exec.in_ready = true;
        break;
    case WATCH_STDOUT:
        stream_event(&s->exec.out[0], events);
        /* With a terminal this descriptor is the input too. */
        if ((events & (EPOLLOUT | EPOLLHUP)) != 0)
            s->exec.in_ready = true;
        break;
    case WATCH_STDERR:
        stream_event(&s->exec.out[1], events);
        break;
    case WATCH_FORWARD:
        if (s->state == SESSION_FORWARD)
            forward_event(&s->forward, events);
        break;
    case WATCH_LISTEN:
    case WATCH_SIGNAL:
    default:
        break;
    }
}

void session_before_reap(const struct session *s)
{
    if (s->deadline_ms != 0 && s->exec.pid > 0)
        kill(-s->exec.pid, SIGKILL);
}

void session_reaped(struct session *s, int status, const struct rusage *usage)
{
    exec_reaped(&s->exec, status, usage);
    if (s->state == SESSION_DYING)
        s->state = SESSION_FREE;
}

void session_timeout(
    struct session *s, struct session_shared *shared, int64_t now_ms)
{
    if (s->deadline_ms == 0 || now_ms < s->deadline_ms)
        return;
    if (s->state == SESSION_LINGER) {
        begin_power(s, shared);
        return;
    }
    if (s->exec.pid > 0)
        kill(-s->exec.pid, SIGKILL);
    /* What remains is to reap it; that comes by itself. */
    s->deadline_ms = INT64_MAX;
}

void session_abandon(struct session *s)
{
    if (s->sock >= 0)
        close_session(s);
    if (s->exec.pid > 0)
        kill(-s->exec.pid, SIGKILL);
}
