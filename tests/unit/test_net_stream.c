/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <unistd.h>

#include "tests/unit/support/net_guest.h"
#include "virtio/net_stream.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

struct fixture {
    struct net_stream stream;
    int peer;
    uint8_t buf[NET_FRAME_MAX];
};

static int set_up(void **state)
{
    static struct fixture fixture;
    struct fixture *f = &fixture;
    int fds[2];

    *f = (struct fixture){0};
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    f->peer = fds[1];
    assert_int_equal(fd_set_nonblocking(f->peer, true), 0);
    assert_int_equal(net_stream_init(&f->stream, fds[0], NULL), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    net_stream_fini(&f->stream);
    fd_closep(&f->peer);
    return 0;
}

static ssize_t receive(struct fixture *f)
{
    struct iovec iov[2] = {{f->buf, 7}, {f->buf + 7, sizeof(f->buf) - 7}};

    return f->stream.backend.ops->receive(&f->stream.backend, iov, 2);
}

static int send_one(struct fixture *f, uint8_t *data, size_t len)
{
    struct iovec iov[2] = {{data, 3}, {data + 3, len - 3}};

    return f->stream.backend.ops->send(&f->stream.backend, iov, 2, len);
}

static void feed(struct fixture *f, const void *data, size_t len)
{
    assert_int_equal(write(f->peer, data, len), (ssize_t)len);
}

static void test_prefix_is_big_endian(void **state)
{
    struct fixture *f = *state;
    uint8_t data[0x102];
    uint8_t got[4 + sizeof(data)];

    memset(data, 0xab, sizeof(data));
    assert_int_equal(send_one(f, data, sizeof(data)), 0);
    assert_int_equal(read(f->peer, got, sizeof(got)), sizeof(got));
    assert_memory_equal(got, "\0\0\1\2", 4);
    assert_memory_equal(got + 4, data, sizeof(data));
}

static void test_frame_in_single_bytes(void **state)
{
    struct fixture *f = *state;
    const uint8_t bytes[] = {0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0};

    for (size_t i = 0; i < sizeof(bytes); i++) {
        assert_int_equal(receive(f), -EAGAIN);
        feed(f, bytes + i, 1);
        if (i == 12) {
            assert_int_equal(receive(f), 9);
            assert_memory_equal(f->buf, bytes + 4, 9);
        }
    }
    assert_int_equal(receive(f), -EAGAIN);
}

static void test_many_frames_in_one_read(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[100 * 14];

    for (size_t i = 0; i < 100; i++) {
        memcpy(bytes + i * 14, "\0\0\0\12", 4);
        memset(bytes + i * 14 + 4, (int)i, 10);
    }
    feed(f, bytes, sizeof(bytes));
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(receive(f), 10);
        assert_int_equal(f->buf[9], i);
    }
    assert_int_equal(receive(f), -EAGAIN);
}

static void test_length_is_checked(void **state)
{
    static const uint8_t bad[][4] = {{0, 0, 0, 0}, {0, 1, 0, 0x12},
        {0xff, 0xff, 0xff, 0xff}, {0x80, 0, 0, 14}};
    struct fixture *f;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        set_up(state);
        f = *state;
        feed(f, "\0\0\0\1x", 5);
        feed(f, bad[i], 4);
        assert_int_equal(receive(f), 1);
        assert_int_equal(receive(f), -ENOTCONN);
        /* For good, whatever comes then. */
        feed(f, "\0\0\0\1x", 5);
        assert_int_equal(receive(f), -ENOTCONN);
        assert_int_equal(send_one(f, f->buf, 20), -ENOTCONN);
        tear_down(state);
    }
}

static void test_longest_frame(void **state)
{
    struct fixture *f = *state;
    const uint8_t prefix[4] = {0, 1, 0, 0x11};
    static uint8_t data[NET_FRAME_MAX];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 3 + (i >> 8));
    feed(f, prefix, 4);
    assert_int_equal(receive(f), -EAGAIN);
    feed(f, data, 40000);
    assert_int_equal(receive(f), -EAGAIN);
    feed(f, data + 40000, sizeof(data) - 40000);
    assert_int_equal(receive(f), sizeof(data));
    assert_memory_equal(f->buf, data, sizeof(data));
}

/* The end in the middle of a frame: what is whole comes, the rest does not. */
static void test_end_of_stream(void **state)
{
    struct fixture *f = *state;

    feed(f, "\0\0\0\2ab\0\0\0\5abc", 13);
    fd_closep(&f->peer);
    assert_int_equal(receive(f), 2);
    assert_int_equal(receive(f), -ENOTCONN);
}

static void test_partial_writes(void **state)
{
    struct fixture *f = *state;
    const int room = 8192;
    static uint8_t data[50000];
    static uint8_t got[4 * (4 + sizeof(data))];
    size_t have = 0;
    unsigned int sent = 0;
    unsigned int held = 0;

    assert_int_equal(setsockopt(f->stream.backend.fd, SOL_SOCKET, SO_SNDBUF,
                         &room, sizeof(room)),
        0);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 5 + (i >> 8));
    while (have < sizeof(got)) {
        ssize_t n;

        if (sent < 4) {
            int rc = send_one(f, data, sizeof(data));

            assert_true(rc == 0 || rc == -EAGAIN);
            sent += rc == 0;
        } else {
            (void)f->stream.backend.ops->flush(&f->stream.backend);
        }
        held += f->stream.backend.holds_output;
        n = read(f->peer, got + have, 1000);
        if (n > 0)
            have += (size_t)n;
    }
    assert_true(held > 0);
    assert_false(f->stream.backend.holds_output);
    for (size_t i = 0; i < 4; i++) {
        assert_memory_equal(got + i * 50004, "\0\0\xc3\x50", 4);
        assert_memory_equal(got + i * 50004 + 4, data, sizeof(data));
    }
}

static void test_what_is_no_stream(void **state)
{
    struct net_stream s;
    struct err err;
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(net_stream_init(&s, fds[0], &err), -ENOTSOCK);
    net_stream_fini(&s);
    fd_closep(&fds[0]);
    fd_closep(&fds[1]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(net_stream_init(&s, fds[0], &err), -EINVAL);
    fd_closep(&fds[0]);
    fd_closep(&fds[1]);
    assert_int_equal(
        net_stream_connect(&s, "/nonexistent/passt", &err), -ENOENT);
    assert_non_null(strstr(err.text, "passt -f -s"));
    net_stream_fini(&s);
}

static uint64_t hash(uint64_t h, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        h = (h ^ data[i]) * UINT64_C(0x100000001b3);
    return h;
}

struct echo {
    uint8_t data[1 << 16];
    size_t start;
    size_t len;
};

/* The peer sends back what it gets, byte for byte. */
static void echo_some(struct echo *e, int fd)
{
    ssize_t n;

    if (e->len == 0) {
        n = read(fd, e->data, sizeof(e->data));
        e->start = 0;
        e->len = n > 0 ? (size_t)n : 0;
    }
    n = e->len > 0 ? write(fd, e->data + e->start, e->len) : 0;
    if (n > 0) {
        e->start += (size_t)n;
        e->len -= (size_t)n;
    }
}

/* 64 MiB through both queues and back, in frames of all lengths. */
static void test_loopback(void **state)
{
    struct fixture *f = *state;
    static const struct net_header none;
    static struct net_guest g;
    static struct echo echo;
    static uint8_t pattern[2 * NET_FRAME_MAX];
    const uint64_t total = 64 * NUM_MIB;
    struct net_header header;
    uint64_t sent = 0;
    uint64_t got = 0;
    uint64_t hashes[2] = {1, 1};
    uint32_t seed = 1;
    unsigned int buffers = 0;

    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)(i * 31 + (i >> 7));
    echo = (struct echo){.len = 0};
    net_guest_init(&g, &f->stream.backend, NULL, true);
    net_guest_start(&g, NET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX);
    net_guest_post(&g, NET_GUEST_SIZE, 2000);
    net_guest_kick(&g, NET_QUEUE_RX);
    while (got < total) {
        uint64_t before = sent + got;
        size_t echoed = echo.start;
        int64_t n;

        seed = seed * 1664525u + 1013904223u;
        if (sent < total) {
            uint32_t len = 14 + (seed >> 8) % (NET_FRAME_MAX - 13u);

            if (net_guest_send(&g, &none, pattern + seed % NET_FRAME_MAX, len,
                    seed % 64)) {
                hashes[0] =
                    hash(hashes[0], pattern + seed % NET_FRAME_MAX, len);
                sent += len;
            }
        }
        net_guest_kick(&g, NET_QUEUE_TX);
        (void)net_guest_reap(&g);
        echo_some(&echo, f->peer);
        net_guest_run(&g, 2);
        while ((n = net_guest_receive(&g, &header, f->buf, &buffers)) > 0) {
            hashes[1] = hash(hashes[1], f->buf, (size_t)n);
            got += (uint64_t)n;
            net_guest_post(&g, buffers, 2000);
            net_guest_kick(&g, NET_QUEUE_RX);
        }
        assert_true(sent + got != before || echo.start != echoed ||
                    echo.len > 0 || f->stream.in_len > 0 ||
                    f->stream.out_len > 0);
    }
    assert_int_equal(got, sent);
    assert_int_equal(hashes[0], hashes[1]);
    assert_int_equal(g.net.stats.rx_dropped, 0);
    assert_int_equal(g.net.stats.tx_dropped, 0);
    assert_int_equal(g.net.stats.rx_bytes, sent);
    net_guest_fini(&g);
}

/* A child that is gone when the test is. */
static pid_t start_passt(const char *path)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

        (void)dup2(null, STDERR_FILENO);
        (void)execlp("passt", "passt", "-f", "-q", "-s", path, "--ipv4-only",
            "-a", "10.9.8.7", "-n", "24", "-g", "10.9.8.1", "-t", "none", "-u",
            "none", (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* Connects as soon as somebody listens; false if passt ends or takes long. */
static bool connect_to(
    struct net_stream *s, const char *path, pid_t pid, int *ret_status)
{
    uint64_t end = clock_now_ns() + 10 * UINT64_C(1000000000);

    while (net_stream_connect(s, path, NULL) < 0) {
        if (waitpid(pid, ret_status, WNOHANG) == pid)
            return false;
        if (clock_now_ns() > end) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, ret_status, 0);
            return false;
        }
        (void)poll(NULL, 0, 10);
    }
    return true;
}

/* 60 bytes: who has 10.9.8.1, from 10.9.8.7 at 02:00:00:00:00:07. */
static const uint8_t arp_request[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,
    0, 0, 0, 0, 7, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 7, 10, 9, 8, 7,
    0, 0, 0, 0, 0, 0, 10, 9, 8, 1};

static bool is_arp_answer(const uint8_t *frame, int64_t len)
{
    static const uint8_t from[4] = {10, 9, 8, 1};

    return len >= 42 && memcmp(frame, arp_request + 6, 6) == 0 &&
           memcmp(frame + 12, arp_request + 12, 8) == 0 && frame[21] == 2 &&
           memcmp(frame + 28, from, 4) == 0;
}

/* What passt speaks is what this backend speaks. */
static bool ask_passt(struct net_stream *s)
{
    static const struct net_header none;
    static struct net_guest g;
    static uint8_t frame[NET_FRAME_MAX];
    struct net_header header;
    unsigned int buffers = 0;
    uint64_t end = clock_now_ns() + 10 * UINT64_C(1000000000);
    bool answered = false;

    net_guest_init(&g, &s->backend, NULL, true);
    net_guest_start(&g, NET_F_MRG_RXBUF);
    net_guest_post(&g, NET_GUEST_SIZE, 2000);
    net_guest_kick(&g, NET_QUEUE_RX);
    assert_true(net_guest_send(&g, &none, arp_request, sizeof(arp_request), 0));
    net_guest_kick(&g, NET_QUEUE_TX);
    while (!answered && clock_now_ns() < end && g.gone == 0) {
        int64_t n;

        assert_true(loop_run_once(&g.loop, 100) >= 0);
        while ((n = net_guest_receive(&g, &header, frame, &buffers)) > 0)
            answered = answered || is_arp_answer(frame, n);
    }
    net_guest_fini(&g);
    return answered && g.gone == 0;
}

static void test_passt(void **state)
{
    char folder[] = "/tmp/spore-passt-XXXXXX";
    struct net_stream s = {.backend.fd = -1};
    char path[64];
    int status = 0;
    bool answered;
    pid_t pid;

    (void)state;
    assert_non_null(mkdtemp(folder));
    /* Started by root, passt becomes nobody. */
    assert_int_equal(chmod(folder, 0777), 0);
    (void)snprintf(path, sizeof(path), "%s/socket", folder);
    pid = start_passt(path);
    if (!connect_to(&s, path, pid, &status)) {
        (void)unlink(path);
        (void)rmdir(folder);
        /* Missing, or kept from the user namespace that it needs. */
        if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
            print_message("skipped: passt does not run here, status %d\n",
                WEXITSTATUS(status));
            skip();
        }
        fail_msg("passt ended with %d", status);
    }
    answered = ask_passt(&s);
    net_stream_fini(&s);
    (void)kill(pid, SIGTERM);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    (void)unlink(path);
    assert_int_equal(rmdir(folder), 0);
    assert_true(answered);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_prefix_is_big_endian, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_frame_in_single_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_many_frames_in_one_read, set_up, tear_down),
        cmocka_unit_test(test_length_is_checked),
        cmocka_unit_test_setup_teardown(test_longest_frame, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_end_of_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_partial_writes, set_up, tear_down),
        cmocka_unit_test(test_what_is_no_stream),
        cmocka_unit_test_setup_teardown(test_loopback, set_up, tear_down),
        cmocka_unit_test(test_passt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
