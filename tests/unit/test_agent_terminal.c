/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>

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

static void test_terminal(void **state)
{
    const char *const argv[] = {
        "/bin/sh",
        "-c",
        "stty size; read x; echo \"got $x\"; read y; stty size; "
        "test -t 0 && test -t 2 && echo $TERM",
        NULL,
    };
    const struct agent_winsize size = {
        .rows = agent_le16_put(50),
        .cols = agent_le16_put(132),
    };
    const struct peer_exec spec = {
        .flags = AGENT_EXEC_TTY | AGENT_EXEC_STDIN,
        .argv = argv,
        .rows = 30,
        .cols = 100,
    };
    struct peer_result r;
    char *text;

    (void)state;
    peer_result_init(&r);
    peer_connect(&agent, &peer);
    peer_exec(&peer, &spec);
    assert_true(peer_send(&peer, AGENT_STDIN, "one\n", 4));
    /* "got one" shows that the first size has been printed. */
    while (r.out.length == 0 ||
           memmem(r.out.bytes, r.out.length, "got one", 7) == NULL)
        assert_true(peer_collect_one(&peer, &r));
    assert_true(peer_send(&peer, AGENT_WINSIZE, &size, sizeof(size)));
    assert_true(peer_send(&peer, AGENT_STDIN, "two\n", 4));
    peer_collect(&peer, &r);
    peer_close(&peer);
    assert_true(r.has_exit);
    assert_int_equal(r.status, 0);
    assert_int_equal(r.err.length, 0);
    text = strndup((const char *)r.out.bytes, r.out.length);
    assert_non_null(text);
    assert_non_null(strstr(text, "30 100\r\n"));
    assert_non_null(strstr(text, "50 132\r\n"));
    assert_non_null(strstr(text, "linux\r\n"));
    free(text);
    peer_result_fini(&r);
}

static void test_terminal_end_of_file_and_interrupt(void **state)
{
    struct peer_result r;

    (void)state;
    start("cat; echo done", AGENT_EXEC_TTY | AGENT_EXEC_STDIN, &r);
    assert_true(peer_send(&peer, AGENT_STDIN_EOF, NULL, 0));
    end(&r);
    assert_int_equal(r.status, 0);
    assert_non_null(memmem(r.out.bytes, r.out.length, "done", 4));
    peer_result_fini(&r);

    start("echo ready; exec sleep 100", AGENT_EXEC_TTY | AGENT_EXEC_STDIN, &r);
    while (r.out.length < 5)
        assert_true(peer_collect_one(&peer, &r));
    assert_true(peer_send(&peer, AGENT_STDIN, "\003", 1));
    end(&r);
    assert_int_equal(r.signal, SIGINT);
    peer_result_fini(&r);
}

/* Runs to its end a script that gets this input and its end, at once. */
static void run_on_terminal(
    const char *script, const char *input, struct peer_result *r)
{
    start(script, AGENT_EXEC_TTY | AGENT_EXEC_STDIN, r);
    if (input[0] != '\0')
        assert_true(peer_send(&peer, AGENT_STDIN, input, strlen(input)));
    assert_true(peer_send(&peer, AGENT_STDIN_EOF, NULL, 0));
    end(r);
    assert_true(r->has_exit);
    assert_int_equal(r->signal, 0);
}

static bool has_output(const struct peer_result *r, const char *text)
{
    return memmem(r->out.bytes, r->out.length, text, strlen(text)) != NULL;
}

static void test_terminal_end_of_file_lasts(void **state)
{
    struct peer_result r;

    (void)state;
    /* The first one only ends the line. */
    run_on_terminal("cat; echo done", "partly", &r);
    assert_int_equal(r.status, 0);
    assert_true(has_output(&r, "partlydone"));
    peer_result_fini(&r);

    /* Each reader has its own. */
    run_on_terminal(
        "read x; echo \"<$x>\"; cat; cat; cat; echo done", "word\n", &r);
    assert_int_equal(r.status, 0);
    assert_true(has_output(&r, "<word>"));
    assert_true(has_output(&r, "done"));
    peer_result_fini(&r);

    /* In this mode it is a byte. */
    run_on_terminal("stty -icanon min 1; head -c 1 > /dev/null; "
                    "stty icanon; cat; echo done",
        "", &r);
    assert_int_equal(r.status, 0);
    assert_true(has_output(&r, "done"));
    peer_result_fini(&r);

    /* All that came before the end is read before it. */
    run_on_terminal("read x; sed -n '$='; exit 5", "a\nb\nc", &r);
    assert_int_equal(r.status, 5);
    assert_true(has_output(&r, "2\r\n"));
    peer_result_fini(&r);
}

static void test_terminal_that_reads_on_is_hung_up(void **state)
{
    struct peer_result r;

    (void)state;
    run_on_terminal("trap 'exit 3' HUP; "
                    "stty -icanon -echo min 1; "
                    "while :; do head -c 1 > /dev/null; done",
        "", &r);
    assert_int_equal(r.status, 3);
    peer_result_fini(&r);

    /* Not one that writes, however often, and reads nothing. */
    run_on_terminal("trap 'exit 3' HUP; i=0; while [ $i -lt 300 ]; do "
                    "/bin/echo line $i; i=$((i+1)); done; exit 4",
        "", &r);
    assert_int_equal(r.status, 4);
    assert_true(has_output(&r, "line 299"));
    peer_result_fini(&r);
}

static void test_terminal_output_is_whole(void **state)
{
    struct peer_result r;

    (void)state;
    peer_shell(&agent, AGENT_EXEC_TTY,
        "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done", &r);
    assert_true(r.has_exit);
    /* 10 + 90*2 + 900*3 + 9000*4 + 10000*5 digits, and CR LF each */
    assert_int_equal(r.out.length, 88890 + 2 * 20000);
    assert_memory_equal(r.out.bytes + r.out.length - 7, "19999\r\n", 7);
    peer_result_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_terminal_end_of_file_and_interrupt),
        cmocka_unit_test(test_terminal_end_of_file_lasts),
        cmocka_unit_test(test_terminal_that_reads_on_is_hung_up),
        cmocka_unit_test(test_terminal_output_is_whole),
    };

    return cmocka_run_group_tests(tests, start_agent, stop_agent);
}
