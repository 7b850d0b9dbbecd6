/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/console.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/num.h"

/* Ctrl-], the way out of a serial console since telnet. */
#define ESCAPE 0x1d

static void keep_tail(struct console *console, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        console->tail[console->tail_count % CONSOLE_TAIL_MAX] = data[i];
        console->tail_count++;
    }
}

/* Whether the guest writes too fast; what it has written is dropped then. */
static bool is_too_fast(struct console *console, size_t len)
{
    if (!rate_is_limited(&console->rate) ||
        rate_wait(&console->rate, clock_now_ns()) == 0)
        return false;
    console->rate_dropped += len;
    return true;
}

/*
 * Perhaps on a vCPU's thread. A sink that would block is left alone and watched
 * on the loop; meanwhile the port tells the guest that it is not empty.
 */
static size_t on_output(void *opaque, const uint8_t *data, size_t len)
{
    struct console *console = opaque;
    struct pollfd pfd = {.fd = console->out_fd, .events = POLLOUT};
    size_t allowed = 0;
    ssize_t n;

    if (is_too_fast(console, len)) {
        keep_tail(console, data, len);
        return len;
    }
    if (console->out_fd >= 0 && !console->out_failed)
        allowed = output_limit_take(console->limit, len);
    if (allowed == 0) {
        if (len > 0 && console->out_fd >= 0 && !console->out_failed)
            output_limit_say(console->limit);
        keep_tail(console, data, len);
        return len;
    }
    /* A poll that a kick interrupted told nothing: the write might block. */
    n = poll(&pfd, 1, 0) > 0 ? write(console->out_fd, data, allowed) : 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        console->out_failed = true;
        n = (ssize_t)allowed;
    }
    if (n <= 0) {
        output_limit_give_back(console->limit, allowed);
        loop_post(console->loop, &console->watch_out);
        return 0;
    }
    output_limit_give_back(console->limit, allowed - (size_t)n);
    /* What the limit cuts off has been taken. */
    if ((size_t)n < allowed)
        len = (size_t)n;
    else if (allowed < len)
        output_limit_say(console->limit);
    if (rate_is_limited(&console->rate))
        rate_charge(&console->rate, len, 0);
    keep_tail(console, data, len);
    return len;
}

static void do_watch_out(void *opaque)
{
    struct console *console = opaque;

    /* What cannot be watched is never full: try again at once. */
    if (!console->out_source.added &&
        loop_add(console->loop, &console->out_source, EPOLLOUT) < 0) {
        device_lock(console->port.dev);
        console->port.sink_ready(console->port.opaque);
        device_unlock(console->port.dev);
    }
}

static void on_out_ready(void *opaque, uint32_t events)
{
    struct console *console = opaque;

    (void)events;
    loop_remove(console->loop, &console->out_source);
    console->port.sink_ready(console->port.opaque);
}

void console_set_output(struct console *console, int out_fd)
{
    console->out_fd = out_fd;
    console->out_source.fd = out_fd;
}

void console_set_limit(struct console *console, struct output_limit *limit)
{
    console->limit = limit;
}

int console_set_rate(struct console *console,
    const struct rate_bucket_config *bucket, struct err *err)
{
    const struct rate_config config = {.bytes = *bucket};
    int rc = rate_check(&config, err);

    if (rc == 0)
        rate_init(
            &console->rate, &config, &console->rate_state, clock_now_ns());
    return rc;
}

/* The guest has taken input and there is room for more. */
static void on_room(void *opaque)
{
    struct console *console = opaque;

    loop_post(console->loop, &console->watch_in);
}

static void give_input(struct console *console)
{
    size_t n = console->port.receive(console->port.opaque,
        console->input + console->input_at,
        console->input_end - console->input_at);

    console->input_at += n;
}

static void do_watch_in(void *opaque)
{
    struct console *console = opaque;

    device_lock(console->port.dev);
    give_input(console);
    device_unlock(console->port.dev);
    if (console->input_at == console->input_end && !console->input_ended &&
        !console->in_source.added &&
        loop_add(console->loop, &console->in_source, EPOLLIN) < 0)
        console->input_ended = true;
}

static void on_input(void *opaque, uint32_t events)
{
    struct console *console = opaque;
    ssize_t n;

    (void)events;
    n = read(console->in_source.fd, console->input, sizeof(console->input));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        console->input_ended = true;
        loop_remove(console->loop, &console->in_source);
        return;
    }
    if (console->on_escape != NULL &&
        memchr(console->input, ESCAPE, (size_t)n) != NULL) {
        console->on_escape(console->opaque);
        return;
    }
    console->input_at = 0;
    console->input_end = (size_t)n;
    give_input(console);
    if (console->input_at < console->input_end)
        loop_remove(console->loop, &console->in_source);
}

void console_init(
    struct console *console, struct loop *loop, int out_fd, int in_fd)
{
    *console = (struct console){.loop = loop, .out_fd = out_fd};
    console->out_source = (struct loop_source){
        .fd = out_fd, .handle = on_out_ready, .opaque = console};
    console->in_source = (struct loop_source){
        .fd = in_fd, .handle = on_input, .opaque = console};
    console->watch_out =
        (struct loop_call){.run = do_watch_out, .opaque = console};
    console->watch_in =
        (struct loop_call){.run = do_watch_in, .opaque = console};
}

void console_fini(struct console *console)
{
    if (console->loop == NULL)
        return;
    loop_remove(console->loop, &console->out_source);
    loop_remove(console->loop, &console->in_source);
    loop_unpost(console->loop, &console->watch_out);
    loop_unpost(console->loop, &console->watch_in);
    console->loop = NULL;
}

void console_set_escape(
    struct console *console, void (*on_escape)(void *opaque), void *opaque)
{
    console->on_escape = on_escape;
    console->opaque = opaque;
}

struct serial_host console_host(struct console *console)
{
    return (struct serial_host){
        .write = on_output, .room = on_room, .opaque = console};
}

struct vconsole_host console_end(struct console *console)
{
    return (struct vconsole_host){
        .write = on_output, .room = on_room, .opaque = console};
}

static int attach(
    struct console *console, const struct console_port *port, struct err *err)
{
    int rc;

    console->port = *port;
    console->out_source.dev = port->dev;
    console->in_source.dev = port->dev;
    if (console->in_source.fd < 0)
        return 0;
    rc = loop_add(console->loop, &console->in_source, EPOLLIN);
    /* A regular file cannot be polled; it has no place as a keyboard. */
    if (rc < 0 && rc != -EPERM)
        return err_sys(err, rc, "cannot watch standard input");
    return 0;
}

static void serial_ready(void *opaque)
{
    serial_sink_ready(opaque);
}

static size_t serial_take(void *opaque, const uint8_t *data, size_t len)
{
    return serial_receive(opaque, data, len);
}

int console_attach(
    struct console *console, struct serial *serial, struct err *err)
{
    const struct console_port port = {.dev = &serial->dev,
        .sink_ready = serial_ready,
        .receive = serial_take,
        .opaque = serial};

    return attach(console, &port, err);
}

static void vconsole_ready(void *opaque)
{
    vconsole_sink_ready(opaque);
}

static size_t vconsole_take(void *opaque, const uint8_t *data, size_t len)
{
    return vconsole_receive(opaque, data, len);
}

int console_attach_virtio(
    struct console *console, struct vconsole *vconsole, struct err *err)
{
    const struct console_port port = {.dev = &vconsole->virtio.base,
        .sink_ready = vconsole_ready,
        .receive = vconsole_take,
        .opaque = vconsole};

    return attach(console, &port, err);
}

size_t console_tail(const struct console *console, char *buf, size_t size)
{
    uint64_t have = num_min(console->tail_count, CONSOLE_TAIL_MAX);
    uint64_t n = num_min(have, size);
    uint64_t start = console->tail_count - n;
    uint8_t before =
        console->tail[(start + CONSOLE_TAIL_MAX - 1) % CONSOLE_TAIL_MAX];
    size_t skip = 0;

    for (uint64_t i = 0; i < n; i++)
        buf[i] = (char)console->tail[(start + i) % CONSOLE_TAIL_MAX];
    /* Starts at a line's beginning if the cut was within one. */
    if (start > 0 && (n == CONSOLE_TAIL_MAX || before != '\n')) {
        const char *newline = memchr(buf, '\n', n);

        if (newline != NULL && (size_t)(newline - buf) + 1 < n)
            skip = (size_t)(newline - buf) + 1;
        memmove(buf, buf + skip, n - skip);
    }
    return n - skip;
}

void console_forget(struct console *console)
{
    console->tail_count = 0;
}
