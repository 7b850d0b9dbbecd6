/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/serve/serve_rig.h"
#include "tests/unit/support/agent_peer.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"

static struct rig rig;
static struct peer_agent agent;

/* Passes on what is there; false at the end. */
static bool pass(int from, int to)
{
    char buf[65536];
    ssize_t n = recv(from, buf, sizeof(buf), 0);

    if (n <= 0) {
        (void)shutdown(to, SHUT_WR);
        return false;
    }
    return fd_write_full(to, buf, (size_t)n) == 0;
}

/* The agent of a process is that of the machine. */
static enum pool_fake_end guest(void *opaque, uint32_t port, int fd)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t n = strlen(agent.name);
    int to = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pollfd pfds[2] = {
        {.fd = fd, .events = POLLIN}, {.fd = to, .events = POLLIN}};

    (void)opaque;
    memcpy(addr.sun_path + 1, agent.name, n);
    if (port != AGENT_PORT || to < 0 ||
        connect(to, (struct sockaddr *)&addr,
            (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)) < 0)
        return POOL_FAKE_FAILED;
    while (poll(pfds, 2, -1) > 0) {
        if (pfds[0].revents != 0 && !pass(fd, to))
            break;
        if (pfds[1].revents != 0 && !pass(to, fd))
            break;
    }
    (void)close(to);
    return POOL_FAKE_CLOSED;
}

static int set_up(void **state)
{
    (void)state;
    peer_start_agent(&agent);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return peer_stop_agent(&agent);
}

static void start(const char *script, struct server_config *config)
{
    static const char *argv[] = {"/bin/sh", "-c", NULL, NULL};
    static const char *env[] = {"GREETING=hello", NULL};

    argv[2] = script;
    config->argv = argv;
    config->env = env;
    config->cwd = "/";
    pool_fake_init(guest, NULL);
    rig_start(&rig, config, true);
}

static void test_a_command_for_each_connection(void **state)
{
    struct server_config config = rig_config(SERVER_EXEC);

    (void)state;
    start("echo $GREETING; cat", &config);
    for (unsigned int i = 0; i < 4; i++) {
        int fd = i % 2 == 0 ? rig_connect(&rig) : rig_connect_tcp(&rig);
        char *text;

        rig_send(fd, "input");
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        text = rig_read_all(fd, NULL);
        assert_string_equal(text, "hello\ninput");
        free(text);
        close(fd);
        rig_expect(&rig, SERVE_OK, i + 1);
    }
    assert_int_equal(pool_fake_counts().told_agent, 4);
    assert_int_equal(pool_fake_counts().dropped, 4);
    rig_expect_connections(&rig, 0);
    rig_stop(&rig);
}

static void test_much_output_and_input_left(void **state)
{
    struct server_config config = rig_config(SERVER_EXEC);
    char *text;
    size_t len;
    int fd;

    (void)state;
    start("head -c 300000 /dev/zero", &config);
    fd = rig_connect_tcp(&rig);
    /* Never read: that it is there must not cost the output's end. */
    rig_send(fd, "nobody wants this");
    text = rig_read_all(fd, &len);
    assert_int_equal(len, 300000);
    free(text);
    close(fd);
    rig_expect(&rig, SERVE_OK, 1);
    rig_stop(&rig);
}

static void test_a_client_that_reads_nothing(void **state)
{
    struct server_config config = rig_config(SERVER_EXEC);
    int fd;

    (void)state;
    start("exec cat /dev/zero", &config);
    fd = rig_connect(&rig);
    rig_expect_running(&rig, 1);
    close(fd);
    rig_expect(&rig, SERVE_CLIENT_GONE, 1);
    rig_stop(&rig);
}

static void test_standard_error_is_logged(void **state)
{
    struct server_config config = rig_config(SERVER_EXEC);
    char *text;
    int fd;

    (void)state;
    start("echo out; echo err >&2", &config);
    fd = rig_connect(&rig);
    text = rig_read_all(fd, NULL);
    assert_string_equal(text, "out\n");
    free(text);
    close(fd);
    rig_expect(&rig, SERVE_OK, 1);
    rig_stop(&rig);
}

static void test_no_such_command(void **state)
{
    struct server_config config = rig_config(SERVER_EXEC);
    static const char *const argv[] = {"/no/such/thing", NULL};
    int fd;

    (void)state;
    config.argv = argv;
    pool_fake_init(guest, NULL);
    rig_start(&rig, &config, false);
    fd = rig_connect(&rig);
    rig_expect_end(fd);
    close(fd);
    rig_expect(&rig, SERVE_NOT_CONNECTED, 1);
    rig_stop(&rig);
}

static void test_a_command_that_takes_too_long(void **state)
{
    struct server_config config = rig_config(SERVER_EXEC);
    int fd;

    (void)state;
    config.timeout_ns = 200 * CLOCK_NS_PER_MS;
    start("sleep 1000", &config);
    fd = rig_connect(&rig);
    rig_expect_end(fd);
    close(fd);
    rig_expect(&rig, SERVE_TIMEOUT, 1);
    rig_stop(&rig);
}

static void test_drain(void **state)
{
    struct server_config config = rig_config(SERVER_EXEC);
    char *text;
    int fd;

    (void)state;
    start("cat", &config);
    fd = rig_connect(&rig);
    rig_expect_running(&rig, 1);
    rig_drain(&rig);
    rig_send(fd, "finished");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    text = rig_read_all(fd, NULL);
    assert_string_equal(text, "finished");
    free(text);
    close(fd);
    rig_expect_drained(&rig);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_command_for_each_connection),
        cmocka_unit_test(test_much_output_and_input_left),
        cmocka_unit_test(test_a_client_that_reads_nothing),
        cmocka_unit_test(test_standard_error_is_logged),
        cmocka_unit_test(test_no_such_command),
        cmocka_unit_test(test_a_command_that_takes_too_long),
        cmocka_unit_test(test_drain),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
