/* SPDX-License-Identifier: Apache-2.0 */
/* The command's three streams, and what holds them up. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/exec_bench.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define UNREAD_MAX (1u << 20)

/* Less than anybody lets be under way without an acknowledgement. */
#define NO_ACK_NEEDED ((1u << 20) - 1)

struct fixture {
    struct exec_bench b;
    int input[2]; /* a pipe for standard input; -1 where it is not used */
    struct exec_bench_frame frame;
};

static int setup(void **state)
{
    struct fixture *f = malloc(sizeof(*f));

    if (f == NULL)
        return -1;
    exec_bench_init(&f->b);
    *state = f;
    return pipe2(f->input, O_CLOEXEC);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    exec_bench_fini(&f->b);
    fd_closep(&f->input[0]);
    fd_closep(&f->input[1]);
    free(f);
    return 0;
}

/* Byte `i` of a stream that does not repeat soon. */
static uint8_t pattern(uint64_t i)
{
    return (uint8_t)((i * 0x9e3779b97f4a7c15u) >> 56);
}

static void fill(uint8_t *data, uint64_t at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        data[i] = pattern(at + i);
}

static void expect_pattern(const struct exec_bench_text *text, uint64_t len)
{
    assert_int_equal(text->len, len);
    for (size_t i = 0; i < len; i++)
        if (text->data[i] != pattern(i))
            fail_msg("byte %zu is wrong", i);
}

/* Frames on their way from the agent, as far as the socket takes them. */
struct flood {
    uint8_t frame[AGENT_FRAME_MAX];
    size_t at;
    size_t end;
    uint64_t out; /* bytes of each stream put into frames */
    uint64_t err;
    uint64_t total; /* to be sent on each */
};

static bool flood_next(struct flood *flood, size_t chunk)
{
    bool to_err = flood->err < flood->out;
    uint64_t *at = to_err ? &flood->err : &flood->out;
    size_t len = num_min(chunk, flood->total - *at);
    struct agent_frame head = {.length = agent_le32_put((uint32_t)len),
        .type = agent_le16_put(to_err ? AGENT_STDERR : AGENT_STDOUT)};

    if (len == 0)
        return false;
    memcpy(flood->frame, &head, sizeof(head));
    fill(flood->frame + sizeof(head), *at, len);
    *at += len;
    flood->at = 0;
    flood->end = sizeof(head) + len;
    return true;
}

/* Sends until the socket is full (false) or all is sent (true). */
static bool flood_send(struct exec_bench *b, struct flood *flood, size_t chunk)
{
    for (;;) {
        size_t n;

        if (flood->at == flood->end && !flood_next(flood, chunk))
            return true;
        n = exec_bench_send(
            b, flood->frame + flood->at, flood->end - flood->at);
        if (n == 0)
            return false;
        flood->at += n;
    }
}

static void flood_through(struct fixture *f, uint64_t total, size_t chunk)
{
    struct flood *flood = calloc(1, sizeof(*flood));

    assert_non_null(flood);
    flood->total = total;
    exec_bench_start_running(&f->b, -1, EXEC_BENCH_WINDOW);
    while (!flood_send(&f->b, flood, chunk))
        exec_bench_run(&f->b);
    exec_bench_run(&f->b);
    exec_bench_say_exit(&f->b, 5, 0);
    exec_bench_run(&f->b);
    exec_bench_expect_exit(&f->b, 5);
    expect_pattern(&f->b.printed, total);
    expect_pattern(&f->b.complained, total);
    free(flood);
}

static void test_much_output(void **state)
{
    flood_through(*state, 10 * NUM_MIB, AGENT_PAYLOAD_MAX);
}

static void test_much_output_in_small_frames(void **state)
{
    flood_through(*state, NUM_MIB, 999);
}

/*
 * An output that nobody reads stops the agent after what pipe, socket and one
 * frame hold, however often the loop runs; then all of it arrives in order.
 */
static void test_slow_reader_holds_the_agent_back(void **state)
{
    struct fixture *f = *state;
    struct exec_bench *b = &f->b;
    struct flood *flood = calloc(1, sizeof(*flood));
    bool all;

    assert_non_null(flood);
    flood->total = 4 * NUM_MIB;
    assert_true(fcntl(b->out[1], F_SETPIPE_SZ, 4096) >= 0);
    exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
    for (int i = 0; i < 50; i++) {
        assert_false(flood_send(b, flood, 10000));
        exec_bench_run_unread(b);
    }
    assert_true(flood->out < UNREAD_MAX);
    assert_int_equal(b->done, 0);
    do {
        all = flood_send(b, flood, 10000);
        exec_bench_run_unread(b);
        exec_bench_read_outputs(b);
    } while (!all);
    exec_bench_run(b);
    expect_pattern(&b->printed, flood->total);
    expect_pattern(&b->complained, flood->total);
    exec_bench_say_exit(b, 0, 0);
    exec_bench_run(b);
    exec_bench_expect_exit(b, 0);
    free(flood);
}

/* The agent has said all and gone while our output still waits. */
static void test_agent_gone_while_output_waits(void **state)
{
    struct fixture *f = *state;
    struct exec_bench *b = &f->b;
    uint8_t data[20000];

    assert_true(fcntl(b->out[1], F_SETPIPE_SZ, 4096) >= 0);
    exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
    fill(data, 0, sizeof(data));
    exec_bench_say(b, AGENT_STDOUT, data, sizeof(data));
    exec_bench_say_exit(b, 9, 0);
    fd_closep(&b->agent);
    /* Neither is anything lost nor does the loop turn in vain. */
    exec_bench_run_unread(b);
    assert_int_equal(b->done, 0);
    exec_bench_run(b);
    exec_bench_expect_exit(b, 9);
    expect_pattern(&b->printed, sizeof(data));
}

static void test_signal_while_output_waits(void **state)
{
    struct fixture *f = *state;
    struct exec_bench *b = &f->b;
    struct agent_signal want = {.signal = agent_le32_put(SIGINT)};
    uint8_t data[20000];

    assert_true(fcntl(b->out[1], F_SETPIPE_SZ, 4096) >= 0);
    exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
    fill(data, 0, sizeof(data));
    exec_bench_say(b, AGENT_STDOUT, data, sizeof(data));
    exec_bench_run_unread(b);
    guest_exec_signal(&b->exec, SIGINT);
    exec_bench_run_unread(b);
    exec_bench_expect(b, AGENT_SIGNAL, &want, sizeof(want));
    exec_bench_say_exit(b, 0, SIGINT);
    exec_bench_run(b);
    exec_bench_expect_exit(b, 130);
    expect_pattern(&b->printed, sizeof(data));
}

/* What cannot be sent any more does not keep the loop turning. */
static void test_signal_to_an_agent_that_has_gone(void **state)
{
    struct fixture *f = *state;
    struct exec_bench *b = &f->b;
    uint8_t data[20000];

    assert_true(fcntl(b->out[1], F_SETPIPE_SZ, 4096) >= 0);
    exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
    fill(data, 0, sizeof(data));
    exec_bench_say(b, AGENT_STDOUT, data, sizeof(data));
    exec_bench_say_exit(b, 4, 0);
    exec_bench_run_unread(b);
    assert_int_equal(shutdown(b->agent, SHUT_RDWR), 0);
    guest_exec_signal(&b->exec, SIGINT);
    exec_bench_run_unread(b);
    assert_int_equal(b->done, 0);
    exec_bench_run(b);
    exec_bench_expect_exit(b, 4);
    expect_pattern(&b->printed, sizeof(data));
}

static void test_output_that_nobody_reads_any_more(void **state)
{
    struct fixture *f = *state;
    struct exec_bench *b = &f->b;

    exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
    fd_closep(&b->out[0]);
    exec_bench_say(b, AGENT_STDOUT, "x", 1);
    exec_bench_say_exit(b, 0, 0);
    exec_bench_run(b);
    exec_bench_expect_error(b, 128 + SIGPIPE, "");
}

static void test_reader_that_goes_while_output_waits(void **state)
{
    struct fixture *f = *state;
    struct exec_bench *b = &f->b;
    uint8_t data[20000] = {0};

    assert_true(fcntl(b->err[1], F_SETPIPE_SZ, 4096) >= 0);
    exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
    exec_bench_say(b, AGENT_STDERR, data, sizeof(data));
    exec_bench_run_unread(b);
    assert_int_equal(b->done, 0);
    fd_closep(&b->err[0]);
    exec_bench_run_unread(b);
    exec_bench_expect_error(b, 128 + SIGPIPE, "");
}

static void test_output_to_a_full_disk(void **state)
{
    struct fixture *f = *state;
    struct exec_bench *b = &f->b;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

    assert_true(full >= 0);
    assert_int_equal(dup2(full, b->out[1]), b->out[1]);
    exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
    exec_bench_say(b, AGENT_STDOUT, "x", 1);
    exec_bench_run(b);
    exec_bench_expect_error(
        b, 125, "cannot write the command's output: No space left on device");
    fd_closep(&full);
}

static void test_output_to_a_file(void **state)
{
    struct fixture *f = *state;
    struct exec_bench *b = &f->b;
    int file = memfd_create("out", MFD_CLOEXEC);
    char text[16] = "";

    assert_true(file >= 0);
    assert_int_equal(dup2(file, b->out[1]), b->out[1]);
    exec_bench_start_running(b, -1, EXEC_BENCH_WINDOW);
    exec_bench_say(b, AGENT_STDOUT, "one ", 4);
    exec_bench_say(b, AGENT_STDOUT, "two", 3);
    exec_bench_say_exit(b, 0, 0);
    exec_bench_run(b);
    exec_bench_expect_exit(b, 0);
    assert_int_equal(pread(file, text, sizeof(text), 0), 7);
    assert_string_equal(text, "one two");
    fd_closep(&file);
}

static void test_fini_while_output_waits(void **state)
{
    struct fixture *f = *state;
    struct exec_bench *b = &f->b;
    uint8_t data[20000] = {0};

    assert_true(fcntl(b->out[1], F_SETPIPE_SZ, 4096) >= 0);
    exec_bench_start_running(b, f->input[0], EXEC_BENCH_WINDOW);
    exec_bench_say(b, AGENT_STDOUT, data, sizeof(data));
    exec_bench_run_unread(b);
    guest_exec_fini(&b->exec);
    exec_bench_run(b);
    assert_int_equal(b->done, 0);
}

static void test_input_through_a_pipe(void **state)
{
    struct fixture *f = *state;
    struct exec_bench *b = &f->b;

    assert_int_equal(fd_write_full(f->input[1], "early", 5), 0);
    exec_bench_start(b, f->input[0]);
    exec_bench_say_hello(b, EXEC_BENCH_WINDOW);
    assert_true(exec_bench_hear(b, &f->frame));
    exec_bench_run(b);
    /* Input waits for the command's start. */
    assert_false(exec_bench_hear(b, &f->frame));
    exec_bench_say_started(b);
    exec_bench_run(b);
    exec_bench_expect(b, AGENT_STDIN, "early", 5);
    assert_int_equal(fd_write_full(f->input[1], "later", 5), 0);
    exec_bench_run(b);
    exec_bench_expect(b, AGENT_STDIN, "later", 5);
    fd_closep(&f->input[1]);
    exec_bench_run(b);
    exec_bench_expect(b, AGENT_STDIN_EOF, NULL, 0);
    exec_bench_run(b);
    assert_false(exec_bench_hear(b, &f->frame));
    exec_bench_say_exit(b, 0, 0);
    exec_bench_run(b);
    exec_bench_expect_exit(b, 0);
}

/* Bytes of STDIN that have come since; sets *ret_ended at STDIN_EOF. */
static uint64_t take_input(struct fixture *f, uint64_t at, bool *ret_ended)
{
    uint64_t taken = 0;

    exec_bench_run(&f->b);
    while (!*ret_ended && exec_bench_hear(&f->b, &f->frame)) {
        if (f->frame.type == AGENT_STDIN_EOF) {
            assert_int_equal(f->frame.len, 0);
            *ret_ended = true;
            break;
        }
        assert_int_equal(f->frame.type, AGENT_STDIN);
        assert_true(f->frame.len > 0);
        for (uint32_t i = 0; i < f->frame.len; i++)
            if (f->frame.data[i] != pattern(at + taken + i))
                fail_msg("byte %u of a frame is wrong", i);
        taken += f->frame.len;
        exec_bench_run(&f->b);
    }
    return taken;
}

/* Never more than the window is outstanding, whatever the source has. */
static void take_in_windows(struct fixture *f, uint64_t total, uint32_t window,
    uint32_t ack, void (*refill)(struct fixture *, uint64_t))
{
    uint64_t outstanding = 0;
    uint64_t at = 0;
    bool ended = false;

    while (!ended) {
        uint64_t n;

        if (refill != NULL)
            refill(f, at);
        n = take_input(f, at, &ended);
        at += n;
        outstanding += n;
        assert_true(outstanding <= window);
        if (ended)
            break;
        assert_true(outstanding > 0);
        n = num_min(ack, outstanding);
        exec_bench_say_ack(&f->b, (uint32_t)n, 0);
        outstanding -= n;
    }
    assert_int_equal(at, total);
}

static int make_file(size_t size)
{
    int fd = memfd_create("in", MFD_CLOEXEC);
    uint8_t *data = malloc(size);

    assert_true(fd >= 0);
    assert_non_null(data);
    fill(data, 0, size);
    assert_int_equal(fd_write_full(fd, data, size), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    free(data);
    return fd;
}

static void test_input_from_a_file(void **state)
{
    static const uint32_t windows[] = {1, 1000, 32768, 65536, 1u << 20};
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(windows); i++) {
        size_t size = windows[i] == 1 ? 100 : 300000;
        int fd = make_file(size);

        exec_bench_fini(&f->b);
        exec_bench_init(&f->b);
        exec_bench_start_running(&f->b, fd, windows[i]);
        take_in_windows(f, size, windows[i], windows[i] / 2 + 1, NULL);
        exec_bench_say_exit(&f->b, 0, 0);
        exec_bench_run(&f->b);
        exec_bench_expect_exit(&f->b, 0);
        fd_closep(&fd);
    }
}

#define PIPED 200000u

static void refill_pipe(struct fixture *f, uint64_t at)
{
    uint8_t data[PIPED];

    (void)at;
    if (f->input[1] < 0)
        return;
    fill(data, 0, sizeof(data));
    assert_int_equal(fd_write_full(f->input[1], data, sizeof(data)), 0);
    fd_closep(&f->input[1]);
}

static void test_input_window_of_a_pipe(void **state)
{
    struct fixture *f = *state;

    assert_true(fcntl(f->input[1], F_SETPIPE_SZ, PIPED) >= 0);
    exec_bench_start_running(&f->b, f->input[0], 4000);
    take_in_windows(f, PIPED, 4000, 1500, refill_pipe);
}

static void test_input_of_dev_null(void **state)
{
    struct fixture *f = *state;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_true(null >= 0);
    exec_bench_start_running(&f->b, null, EXEC_BENCH_WINDOW);
    exec_bench_expect(&f->b, AGENT_STDIN_EOF, NULL, 0);
    assert_false(exec_bench_hear(&f->b, &f->frame));
    fd_closep(&null);
}

static void test_input_that_cannot_be_read(void **state)
{
    struct fixture *f = *state;
    int folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(folder >= 0);
    exec_bench_start_running(&f->b, folder, EXEC_BENCH_WINDOW);
    exec_bench_expect(&f->b, AGENT_STDIN_EOF, NULL, 0);
    fd_closep(&folder);
}

static void test_input_that_is_closed(void **state)
{
    struct fixture *f = *state;
    int gone = f->input[0];

    fd_closep(&f->input[0]);
    exec_bench_start(&f->b, gone);
    exec_bench_say_hello(&f->b, EXEC_BENCH_WINDOW);
    exec_bench_say_started(&f->b);
    exec_bench_run(&f->b);
    exec_bench_expect_error(&f->b, 125, "cannot watch standard input");
}

static void test_no_input(void **state)
{
    struct fixture *f = *state;

    exec_bench_start_running(&f->b, -1, EXEC_BENCH_WINDOW);
    exec_bench_say_ack(&f->b, 100, 0);
    exec_bench_run(&f->b);
    assert_false(exec_bench_hear(&f->b, &f->frame));
    exec_bench_say_exit(&f->b, 0, 0);
    exec_bench_run(&f->b);
    exec_bench_expect_exit(&f->b, 0);
}

static void test_window_of_nothing(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(fd_write_full(f->input[1], "abc", 3), 0);
    exec_bench_start_running(&f->b, f->input[0], 0);
    assert_false(exec_bench_hear(&f->b, &f->frame));
    exec_bench_say_ack(&f->b, 2, 0);
    exec_bench_run(&f->b);
    exec_bench_expect(&f->b, AGENT_STDIN, "ab", 2);
    assert_false(exec_bench_hear(&f->b, &f->frame));
}

/* A hostile agent acknowledges more than there can be. */
static void test_window_does_not_wrap(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(fd_write_full(f->input[1], "abc", 3), 0);
    exec_bench_start_running(&f->b, f->input[0], UINT32_MAX);
    exec_bench_expect(&f->b, AGENT_STDIN, "abc", 3);
    /* What is left and this make 2^32. */
    exec_bench_say_ack(&f->b, 4, 0);
    assert_int_equal(fd_write_full(f->input[1], "def", 3), 0);
    exec_bench_run(&f->b);
    exec_bench_expect(&f->b, AGENT_STDIN, "def", 3);
}

static void test_command_that_reads_no_more(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(fd_write_full(f->input[1], "abcdef", 6), 0);
    exec_bench_start_running(&f->b, f->input[0], 4);
    exec_bench_expect(&f->b, AGENT_STDIN, "abcd", 4);
    exec_bench_say_ack(&f->b, 4, AGENT_STDIN_CLOSED);
    exec_bench_run(&f->b);
    assert_int_equal(fd_write_full(f->input[1], "more", 4), 0);
    exec_bench_run(&f->b);
    fd_closep(&f->input[1]);
    exec_bench_run(&f->b);
    /* Neither input nor its end is sent, and what is there stays unread. */
    assert_false(exec_bench_hear(&f->b, &f->frame));
    assert_int_equal(read(f->input[0], f->frame.data, 64), 6);
    exec_bench_say_exit(&f->b, 3, 0);
    exec_bench_run(&f->b);
    exec_bench_expect_exit(&f->b, 3);
}

/* Input is read on only when the socket has taken the last of it. */
static void test_agent_that_does_not_read(void **state)
{
    struct fixture *f = *state;
    int fd = make_file(NO_ACK_NEEDED);
    uint64_t at = 0;
    bool ended = false;
    off_t read_so_far;

    exec_bench_start_running(&f->b, fd, UINT32_MAX);
    read_so_far = lseek(fd, 0, SEEK_CUR);
    assert_in_range(read_so_far, 1, NO_ACK_NEEDED - 1);
    exec_bench_run(&f->b);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), read_so_far);
    while (!ended)
        at += take_input(f, at, &ended);
    assert_int_equal(at, NO_ACK_NEEDED);
    fd_closep(&fd);
}

/* What the command does not want any more is not waited for. */
static void test_end_while_input_waits(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(fd_write_full(f->input[1], "abc", 3), 0);
    exec_bench_start_running(&f->b, f->input[0], 1);
    exec_bench_say_exit(&f->b, 0, 0);
    exec_bench_run(&f->b);
    exec_bench_expect_exit(&f->b, 0);
    exec_bench_expect(&f->b, AGENT_STDIN, "a", 1);
    assert_int_equal(fd_write_full(f->input[1], "def", 3), 0);
    exec_bench_run(&f->b);
    assert_int_equal(read(f->input[0], f->frame.data, 64), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_much_output),
        cmocka_unit_test(test_much_output_in_small_frames),
        cmocka_unit_test(test_slow_reader_holds_the_agent_back),
        cmocka_unit_test(test_agent_gone_while_output_waits),
        cmocka_unit_test(test_signal_while_output_waits),
        cmocka_unit_test(test_signal_to_an_agent_that_has_gone),
        cmocka_unit_test(test_output_that_nobody_reads_any_more),
        cmocka_unit_test(test_reader_that_goes_while_output_waits),
        cmocka_unit_test(test_output_to_a_full_disk),
        cmocka_unit_test(test_output_to_a_file),
        cmocka_unit_test(test_fini_while_output_waits),
        cmocka_unit_test(test_input_through_a_pipe),
        cmocka_unit_test(test_input_from_a_file),
        cmocka_unit_test(test_input_window_of_a_pipe),
        cmocka_unit_test(test_input_of_dev_null),
        cmocka_unit_test(test_input_that_cannot_be_read),
        cmocka_unit_test(test_input_that_is_closed),
        cmocka_unit_test(test_no_input),
        cmocka_unit_test(test_window_of_nothing),
        cmocka_unit_test(test_window_does_not_wrap),
        cmocka_unit_test(test_command_that_reads_no_more),
        cmocka_unit_test(test_agent_that_does_not_read),
        cmocka_unit_test(test_end_while_input_waits),
    };
    struct CMUnitTest with_bench[ARRAY_SIZE(tests)];

    /* A reader that has gone must not end the test. */
    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        with_bench[i] = tests[i];
        with_bench[i].setup_func = setup;
        with_bench[i].teardown_func = teardown;
    }
    return cmocka_run_group_tests(with_bench, NULL, NULL);
}
