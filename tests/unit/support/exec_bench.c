/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/support/exec_bench.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/fd.h"

static void on_started(void *opaque)
{
    struct exec_bench *b = opaque;

    b->started++;
}

static void on_done(void *opaque, const struct guest_exec_result *result)
{
    struct exec_bench *b = opaque;

    b->done++;
    b->result = *result;
}

void exec_bench_init(struct exec_bench *b)
{
    struct err err;
    int fds[2];

    *b = (struct exec_bench){.agent = -1, .out = {-1, -1}, .err = {-1, -1}};
    assert_int_equal(loop_init(&b->loop, &err), 0);
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
        0);
    b->agent = fds[0];
    b->exec.socket.fd = fds[1]; /* for guest_exec_start */
    assert_int_equal(pipe2(b->out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(b->err, O_CLOEXEC), 0);
    assert_int_equal(fd_set_nonblocking(b->out[0], true), 0);
    assert_int_equal(fd_set_nonblocking(b->err[0], true), 0);
}

void exec_bench_fini(struct exec_bench *b)
{
    guest_exec_fini(&b->exec);
    fd_closep(&b->agent);
    for (int i = 0; i < 2; i++) {
        fd_closep(&b->out[i]);
        fd_closep(&b->err[i]);
    }
    loop_fini(&b->loop);
    free(b->printed.data);
    free(b->complained.data);
    b->printed = (struct exec_bench_text){0};
    b->complained = (struct exec_bench_text){0};
}

struct guest_exec_config exec_bench_config(struct exec_bench *b, int stdin_fd)
{
    static const char *const argv[] = {"cmd", NULL};

    return (struct guest_exec_config){.argv = argv,
        .stdin_fd = stdin_fd,
        .stdout_fd = b->out[1],
        .stderr_fd = b->err[1],
        .on_started = on_started,
        .on_done = on_done,
        .opaque = b};
}

void exec_bench_start(struct exec_bench *b, int stdin_fd)
{
    struct guest_exec_config config = exec_bench_config(b, stdin_fd);
    struct err err;

    assert_int_equal(
        guest_exec_start(&b->exec, &b->loop, b->exec.socket.fd, &config, &err),
        0);
}

void exec_bench_start_running(
    struct exec_bench *b, int stdin_fd, uint32_t window)
{
    struct exec_bench_frame *frame = malloc(sizeof(*frame));

    assert_non_null(frame);
    exec_bench_start(b, stdin_fd);
    exec_bench_say_hello(b, window);
    assert_true(exec_bench_hear(b, frame));
    assert_int_equal(frame->type, AGENT_EXEC);
    free(frame);
    exec_bench_say_started(b);
    exec_bench_run(b);
    assert_int_equal(b->started, 1);
    assert_int_equal(b->done, 0);
    assert_int_equal(b->exec.phase, GUEST_EXEC_RUNNING);
}

void exec_bench_run_unread(struct exec_bench *b)
{
    struct pollfd pfd = {.fd = b->loop.epoll_fd, .events = POLLIN};

    for (unsigned int i = 0; poll(&pfd, 1, 0) != 0; i++) {
        assert_in_range(i, 0, EXEC_BENCH_ROUNDS_MAX);
        assert_int_equal(loop_run_once(&b->loop, 0), 0);
    }
}

static bool read_some(int fd, struct exec_bench_text *text)
{
    ssize_t n;

    if (text->room - text->len < 65536) {
        text->room += 1 << 20;
        text->data = realloc(text->data, text->room);
        assert_non_null(text->data);
    }
    n = read(fd, text->data + text->len, text->room - text->len);
    if (n <= 0)
        return false;
    text->len += (size_t)n;
    return true;
}

void exec_bench_read_outputs(struct exec_bench *b)
{
    while (b->out[0] >= 0 && read_some(b->out[0], &b->printed))
        ;
    while (b->err[0] >= 0 && read_some(b->err[0], &b->complained))
        ;
}

void exec_bench_run(struct exec_bench *b)
{
    size_t before;

    do {
        before = b->printed.len + b->complained.len;
        exec_bench_run_unread(b);
        exec_bench_read_outputs(b);
    } while (b->printed.len + b->complained.len != before);
}

size_t exec_bench_send(struct exec_bench *b, const void *data, size_t len)
{
    ssize_t n = send(b->agent, data, len, MSG_NOSIGNAL);

    if (n < 0) {
        assert_int_equal(errno, EAGAIN);
        return 0;
    }
    return (size_t)n;
}

void exec_bench_say(
    struct exec_bench *b, uint16_t type, const void *data, size_t len)
{
    struct agent_frame head = {
        .length = agent_le32_put((uint32_t)len), .type = agent_le16_put(type)};

    assert_int_equal(exec_bench_send(b, &head, sizeof(head)), sizeof(head));
    if (len > 0)
        assert_int_equal(exec_bench_send(b, data, len), len);
}

void exec_bench_say_hello(struct exec_bench *b, uint32_t window)
{
    struct agent_hello hello = {.magic = agent_le32_put(AGENT_MAGIC),
        .version = agent_le16_put(AGENT_VERSION),
        .position = AGENT_POSITION_INIT,
        .payload_max = agent_le32_put(AGENT_PAYLOAD_MAX),
        .stdin_window = agent_le32_put(window)};

    exec_bench_say(b, AGENT_HELLO, &hello, sizeof(hello));
}

void exec_bench_say_started(struct exec_bench *b)
{
    struct agent_started started = {.pid = agent_le32_put(4711)};

    exec_bench_say(b, AGENT_STARTED, &started, sizeof(started));
}

void exec_bench_say_ack(struct exec_bench *b, uint32_t bytes, uint32_t flags)
{
    struct agent_stdin_ack ack = {
        .bytes = agent_le32_put(bytes), .flags = agent_le32_put(flags)};

    exec_bench_say(b, AGENT_STDIN_ACK, &ack, sizeof(ack));
}

void exec_bench_say_exit(struct exec_bench *b, uint32_t status, uint32_t signal)
{
    struct agent_exit end = {
        .status = agent_le32_put(status), .signal = agent_le32_put(signal)};

    exec_bench_say(b, AGENT_EXIT, &end, sizeof(end));
}

bool exec_bench_hear(struct exec_bench *b, struct exec_bench_frame *ret_frame)
{
    struct agent_frame head;
    int have = 0;

    assert_int_equal(ioctl(b->agent, FIONREAD, &have), 0);
    if ((size_t)have < sizeof(head))
        return false;
    assert_int_equal(
        recv(b->agent, &head, sizeof(head), MSG_PEEK), sizeof(head));
    ret_frame->type = agent_le16_get(head.type);
    ret_frame->len = agent_le32_get(head.length);
    assert_in_range(ret_frame->len, 0, AGENT_PAYLOAD_MAX);
    assert_int_equal(agent_le16_get(head.flags), 0);
    if ((size_t)have < sizeof(head) + ret_frame->len)
        return false;
    assert_int_equal(recv(b->agent, &head, sizeof(head), 0), sizeof(head));
    if (ret_frame->len > 0)
        assert_int_equal(
            recv(b->agent, ret_frame->data, ret_frame->len, MSG_WAITALL),
            ret_frame->len);
    return true;
}

void exec_bench_expect(
    struct exec_bench *b, uint16_t type, const void *data, size_t len)
{
    struct exec_bench_frame *frame = malloc(sizeof(*frame));

    assert_non_null(frame);
    assert_true(exec_bench_hear(b, frame));
    assert_int_equal(frame->type, type);
    assert_int_equal(frame->len, len);
    if (len > 0)
        assert_memory_equal(frame->data, data, len);
    free(frame);
}

void exec_bench_expect_exit(const struct exec_bench *b, int status)
{
    assert_int_equal(b->done, 1);
    assert_false(b->result.is_error);
    assert_int_equal(b->result.status, status);
    assert_string_equal(b->result.text, "");
}

void exec_bench_expect_error(
    const struct exec_bench *b, int status, const char *text)
{
    assert_int_equal(b->done, 1);
    assert_true(b->result.is_error);
    assert_int_equal(b->result.status, status);
    assert_string_equal(b->result.text, text);
}
