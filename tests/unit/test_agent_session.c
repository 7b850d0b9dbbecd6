/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/agent/agent.h"
#include "guest/agent/version.h"
#include "tests/unit/support/agent_peer.h"

static struct peer_agent agent;
static struct peer peer;

static int start_agent(void **state)
{
    (void)state;
    peer_start_agent(&agent);
    return 0;
}

static int stop_agent(void **state)
{
    (void)state;
    return peer_stop_agent(&agent);
}

/* One request, and what comes of it. */
static void ask(
    uint16_t type, const void *payload, size_t n, struct peer_result *r)
{
    peer_result_init(r);
    peer_connect(&agent, &peer);
    assert_true(peer_send(&peer, type, payload, n));
    peer_collect(&peer, r);
    peer_close(&peer);
}

static void expect_error(uint16_t type, const void *payload, size_t n,
    uint16_t stage, uint32_t error)
{
    struct peer_result r;

    ask(type, payload, n, &r);
    assert_true(r.has_error);
    assert_int_equal(r.stage, stage);
    assert_int_equal(r.error, error);
    peer_result_fini(&r);
}

/* The agent is still there for others. */
static void expect_alive(void)
{
    struct peer_result r;

    peer_shell(&agent, 0, "echo alive", &r);
    assert_true(peer_output_is(&r.out, "alive\n"));
    peer_result_fini(&r);
}

static void test_hello(void **state)
{
    struct peer_frame frame;
    struct agent_hello hello;

    (void)state;
    peer_open(&agent, &peer);
    assert_true(peer_recv(&peer, &frame));
    assert_int_equal(frame.type, AGENT_HELLO);
    assert_int_equal(frame.length, sizeof(hello));
    memcpy(&hello, frame.payload, sizeof(hello));
    assert_int_equal(agent_le32_get(hello.magic), AGENT_MAGIC);
    assert_int_equal(agent_le16_get(hello.version), AGENT_VERSION);
    assert_int_equal(hello.position, AGENT_POSITION_DAEMON);
    assert_int_equal(agent_le64_get(hello.features) & AGENT_FEATURE_POWER, 0);
    assert_int_equal(agent_le64_get(hello.features) & AGENT_FEATURE_EXEC,
        AGENT_FEATURE_EXEC);
    assert_string_equal((const char *)hello.agent_version, AGENT_VERSION_TEXT);
    assert_int_equal(agent_le32_get(hello.payload_max), AGENT_PAYLOAD_MAX);
    assert_int_equal(agent_le32_get(hello.stdin_window), AGENT_STDIN_WINDOW);
    peer_close(&peer);
}

static void expect_pong(const uint8_t *bytes, size_t n)
{
    struct peer_frame frame;

    peer_connect(&agent, &peer);
    assert_true(peer_send(&peer, AGENT_PING, bytes, n));
    assert_true(peer_recv(&peer, &frame));
    assert_int_equal(frame.type, AGENT_PONG);
    assert_int_equal(frame.length, n);
    if (n > 0)
        assert_memory_equal(frame.payload, bytes, n);
    assert_false(peer_recv(&peer, &frame));
    peer_close(&peer);
}

static void test_ping(void **state)
{
    static uint8_t bytes[AGENT_PAYLOAD_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7 & 0xff);
    expect_pong(bytes, 0);
    expect_pong(bytes, 1);
    expect_pong(bytes, sizeof(bytes));
}

static void test_request_may_come_in_pieces(void **state)
{
    static const uint8_t bytes[] = {
        3, 0, 0, 0, 0x00, 0x01, 0, 0, 'a', 'b', 'c'};
    static struct peer slow;
    struct peer_frame frame;

    (void)state;
    peer_connect(&agent, &slow);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        assert_true(peer_send_bytes(&slow, bytes + i, 1));
        /* Answered by a later turn of the loop than the byte's. */
        expect_pong(bytes, i);
    }
    assert_true(peer_recv(&slow, &frame));
    assert_int_equal(frame.type, AGENT_PONG);
    assert_int_equal(frame.length, 3);
    assert_memory_equal(frame.payload, "abc", 3);
    assert_false(peer_recv(&slow, &frame));
    peer_close(&slow);
}

static void expect_refused(const void *bytes, size_t n)
{
    struct peer_result r;

    peer_result_init(&r);
    peer_connect(&agent, &peer);
    assert_true(peer_send_bytes(&peer, bytes, n));
    peer_collect(&peer, &r);
    peer_close(&peer);
    assert_true(r.has_error);
    assert_int_equal(r.stage, AGENT_STAGE_PROTOCOL);
    assert_int_equal(r.error, EPROTO);
    peer_result_fini(&r);
}

static void test_malformed_headers_are_refused(void **state)
{
    static const uint8_t too_long[] = {1, 0, 1, 0, 0x00, 0x01, 0, 0};
    static const uint8_t huge[] = {255, 255, 255, 255, 0x00, 0x01, 0, 0};
    static const uint8_t flags[] = {0, 0, 0, 0, 0x00, 0x01, 1, 0};
    static const uint8_t no_type[] = {0, 0, 0, 0, 0x34, 0x12, 0, 0};
    static const uint8_t not_yet[] = {0, 0, 0, 0, 0x01, 0x02, 0, 0};
    static const uint8_t ours[] = {0, 0, 0, 0, 0x01, 0x00, 0, 0};

    (void)state;
    expect_refused(too_long, sizeof(too_long));
    expect_refused(huge, sizeof(huge));
    expect_refused(flags, sizeof(flags));
    expect_refused(no_type, sizeof(no_type));
    expect_refused(not_yet, sizeof(not_yet)); /* STDIN_EOF before EXEC */
    expect_refused(ours, sizeof(ours));       /* HELLO from the host */
    expect_alive();
}

static void test_malformed_payloads_are_refused(void **state)
{
    static const uint16_t types[] = {
        AGENT_EXEC,
        AGENT_COPY_IN,
        AGENT_COPY_OUT,
        AGENT_SET_TIME,
        AGENT_POWEROFF,
        AGENT_REBOOT,
    };
    static const uint8_t junk[100] = {0xff, 0xff, 0xff, 0xff};
    struct agent_time late = {.nsec = agent_le32_put(1000000000)};

    (void)state;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        expect_error(types[i], NULL, 0, AGENT_STAGE_PROTOCOL, EPROTO);
        expect_error(
            types[i], junk, sizeof(junk), AGENT_STAGE_PROTOCOL, EPROTO);
    }
    expect_error(
        AGENT_SET_TIME, &late, sizeof(late), AGENT_STAGE_PROTOCOL, EPROTO);
    expect_error(AGENT_ADD_ENTROPY, NULL, 0, AGENT_STAGE_PROTOCOL, EPROTO);
    expect_error(AGENT_SYNC, "relative", 8, AGENT_STAGE_PROTOCOL, EPROTO);
    expect_error(AGENT_FREEZE, "/a\0b", 4, AGENT_STAGE_PROTOCOL, EPROTO);
    expect_alive();
}

/* Each of these is wrong only while a command runs. */
static void test_malformed_frames_end_the_command(void **state)
{
    static const uint8_t zeros[8];
    static const struct {
        uint16_t type;
        size_t length;
    } wrong[] = {
        {AGENT_STDIN, 1},     /* the command has no STDIN */
        {AGENT_STDIN_EOF, 0}, /* nor an end of it */
        {AGENT_WINSIZE, 4},   /* nor a terminal */
        {AGENT_SIGNAL, 8},    /* signal 0 */
        {AGENT_SIGNAL, 7},    /* too short */
        {AGENT_EXEC, 0},      /* a second request */
        {AGENT_DATA, 8},      /* of another operation */
        {AGENT_STDOUT, 1},    /* of the agent */
    };
    const char *const argv[] = {"sleep", "1000", NULL};
    const struct peer_exec spec = {.argv = argv};
    struct peer_result r;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        peer_result_init(&r);
        peer_connect(&agent, &peer);
        peer_exec(&peer, &spec);
        assert_true(peer_collect_one(&peer, &r));
        assert_true(r.pid > 0);
        assert_true(peer_send(&peer, wrong[i].type, zeros, wrong[i].length));
        peer_collect(&peer, &r);
        peer_close(&peer);
        assert_true(r.has_error);
        assert_int_equal(r.stage, AGENT_STAGE_PROTOCOL);
        assert_true(peer_process_ends(r.pid));
        peer_result_fini(&r);
    }
    expect_alive();
}

static void test_frame_during_copy_out_is_refused(void **state)
{
    uint8_t request[] = {0, 0, 0, 0, 0, 0, 0, 0, '/', 'u', 's', 'r', 0};
    bool refused = false;
    struct peer_frame frame;

    (void)state;
    peer_connect(&agent, &peer);
    assert_true(peer_send(&peer, AGENT_COPY_OUT, request, sizeof(request)));
    assert_true(peer_send(&peer, AGENT_PING, NULL, 0));
    while (peer_recv(&peer, &frame)) {
        assert_false(refused);
        refused = frame.type == AGENT_ERROR;
    }
    assert_true(refused);
    peer_close(&peer);
}

static void test_sync_and_freeze_name_what_failed(void **state)
{
    struct peer_result r;

    (void)state;
    ask(AGENT_SYNC, "/proc", 5, &r);
    assert_true(r.has_ok);
    peer_result_fini(&r);
    expect_error(AGENT_SYNC, "/nonexistent", 12, AGENT_STAGE_PATH, ENOENT);
    expect_error(AGENT_FREEZE, "/nonexistent", 12, AGENT_STAGE_PATH, ENOENT);
    /* Not a file system that can be frozen, or not ours to freeze. */
    expect_error(AGENT_FREEZE, "/proc", 5, AGENT_STAGE_PATH,
        geteuid() == 0 ? EOPNOTSUPP : EPERM);
    expect_error(AGENT_THAW, "/proc", 5, AGENT_STAGE_PATH,
        geteuid() == 0 ? EINVAL : EPERM);
}

static void test_entropy_is_added(void **state)
{
    static const uint8_t seed[32] = {1, 2, 3};
    struct peer_result r;

    (void)state;
    if (geteuid() != 0)
        skip();
    ask(AGENT_ADD_ENTROPY, seed, sizeof(seed), &r);
    assert_true(r.has_ok);
    peer_result_fini(&r);
}

/* The file that the agent was told to write its generation to. */
static void read_generation(char ret_text[64])
{
    FILE *f = fopen(getenv(PEER_GENERATION_ENV), "re");
    size_t n = f == NULL ? 0 : fread(ret_text, 1, 63, f);

    ret_text[n] = '\0';
    if (f != NULL)
        (void)fclose(f);
}

/* One that precedes a request, which is answered as ever. */
static void send_generation(const void *generation, size_t n)
{
    struct peer_frame frame;

    peer_connect(&agent, &peer);
    assert_true(peer_send(&peer, AGENT_GENERATION, generation, n));
    assert_true(peer_send(&peer, AGENT_PING, "x", 1));
    assert_true(peer_recv(&peer, &frame));
    assert_int_equal(frame.type, AGENT_PONG);
    peer_close(&peer);
}

static void test_generation_is_told_once(void **state)
{
    struct agent_generation generation = {.id = {0xab, [15] = 0x01}};
    char path[] = "/tmp/spore-generation-XXXXXX";
    char text[64];
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(setenv(PEER_GENERATION_ENV, path, 1), 0);
    assert_int_equal(stop_agent(state), 0);
    assert_int_equal(start_agent(state), 0);

    send_generation(&generation, sizeof(generation));
    read_generation(text);
    assert_string_equal(text, "ab000000000000000000000000000001\n");

    /* The same again is no news; another is, in the same file. */
    assert_int_equal(truncate(path, 0), 0);
    send_generation(&generation, sizeof(generation));
    read_generation(text);
    assert_string_equal(text, "");
    generation.id[0] = 0xcd;
    send_generation(&generation, sizeof(generation));
    read_generation(text);
    assert_string_equal(text, "cd000000000000000000000000000001\n");

    assert_int_equal(unlink(path), 0);
    assert_int_equal(unsetenv(PEER_GENERATION_ENV), 0);
}

static void test_bad_generation_is_refused(void **state)
{
    struct agent_generation generation = {.id = {1}};

    (void)state;
    expect_error(AGENT_GENERATION, &generation, sizeof(generation) - 1,
        AGENT_STAGE_PROTOCOL, EPROTO);
    generation.flags = agent_le32_put(2);
    expect_error(AGENT_GENERATION, &generation, sizeof(generation),
        AGENT_STAGE_PROTOCOL, EPROTO);
    generation.flags = agent_le32_put(0);
    generation.time.nsec = agent_le32_put(1000000000);
    expect_error(AGENT_GENERATION, &generation, sizeof(generation),
        AGENT_STAGE_PROTOCOL, EPROTO);
    generation.time.nsec = agent_le32_put(0);
    generation.id[0] = 0;
    expect_error(AGENT_GENERATION, &generation, sizeof(generation),
        AGENT_STAGE_PROTOCOL, EPROTO);
}

static void test_power_belongs_to_the_other_init(void **state)
{
    const struct agent_power power = {
        .grace_ms = agent_le32_put(1000),
    };

    (void)state;
    expect_error(
        AGENT_POWEROFF, &power, sizeof(power), AGENT_STAGE_SYSTEM, EOPNOTSUPP);
    expect_error(
        AGENT_REBOOT, &power, sizeof(power), AGENT_STAGE_SYSTEM, EOPNOTSUPP);
    expect_alive();
}

/* More connections than sessions: the rest waits and is served. */
static void test_connections_beyond_the_sessions_wait(void **state)
{
    enum { COUNT = AGENT_SESSIONS + 10 };
    struct peer *peers = calloc(COUNT, sizeof(*peers));
    struct peer_frame frame;

    (void)state;
    assert_non_null(peers);
    for (int i = 0; i < COUNT; i++) {
        peer_open(&agent, &peers[i]);
        assert_true(peer_send(&peers[i], AGENT_PING, "x", 1));
    }
    for (int i = 0; i < COUNT; i++) {
        assert_true(peer_recv(&peers[i], &frame));
        assert_int_equal(frame.type, AGENT_HELLO);
        assert_true(peer_recv(&peers[i], &frame));
        assert_int_equal(frame.type, AGENT_PONG);
        peer_close(&peers[i]);
    }
    /* And when all of them sit there without a word. */
    for (int i = 0; i < COUNT; i++)
        peer_open(&agent, &peers[i]);
    for (unsigned i = 0; i < AGENT_SESSIONS; i++)
        assert_true(peer_recv(&peers[i], &frame));
    for (int i = 0; i < COUNT; i++) {
        if (i >= (int)AGENT_SESSIONS)
            assert_true(peer_recv(&peers[i], &frame));
        peer_close(&peers[i]);
    }
    free(peers);
    expect_alive();
}

static void test_peers_that_leave_at_once(void **state)
{
    static const uint8_t half[] = {9, 0, 0, 0, 0x01};

    (void)state;
    for (int i = 0; i < 300; i++) {
        peer_open(&agent, &peer);
        if (i % 3 == 1)
            assert_true(peer_send_bytes(&peer, half, sizeof(half)));
        if (i % 3 == 2)
            assert_true(peer_send(&peer, AGENT_PING, NULL, 0));
        peer_close(&peer);
    }
    expect_alive();
}

/* Lost in the middle of a flood of output, and of a copied tree. */
static void test_peers_that_leave_in_the_middle(void **state)
{
    static struct peer flood;
    uint8_t request[] = {0, 0, 0, 0, 0, 0, 0, 0, '/', 'u', 's', 'r', 0};
    const char *const argv[] = {"cat", "/dev/zero", NULL};
    const struct peer_exec spec = {.argv = argv};
    struct peer_frame frame;
    struct peer_result r;

    (void)state;
    peer_result_init(&r);
    peer_connect(&agent, &flood);
    peer_exec(&flood, &spec);
    while (r.out.length < 1 << 20)
        assert_true(peer_collect_one(&flood, &r));
    /* Nobody reads the flood now; others are served all the same. */
    expect_pong((const uint8_t *)"fair", 4);
    peer_close(&flood);
    assert_true(peer_process_ends(r.pid));
    peer_result_fini(&r);

    peer_connect(&agent, &peer);
    assert_true(peer_send(&peer, AGENT_COPY_OUT, request, sizeof(request)));
    assert_true(peer_recv(&peer, &frame));
    peer_close(&peer);
    expect_alive();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_request_may_come_in_pieces),
        cmocka_unit_test(test_malformed_headers_are_refused),
        cmocka_unit_test(test_malformed_payloads_are_refused),
        cmocka_unit_test(test_malformed_frames_end_the_command),
        cmocka_unit_test(test_frame_during_copy_out_is_refused),
        cmocka_unit_test(test_sync_and_freeze_name_what_failed),
        cmocka_unit_test(test_entropy_is_added),
        cmocka_unit_test(test_generation_is_told_once),
        cmocka_unit_test(test_bad_generation_is_refused),
        cmocka_unit_test(test_power_belongs_to_the_other_init),
        cmocka_unit_test(test_connections_beyond_the_sessions_wait),
        cmocka_unit_test(test_peers_that_leave_at_once),
        cmocka_unit_test(test_peers_that_leave_in_the_middle),
    };

    return cmocka_run_group_tests(tests, start_agent, stop_agent);
}
