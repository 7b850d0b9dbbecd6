/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/serve/http_play.h"
#include "vmm/base/clock.h"

static struct rig rig;
static struct http_play play = HTTP_PLAY_INIT;

static void start(const struct server_config *config)
{
    http_play_start(&play, &rig, config);
}

/* ---- clients that misbehave --------------------------------------------- */

static void test_slow_clients_have_no_clone(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fds[3];

    (void)state;
    config.header_timeout_ns = 50 * CLOCK_NS_PER_MS;
    start(&config);
    fds[0] = rig_connect(&rig);
    fds[1] = rig_connect(&rig);
    fds[2] = rig_connect(&rig);
    rig_send(fds[0], "GET / HT");
    rig_send(fds[1], "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
                     "12345678");
    http_play_expect_last(fds[0], "408 Request Timeout");
    http_play_expect_last(fds[1], "408 Request Timeout");
    /* One that says nothing is told nothing. */
    rig_expect_end(fds[2]);
    close(fds[2]);
    rig_expect(&rig, SERVE_CLIENT_SLOW, 2);
    assert_int_equal(pool_fake_counts().given, 0);
    rig_expect_connections(&rig, 0);
    rig_stop(&rig);
}

static void test_idle_connections_end(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    config.idle_timeout_ns = 50 * CLOCK_NS_PER_MS;
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    http_play_expect(fd, "200 OK");
    rig_expect_end(fd);
    close(fd);
    rig_stop(&rig);
}

static void test_who_reads_nothing_is_given_up(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    config.stall_timeout_ns = 100 * CLOCK_NS_PER_MS;
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    rig_expect(&rig, SERVE_CLIENT_SLOW, 1);
    close(fd);
    /* Nor who sends nothing more of a long body. */
    fd = rig_connect(&rig);
    rig_send(fd, "POST /echo HTTP/1.1\r\nHost: a\r\n"
                 "Content-Length: 100000\r\n\r\n");
    {
        static char part[70000];

        rig_send_some(fd, part, sizeof(part));
    }
    rig_expect(&rig, SERVE_CLIENT_SLOW, 2);
    close(fd);
    rig_expect_connections(&rig, 0);
    rig_stop(&rig);
}

static void test_clients_that_go(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    rig_expect_running(&rig, 1);
    close(fd);
    rig_expect(&rig, SERVE_CLIENT_GONE, 1);
    /* Within a request. */
    fd = rig_connect(&rig);
    rig_send(fd, "GET /hang HT");
    close(fd);
    rig_expect(&rig, SERVE_CLIENT_GONE, 2);
    /* While it waits. */
    pool_fake_hold(true);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    rig_expect_queued(&rig, 1);
    close(fd);
    rig_expect(&rig, SERVE_CLIENT_GONE, 3);
    pool_fake_hold(false);
    /* With a reset, in the middle of a response. */
    {
        const struct linger hard = {.l_onoff = 1};

        fd = rig_connect_tcp(&rig);
        rig_send(fd, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
        rig_expect_running(&rig, 1);
        assert_int_equal(
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
        close(fd);
    }
    rig_expect(&rig, SERVE_CLIENT_GONE, 4);
    rig_expect_connections(&rig, 0);
    rig_stop(&rig);
}

static void test_idle_ones_make_room(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fds[8];
    int fd;

    (void)state;
    config.connections_max = 8;
    start(&config);
    for (unsigned int i = 0; i < 8; i++) {
        fds[i] = rig_connect(&rig);
        rig_send(fds[i], "GET /slow");
    }
    rig_expect_connections(&rig, 8);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    http_play_expect(fd, "200 OK");
    close(fd);
    /* The oldest had to go for it. */
    rig_expect_end(fds[0]);
    for (unsigned int i = 0; i < 8; i++)
        close(fds[i]);
    rig_stop(&rig);
}

/* ---- limits ------------------------------------------------------------- */

static void test_overload(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fds[3];
    int fd;

    (void)state;
    config.vms_max = 1;
    config.queue_max = 1;
    config.connections_max = 3;
    start(&config);
    for (unsigned int i = 0; i < 2; i++) {
        fds[i] = rig_connect(&rig);
        rig_send(fds[i], "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    rig_expect_running(&rig, 1);
    rig_expect_queued(&rig, 1);
    /* Refused, but its connection is as good as before. */
    fds[2] = rig_connect(&rig);
    for (unsigned int i = 0; i < 2; i++) {
        rig_send(fds[2], "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
        http_play_expect(fds[2], "Retry-After: 1");
    }
    assert_int_equal(rig_outcomes(&rig, SERVE_OVERLOAD), 2);
    rig_send(fds[2], "GET /ha");
    /* A connection too many, of which none is idle when all are at work. */
    close(fds[0]);
    rig_expect(&rig, SERVE_CLIENT_GONE, 1);
    rig_send(fds[2], "ng HTTP/1.1\r\nHost: a\r\n\r\n");
    rig_expect_queued(&rig, 1);
    fds[0] = rig_connect(&rig);
    rig_send(fds[0], "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    http_play_expect(fds[0], "503 Service Unavailable");
    fd = rig_connect(&rig);
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    http_play_expect(fd, "503 Service Unavailable");
    close(fd);
    for (unsigned int i = 0; i < 3; i++)
        close(fds[i]);
    rig_stop(&rig);
}

static void test_a_time_for_each(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    config.timeout_ns = 50 * CLOCK_NS_PER_MS;
    start(&config);
    fd = rig_connect(&rig);
    /* Twice: it was not the connection's fault. */
    for (unsigned int i = 0; i < 2; i++) {
        rig_send(fd, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
        http_play_expect(fd, "504 Gateway Timeout");
    }
    close(fd);
    rig_expect(&rig, SERVE_TIMEOUT, 2);
    rig_stop(&rig);
}

static void test_no_clone(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    config.queue_timeout_ns = 50 * CLOCK_NS_PER_MS;
    start(&config);
    fd = rig_connect(&rig);
    pool_fake_hold(true);
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    http_play_expect(fd, "503 Service Unavailable");
    rig_expect(&rig, SERVE_QUEUE_TIMEOUT, 1);
    pool_fake_fail(true);
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    http_play_expect(fd, "503 Service Unavailable");
    rig_expect(&rig, SERVE_NO_CLONE, 1);
    pool_fake_hold(false);
    pool_fake_fail(false);
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    http_play_expect(fd, "200 OK");
    close(fd);
    rig_stop(&rig);
}

static void test_machines_that_end(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /off HTTP/1.1\r\nHost: a\r\n\r\n");
    http_play_expect(fd, "\r\n\r\noff");
    rig_send(fd, "GET /die HTTP/1.1\r\nHost: a\r\n\r\n");
    http_play_expect(fd, "502 Bad Gateway");
    /* Its connection may have ended before it was said to have. */
    assert_int_equal(rig_outcomes(&rig, SERVE_KILLED) +
                         rig_outcomes(&rig, SERVE_NOT_CONNECTED),
        1);
    rig_send(fd, "GET /closed HTTP/1.1\r\nHost: a\r\n\r\n");
    http_play_expect(fd, "502 Bad Gateway");
    rig_send(fd, "GET /die-halfway HTTP/1.1\r\nHost: a\r\n\r\n");
    {
        char *text = rig_read_all(fd, NULL);

        assert_true(rig_has(text, "Content-Length: 30\r\n\r\npart"));
        free(text);
    }
    close(fd);
    assert_int_equal(rig_outcomes(&rig, SERVE_OK), 1);
    rig_stop(&rig);
}

static void test_a_tcp_server(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    config.port = 8080;
    config.port_is_tcp = true;
    start(&config);
    fd = rig_connect(&rig);
    for (unsigned int i = 0; i < 3; i++) {
        rig_send(fd, "POST /echo HTTP/1.1\r\nHost: a\r\n"
                     "Content-Length: 3\r\n\r\nabc");
        http_play_expect(fd, "\r\n\r\nabc");
    }
    close(fd);
    assert_int_equal(pool_fake_counts().told_agent, 3);
    rig_expect(&rig, SERVE_OK, 3);
    rig_stop(&rig);
    /* One that is not there. */
    config.port = 8081;
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    http_play_expect(fd, "502 Bad Gateway");
    close(fd);
    rig_expect(&rig, SERVE_NOT_CONNECTED, 1);
    rig_stop(&rig);
}

static void test_drain(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int idle;
    int busy;
    int begun;

    (void)state;
    config.vms_max = 1;
    start(&config);
    idle = rig_connect(&rig);
    rig_send(idle, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    http_play_expect(idle, "200 OK");
    pool_fake_hold(true);
    busy = rig_connect(&rig);
    rig_send(busy, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    rig_expect_queued(&rig, 1);
    begun = rig_connect(&rig);
    rig_send(begun, "GET /echo HTTP/1.1\r\n");
    rig_expect_connections(&rig, 3);
    rig_drain(&rig);
    rig_expect_end(idle);
    close(idle);
    pool_fake_hold(false);
    http_play_expect_last(busy, "Connection: close");
    rig_send(begun, "Host: a\r\n\r\n");
    http_play_expect_last(begun, "Connection: close");
    rig_expect_drained(&rig);
    assert_int_equal(rig_outcomes(&rig, SERVE_OK), 3);
    rig_stop(&rig);
}

static void test_many_on_many_connections(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fds[8];

    (void)state;
    config.queue_max = 64;
    config.resets = true;
    start(&config);
    for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = i % 2 == 0 ? rig_connect(&rig) : rig_connect_tcp(&rig);
    for (unsigned int round = 0; round < 30; round++) {
        for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
            rig_send(fds[i], "POST /echo HTTP/1.1\r\nHost: a\r\n"
                             "Content-Length: 3\r\n\r\nabc");
        for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
            http_play_expect(fds[i], "\r\n\r\nabc");
    }
    for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
        close(fds[i]);
    rig_expect(&rig, SERVE_OK, 240);
    assert_int_equal(pool_fake_counts().recycled, 240);
    assert_int_equal(pool_fake_counts().most, config.vms_max);
    rig_expect_connections(&rig, 0);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_clients_have_no_clone),
        cmocka_unit_test(test_idle_connections_end),
        cmocka_unit_test(test_who_reads_nothing_is_given_up),
        cmocka_unit_test(test_clients_that_go),
        cmocka_unit_test(test_idle_ones_make_room),
        cmocka_unit_test(test_overload),
        cmocka_unit_test(test_a_time_for_each),
        cmocka_unit_test(test_no_clone),
        cmocka_unit_test(test_machines_that_end),
        cmocka_unit_test(test_a_tcp_server),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_many_on_many_connections),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
