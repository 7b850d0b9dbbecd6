/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/support/vsock_guest.h"
#include "virtio/spec.h"
#include "virtio/vsock_uds.h"
#include "vmm/base/fd.h"

#define GUEST_PORT 5000u
#define HOST_PORT  1234u
#define ROOM       65536u

struct fixture {
    struct vsock_guest g;
    struct vsock_uds uds;
    char folder[32];
    char path[64];
    int client;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    const struct vsock_guest_config config = {
        .rx_buffers = 64, .event_buffers = 8};

    fixture = (struct fixture){.client = -1};
    (void)snprintf(
        fixture.folder, sizeof(fixture.folder), "/tmp/test_vsock.XXXXXX");
    assert_non_null(mkdtemp(fixture.folder));
    (void)snprintf(
        fixture.path, sizeof(fixture.path), "%s/v.sock", fixture.folder);
    vsock_guest_start(&fixture.g, &config);
    assert_int_equal(
        vsock_uds_open(&fixture.uds, &fixture.g.vsock, fixture.path, -1, NULL),
        0);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    fd_closep(&f->client);
    vsock_uds_close(&f->uds);
    vsock_guest_stop(&f->g);
    assert_int_equal(rmdir(f->folder), 0);
    return 0;
}

static int connect_to(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_true(strlen(path) < sizeof(addr.sun_path));
    memcpy(addr.sun_path, path, strlen(path));
    assert_int_equal(
        connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

static int listen_on(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_true(strlen(path) < sizeof(addr.sun_path));
    memcpy(addr.sun_path, path, strlen(path));
    assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static void say(struct fixture *f, int fd, const char *text)
{
    assert_int_equal(
        send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    (void)vsock_guest_run(&f->g);
}

static void answer(struct fixture *f, uint32_t host_port, enum vsock_op op)
{
    struct vsock_header h = vsock_guest_header(GUEST_PORT, host_port, op);

    h.buf_alloc = le32_put(ROOM);
    vsock_guest_send(&f->g, &h, NULL, 0, 0);
    (void)vsock_guest_run(&f->g);
}

static void expect_text(int fd, const char *text)
{
    char got[64];

    assert_int_equal(
        recv(fd, got, sizeof(got), MSG_DONTWAIT), (ssize_t)strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

static void expect_eof(int fd)
{
    char got;

    assert_int_equal(recv(fd, &got, 1, MSG_DONTWAIT), 0);
}

static void expect_ok(int fd, uint32_t host_port)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "OK %u\n", host_port);
    expect_text(fd, text);
}

static void expect_silence(struct fixture *f)
{
    struct vsock_guest_packet p;

    (void)vsock_guest_run(&f->g);
    assert_false(vsock_guest_receive(&f->g, true, &p));
}

static void test_host_program_connects(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;
    uint32_t port;

    f->client = connect_to(f->path);
    say(f, f->client, "CONNECT 5000\n");
    port = vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, GUEST_PORT).src_port;
    answer(f, port, VSOCK_OP_RESPONSE);
    expect_ok(f->client, port);
    say(f, f->client, "hello");
    p = vsock_guest_expect(&f->g, VSOCK_OP_RW, GUEST_PORT);
    assert_int_equal(p.len, 5);
    assert_memory_equal(p.data, "hello", 5);
}

static void test_line_in_pieces_and_data_behind_it(void **state)
{
    const char *text = "CONNECT 5000\nfirst\nsecond\n";
    struct fixture *f = *state;
    struct vsock_guest_packet p;
    uint32_t port;

    f->client = connect_to(f->path);
    for (size_t i = 0; i < 10; i++) {
        const char piece[2] = {text[i], '\0'};

        say(f, f->client, piece);
        /* A line half read is not polled for over and over. */
        assert_int_equal(vsock_guest_run(&f->g), 0);
    }
    say(f, f->client, text + 10);
    port = vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, GUEST_PORT).src_port;
    answer(f, port, VSOCK_OP_RESPONSE);
    expect_ok(f->client, port);
    p = vsock_guest_expect(&f->g, VSOCK_OP_RW, GUEST_PORT);
    assert_int_equal(p.len, 13);
    assert_memory_equal(p.data, "first\nsecond\n", 13);
}

static void test_bad_lines_are_hung_up_on(void **state)
{
    static const char *const lines[] = {"\n", "CONNECT\n", "CONNECT \n",
        "CONNECT 4294967296\n", "CONNECT 99999999999999999999\n",
        "CONNECT -1\n", "CONNECT 1 \n", "CONNECT  1\n", "CONNECT 0x10\n",
        "connect 1\n", " CONNECT 1\n", "CONNECT 1\r\n", "GET / HTTP/1.1\r\n",
        "CONNECT 000000000000000000000001", "0123456789abcdef0123456789abcdef"};
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        char got;
        ssize_t n;

        f->client = connect_to(f->path);
        say(f, f->client, lines[i]);
        n = recv(f->client, &got, 1, MSG_DONTWAIT);
        if (n != 0 && !(n < 0 && errno == ECONNRESET))
            fail_msg("line %zu was not hung up on", i);
        fd_closep(&f->client);
    }
    expect_silence(f);
    assert_int_equal(f->g.vsock.table.count, 0);
}

static void test_widest_port(void **state)
{
    struct fixture *f = *state;

    f->client = connect_to(f->path);
    say(f, f->client, "CONNECT 4294967295\n");
    (void)vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, UINT32_MAX);
}

static void test_refusal_is_end_of_file(void **state)
{
    struct fixture *f = *state;
    uint32_t port;

    f->client = connect_to(f->path);
    say(f, f->client, "CONNECT 5000\n");
    port = vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, GUEST_PORT).src_port;
    answer(f, port, VSOCK_OP_RST);
    expect_eof(f->client);
}

static void test_no_driver_is_end_of_file(void **state)
{
    struct fixture *f = *state;

    drive_write(&f->g.vsock.virtio.base, VIRTIO_MMIO_STATUS, 0);
    f->client = connect_to(f->path);
    say(f, f->client, "CONNECT 5000\n");
    expect_eof(f->client);
}

static void test_caller_that_leaves(void **state)
{
    struct fixture *f = *state;

    f->client = connect_to(f->path);
    say(f, f->client, "CONN");
    fd_closep(&f->client);
    (void)vsock_guest_run(&f->g);
    for (unsigned int i = 0; i < VSOCK_UDS_CALLERS_MAX; i++)
        assert_int_equal(f->uds.callers[i].fd, -1);
    expect_silence(f);
}

static void test_guest_connects_to_a_listener(void **state)
{
    struct fixture *f = *state;
    struct vsock_header h =
        vsock_guest_header(GUEST_PORT, HOST_PORT, VSOCK_OP_RW);
    struct vsock_guest_packet p;
    char path[80];
    int listener;

    (void)snprintf(path, sizeof(path), "%s_%u", f->path, HOST_PORT);
    listener = listen_on(path);
    vsock_guest_open(&f->g, GUEST_PORT, HOST_PORT, ROOM);
    f->client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(f->client >= 0);
    h.buf_alloc = le32_put(ROOM);
    vsock_guest_send(&f->g, &h, "ping", 4, 0);
    (void)vsock_guest_run(&f->g);
    expect_text(f->client, "ping");
    say(f, f->client, "pong");
    p = vsock_guest_expect(&f->g, VSOCK_OP_RW, GUEST_PORT);
    assert_memory_equal(p.data, "pong", 4);
    assert_int_equal(close(listener), 0);
    assert_int_equal(unlink(path), 0);
}

static void test_guest_connects_to_nobody(void **state)
{
    struct fixture *f = *state;

    answer(f, HOST_PORT, VSOCK_OP_REQUEST);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    assert_int_equal(f->g.vsock.stats.refused, 1);
}

/* connect(2) would wait for a place in the queue: refused instead. */
static void test_full_listener_refuses(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;
    unsigned int taken = 0;
    char path[80];
    int listener;

    (void)snprintf(path, sizeof(path), "%s_%u", f->path, HOST_PORT);
    listener = listen_on(path);
    do {
        struct vsock_header h =
            vsock_guest_header(taken, HOST_PORT, VSOCK_OP_REQUEST);

        assert_true(taken++ < 20);
        vsock_guest_send(&f->g, &h, NULL, 0, 0);
        (void)vsock_guest_run(&f->g);
        assert_true(vsock_guest_receive(&f->g, true, &p));
        while (p.op == VSOCK_OP_CREDIT_REQUEST)
            assert_true(vsock_guest_receive(&f->g, true, &p));
    } while (p.op == VSOCK_OP_RESPONSE);
    assert_int_equal(p.op, VSOCK_OP_RST);
    assert_true(taken > 1);
    assert_int_equal(close(listener), 0);
    assert_int_equal(unlink(path), 0);
}

static void test_silent_callers_are_bounded(void **state)
{
    struct fixture *f = *state;
    int fds[VSOCK_UDS_CALLERS_MAX + 2];
    char got;

    for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
        fds[i] = connect_to(f->path);
        (void)vsock_guest_run(&f->g);
    }
    expect_eof(fds[0]);
    expect_eof(fds[1]);
    assert_int_equal(recv(fds[2], &got, 1, MSG_DONTWAIT), -1);
    say(f, fds[2], "CONNECT 5000\n");
    (void)vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, GUEST_PORT);
    for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
        assert_int_equal(close(fds[i]), 0);
}

static void test_no_descriptors_left_is_waited_out(void **state)
{
    struct fixture *f = *state;
    struct rlimit before;
    struct rlimit none;

    f->client = connect_to(f->path);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)f->client;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    /* Not a round for each look at what cannot be accepted. */
    assert_true(vsock_guest_run(&f->g) <= 2);
    assert_false(f->uds.source.added);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    while (!f->uds.source.added)
        assert_int_equal(loop_run_once(&f->g.loop, -1), 0);
    say(f, f->client, "CONNECT 5000\n");
    (void)vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, GUEST_PORT);
}

static void test_listener_survives_a_reset(void **state)
{
    struct fixture *f = *state;
    int early = connect_to(f->path);

    say(f, early, "CONNECT ");
    drive_write(&f->g.vsock.virtio.base, VIRTIO_MMIO_STATUS, 0);
    (void)vsock_guest_run(&f->g);
    vsock_guest_drive(&f->g);
    vsock_guest_post_rx(&f->g, 8);
    say(f, early, "5000\n");
    (void)vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, GUEST_PORT);
    f->client = connect_to(f->path);
    say(f, f->client, "CONNECT 5000\n");
    (void)vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, GUEST_PORT);
    assert_int_equal(close(early), 0);
}

static void test_paths_that_cannot_be(void **state)
{
    struct fixture *f = *state;
    static struct vsock_uds uds;
    struct err err;
    char path[108];

    memset(path, 'x', sizeof(path));
    path[97] = '\0';
    assert_int_equal(
        vsock_uds_open(&uds, &f->g.vsock, path, -1, &err), -ENAMETOOLONG);
    assert_int_equal(
        vsock_uds_open(&uds, &f->g.vsock, "", -1, &err), -ENAMETOOLONG);
    assert_int_equal(
        vsock_uds_open(&uds, &f->g.vsock, f->path, -1, &err), -EADDRINUSE);
    assert_non_null(strstr(err.text, "remove it"));
    assert_int_equal(vsock_uds_open(&uds, &f->g.vsock,
                         "/nonexistent/folder/v.sock", -1, &err),
        -ENOENT);
    /* What was there before still works. */
    f->client = connect_to(f->path);
    say(f, f->client, "CONNECT 5000\n");
    (void)vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, GUEST_PORT);
}

static void test_longest_path(void **state)
{
    struct fixture *f = *state;
    static struct vsock_uds uds;
    char path[108];
    size_t len = strlen(f->folder);

    vsock_uds_close(&f->uds);
    memset(path, 'x', sizeof(path));
    memcpy(path, f->folder, len);
    path[len] = '/';
    path[96] = '\0';
    assert_int_equal(vsock_uds_open(&uds, &f->g.vsock, path, -1, NULL), 0);
    answer(f, UINT32_MAX, VSOCK_OP_REQUEST);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    vsock_uds_close(&uds);
}

static void test_close_removes_what_it_made(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    vsock_uds_close(&f->uds);
    assert_int_equal(stat(f->path, &st), -1);
    assert_int_equal(errno, ENOENT);
    answer(f, HOST_PORT, VSOCK_OP_REQUEST);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    vsock_uds_close(&f->uds);
}

static void test_listening_socket_is_adopted(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    int listener;

    vsock_uds_close(&f->uds);
    listener = listen_on(f->path);
    assert_int_equal(
        vsock_uds_open(&f->uds, &f->g.vsock, f->path, listener, NULL), 0);
    f->client = connect_to(f->path);
    say(f, f->client, "CONNECT 5000\n");
    (void)vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, GUEST_PORT);
    vsock_uds_close(&f->uds);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(unlink(f->path), 0);
}

int main(void)
{
#define CASE(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_host_program_connects),
        CASE(test_line_in_pieces_and_data_behind_it),
        CASE(test_bad_lines_are_hung_up_on),
        CASE(test_widest_port),
        CASE(test_refusal_is_end_of_file),
        CASE(test_no_driver_is_end_of_file),
        CASE(test_caller_that_leaves),
        CASE(test_guest_connects_to_a_listener),
        CASE(test_guest_connects_to_nobody),
        CASE(test_full_listener_refuses),
        CASE(test_silent_callers_are_bounded),
        CASE(test_no_descriptors_left_is_waited_out),
        CASE(test_listener_survives_a_reset),
        CASE(test_paths_that_cannot_be),
        CASE(test_longest_path),
        CASE(test_close_removes_what_it_made),
        CASE(test_listening_socket_is_adopted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
