/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <time.h>

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

static void test_processor_time_grows_with_work(void **state)
{
    uint64_t before = clock_process_cpu_ns();
    volatile uint32_t sink = 0;

    (void)state;
    assert_true(before > 0);
    while (clock_process_cpu_ns() == before)
        sink = sink + 1;
    assert_true(clock_process_cpu_ns() > before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_monotonic_lies_between_two_readings),
        cmocka_unit_test(test_realtime_lies_between_two_readings),
        cmocka_unit_test(test_processor_time_grows_with_work),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
