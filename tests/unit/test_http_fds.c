/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that come with requests, and replies that come later. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/http_bench.h"
#include "vmm/base/fd.h"

#define NO_CONTENT                                                             \
    "HTTP/1.1 204 \r\nServer: Firecracker API\r\n"                             \
    "Connection: keep-alive\r\n\r\n"

struct fixture {
    struct http_bench b;
    unsigned int handled;
    uint32_t fd_count;       /* descriptors that came with the last one */
    struct http_conn *later; /* to be answered */
    unsigned int gone;       /* of those that were watched */
    int taken;               /* a descriptor, or -1 */
};

static void on_gone(void *opaque)
{
    struct fixture *f = opaque;

    f->gone++;
    f->later = NULL;
}

/*
 * "/fd" keeps the second descriptor, "/later" is answered when the test does,
 * others at once.
 */
static void handle(
    void *opaque, struct http_conn *conn, const struct http_request *request)
{
    struct fixture *f = opaque;

    f->handled++;
    f->fd_count = request->fd_count;
    if (strcmp(request->path, "/later") == 0) {
        f->later = conn;
        http_conn_watch(conn, on_gone, f);
        http_conn_defer(conn);
        return;
    }
    if (strcmp(request->path, "/fd") == 0)
        f->taken = http_conn_take_fd(conn, 1);
    http_conn_reply(conn, 204, NULL);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->taken = -1;
    http_bench_init(&f->b, handle, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fd_closep(&f->taken);
    http_bench_fini(&f->b);
    free(f);
    return 0;
}

/* ---- descriptors --------------------------------------------------------- */

#define PASSED_MAX 64u

/* Sends bytes with the write end of a pipe, `count` times. */
static void pass(
    struct fixture *f, int fd, const char *text, uint32_t count, int pipe_fd)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(PASSED_MAX * sizeof(int))];
    struct iovec iov = {
        .iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    struct msghdr msg = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *c;

    assert_true(count >= 1 && count <= PASSED_MAX);
    memset(control, 0, sizeof(control));
    c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (uint32_t i = 0; i < count; i++)
        memcpy(CMSG_DATA(c) + i * sizeof(int), &pipe_fd, sizeof(int));
    assert_int_equal(sendmsg(fd, &msg, MSG_NOSIGNAL), (ssize_t)strlen(text));
    http_bench_run(&f->b);
}

/* A pipe of which only what was passed is left to be written to. */
struct passed {
    int read_fd;
    int write_fd;
};

static struct passed pipe_new(void)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    return (struct passed){.read_fd = fds[0], .write_fd = fds[1]};
}

static bool is_closed(const struct passed *p)
{
    char byte;

    return read(p->read_fd, &byte, 1) == 0;
}

static void descriptors_come_with_a_request(void **state)
{
    struct fixture *f = *state;
    struct passed p = pipe_new();
    int fd = http_bench_connect(&f->b);
    bool ended;

    pass(f, fd, "DELETE /fd HTT", 2, p.write_fd);
    pass(f, fd, "P/1.1\r\n", 1, p.write_fd);
    fd_closep(&p.write_fd);
    http_bench_say(&f->b, fd, "\r\n");
    assert_string_equal(http_bench_hear(&f->b, fd, &ended), NO_CONTENT);
    assert_int_equal(f->fd_count, 3);
    assert_int_equal(fcntl(f->taken, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_false(is_closed(&p));
    fd_closep(&f->taken);
    assert_true(is_closed(&p));
    http_bench_ask(&f->b, fd, "DELETE / HTTP/1.1\r\n\r\n", NO_CONTENT);
    assert_int_equal(f->fd_count, 0);
    (void)close(fd);
    (void)close(p.read_fd);
}

static void descriptors_that_nobody_takes_are_closed(void **state)
{
    struct fixture *f = *state;
    struct passed p = pipe_new();
    int fd = http_bench_connect(&f->b);
    bool ended;

    pass(f, fd, "DELETE / HTTP/1.1\r\n\r\n", 3, p.write_fd);
    assert_string_equal(http_bench_hear(&f->b, fd, &ended), NO_CONTENT);
    /* Of a request that never ends. */
    pass(f, fd, "DELETE ", HTTP_SERVER_FDS_MAX, p.write_fd);
    fd_closep(&p.write_fd);
    assert_false(is_closed(&p));
    (void)close(fd);
    http_bench_run(&f->b);
    assert_true(is_closed(&p));
    (void)close(p.read_fd);
}

static void descriptors_have_a_limit(void **state)
{
    static const uint32_t first[] = {
        HTTP_SERVER_FDS_MAX + 1, PASSED_MAX, HTTP_SERVER_FDS_MAX, 1};
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(first); i++) {
        struct passed p = pipe_new();
        int fd = http_bench_connect(&f->b);
        bool ended;

        pass(f, fd, "DELETE / HTTP/1.1\r\n", first[i], p.write_fd);
        if (first[i] <= HTTP_SERVER_FDS_MAX)
            pass(f, fd, "x: y\r\n", HTTP_SERVER_FDS_MAX, p.write_fd);
        http_bench_say(&f->b, fd, "\r\n");
        assert_non_null(strstr(http_bench_hear(&f->b, fd, &ended),
            "Too many descriptors were passed."));
        assert_true(ended);
        /* Nor are they kept while the connection ends. */
        pass(f, fd, "x", 5, p.write_fd);
        fd_closep(&p.write_fd);
        assert_true(is_closed(&p));
        (void)close(fd);
        http_bench_run(&f->b);
        (void)close(p.read_fd);
    }
    assert_int_equal(f->handled, 0);
}

/* ---- replies that come later --------------------------------------------- */

static void a_reply_may_come_later(void **state)
{
    struct fixture *f = *state;
    int fd = http_bench_connect(&f->b);
    bool ended;

    /* What follows waits its turn. */
    http_bench_say(
        &f->b, fd, "GET /later HTTP/1.1\r\n\r\nDELETE / HTTP/1.1\r\n\r\n");
    assert_string_equal(http_bench_hear(&f->b, fd, &ended), "");
    assert_int_equal(f->handled, 1);
    http_conn_reply(f->later, 204, NULL);
    assert_string_equal(
        http_bench_hear(&f->b, fd, &ended), NO_CONTENT NO_CONTENT);
    http_bench_say(
        &f->b, fd, "GET /later HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert_int_equal(f->gone, 0);
    http_conn_reply(f->later, 204, NULL);
    assert_string_equal(http_bench_hear(&f->b, fd, &ended),
        "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: "
        "close\r\n\r\n");
    assert_true(ended);
    (void)close(fd);
    http_bench_run(&f->b);
    assert_int_equal(f->gone, 1);
}

static void who_waits_for_a_reply_may_go(void **state)
{
    struct fixture *f = *state;
    int fd = http_bench_connect(&f->b);

    http_bench_say(&f->b, fd, "GET /later HTTP/1.1\r\n\r\n");
    assert_non_null(f->later);
    (void)close(fd);
    http_bench_run(&f->b);
    assert_int_equal(f->gone, 1);
    assert_null(f->later);
    /* After the reply, too; and not when the server ends. */
    fd = http_bench_connect(&f->b);
    http_bench_say(&f->b, fd, "GET /later HTTP/1.1\r\n\r\n");
    http_conn_reply(f->later, 204, NULL);
    http_bench_run(&f->b);
    assert_int_equal(f->gone, 1);
    (void)close(fd);
    http_bench_run(&f->b);
    assert_int_equal(f->gone, 2);
    fd = http_bench_connect(&f->b);
    http_bench_say(&f->b, fd, "GET /later HTTP/1.1\r\n\r\n");
    http_server_fini(&f->b.server);
    assert_int_equal(f->gone, 2);
    (void)close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(descriptors_come_with_a_request),
        TEST(descriptors_that_nobody_takes_are_closed),
        TEST(descriptors_have_a_limit),
        TEST(a_reply_may_come_later),
        TEST(who_waits_for_a_reply_may_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
