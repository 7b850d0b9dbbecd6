/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/clock.h"

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;

    assert_int_equal(clock_gettime(id, &ts), 0);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void test_monotonic_lies_between_two_readings(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        uint64_t before = clock_ns(CLOCK_MONOTONIC);
        uint64_t now = clock_now_ns();
        uint64_t after = clock_ns(CLOCK_MONOTONIC);

        assert_true(before <= now && now <= after);
    }
}

/* The host's clock may be set back meanwhile, but not ten times in a row. */
static void test_realtime_lies_between_two_readings(void **state)
{
    bool seen = false;

    (void)state;
    for (int i = 0; i < 10 && !seen; i++) {
        uint64_t before = clock_ns(CLOCK_REALTIME);
        uint64_t now = clock_realtime_ns();
        uint64_t after = clock_ns(CLOCK_REALTIME);

        seen = before <= now && now <= after;
    }
    assert_true(seen);
}

/*
 * A child is started between the parent's two readings. The kernel counts in
 * ticks; a second of slack is for the machine being busy between readings of
 * two clocks.
 */
static bool child_start_is_plausible(uint64_t forked_ns, const char *name)
{
    uint64_t start;

    if (prctl(PR_SET_NAME, name) != 0)
        return false;
    start = clock_process_start_ns();
    return start + CLOCK_NS_PER_S >= forked_ns && start <= clock_now_ns() &&
           start != 0;
}

static void expect_child_start(const char *name)
{
    uint64_t forked_ns = clock_now_ns();
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(child_start_is_plausible(forked_ns, name) ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_process_start(void **state)
{
    (void)state;
    expect_child_start("plain");
}

/* The name is a field of the file that the time is read from. */
static void test_process_start_with_an_odd_name(void **state)
{
    (void)state;
    expect_child_start("a) R 1 2 3 (b");
    expect_child_start(") ) ) ) ) )");
    expect_child_start("");
}

/* Reading it late must not make it late. */
static void test_process_started_before_main(void **state)
{
    const uint64_t *main_ns = *state;

    assert_true(clock_process_start_ns() <= *main_ns);
}

int main(void)
{
    uint64_t main_ns = clock_now_ns();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_monotonic_lies_between_two_readings),
        cmocka_unit_test(test_realtime_lies_between_two_readings),
        cmocka_unit_test(test_process_start),
        cmocka_unit_test(test_process_start_with_an_odd_name),
        cmocka_unit_test_prestate(test_process_started_before_main, &main_ns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
