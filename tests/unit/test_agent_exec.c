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
#include <sys/stat.h>
#include <unistd.h>

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

static void start(const char *script, uint32_t flags, struct peer_result *r)
{
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    const struct peer_exec spec = {.flags = flags, .argv = argv};

    peer_result_init(r);
    peer_connect(&agent, &peer);
    peer_exec(&peer, &spec);
    while (r->pid == 0)
        assert_true(peer_collect_one(&peer, r));
}

static void end(struct peer_result *r)
{
    peer_collect(&peer, r);
    peer_close(&peer);
}

static void test_streams_are_separate(void **state)
{
    struct peer_result r;

    (void)state;
    peer_shell(&agent, 0, "echo out; echo err >&2; exit 7", &r);
    assert_true(r.pid > 0);
    assert_true(peer_output_is(&r.out, "out\n"));
    assert_true(peer_output_is(&r.err, "err\n"));
    assert_true(r.has_exit);
    assert_int_equal(r.status, 7);
    assert_int_equal(r.signal, 0);
    peer_result_fini(&r);
}

static void test_large_output_is_whole(void **state)
{
    struct peer_result r;
    char line[16];

    (void)state;
    /* 10 MiB of numbered lines of 8 bytes, so that a lost one shows. */
    peer_shell(&agent, 0,
        "awk 'BEGIN { for (i = 0; i < 1310720; i++) "
        "printf \"%07d\\n\", i }'",
        &r);
    assert_true(r.has_exit);
    assert_int_equal(r.status, 0);
    assert_int_equal(r.out.length, 10u << 20);
    for (size_t i = 0; i < 1310720; i++) {
        (void)snprintf(line, sizeof(line), "%07zu\n", i);
        if (memcmp(r.out.bytes + 8 * i, line, 8) != 0)
            fail_msg("line %zu differs", i);
    }
    peer_result_fini(&r);
}

static void test_exit_status_and_signal(void **state)
{
    struct peer_result r;

    (void)state;
    peer_shell(&agent, 0, "exit 255", &r);
    assert_int_equal(r.status, 255);
    peer_result_fini(&r);
    peer_shell(&agent, 0, "kill -KILL $$", &r);
    assert_true(r.has_exit);
    assert_int_equal(r.signal, SIGKILL);
    assert_int_equal(r.status, 0);
    peer_result_fini(&r);
}

/* Sends all of it as the window allows, taking what comes meanwhile. */
static void feed(const uint8_t *bytes, size_t n, struct peer_result *r)
{
    size_t sent = 0;

    while (sent < n) {
        size_t chunk = n - sent < 5000 ? n - sent : 5000;

        while (sent + chunk - r->acked > AGENT_STDIN_WINDOW)
            assert_true(peer_collect_one(&peer, r));
        assert_true(peer_send(&peer, AGENT_STDIN, bytes + sent, chunk));
        sent += chunk;
    }
}

static void test_input_passes_through(void **state)
{
    const size_t n = 1u << 20;
    uint8_t *bytes = malloc(n);
    struct peer_result r;

    (void)state;
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)((i * 2654435761u) >> 13 & 0xff);
    start("cat", AGENT_EXEC_STDIN, &r);
    feed(bytes, n, &r);
    assert_true(peer_send(&peer, AGENT_STDIN_EOF, NULL, 0));
    end(&r);
    assert_true(r.has_exit);
    assert_int_equal(r.status, 0);
    assert_int_equal(r.out.length, n);
    assert_memory_equal(r.out.bytes, bytes, n);
    peer_result_fini(&r);
    free(bytes);
}

static void test_no_input_is_end_of_file(void **state)
{
    struct peer_result r;

    (void)state;
    peer_shell(&agent, 0, "cat; readlink /proc/self/fd/0", &r);
    assert_true(peer_output_is(&r.out, "/dev/null\n"));
    peer_result_fini(&r);
}

static void test_closed_input_is_told_and_thrown_away(void **state)
{
    static uint8_t bytes[400000];
    struct peer_result r;

    (void)state;
    start("exec <&-; echo closed; sleep 100", AGENT_EXEC_STDIN, &r);
    while (r.out.length < 7)
        assert_true(peer_collect_one(&peer, &r));
    feed(bytes, sizeof(bytes), &r);
    while (!r.input_closed)
        assert_true(peer_collect_one(&peer, &r));
    peer_close(&peer);
    assert_true(peer_process_ends(r.pid));
    peer_result_fini(&r);
}

static void test_signal_overtakes_unread_input(void **state)
{
    static uint8_t bytes[AGENT_STDIN_WINDOW];
    const struct agent_signal term = {
        .signal = agent_le32_put(SIGTERM),
    };
    struct peer_result r;

    (void)state;
    start("sleep 100", AGENT_EXEC_STDIN, &r);
    /* More than the pipe takes, all that the window allows. */
    feed(bytes, sizeof(bytes), &r);
    feed(bytes, r.acked, &r);
    assert_true(peer_send(&peer, AGENT_SIGNAL, &term, sizeof(term)));
    end(&r);
    assert_true(r.has_exit);
    assert_int_equal(r.signal, SIGTERM);
    peer_result_fini(&r);
}

static void test_signal_to_process_alone(void **state)
{
    const struct agent_signal usr1 = {
        .signal = agent_le32_put(SIGUSR1),
        .flags = agent_le32_put(AGENT_SIGNAL_PROCESS),
    };
    struct peer_result r;

    (void)state;
    /* The group's other member would end by the signal. */
    start("trap 'kill -0 $! && echo alive; kill $!; exit 3' USR1; "
          "sleep 100 & echo ready; wait",
        0, &r);
    while (r.out.length < 6)
        assert_true(peer_collect_one(&peer, &r));
    assert_true(peer_send(&peer, AGENT_SIGNAL, &usr1, sizeof(usr1)));
    end(&r);
    assert_int_equal(r.status, 3);
    assert_true(peer_output_is(&r.out, "ready\nalive\n"));
    peer_result_fini(&r);
}

static void expect_failure(
    const struct peer_exec *spec, uint16_t stage, int error, uint16_t status)
{
    struct peer_result r;

    peer_result_init(&r);
    peer_connect(&agent, &peer);
    peer_exec(&peer, spec);
    end(&r);
    assert_int_equal(r.pid, 0);
    assert_true(r.has_error);
    assert_int_equal(r.stage, stage);
    assert_int_equal(r.error, error);
    assert_int_equal(r.error_status, status);
    peer_result_fini(&r);
}

static void test_failures_to_start_are_told_apart(void **state)
{
    char plain[] = "/tmp/spore-agent-test-XXXXXX";
    const char *argv[] = {NULL, NULL};
    struct peer_exec spec = {.argv = argv};
    int fd = mkstemp(plain);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "nothing\n", 8), 8);
    assert_int_equal(fchmod(fd, 0644), 0);
    argv[0] = "/nonexistent/command";
    expect_failure(&spec, AGENT_STAGE_EXEC, ENOENT, 127);
    argv[0] = "no-such-command-anywhere";
    expect_failure(&spec, AGENT_STAGE_EXEC, ENOENT, 127);
    argv[0] = plain;
    expect_failure(&spec, AGENT_STAGE_EXEC, EACCES, 126);
    assert_int_equal(fchmod(fd, 0755), 0);
    close(fd);
    expect_failure(&spec, AGENT_STAGE_EXEC, ENOEXEC, 126);
    argv[0] = "/tmp";
    expect_failure(&spec, AGENT_STAGE_EXEC, EACCES, 126);
    argv[0] = "/bin/true";
    spec.cwd = "/nonexistent";
    expect_failure(&spec, AGENT_STAGE_CWD, ENOENT, 125);
    spec.cwd = NULL;
    spec.user = "no-such-user";
    spec.flags = AGENT_EXEC_USER_NAME;
    expect_failure(&spec, AGENT_STAGE_USER, ENOENT, 125);
    assert_int_equal(unlink(plain), 0);
}

static void test_environment_and_directory(void **state)
{
    const char *const argv[] = {"sh", "-c", "echo $A-$HOME-$PATH; pwd", NULL};
    const char *const env[] = {
        "A=b c", "PATH=/nowhere:/bin:/usr/bin", "HOME=/elsewhere", NULL};
    const char *const show[] = {"/usr/bin/env", NULL};
    const char *const one[] = {"ONLY=this", NULL};
    struct peer_exec spec = {.argv = argv, .env = env, .cwd = "/usr"};
    struct peer_result r;

    (void)state;
    peer_result_init(&r);
    peer_connect(&agent, &peer);
    peer_exec(&peer, &spec);
    end(&r);
    assert_true(peer_output_is(
        &r.out, "b c-/elsewhere-/nowhere:/bin:/usr/bin\n/usr\n"));
    peer_result_fini(&r);

    spec = (struct peer_exec){.argv = show, .env = one};
    peer_connect(&agent, &peer);
    peer_exec(&peer, &spec);
    end(&r);
    assert_non_null(memmem(r.out.bytes, r.out.length, "ONLY=this\n", 10));
    assert_non_null(memmem(r.out.bytes, r.out.length, "PATH=/", 6));
    assert_non_null(memmem(r.out.bytes, r.out.length, "HOME=/", 6));
    assert_null(memmem(r.out.bytes, r.out.length, "TERM=", 5));
    peer_result_fini(&r);

    spec.flags = AGENT_EXEC_ENV_EXACT;
    peer_connect(&agent, &peer);
    peer_exec(&peer, &spec);
    end(&r);
    assert_true(peer_output_is(&r.out, "ONLY=this\n"));
    peer_result_fini(&r);
}

/* Where the root folder is closed to others, they have no programs. */
static bool others_may_run_programs(void)
{
    struct stat st;

    if (stat("/", &st) == 0 && (st.st_mode & S_IXOTH) != 0)
        return true;
    print_message("skipped: / is closed to other users\n");
    return false;
}

static void test_user_by_name(void **state)
{
    const char *const argv[] = {
        "/bin/sh", "-c", "id -u; id -g; id -G; echo $USER", NULL};
    const struct peer_exec spec = {
        .flags = AGENT_EXEC_USER_NAME,
        .user = "nobody",
        .argv = argv,
    };
    struct peer_result r;

    (void)state;
    if (geteuid() != 0 || !others_may_run_programs())
        skip();
    peer_result_init(&r);
    peer_connect(&agent, &peer);
    peer_exec(&peer, &spec);
    end(&r);
    assert_true(peer_output_is(&r.out, "65534\n65534\n65534\nnobody\n"));
    peer_result_fini(&r);
}

static void test_command_inherits_nothing(void **state)
{
    struct peer_result r;

    (void)state;
    peer_shell(&agent, 0,
        "cd /proc/self/fd && for f in *; do test $f -lt 3 || "
        "readlink $f; done; "
        "exec grep -E '^Sig(Blk|Ign)' /proc/self/status",
        &r);
    /* Whatever this test inherited itself, the agent passes none of it on. */
    assert_true(peer_output_is(
        &r.out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"));
    peer_result_fini(&r);
}

static void test_background_process_does_not_hold_exit(void **state)
{
    struct peer_result r;
    pid_t background;

    (void)state;
    peer_shell(&agent, 0, "sleep 1000 & echo $!", &r);
    assert_true(r.has_exit);
    assert_true(r.out.length > 1);
    r.out.bytes[r.out.length - 1] = '\0';
    background = (pid_t)atoi((const char *)r.out.bytes);
    assert_int_equal(kill(background, 0), 0);
    assert_int_equal(kill(background, SIGKILL), 0);
    peer_result_fini(&r);

    peer_shell(&agent, AGENT_EXEC_WAIT_EOF, "(sleep 0.2; echo late) &", &r);
    assert_true(peer_output_is(&r.out, "late\n"));
    peer_result_fini(&r);
}

static void test_detached_command_outlives_connection(void **state)
{
    struct peer_result r;

    (void)state;
    peer_shell(&agent, AGENT_EXEC_DETACH, "exec sleep 1000", &r);
    assert_true(r.pid > 0);
    assert_true(r.has_ok);
    assert_false(r.has_exit);
    assert_int_equal(kill(r.pid, 0), 0);
    assert_int_equal(kill(r.pid, SIGKILL), 0);
    assert_true(peer_process_ends(r.pid));
    peer_result_fini(&r);
}

static void test_lost_host_ends_the_group(void **state)
{
    struct peer_result r;
    pid_t child;

    (void)state;
    /* Both ignore SIGHUP: only SIGKILL ends them. */
    start("trap '' HUP; sleep 1000 & echo $!; wait", 0, &r);
    while (r.out.length == 0 || r.out.bytes[r.out.length - 1] != '\n')
        assert_true(peer_collect_one(&peer, &r));
    r.out.bytes[r.out.length - 1] = '\0';
    child = (pid_t)atoi((const char *)r.out.bytes);
    assert_int_equal(kill(child, 0), 0);
    peer_close(&peer);
    assert_true(peer_process_ends(child));
    assert_true(peer_process_ends(r.pid));
    peer_result_fini(&r);
}

static void test_lost_host_gives_time_to_clean_up(void **state)
{
    char path[] = "/tmp/spore-agent-test-XXXXXX";
    struct peer_result r;
    char script[128];
    struct stat st;
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    (void)snprintf(script, sizeof(script),
        "trap 'rm %s; exit' HUP; echo ready; sleep 1000 & wait", path);
    start(script, 0, &r);
    while (r.out.length < 6)
        assert_true(peer_collect_one(&peer, &r));
    peer_close(&peer);
    assert_true(peer_process_ends(r.pid));
    assert_int_equal(stat(path, &st), -1);
    peer_result_fini(&r);
}

static void test_fifty_at_once(void **state)
{
    enum { COUNT = 50 };
    struct peer *peers = calloc(COUNT, sizeof(*peers));
    struct peer_result r;
    char script[64];
    char want[32];

    (void)state;
    assert_non_null(peers);
    /* All of them run before the first is read: each waits for its input. */
    for (int i = 0; i < COUNT; i++) {
        const char *const argv[] = {"/bin/sh", "-c", script, NULL};
        const struct peer_exec spec = {.flags = AGENT_EXEC_STDIN, .argv = argv};

        (void)snprintf(script, sizeof(script), "read x; echo %d $x", i);
        peer_connect(&agent, &peers[i]);
        peer_exec(&peers[i], &spec);
    }
    for (int i = COUNT - 1; i >= 0; i--) {
        assert_true(peer_send(&peers[i], AGENT_STDIN, "hello\n", 6));
        peer_result_init(&r);
        peer_collect(&peers[i], &r);
        peer_close(&peers[i]);
        (void)snprintf(want, sizeof(want), "%d hello\n", i);
        assert_true(peer_output_is(&r.out, want));
        assert_true(r.has_exit);
        peer_result_fini(&r);
    }
    free(peers);
}

static void test_input_past_the_window_is_refused(void **state)
{
    static uint8_t bytes[AGENT_PAYLOAD_MAX];
    struct peer_result r;

    (void)state;
    start("sleep 1000", AGENT_EXEC_STDIN, &r);
    /* The pipe takes one window's worth, the agent another. */
    for (int i = 0; i < 4; i++) {
        if (!peer_send(&peer, AGENT_STDIN, bytes, sizeof(bytes)))
            break;
    }
    end(&r);
    assert_true(r.has_error);
    assert_int_equal(r.stage, AGENT_STAGE_PROTOCOL);
    assert_true(peer_process_ends(r.pid));
    peer_result_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams_are_separate),
        cmocka_unit_test(test_large_output_is_whole),
        cmocka_unit_test(test_exit_status_and_signal),
        cmocka_unit_test(test_input_passes_through),
        cmocka_unit_test(test_no_input_is_end_of_file),
        cmocka_unit_test(test_closed_input_is_told_and_thrown_away),
        cmocka_unit_test(test_signal_overtakes_unread_input),
        cmocka_unit_test(test_signal_to_process_alone),
        cmocka_unit_test(test_failures_to_start_are_told_apart),
        cmocka_unit_test(test_environment_and_directory),
        cmocka_unit_test(test_user_by_name),
        cmocka_unit_test(test_command_inherits_nothing),
        cmocka_unit_test(test_background_process_does_not_hold_exit),
        cmocka_unit_test(test_detached_command_outlives_connection),
        cmocka_unit_test(test_lost_host_ends_the_group),
        cmocka_unit_test(test_lost_host_gives_time_to_clean_up),
        cmocka_unit_test(test_fifty_at_once),
        cmocka_unit_test(test_input_past_the_window_is_refused),
    };

    return cmocka_run_group_tests(tests, start_agent, stop_agent);
}
