/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/serve/serve_rig.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"

/* Echoes until the end; what begins with a word does as that says. */
static enum pool_fake_end guest(void *opaque, uint32_t port, int fd)
{
    char buf[4096];
    ssize_t n;

    (void)opaque;
    if (port != 80)
        return POOL_FAKE_FAILED;
    while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
        if (memcmp(buf, "off", 3) == 0)
            return POOL_FAKE_POWERED_OFF;
        if (memcmp(buf, "die", 3) == 0)
            return POOL_FAKE_KILLED;
        if (memcmp(buf, "bye", 3) == 0)
            return POOL_FAKE_CLOSED;
        if (fd_write_full(fd, buf, (size_t)n) < 0)
            break;
    }
    return POOL_FAKE_CLOSED;
}

static struct rig rig;

static void start(const struct server_config *config)
{
    pool_fake_init(guest, NULL);
    rig_start(&rig, config, true);
}

static void say(int fd, const char *text)
{
    char buf[64] = "";

    rig_send(fd, text);
    rig_read(fd, buf, strlen(text));
    assert_string_equal(buf, text);
}

static void test_a_clone_for_each_connection(void **state)
{
    struct server_config config = rig_config(SERVER_STREAM);
    int a;
    int b;

    (void)state;
    start(&config);
    a = rig_connect(&rig);
    b = rig_connect_tcp(&rig);
    say(a, "hello");
    say(b, "there");
    assert_int_equal(pool_fake_counts().taken, 2);
    say(a, "again");
    assert_int_equal(pool_fake_counts().given, 2);
    /* Half of it closed: the rest comes still. */
    rig_send(a, "last");
    assert_int_equal(shutdown(a, SHUT_WR), 0);
    {
        char *text = rig_read_all(a, NULL);

        assert_string_equal(text, "last");
        free(text);
    }
    close(a);
    rig_send(b, "bye");
    rig_expect_end(b);
    close(b);
    rig_expect(&rig, SERVE_OK, 2);
    rig_expect_connections(&rig, 0);
    assert_int_equal(pool_fake_counts().dropped, 2);
    rig_stop(&rig);
}

static void test_clones_are_put_back(void **state)
{
    struct server_config config = rig_config(SERVER_STREAM);

    (void)state;
    config.resets = true;
    start(&config);
    for (unsigned int i = 0; i < 3; i++) {
        int fd = rig_connect(&rig);

        say(fd, "x");
        close(fd);
        rig_expect(&rig, SERVE_OK, i + 1);
    }
    /* One that ended cannot be. */
    {
        int fd = rig_connect(&rig);

        rig_send(fd, "die");
        rig_expect_end(fd);
        close(fd);
    }
    rig_expect(&rig, SERVE_KILLED, 1);
    assert_int_equal(pool_fake_counts().recycled, 3);
    assert_int_equal(pool_fake_counts().dropped, 1);
    rig_stop(&rig);
}

static void test_what_ends_a_machine_is_told_apart(void **state)
{
    struct server_config config = rig_config(SERVER_STREAM);
    int fd;

    (void)state;
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "off");
    rig_expect_end(fd);
    close(fd);
    rig_expect(&rig, SERVE_POWERED_OFF, 1);
    fd = rig_connect(&rig);
    rig_send(fd, "die");
    rig_expect_end(fd);
    close(fd);
    rig_expect(&rig, SERVE_KILLED, 1);
    rig_stop(&rig);
}

static void test_too_many_are_closed_at_once(void **state)
{
    struct server_config config = rig_config(SERVER_STREAM);
    int fds[4];
    int extra;

    (void)state;
    config.vms_max = 2;
    config.queue_max = 2;
    start(&config);
    for (unsigned int i = 0; i < 4; i++)
        fds[i] = rig_connect(&rig);
    rig_expect_running(&rig, 2);
    rig_expect_queued(&rig, 2);
    extra = rig_connect(&rig);
    rig_expect_end(extra);
    close(extra);
    assert_int_equal(rig_outcomes(&rig, SERVE_OVERLOAD), 1);
    /* Those that wait have their turn, in order. */
    say(fds[0], "a");
    close(fds[0]);
    say(fds[2], "c");
    close(fds[1]);
    say(fds[3], "d");
    close(fds[2]);
    close(fds[3]);
    rig_expect(&rig, SERVE_OK, 4);
    assert_int_equal(pool_fake_counts().most, 2);
    rig_stop(&rig);
}

static void test_a_time_for_each(void **state)
{
    struct server_config config = rig_config(SERVER_STREAM);
    int fd;

    (void)state;
    config.timeout_ns = 20 * CLOCK_NS_PER_MS;
    start(&config);
    fd = rig_connect(&rig);
    rig_expect_end(fd);
    close(fd);
    rig_expect(&rig, SERVE_TIMEOUT, 1);
    assert_int_equal(pool_fake_counts().dropped, 1);
    rig_stop(&rig);
}

static void test_a_time_to_wait(void **state)
{
    struct server_config config = rig_config(SERVER_STREAM);
    int fd;

    (void)state;
    config.queue_timeout_ns = 20 * CLOCK_NS_PER_MS;
    start(&config);
    pool_fake_hold(true);
    fd = rig_connect(&rig);
    rig_expect_end(fd);
    close(fd);
    rig_expect(&rig, SERVE_QUEUE_TIMEOUT, 1);
    assert_int_equal(pool_fake_counts().waiting, 0);
    pool_fake_hold(false);
    fd = rig_connect(&rig);
    say(fd, "after");
    close(fd);
    rig_expect(&rig, SERVE_OK, 1);
    rig_stop(&rig);
}

static void test_a_client_that_goes_while_it_waits(void **state)
{
    struct server_config config = rig_config(SERVER_STREAM);
    int fd;

    (void)state;
    start(&config);
    pool_fake_hold(true);
    fd = rig_connect(&rig);
    rig_expect_queued(&rig, 1);
    close(fd);
    rig_expect(&rig, SERVE_CLIENT_GONE, 1);
    assert_int_equal(pool_fake_counts().given, 0);
    /* One that left something to do is served. */
    fd = rig_connect(&rig);
    rig_send(fd, "off");
    close(fd);
    rig_expect_queued(&rig, 1);
    pool_fake_hold(false);
    rig_expect(&rig, SERVE_POWERED_OFF, 1);
    rig_stop(&rig);
}

static void test_no_clones(void **state)
{
    struct server_config config = rig_config(SERVER_STREAM);
    int fd;

    (void)state;
    start(&config);
    pool_fake_fail(true);
    fd = rig_connect(&rig);
    rig_expect_end(fd);
    close(fd);
    rig_expect(&rig, SERVE_NO_CLONE, 1);
    pool_fake_fail(false);
    pool_fake_break(true);
    fd = rig_connect(&rig);
    rig_expect_end(fd);
    close(fd);
    rig_expect(&rig, SERVE_NO_CLONE, 2);
    pool_fake_break(false);
    fd = rig_connect(&rig);
    say(fd, "after");
    close(fd);
    rig_expect(&rig, SERVE_OK, 1);
    rig_stop(&rig);
}

static void test_memory_holds_back(void **state)
{
    struct server_config config = rig_config(SERVER_STREAM);
    int a;
    int b;

    (void)state;
    /* The clones are this process: one alone is more than may be. */
    config.memory_max = 4096;
    start(&config);
    a = rig_connect(&rig);
    say(a, "a");
    /* Nothing is known of it until it is looked at. */
    {
        uint64_t until = clock_now_ns() + RIG_WAIT_MS * CLOCK_NS_PER_MS;

        while (rig_gauges(&rig).typical_bytes == 0 && clock_now_ns() < until)
            ;
    }
    assert_true(rig_gauges(&rig).private_bytes > 4096);
    b = rig_connect(&rig);
    rig_expect_queued(&rig, 1);
    assert_int_equal(pool_fake_counts().given, 1);
    close(a);
    say(b, "b");
    close(b);
    rig_expect(&rig, SERVE_OK, 2);
    assert_int_equal(pool_fake_counts().most, 1);
    rig_stop(&rig);
}

static void test_drain(void **state)
{
    struct server_config config = rig_config(SERVER_STREAM);
    int fds[3];

    (void)state;
    config.vms_max = 2;
    start(&config);
    for (unsigned int i = 0; i < 3; i++)
        fds[i] = rig_connect(&rig);
    rig_expect_queued(&rig, 1);
    rig_drain(&rig);
    assert_true(rig_gauges(&rig).is_draining);
    /* What has begun goes on, waiting or not. */
    for (unsigned int i = 0; i < 3; i++) {
        say(fds[i], "still");
        close(fds[i]);
    }
    rig_expect_drained(&rig);
    assert_int_equal(rig_outcomes(&rig, SERVE_OK), 3);
    rig_stop(&rig);
}

static void test_drain_of_nothing(void **state)
{
    struct server_config config = rig_config(SERVER_STREAM);

    (void)state;
    start(&config);
    rig_drain(&rig);
    rig_expect_drained(&rig);
    rig_stop(&rig);
}

static void test_the_end_in_the_middle(void **state)
{
    struct server_config config = rig_config(SERVER_STREAM);
    int a;
    int b;

    (void)state;
    config.vms_max = 1;
    start(&config);
    a = rig_connect(&rig);
    b = rig_connect(&rig);
    say(a, "a");
    rig_expect_queued(&rig, 1);
    rig_stop(&rig);
    rig_expect_end(a);
    rig_expect_end(b);
    close(a);
    close(b);
}

static void test_many(void **state)
{
    struct server_config config = rig_config(SERVER_STREAM);

    (void)state;
    start(&config);
    for (unsigned int i = 0; i < 200; i++) {
        int fd = rig_connect(&rig);

        say(fd, "again");
        close(fd);
    }
    rig_expect(&rig, SERVE_OK, 200);
    rig_expect_connections(&rig, 0);
    rig_stop(&rig);
}

/* Descriptors that run out cost those who come then, and nobody later. */
static void test_no_descriptors(void **state)
{
    struct server_config config = rig_config(SERVER_STREAM);
    struct rlimit before;
    struct rlimit few;
    int extra;
    int fds[8];
    int fd;

    (void)state;
    config.vms_max = 16;
    start(&config);
    pool_fake_hold(true);
    for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    extra = rig_connect(&rig);
    rig_expect_queued(&rig, 1);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    fd = dup(0);
    few.rlim_cur = (rlim_t)fd + 1;
    close(fd);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
        rig_connect_to(&rig, fds[i]);
    /* One has the descriptor that was left; the others are told at once. */
    for (unsigned int i = 1; i < ARRAY_SIZE(fds); i++)
        rig_expect_end(fds[i]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    pool_fake_hold(false);
    say(extra, "there");
    say(fds[0], "here");
    fd = rig_connect(&rig);
    say(fd, "again");
    close(fd);
    close(extra);
    for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
        close(fds[i]);
    rig_expect(&rig, SERVE_OK, 3);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_clone_for_each_connection),
        cmocka_unit_test(test_clones_are_put_back),
        cmocka_unit_test(test_what_ends_a_machine_is_told_apart),
        cmocka_unit_test(test_too_many_are_closed_at_once),
        cmocka_unit_test(test_a_time_for_each),
        cmocka_unit_test(test_a_time_to_wait),
        cmocka_unit_test(test_a_client_that_goes_while_it_waits),
        cmocka_unit_test(test_no_clones),
        cmocka_unit_test(test_memory_holds_back),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_drain_of_nothing),
        cmocka_unit_test(test_the_end_in_the_middle),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
