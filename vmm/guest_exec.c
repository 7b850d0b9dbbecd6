/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/guest_exec.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/proto.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/guest_error.h"
#include "vmm/guest_exec_request.h"

/* The request, or one STDIN frame and some control frames, at a time. */
#define TX_ROOM (AGENT_FRAME_MAX + 4096)

/* Read at once from standard input. */
#define INPUT_CHUNK 32768u

/* More input than that under way is no agent's wish. */
#define WINDOW_MAX (1u << 20)

#define FRAMES_A_ROUND 64u

#define MALFORMED "the agent sent a malformed "

_Static_assert(GUEST_EXEC_TEXT_MAX >= AGENT_ERROR_TEXT_MAX,
    "an error of the agent is kept whole");

static void on_socket(void *opaque, uint32_t events);
static void on_input(void *opaque, uint32_t events);
static void on_out_drained(void *opaque);
static void pump_input(struct guest_exec *exec);

static void free_resources(struct guest_exec *exec)
{
    loop_remove(exec->loop, &exec->socket);
    loop_remove(exec->loop, &exec->input);
    fd_closep(&exec->socket.fd);
    outstream_fini(&exec->out);
    outstream_fini(&exec->err);
    free(exec->rx);
    free(exec->tx);
    exec->rx = NULL;
    exec->tx = NULL;
}

void guest_exec_fini(struct guest_exec *exec)
{
    if (exec->loop != NULL)
        free_resources(exec);
    *exec = (struct guest_exec){0};
}

/* Ends the command as far as its user is concerned, once. */
static void finish(struct guest_exec *exec)
{
    if (exec->phase == GUEST_EXEC_DONE)
        return;
    exec->phase = GUEST_EXEC_DONE;
    loop_remove(exec->loop, &exec->socket);
    loop_remove(exec->loop, &exec->input);
    exec->on_done(exec->opaque, &exec->result);
}

/* Whether both our outputs have taken all they were given. */
static bool outputs_idle(const struct guest_exec *exec)
{
    return !outstream_is_busy(&exec->out) && !outstream_is_busy(&exec->err);
}

static void end_when_drained(struct guest_exec *exec)
{
    loop_remove(exec->loop, &exec->input);
    loop_remove(exec->loop, &exec->socket);
    exec->phase = GUEST_EXEC_DRAINING;
    if (outputs_idle(exec))
        finish(exec);
}

static void fail(struct guest_exec *exec, int status, const char *text)
{
    exec->result.is_error = true;
    exec->result.status = status;
    (void)snprintf(exec->result.text, sizeof(exec->result.text), "%s", text);
    end_when_drained(exec);
}

/* A socket that has been hung up is reported whether asked for or not. */
static int watch_socket(struct guest_exec *exec, uint32_t events)
{
    if (events == 0) {
        loop_remove(exec->loop, &exec->socket);
        return 0;
    }
    if (exec->socket.added)
        return loop_change(exec->loop, &exec->socket, events);
    return loop_add(exec->loop, &exec->socket, events);
}

/* What the loop is to wait for on the socket now. */
static void update_socket(struct guest_exec *exec)
{
    uint32_t events = 0;

    if (exec->phase >= GUEST_EXEC_DRAINING)
        return;
    if (outputs_idle(exec))
        events |= EPOLLIN;
    if (exec->tx_at < exec->tx_end)
        events |= EPOLLOUT;
    if (watch_socket(exec, events) < 0)
        fail(exec, 125, "cannot watch the connection to the agent");
}

static void flush_tx(struct guest_exec *exec)
{
    while (exec->tx_at < exec->tx_end) {
        ssize_t n = send(exec->socket.fd, exec->tx + exec->tx_at,
            exec->tx_end - exec->tx_at, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        /*
         * A peer that has closed may have sent its reason first: what is to
         * be sent is dropped, and reading finds the reason or the end.
         */
        if (n < 0 && errno != EAGAIN)
            exec->tx_at = exec->tx_end;
        if (n < 0)
            break;
        exec->tx_at += (size_t)n;
    }
    if (exec->tx_at == exec->tx_end) {
        exec->tx_at = 0;
        exec->tx_end = 0;
    }
}

/* Whether a frame of `payload` bytes can be queued now. */
static bool has_tx_room(const struct guest_exec *exec, size_t payload)
{
    return TX_ROOM - exec->tx_end >= sizeof(struct agent_frame) + payload;
}

static void queue_frame(
    struct guest_exec *exec, uint16_t type, const void *payload, size_t len)
{
    struct agent_frame head = {
        .length = agent_le32_put((uint32_t)len), .type = agent_le16_put(type)};

    assert(len <= AGENT_PAYLOAD_MAX && has_tx_room(exec, len));
    memcpy(exec->tx + exec->tx_end, &head, sizeof(head));
    if (len > 0)
        memcpy(exec->tx + exec->tx_end + sizeof(head), payload, len);
    exec->tx_end += sizeof(head) + len;
    flush_tx(exec);
}

static void watch_input(struct guest_exec *exec, bool on)
{
    if (exec->input_is_file || exec->input.fd < 0)
        return;
    if (on && !exec->input.added) {
        int rc = loop_add(exec->loop, &exec->input, EPOLLIN);

        if (rc == -EPERM)
            exec->input_is_file = true;
        else if (rc < 0)
            fail(exec, 125, "cannot watch standard input");
    } else if (!on) {
        loop_remove(exec->loop, &exec->input);
    }
}

static bool input_wanted(const struct guest_exec *exec)
{
    return exec->phase == GUEST_EXEC_RUNNING && !exec->input_ended &&
           exec->input.fd >= 0 && exec->input_window > 0 && exec->tx_end == 0;
}

/* Reads once from standard input and sends it on. */
static void forward_input(struct guest_exec *exec)
{
    struct pollfd p = {.fd = exec->input.fd, .events = POLLIN};
    uint8_t buf[INPUT_CHUNK];
    ssize_t n;

    /* It may block, and another command have read what was there. */
    if (!exec->input_is_file && poll(&p, 1, 0) == 0)
        return;
    n = read(exec->input.fd, buf, num_min(sizeof(buf), exec->input_window));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        exec->input_ended = true;
        queue_frame(exec, AGENT_STDIN_EOF, NULL, 0);
        return;
    }
    exec->input_window -= (uint32_t)n;
    queue_frame(exec, AGENT_STDIN, buf, (size_t)n);
}

static void pump_input(struct guest_exec *exec)
{
    watch_input(exec, input_wanted(exec));
    while (exec->input_is_file && input_wanted(exec))
        forward_input(exec);
    update_socket(exec);
}

static void on_input(void *opaque, uint32_t events)
{
    struct guest_exec *exec = opaque;

    (void)events;
    if (input_wanted(exec))
        forward_input(exec);
    pump_input(exec);
}

/* `error` is the errno of a write to one of our outputs. */
static void fail_output(struct guest_exec *exec, int error)
{
    struct err err;

    /* As a shell reports a command whose reader went away. */
    if (error == EPIPE) {
        fail(exec, 128 + SIGPIPE, "");
        return;
    }
    (void)err_sys(&err, error, "cannot write the command's output");
    fail(exec, 125, err.text);
}

static void do_output(struct guest_exec *exec, struct outstream *stream,
    const uint8_t *data, size_t len)
{
    int rc = outstream_write(stream, data, len);

    if (rc < 0)
        fail_output(exec, -rc);
}

/* The whole payload of a frame that has a fixed size. */
static bool get_payload(struct guest_exec *exec, struct bytes_reader *r,
    void *dst, size_t len, const char *complaint)
{
    bytes_get(r, dst, len);
    if (!r->failed && bytes_left(r) == 0)
        return true;
    fail(exec, 125, complaint);
    return false;
}

static void do_hello(struct guest_exec *exec, struct bytes_reader *r)
{
    struct agent_hello hello;

    bytes_get(r, &hello, sizeof(hello));
    if (r->failed || agent_le32_get(hello.magic) != AGENT_MAGIC) {
        fail(exec, 125, MALFORMED "greeting");
        return;
    }
    if (agent_le16_get(hello.version) != AGENT_VERSION) {
        fail(exec, 125, "the agent speaks another version of the protocol");
        return;
    }
    exec->input_window =
        (uint32_t)num_min(agent_le32_get(hello.stdin_window), WINDOW_MAX);
    exec->phase = GUEST_EXEC_WAITING;
}

static void do_error(struct guest_exec *exec, struct bytes_reader *r)
{
    struct guest_error error;

    if (!guest_error_parse(r, &error))
        fail(exec, 125, MALFORMED "error");
    else
        fail(exec, error.status == 0 ? 125 : error.status, error.text);
}

static void do_exit(struct guest_exec *exec, struct bytes_reader *r)
{
    struct agent_exit end;
    uint32_t signal;

    if (!get_payload(exec, r, &end, sizeof(end), MALFORMED "exit status"))
        return;
    signal = agent_le32_get(end.signal);
    exec->result.status = signal != 0
                              ? 128 + (int)(signal & 0x7f)
                              : (int)(agent_le32_get(end.status) & 0xff);
    end_when_drained(exec);
}

static void do_ack(struct guest_exec *exec, struct bytes_reader *r)
{
    struct agent_stdin_ack ack;
    uint64_t window;

    if (!get_payload(exec, r, &ack, sizeof(ack), MALFORMED "acknowledgement"))
        return;
    window = (uint64_t)exec->input_window + agent_le32_get(ack.bytes);
    exec->input_window = (uint32_t)num_min(window, WINDOW_MAX);
    if ((agent_le32_get(ack.flags) & AGENT_STDIN_CLOSED) != 0)
        exec->input_ended = true;
    pump_input(exec);
}

static void do_started(struct guest_exec *exec, struct bytes_reader *r)
{
    struct agent_started started;

    if (!get_payload(exec, r, &started, sizeof(started), MALFORMED "start"))
        return;
    exec->phase = GUEST_EXEC_RUNNING;
    if (exec->on_started != NULL)
        exec->on_started(exec->opaque);
    pump_input(exec);
}

/* A frame of a command that runs; false if it has no place there. */
static bool do_running(
    struct guest_exec *exec, uint16_t type, struct bytes_reader *r)
{
    switch (type) {
    case AGENT_STDOUT:
        do_output(exec, &exec->out, r->data, r->size);
        return true;
    case AGENT_STDERR:
        do_output(exec, &exec->err, r->data, r->size);
        return true;
    case AGENT_STDIN_ACK:
        do_ack(exec, r);
        return true;
    case AGENT_EXIT:
        do_exit(exec, r);
        return true;
    case AGENT_OK:
        if (exec->is_detached)
            end_when_drained(exec);
        return exec->is_detached;
    default:
        return false;
    }
}

static void do_frame(
    struct guest_exec *exec, uint16_t type, struct bytes_reader *r)
{
    if (exec->phase == GUEST_EXEC_HELLO && type != AGENT_HELLO)
        fail(exec, 125, "the agent did not greet");
    else if (exec->phase == GUEST_EXEC_HELLO)
        do_hello(exec, r);
    else if (type == AGENT_ERROR)
        do_error(exec, r);
    else if (exec->phase == GUEST_EXEC_WAITING && type == AGENT_STARTED)
        do_started(exec, r);
    else if (exec->phase != GUEST_EXEC_RUNNING || !do_running(exec, type, r))
        fail(exec, 125, "the agent sent an unexpected frame");
}

/* Bytes that the frame being received takes, its header included. */
static size_t frame_size(const struct guest_exec *exec)
{
    struct agent_frame head;

    if (exec->rx_len < sizeof(head))
        return sizeof(head);
    memcpy(&head, exec->rx, sizeof(head));
    return sizeof(head) + agent_le32_get(head.length);
}

/*
 * Not for as long as there are any: a guest is faster with small frames than
 * this is, and the loop has others to serve. It calls again for what is left.
 */
static void read_frames(struct guest_exec *exec)
{
    unsigned int frames = 0;

    while (exec->phase < GUEST_EXEC_DRAINING && outputs_idle(exec) &&
           frames < FRAMES_A_ROUND) {
        size_t want = frame_size(exec);
        ssize_t n;

        if (want > AGENT_FRAME_MAX) {
            fail(exec, 125, "the agent sent a frame that is too long");
            return;
        }
        if (exec->rx_len == want && want >= sizeof(struct agent_frame)) {
            struct agent_frame head;
            struct bytes_reader r;

            memcpy(&head, exec->rx, sizeof(head));
            bytes_reader_init(&r, exec->rx + sizeof(head), want - sizeof(head));
            exec->rx_len = 0;
            frames++;
            do_frame(exec, agent_le16_get(head.type), &r);
            continue;
        }
        n = recv(exec->socket.fd, exec->rx + exec->rx_len, want - exec->rx_len,
            MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            fail(exec, 125, "the guest closed the connection to its agent");
            return;
        }
        exec->rx_len += (size_t)n;
    }
}

static void on_socket(void *opaque, uint32_t events)
{
    struct guest_exec *exec = opaque;

    (void)events;
    flush_tx(exec);
    read_frames(exec);
    if (exec->phase < GUEST_EXEC_DRAINING)
        pump_input(exec);
}

static void on_out_drained(void *opaque)
{
    struct guest_exec *exec = opaque;

    if (exec->out.error != 0) {
        fail_output(exec, exec->out.error);
    } else if (exec->err.error != 0) {
        fail_output(exec, exec->err.error);
    } else if (exec->phase == GUEST_EXEC_DRAINING) {
        if (outputs_idle(exec))
            finish(exec);
    } else {
        on_socket(exec, 0);
    }
}

static int queue_request(struct guest_exec *exec,
    const struct guest_exec_config *config, struct err *err)
{
    uint8_t *payload = malloc(AGENT_PAYLOAD_MAX);
    size_t len;
    int rc;

    if (payload == NULL)
        return err_sys(err, ENOMEM, "command line");
    rc = guest_exec_request_build(config, payload, &len, err);
    if (rc == 0)
        queue_frame(exec, AGENT_EXEC, payload, len);
    free(payload);
    return rc;
}

int guest_exec_start(struct guest_exec *exec, struct loop *loop, int socket_fd,
    const struct guest_exec_config *config, struct err *err)
{
    int rc;

    assert(config->argv != NULL && config->argv[0] != NULL);
    *exec = (struct guest_exec){.loop = loop,
        .phase = GUEST_EXEC_HELLO,
        .socket = {.fd = socket_fd, .handle = on_socket, .opaque = exec},
        .input = {.fd = config->stdin_fd, .handle = on_input, .opaque = exec},
        .is_detached = config->detach,
        .on_started = config->on_started,
        .on_done = config->on_done,
        .opaque = config->opaque};
    outstream_init(&exec->out, loop, config->stdout_fd, on_out_drained, exec);
    outstream_init(&exec->err, loop, config->stderr_fd, on_out_drained, exec);
    outstream_set_limit(&exec->out, config->output_limit);
    outstream_set_limit(&exec->err, config->output_limit);
    exec->rx = malloc(AGENT_FRAME_MAX);
    exec->tx = malloc(TX_ROOM);
    if (exec->rx == NULL || exec->tx == NULL) {
        rc = err_sys(err, ENOMEM, "buffers of the agent's connection");
        goto fail;
    }
    rc = queue_request(exec, config, err);
    if (rc < 0)
        goto fail;
    rc = loop_add(loop, &exec->socket,
        exec->tx_at < exec->tx_end ? EPOLLIN | EPOLLOUT : EPOLLIN);
    if (rc < 0) {
        rc = err_sys(err, rc, "cannot watch the agent's connection");
        goto fail;
    }
    return 0;
fail:
    guest_exec_fini(exec);
    return rc;
}

void guest_exec_signal(struct guest_exec *exec, int signal)
{
    struct agent_signal frame = {.signal = agent_le32_put((uint32_t)signal)};

    if (exec->phase != GUEST_EXEC_RUNNING || !has_tx_room(exec, sizeof(frame)))
        return;
    queue_frame(exec, AGENT_SIGNAL, &frame, sizeof(frame));
    update_socket(exec);
}

void guest_exec_resize(struct guest_exec *exec, uint16_t rows, uint16_t cols)
{
    struct agent_winsize frame = {
        .rows = agent_le16_put(rows), .cols = agent_le16_put(cols)};

    if (exec->phase != GUEST_EXEC_RUNNING || !has_tx_room(exec, sizeof(frame)))
        return;
    queue_frame(exec, AGENT_WINSIZE, &frame, sizeof(frame));
    update_socket(exec);
}
