/* SPDX-License-Identifier: Apache-2.0 */
/* The request, the conversation and its ends; test_guest_exec_io.c has the
 * streams. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/exec_bench.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define CLOSED     "the guest closed the connection to its agent"
#define UNEXPECTED "the agent sent an unexpected frame"

static int setup(void **state)
{
    struct exec_bench *b = malloc(sizeof(*b));

    if (b == NULL)
        return -1;
    exec_bench_init(b);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct exec_bench *b = *state;

    exec_bench_fini(b);
    free(b);
    return 0;
}

/* Another conversation on a bench of its own. */
static void again(struct exec_bench *b)
{
    exec_bench_fini(b);
    exec_bench_init(b);
}

static void start_with(
    struct exec_bench *b, const struct guest_exec_config *config)
{
    struct err err;

    assert_int_equal(
        guest_exec_start(&b->exec, &b->loop, b->exec.socket.fd, config, &err),
        0);
}

static void test_request(void **state)
{
    static const char *const argv[] = {"sh", "-c", "echo 'a b'", "", NULL};
    static const char *const env[] = {"A=1", "B=", NULL};
    static const char strings[] = "\0\0sh\0-c\0echo 'a b'\0\0A=1\0B=";
    struct exec_bench *b = *state;
    struct guest_exec_config config = exec_bench_config(b, 0);
    struct agent_exec want = {
        .flags = agent_le32_put(AGENT_EXEC_TTY | AGENT_EXEC_STDIN),
        .rows = agent_le16_put(25),
        .cols = agent_le16_put(80),
        .argc = agent_le16_put(4),
        .envc = agent_le16_put(2)};
    uint8_t bytes[sizeof(want) + sizeof(strings)];

    config.argv = argv;
    config.env = env;
    config.tty = true;
    config.rows = 25;
    config.cols = 80;
    start_with(b, &config);
    memcpy(bytes, &want, sizeof(want));
    memcpy(bytes + sizeof(want), strings, sizeof(strings));
    exec_bench_expect(b, AGENT_EXEC, bytes, sizeof(bytes));
}

static void test_request_of_a_command_without_input(void **state)
{
    static const char strings[] = "\0\0cmd";
    struct exec_bench *b = *state;
    struct agent_exec want = {.argc = agent_le16_put(1)};
    uint8_t bytes[sizeof(want) + sizeof(strings)];

    exec_bench_start(b, -1);
    memcpy(bytes, &want, sizeof(want));
    memcpy(bytes + sizeof(want), strings, sizeof(strings));
    exec_bench_expect(b, AGENT_EXEC, bytes, sizeof(bytes));
}

static void test_command_that_is_left_behind(void **state)
{
    static const char strings[] = "\0\0cmd";
    struct exec_bench *b = *state;
    struct guest_exec_config config = exec_bench_config(b, -1);
    struct agent_exec want = {
        .flags = agent_le32_put(AGENT_EXEC_DETACH), .argc = agent_le16_put(1)};
    uint8_t bytes[sizeof(want) + sizeof(strings)];
    struct agent_ok ok = {0};

    config.detach = true;
    start_with(b, &config);
    memcpy(bytes, &want, sizeof(want));
    memcpy(bytes + sizeof(want), strings, sizeof(strings));
    exec_bench_expect(b, AGENT_EXEC, bytes, sizeof(bytes));
    exec_bench_say_hello(b, EXEC_BENCH_WINDOW);
    exec_bench_say_started(b);
    exec_bench_run(b);
    assert_int_equal(b->done, 0);
    exec_bench_say(b, AGENT_OK, &ok, sizeof(ok));
    exec_bench_run(b);
    exec_bench_expect_exit(b, 0);
}

/* What does not go into one frame is refused, and nothing of it is sent. */
static void expect_too_big(
    struct exec_bench *b, const struct guest_exec_config *config)
{
    struct err err;
    uint8_t byte;

    assert_int_equal(
        guest_exec_start(&b->exec, &b->loop, b->exec.socket.fd, config, &err),
        -E2BIG);
    assert_string_equal(err.text,
        "command line and environment exceed 65536 bytes or 4096 words");
    assert_int_equal(recv(b->agent, &byte, 1, 0), 0);
    guest_exec_fini(&b->exec);
    again(b);
}

static void test_too_many_bytes(void **state)
{
    struct exec_bench *b = *state;
    size_t room = AGENT_PAYLOAD_MAX - sizeof(struct agent_exec) - 2;
    struct exec_bench_frame *frame = malloc(sizeof(*frame));
    char *word = malloc(room + 1);
    const char *argv[] = {word, NULL};
    const char *env[] = {"A=", NULL};
    struct guest_exec_config config;

    assert_non_null(word);
    assert_non_null(frame);
    memset(word, 'x', room);
    word[room - 1] = '\0';
    config = exec_bench_config(b, -1);
    config.argv = argv;
    start_with(b, &config);
    assert_true(exec_bench_hear(b, frame));
    assert_int_equal(frame->len, AGENT_PAYLOAD_MAX);
    again(b);
    config = exec_bench_config(b, -1);
    config.argv = argv;
    config.env = env;
    expect_too_big(b, &config);
    word[room - 1] = 'x';
    word[room] = '\0';
    config = exec_bench_config(b, -1);
    config.argv = argv;
    expect_too_big(b, &config);
    free(frame);
    free(word);
}

static void test_too_many_words(void **state)
{
    static const char *words[70001];
    struct exec_bench *b = *state;
    struct guest_exec_config config;
    const char *env[] = {"A=", NULL};

    for (size_t i = 0; i < ARRAY_SIZE(words) - 1; i++)
        words[i] = i < AGENT_EXEC_STRINGS_MAX ? "" : NULL;
    config = exec_bench_config(b, -1);
    config.argv = words;
    start_with(b, &config);
    again(b);
    config = exec_bench_config(b, -1);
    config.argv = words;
    config.env = env;
    expect_too_big(b, &config);
    /* More than the count in the frame can say. */
    for (size_t i = 0; i < ARRAY_SIZE(words) - 1; i++)
        words[i] = "";
    config = exec_bench_config(b, -1);
    config.argv = words;
    expect_too_big(b, &config);
}

static void test_greetings_that_are_refused(void **state)
{
    static const struct {
        size_t len;
        uint32_t magic;
        uint16_t version;
        const char *text;
    } cases[] = {
        {sizeof(struct agent_hello), AGENT_MAGIC + 1, AGENT_VERSION,
            "the agent sent a malformed greeting"},
        {sizeof(struct agent_hello), 0, 0,
            "the agent sent a malformed greeting"},
        {sizeof(struct agent_hello), AGENT_MAGIC, AGENT_VERSION + 1,
            "the agent speaks another version of the protocol"},
        {sizeof(struct agent_hello), AGENT_MAGIC, 0,
            "the agent speaks another version of the protocol"},
        {sizeof(struct agent_hello) - 1, AGENT_MAGIC, AGENT_VERSION,
            "the agent sent a malformed greeting"},
        {6, AGENT_MAGIC, AGENT_VERSION, "the agent sent a malformed greeting"},
        {0, 0, 0, "the agent sent a malformed greeting"},
    };
    struct exec_bench *b = *state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct agent_hello hello = {.magic = agent_le32_put(cases[i].magic),
            .version = agent_le16_put(cases[i].version)};

        again(b);
        exec_bench_start(b, -1);
        exec_bench_say(b, AGENT_HELLO, &hello, cases[i].len);
        exec_bench_run(b);
        exec_bench_expect_error(b, 125, cases[i].text);
        assert_int_equal(b->started, 0);
    }
}

/* Every frame of the protocol, and some that are none. */
static const uint16_t types[] = {0, AGENT_HELLO, AGENT_OK, AGENT_ERROR,
    AGENT_PING, AGENT_EXEC, AGENT_STDIN, AGENT_STDIN_EOF, AGENT_SIGNAL,
    AGENT_WINSIZE, AGENT_STARTED, AGENT_STDOUT, AGENT_STDERR, AGENT_STDIN_ACK,
    AGENT_EXIT, AGENT_DATA, 0xffff};

static void test_only_a_greeting_comes_first(void **state)
{
    struct exec_bench *b = *state;
    uint8_t payload[64] = {0};

    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (types[i] == AGENT_HELLO)
            continue;
        again(b);
        exec_bench_start(b, -1);
        exec_bench_say(b, types[i], payload, sizeof(payload));
        exec_bench_run(b);
        exec_bench_expect_error(b, 125, "the agent did not greet");
    }
}

static void test_frames_out_of_place(void **state)
{
    struct exec_bench *b = *state;
    uint8_t payload[64] = {0};

    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (types[i] == AGENT_ERROR)
            continue;
        if (types[i] != AGENT_STARTED) {
            again(b);
            exec_bench_start(b, -1);
            exec_bench_say_hello(b, EXEC_BENCH_WINDOW);
            exec_bench_say(b, types[i], payload, sizeof(payload));
            exec_bench_run(b);
            exec_bench_expect_error(b, 125, UNEXPECTED);
            assert_int_equal(b->printed.len + b->complained.len, 0);
        }
        if (types[i] == AGENT_STDOUT || types[i] == AGENT_STDERR ||
            types[i] == AGENT_STDIN_ACK || types[i] == AGENT_EXIT)
            continue;
        again(b);
        exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
        exec_bench_say(b, types[i], payload, sizeof(payload));
        exec_bench_run(b);
        exec_bench_expect_error(b, 125, UNEXPECTED);
        assert_int_equal(b->printed.len + b->complained.len, 0);
    }
}

static void test_frames_of_the_wrong_size(void **state)
{
    static const struct {
        uint16_t type;
        size_t right;
        const char *text;
    } cases[] = {
        {AGENT_EXIT, sizeof(struct agent_exit),
            "the agent sent a malformed exit status"},
        {AGENT_STDIN_ACK, sizeof(struct agent_stdin_ack),
            "the agent sent a malformed acknowledgement"},
        {AGENT_STARTED, sizeof(struct agent_started),
            "the agent sent a malformed start"},
    };
    struct exec_bench *b = *state;
    uint8_t payload[64] = {0};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        for (size_t len = 0; len <= cases[i].right + 1; len++) {
            if (len == cases[i].right)
                continue;
            again(b);
            exec_bench_start(b, -1);
            exec_bench_say_hello(b, EXEC_BENCH_WINDOW);
            if (cases[i].type != AGENT_STARTED)
                exec_bench_say_started(b);
            exec_bench_say(b, cases[i].type, payload, len);
            exec_bench_run(b);
            exec_bench_expect_error(b, 125, cases[i].text);
        }
    }
}

static void test_frames_that_are_too_long(void **state)
{
    static const uint32_t lengths[] = {
        AGENT_PAYLOAD_MAX + 1, 0x7fffffff, 0xfffffff7, 0xffffffff};
    struct exec_bench *b = *state;

    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct agent_frame head = {.length = agent_le32_put(lengths[i]),
            .type = agent_le16_put(AGENT_STDOUT)};

        again(b);
        exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
        assert_int_equal(exec_bench_send(b, &head, sizeof(head)), sizeof(head));
        exec_bench_run(b);
        exec_bench_expect_error(
            b, 125, "the agent sent a frame that is too long");
    }
}

/* A whole conversation as the agent's side of it has it. */
struct script {
    uint8_t bytes[1024];
    size_t len;
};

static void script_put(
    struct script *s, uint16_t type, const void *payload, size_t len)
{
    struct agent_frame head = {
        .length = agent_le32_put((uint32_t)len), .type = agent_le16_put(type)};

    assert_true(s->len + sizeof(head) + len <= sizeof(s->bytes));
    memcpy(s->bytes + s->len, &head, sizeof(head));
    s->len += sizeof(head);
    if (len > 0)
        memcpy(s->bytes + s->len, payload, len);
    s->len += len;
}

static void script_make(struct script *s)
{
    struct agent_hello hello = {.magic = agent_le32_put(AGENT_MAGIC),
        .version = agent_le16_put(AGENT_VERSION),
        .stdin_window = agent_le32_put(EXEC_BENCH_WINDOW)};
    struct agent_started started = {.pid = agent_le32_put(2)};
    struct agent_stdin_ack ack = {.bytes = agent_le32_put(1)};
    struct agent_exit end = {.status = agent_le32_put(7)};

    s->len = 0;
    script_put(s, AGENT_HELLO, &hello, sizeof(hello));
    script_put(s, AGENT_STARTED, &started, sizeof(started));
    script_put(s, AGENT_STDOUT, "out 1\n", 6);
    script_put(s, AGENT_STDERR, "err 1\n", 6);
    script_put(s, AGENT_STDOUT, NULL, 0);
    script_put(s, AGENT_STDOUT, "out 2\n", 6);
    script_put(s, AGENT_STDIN_ACK, &ack, sizeof(ack));
    script_put(s, AGENT_STDERR, "err 2\n", 6);
    script_put(s, AGENT_EXIT, &end, sizeof(end));
}

static void expect_script(const struct exec_bench *b)
{
    exec_bench_expect_exit(b, 7);
    assert_int_equal(b->started, 1);
    assert_int_equal(b->printed.len, 12);
    assert_memory_equal(b->printed.data, "out 1\nout 2\n", 12);
    assert_int_equal(b->complained.len, 12);
    assert_memory_equal(b->complained.data, "err 1\nerr 2\n", 12);
}

static void test_frames_cut_anywhere(void **state)
{
    struct exec_bench *b = *state;
    struct script s;

    script_make(&s);
    for (size_t cut = 0; cut <= s.len; cut++) {
        again(b);
        exec_bench_start(b, -1);
        if (cut > 0)
            assert_int_equal(exec_bench_send(b, s.bytes, cut), cut);
        exec_bench_run(b);
        assert_int_equal(b->done, cut == s.len ? 1 : 0);
        if (cut < s.len)
            assert_int_equal(
                exec_bench_send(b, s.bytes + cut, s.len - cut), s.len - cut);
        exec_bench_run(b);
        expect_script(b);
    }
    again(b);
    exec_bench_start(b, -1);
    for (size_t i = 0; i < s.len; i++) {
        assert_int_equal(b->done, 0);
        assert_int_equal(exec_bench_send(b, s.bytes + i, 1), 1);
        exec_bench_run(b);
    }
    expect_script(b);
}

/* The agent may go away after every byte; only its last frame is an end. */
static void test_agent_that_closes_early(void **state)
{
    struct exec_bench *b = *state;
    struct script s;

    script_make(&s);
    for (size_t cut = 0; cut < s.len; cut++) {
        again(b);
        exec_bench_start(b, -1);
        if (cut > 0)
            assert_int_equal(exec_bench_send(b, s.bytes, cut), cut);
        assert_int_equal(shutdown(b->agent, SHUT_RDWR), 0);
        exec_bench_run(b);
        exec_bench_expect_error(b, 125, CLOSED);
    }
}

/* Closing with the request unread makes a reset out of the end of stream. */
static void test_agent_that_resets(void **state)
{
    struct exec_bench *b = *state;

    exec_bench_start(b, -1);
    fd_closep(&b->agent);
    exec_bench_run(b);
    exec_bench_expect_error(b, 125, CLOSED);
}

static void test_exit_status(void **state)
{
    static const struct {
        uint32_t status;
        uint32_t signal;
        int want;
    } cases[] = {{0, 0, 0}, {1, 0, 1}, {42, 0, 42}, {255, 0, 255}, {256, 0, 0},
        {0xffffffff, 0, 255}, {0, SIGKILL, 137}, {0, SIGINT, 130},
        {3, SIGTERM, 143}, {0, 64, 192}, {0, 0xffffffff, 255}};
    struct exec_bench *b = *state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        again(b);
        exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
        exec_bench_say_exit(b, cases[i].status, cases[i].signal);
        exec_bench_run(b);
        exec_bench_expect_exit(b, cases[i].want);
    }
}

static void say_error(
    struct exec_bench *b, uint16_t status, const char *text, size_t len)
{
    uint8_t bytes[1024];
    struct agent_error error = {.error = agent_le32_put(ENOENT),
        .stage = agent_le16_put(AGENT_STAGE_EXEC),
        .status = agent_le16_put(status)};

    memcpy(bytes, &error, sizeof(error));
    memcpy(bytes + sizeof(error), text, len);
    exec_bench_say(b, AGENT_ERROR, bytes, sizeof(error) + len);
}

static void test_errors_of_the_agent(void **state)
{
    char longest[AGENT_ERROR_TEXT_MAX + 2];
    struct exec_bench *b = *state;
    const struct {
        uint16_t status;
        const char *said;
        int want;
        const char *text;
    } cases[] = {
        {127, "cmd: not found", 127, "cmd: not found"},
        {126, "cmd: permission denied", 126, "cmd: permission denied"},
        {125, "no memory", 125, "no memory"},
        {0, "no such file", 125, "no such file"},
        {0x100, "odd", 125, "odd"},
        {127, "", 127, "the agent gave no reason"},
        {127, "a\x1b[2Jb\nc\x7f", 127, "a?[2Jb?c?"},
        {127, "\xc3\xa4", 127, "\xc3\xa4"},
        {1, longest, 1, longest},
    };

    memset(longest, 'x', sizeof(longest));
    longest[AGENT_ERROR_TEXT_MAX] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        again(b);
        exec_bench_start(b, -1);
        exec_bench_say_hello(b, EXEC_BENCH_WINDOW);
        say_error(b, cases[i].status, cases[i].said, strlen(cases[i].said));
        exec_bench_run(b);
        exec_bench_expect_error(b, cases[i].want, cases[i].text);
        assert_int_equal(b->started, 0);
        again(b);
        exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
        say_error(b, cases[i].status, cases[i].said, strlen(cases[i].said));
        exec_bench_run(b);
        exec_bench_expect_error(b, cases[i].want, cases[i].text);
    }
    longest[AGENT_ERROR_TEXT_MAX] = 'x';
    again(b);
    exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
    say_error(b, 1, longest, AGENT_ERROR_TEXT_MAX + 1);
    exec_bench_run(b);
    exec_bench_expect_error(b, 125, "the agent sent a malformed error");
}

static void test_error_that_is_too_short(void **state)
{
    struct exec_bench *b = *state;
    uint8_t payload[sizeof(struct agent_error)] = {0};

    for (size_t len = 0; len < sizeof(payload); len++) {
        again(b);
        exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
        exec_bench_say(b, AGENT_ERROR, payload, len);
        exec_bench_run(b);
        exec_bench_expect_error(b, 125, "the agent sent a malformed error");
    }
}

/* The agent does not read what it does not want; its reason comes through. */
static void test_reason_of_an_agent_that_has_gone(void **state)
{
    struct exec_bench *b = *state;
    int input[2];

    assert_int_equal(pipe2(input, O_CLOEXEC), 0);
    exec_bench_start_running(b, input[0], EXEC_BENCH_WINDOW);
    say_error(b, 125, "too much", 8);
    assert_int_equal(shutdown(b->agent, SHUT_RDWR), 0);
    guest_exec_signal(&b->exec, SIGINT);
    assert_int_equal(fd_write_full(input[1], "input", 5), 0);
    exec_bench_run(b);
    exec_bench_expect_error(b, 125, "too much");
    fd_closep(&input[0]);
    fd_closep(&input[1]);
}

static void test_signals_and_sizes(void **state)
{
    struct exec_bench *b = *state;
    struct agent_signal signal = {.signal = agent_le32_put(SIGHUP)};
    struct agent_winsize size = {
        .rows = agent_le16_put(50), .cols = agent_le16_put(132)};
    struct exec_bench_frame *frame = malloc(sizeof(*frame));

    assert_non_null(frame);
    exec_bench_start(b, -1);
    assert_true(exec_bench_hear(b, frame));
    /* Before the command runs there is nothing to signal. */
    guest_exec_signal(&b->exec, SIGINT);
    guest_exec_resize(&b->exec, 1, 2);
    exec_bench_say_hello(b, EXEC_BENCH_WINDOW);
    exec_bench_run(b);
    guest_exec_signal(&b->exec, SIGINT);
    guest_exec_resize(&b->exec, 1, 2);
    exec_bench_say_started(b);
    exec_bench_run(b);
    assert_false(exec_bench_hear(b, frame));
    guest_exec_signal(&b->exec, SIGHUP);
    guest_exec_resize(&b->exec, 50, 132);
    exec_bench_expect(b, AGENT_SIGNAL, &signal, sizeof(signal));
    exec_bench_expect(b, AGENT_WINSIZE, &size, sizeof(size));
    exec_bench_say_exit(b, 0, 0);
    exec_bench_run(b);
    exec_bench_expect_exit(b, 0);
    guest_exec_signal(&b->exec, SIGINT);
    guest_exec_resize(&b->exec, 1, 2);
    exec_bench_run(b);
    assert_false(exec_bench_hear(b, frame));
    assert_int_equal(b->done, 1);
    free(frame);
}

/* An agent that does not read loses signals, and never gets half of one. */
static void test_more_signals_than_the_agent_takes(void **state)
{
    struct exec_bench *b = *state;
    struct exec_bench_frame *frame = malloc(sizeof(*frame));
    struct agent_signal want = {.signal = agent_le32_put(SIGUSR1)};
    unsigned int heard = 0;

    assert_non_null(frame);
    exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
    for (int i = 0; i < 100000; i++)
        guest_exec_signal(&b->exec, SIGUSR1);
    exec_bench_run(b);
    for (;;) {
        exec_bench_run(b);
        if (!exec_bench_hear(b, frame))
            break;
        assert_int_equal(frame->type, AGENT_SIGNAL);
        assert_int_equal(frame->len, sizeof(want));
        assert_memory_equal(frame->data, &want, sizeof(want));
        heard++;
    }
    assert_in_range(heard, AGENT_FRAME_MAX / 16, 99999);
    exec_bench_say_exit(b, 0, SIGUSR1);
    exec_bench_run(b);
    exec_bench_expect_exit(b, 128 + SIGUSR1);
    free(frame);
}

static unsigned int open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned int n = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    (void)closedir(dir);
    return n;
}

/* Memory is the sanitizers' business. */
static void test_fini_in_every_phase(void **state)
{
    struct exec_bench *b = *state;
    struct script s;
    unsigned int before;

    script_make(&s);
    exec_bench_fini(b);
    before = open_fds();
    for (size_t cut = 0; cut <= s.len; cut++) {
        exec_bench_init(b);
        exec_bench_start(b, -1);
        if (cut > 0)
            assert_int_equal(exec_bench_send(b, s.bytes, cut), cut);
        exec_bench_run(b);
        guest_exec_fini(&b->exec);
        exec_bench_run(b);
        assert_int_equal(b->done, cut == s.len ? 1 : 0);
        guest_exec_signal(&b->exec, SIGINT);
        guest_exec_fini(&b->exec);
        exec_bench_fini(b);
        assert_int_equal(open_fds(), before);
    }
    exec_bench_init(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_request_of_a_command_without_input),
        cmocka_unit_test(test_command_that_is_left_behind),
        cmocka_unit_test(test_too_many_bytes),
        cmocka_unit_test(test_too_many_words),
        cmocka_unit_test(test_greetings_that_are_refused),
        cmocka_unit_test(test_only_a_greeting_comes_first),
        cmocka_unit_test(test_frames_out_of_place),
        cmocka_unit_test(test_frames_of_the_wrong_size),
        cmocka_unit_test(test_frames_that_are_too_long),
        cmocka_unit_test(test_frames_cut_anywhere),
        cmocka_unit_test(test_agent_that_closes_early),
        cmocka_unit_test(test_agent_that_resets),
        cmocka_unit_test(test_exit_status),
        cmocka_unit_test(test_errors_of_the_agent),
        cmocka_unit_test(test_error_that_is_too_short),
        cmocka_unit_test(test_reason_of_an_agent_that_has_gone),
        cmocka_unit_test(test_signals_and_sizes),
        cmocka_unit_test(test_more_signals_than_the_agent_takes),
        cmocka_unit_test(test_fini_in_every_phase),
    };
    struct CMUnitTest with_bench[ARRAY_SIZE(tests)];

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        with_bench[i] = tests[i];
        with_bench[i].setup_func = setup;
        with_bench[i].teardown_func = teardown;
    }
    return cmocka_run_group_tests(with_bench, NULL, NULL);
}
