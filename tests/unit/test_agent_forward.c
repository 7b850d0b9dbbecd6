/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/agent_peer.h"

#define WAIT_MS 30000
#define BIG     (UINT32_C(4) << 20)

static struct peer_agent agent;
static struct peer peer;

/* A server of the "guest". */
static int listener;
static uint16_t port;

static int start(void **state)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);

    (void)state;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0);
    assert_int_equal(
        bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 64), 0);
    assert_int_equal(
        getsockname(listener, (struct sockaddr *)&address, &size), 0);
    port = ntohs(address.sin_port);
    peer_start_agent(&agent);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    close(listener);
    return peer_stop_agent(&agent);
}

static void send_request(uint16_t number)
{
    struct agent_forward request = {.port = agent_le16_put(number)};

    assert_true(peer_send(&peer, AGENT_FORWARD, &request, sizeof(request)));
}

static void wait_for(int fd)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};

    assert_int_equal(poll(&pfd, 1, WAIT_MS), 1);
}

static int accept_one(void)
{
    int fd;

    wait_for(listener);
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void expect_ok(void)
{
    struct peer_frame frame;

    assert_true(peer_recv(&peer, &frame));
    assert_int_equal(frame.type, AGENT_OK);
    assert_int_equal(frame.length, sizeof(struct agent_ok));
}

/* What is behind the last frame, buffered or not. */
static ssize_t recv_raw(void *buf, size_t len)
{
    size_t have = peer.end - peer.start;

    if (have > 0) {
        if (have > len)
            have = len;
        memcpy(buf, peer.buf + peer.start, have);
        peer.start += have;
        return (ssize_t)have;
    }
    wait_for(peer.fd);
    return recv(peer.fd, buf, len, 0);
}

static void expect_raw(const char *text)
{
    char buf[64] = "";
    size_t len = 0;

    while (len < strlen(text)) {
        ssize_t n = recv_raw(buf + len, strlen(text) - len);

        assert_true(n > 0);
        len += (size_t)n;
    }
    assert_string_equal(buf, text);
}

static void expect_at(int fd, const char *text)
{
    char buf[64] = "";
    size_t len = 0;

    while (len < strlen(text)) {
        ssize_t n;

        wait_for(fd);
        n = recv(fd, buf + len, strlen(text) - len, 0);
        assert_true(n > 0);
        len += (size_t)n;
    }
    assert_string_equal(buf, text);
}

static void expect_end(int fd)
{
    char byte;

    wait_for(fd);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

static void test_both_ways(void **state)
{
    int fd;

    (void)state;
    peer_connect(&agent, &peer);
    send_request(port);
    /* Without waiting for the answer. */
    assert_true(peer_send_bytes(&peer, "early", 5));
    fd = accept_one();
    expect_at(fd, "early");
    expect_ok();
    assert_int_equal(send(fd, "answer", 6, 0), 6);
    expect_raw("answer");
    assert_true(peer_send_bytes(&peer, "more", 4));
    expect_at(fd, "more");
    /* The host's end, and then the server's. */
    assert_int_equal(shutdown(peer.fd, SHUT_WR), 0);
    expect_end(fd);
    assert_int_equal(send(fd, "last", 4, 0), 4);
    expect_raw("last");
    close(fd);
    expect_end(peer.fd);
    peer_close(&peer);
}

static void test_the_server_ends_first(void **state)
{
    int fd;

    (void)state;
    peer_connect(&agent, &peer);
    send_request(port);
    fd = accept_one();
    expect_ok();
    assert_int_equal(send(fd, "bye", 3, 0), 3);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    expect_raw("bye");
    expect_end(peer.fd);
    /* It still reads. */
    assert_true(peer_send_bytes(&peer, "heard", 5));
    expect_at(fd, "heard");
    assert_int_equal(shutdown(peer.fd, SHUT_WR), 0);
    expect_end(fd);
    close(fd);
    peer_close(&peer);
}

static void test_nobody_listens(void **state)
{
    struct peer_result r;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);

    (void)state;
    /* A port that is nobody's: bound, not listening. */
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    peer_result_init(&r);
    peer_connect(&agent, &peer);
    send_request(ntohs(address.sin_port));
    (void)peer_send_bytes(&peer, "unheard", 7);
    peer_collect(&peer, &r);
    peer_close(&peer);
    assert_true(r.has_error);
    assert_int_equal(r.error, ECONNREFUSED);
    assert_int_equal(r.stage, AGENT_STAGE_SYSTEM);
    peer_result_fini(&r);
    close(fd);
}

static void test_bad_requests(void **state)
{
    static const struct agent_forward bad[] = {
        {{{0, 0}}, {{0, 0}}, {{0, 0, 0, 0}}},
        {{{1, 0}}, {{1, 0}}, {{0, 0, 0, 0}}},
        {{{1, 0}}, {{0, 0}}, {{1, 0, 0, 0}}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct peer_result r;

        peer_result_init(&r);
        peer_connect(&agent, &peer);
        assert_true(peer_send(&peer, AGENT_FORWARD, &bad[i], sizeof(bad[i])));
        peer_collect(&peer, &r);
        peer_close(&peer);
        assert_true(r.has_error);
        assert_int_equal(r.stage, AGENT_STAGE_PROTOCOL);
        peer_result_fini(&r);
    }
}

static uint8_t pattern(uint32_t at)
{
    return (uint8_t)(at * 31 + at / 251);
}

/* What can be sent of BIG bytes now. */
static void push(int fd, uint32_t *sent)
{
    uint8_t buf[8192];
    uint32_t n = BIG - *sent < sizeof(buf) ? BIG - *sent : sizeof(buf);
    ssize_t r;

    for (uint32_t i = 0; i < n; i++)
        buf[i] = pattern(*sent + i);
    r = send(fd, buf, n, MSG_DONTWAIT);
    if (r > 0)
        *sent += (uint32_t)r;
    else
        assert_int_equal(errno, EAGAIN);
}

static void pull(int fd, uint32_t *received)
{
    uint8_t buf[8192];
    ssize_t r = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

    if (r < 0) {
        assert_int_equal(errno, EAGAIN);
        return;
    }
    assert_true(r > 0);
    for (ssize_t i = 0; i < r; i++)
        assert_int_equal(buf[i], pattern(*received + (uint32_t)i));
    *received += (uint32_t)r;
}

static void test_much_both_ways_at_once(void **state)
{
    uint32_t sent[2] = {0, 0};
    uint32_t received[2] = {0, 0};
    int fds[2];

    (void)state;
    peer_connect(&agent, &peer);
    send_request(port);
    fds[1] = accept_one();
    expect_ok();
    assert_int_equal(peer.start, peer.end);
    fds[0] = peer.fd;
    while (received[0] < BIG || received[1] < BIG) {
        struct pollfd pfds[2];

        for (unsigned i = 0; i < 2; i++) {
            pfds[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
            if (sent[i] < BIG)
                pfds[i].events |= POLLOUT;
        }
        assert_true(poll(pfds, 2, WAIT_MS) > 0);
        for (unsigned i = 0; i < 2; i++) {
            if ((pfds[i].revents & POLLOUT) != 0)
                push(fds[i], &sent[i]);
            if ((pfds[i].revents & POLLIN) != 0)
                pull(fds[i], &received[i]);
        }
    }
    close(fds[1]);
    expect_end(peer.fd);
    peer_close(&peer);
}

static void test_a_host_that_goes(void **state)
{
    int fd;

    (void)state;
    /* More often than there are sessions. */
    for (unsigned i = 0; i < 70; i++) {
        peer_connect(&agent, &peer);
        send_request(port);
        assert_true(peer_send_bytes(&peer, "gone", 4));
        peer_close(&peer);
        fd = accept_one();
        expect_at(fd, "gone");
        expect_end(fd);
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways),
        cmocka_unit_test(test_the_server_ends_first),
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_much_both_ways_at_once),
        cmocka_unit_test(test_a_host_that_goes),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
