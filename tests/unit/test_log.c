/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/cc.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"

struct capture {
    int saved_stderr;
    int pipe[2];
    char text[65536];
    size_t len;
};

/* Standard error into a pipe; what is logged must fit into its buffer. */
static void capture_begin(struct capture *c)
{
    assert_int_equal(pipe2(c->pipe, O_CLOEXEC), 0);
    c->saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(c->saved_stderr >= 0);
    assert_int_equal(dup2(c->pipe[1], STDERR_FILENO), STDERR_FILENO);
}

static void capture_end(struct capture *c)
{
    ssize_t n;

    assert_int_equal(dup2(c->saved_stderr, STDERR_FILENO), STDERR_FILENO);
    fd_closep(&c->saved_stderr);
    fd_closep(&c->pipe[1]);
    n = fd_read_full(c->pipe[0], c->text, sizeof(c->text) - 1);
    assert_true(n >= 0);
    c->len = (size_t)n;
    c->text[c->len] = '\0';
    fd_closep(&c->pipe[0]);
}

static int reset_level(void **state)
{
    (void)state;
    log_set_level(LOG_WARN);
    return 0;
}

static void test_default_level_is_warn(void **state)
{
    (void)state;
    assert_true(log_enabled(LOG_ERR));
    assert_true(log_enabled(LOG_WARN));
    assert_false(log_enabled(LOG_INFO));
    assert_false(log_enabled(LOG_DEBUG));
}

static void test_level_filters_lines(void **state)
{
    struct capture c;

    (void)state;
    capture_begin(&c);
    log_err("m", "one %d", 1);
    log_info("m", "dropped");
    log_set_level(LOG_DEBUG);
    log_debug("m", "two");
    log_info("m", "three");
    log_set_level(LOG_ERR);
    log_warn("m", "dropped");
    log_err("n", "four");
    capture_end(&c);
    assert_string_equal(c.text, "spore: error: m: one 1\n"
                                "spore: debug: m: two\n"
                                "spore: info: m: three\n"
                                "spore: error: n: four\n");
}

static void test_line_is_one_line(void **state)
{
    struct capture c;

    (void)state;
    capture_begin(&c);
    log_warn("m", "a\nb\x1b[2Jc\x7f");
    capture_end(&c);
    assert_string_equal(c.text, "spore: warning: m: a?b?[2Jc?\n");
}

static void test_long_lines_are_cut(void **state)
{
    char text[700];
    struct capture c;

    (void)state;
    for (size_t len = 400; len < sizeof(text); len += 7) {
        memset(text, 'x', len);
        text[len] = '\0';
        capture_begin(&c);
        log_warn("m", "%s", text);
        log_warn(text, "%s", text);
        capture_end(&c);
        assert_memory_equal(c.text, "spore: warning: m: xxx", 22);
        assert_true(c.len > 512 && c.len <= 1024);
        assert_int_equal(c.text[c.len - 1], '\n');
        /* Two newlines and no NUL in what was written. */
        assert_int_equal(strlen(c.text), c.len);
        assert_ptr_equal(
            strchr(strchr(c.text, '\n') + 1, '\n'), c.text + c.len - 1);
    }
}

#define WRITERS 4
#define LINES   100

static void *write_lines(void *opaque)
{
    const char *name = opaque;

    for (int i = 0; i < LINES; i++)
        log_warn(name, "%s%s%s", name, name, name);
    return NULL;
}

static void test_lines_of_threads_do_not_mix(void **state)
{
    static char names[WRITERS][12] = {
        "aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc", "dddddddddd"};
    pthread_t threads[WRITERS];
    struct capture c;
    int counts[WRITERS] = {0};
    char *save = NULL;

    (void)state;
    capture_begin(&c);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    capture_end(&c);
    for (char *line = strtok_r(c.text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        int which = line[16] - 'a';
        char want[80];

        assert_in_range(which, 0, WRITERS - 1);
        (void)snprintf(want, sizeof(want), "spore: warning: %s: %s%s%s",
            names[which], names[which], names[which], names[which]);
        assert_string_equal(line, want);
        counts[which]++;
    }
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(counts[i], LINES);
}

/* As if its last line had been given back just now. */
static void hold_still(struct log_rate *rate)
{
    rate->since_ns = clock_now_ns();
}

static void test_rate_allows_a_burst(void **state)
{
    struct log_rate rate = {0};
    uint32_t allowed = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        /* Nothing is earned however slow the machine is. */
        hold_still(&rate);
        allowed += log_rate_allow(&rate) ? 1 : 0;
    }
    assert_int_equal(allowed, LOG_RATE_BURST);
    assert_int_equal(rate.dropped, 100 - LOG_RATE_BURST);
}

static void test_rate_gives_back_one_at_a_time(void **state)
{
    struct log_rate rate = {.used = LOG_RATE_BURST};
    unsigned int allowed = 0;

    (void)state;
    hold_still(&rate);
    rate.since_ns -= 3 * LOG_RATE_REFILL_NS + LOG_RATE_REFILL_NS / 2;
    for (int i = 0; i < 20; i++)
        allowed += log_rate_allow(&rate) ? 1 : 0;
    assert_int_equal(allowed, 3);
    /* What was begun of the next one counts. */
    assert_true(clock_now_ns() - rate.since_ns >= LOG_RATE_REFILL_NS / 2);
    rate.used = 2;
    hold_still(&rate);
    rate.since_ns -= 3 * LOG_RATE_REFILL_NS;
    assert_true(log_rate_allow(&rate));
    assert_int_equal(rate.used, 1);
}

/* The first line behind a flood knows its size, the next one of nothing. */
static void test_rate_counts_what_was_dropped(void **state)
{
    struct log_rate rate = {.used = LOG_RATE_BURST};

    (void)state;
    for (int i = 0; i < 7; i++) {
        hold_still(&rate);
        assert_false(log_rate_allow(&rate));
    }
    rate.since_ns -= 2 * LOG_RATE_REFILL_NS;
    assert_true(log_rate_allow(&rate));
    assert_int_equal(rate.suppressed, 7);
    assert_int_equal(rate.dropped, 0);
    assert_true(log_rate_allow(&rate));
    assert_int_equal(rate.suppressed, 0);
}

static void test_limited_lines_say_what_is_missing(void **state)
{
    struct log_rate rate = {0};
    struct capture c;
    size_t lines = 0;

    (void)state;
    capture_begin(&c);
    for (int i = 0; i < 1000; i++) {
        hold_still(&rate);
        log_limited(&rate, LOG_WARN, "m", "flood %d", i);
    }
    rate.since_ns -= LOG_RATE_REFILL_NS;
    log_limited(&rate, LOG_WARN, "m", "last");
    capture_end(&c);
    for (const char *p = c.text; *p != '\0'; p++)
        lines += *p == '\n';
    assert_int_equal(lines, LOG_RATE_BURST + 2);
    assert_non_null(strstr(c.text,
        "flood 9\nspore: warning: m: 990 lines like this one left out:\n"
        "spore: warning: m: last\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_level_is_warn),
        cmocka_unit_test_setup(test_level_filters_lines, reset_level),
        cmocka_unit_test_setup(test_line_is_one_line, reset_level),
        cmocka_unit_test_setup(test_long_lines_are_cut, reset_level),
        cmocka_unit_test_setup(test_lines_of_threads_do_not_mix, reset_level),
        cmocka_unit_test(test_rate_allows_a_burst),
        cmocka_unit_test(test_rate_gives_back_one_at_a_time),
        cmocka_unit_test(test_rate_counts_what_was_dropped),
        cmocka_unit_test(test_limited_lines_say_what_is_missing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
