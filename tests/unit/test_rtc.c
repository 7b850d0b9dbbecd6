/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "tests/unit/pio.h"
#include "vmm/base/clock.h"
#include "vmm/hw/layout.h"
#include "vmm/hw/rtc.h"

#define INDEX LAYOUT_PORT_RTC
#define DATA  (LAYOUT_PORT_RTC + 1)

struct fixture {
    struct bus bus;
    struct rtc rtc;
    uint64_t now_ns;
};

static uint64_t now(void *opaque)
{
    const struct fixture *f = opaque;

    return f->now_ns;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    if (f == NULL)
        return -1;
    /* 2024-02-29 13:37:42 UTC, a Thursday. */
    f->now_ns = 1709213862 * CLOCK_NS_PER_S;
    rtc_init(&f->rtc, now, f);
    bus_init(&f->bus);
    *state = f;
    return bus_add(&f->bus, LAYOUT_PORT_RTC, RTC_PORTS, &f->rtc.dev);
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static uint8_t get(struct fixture *f, uint8_t reg)
{
    pio_outb(&f->bus, INDEX, reg);
    return pio_inb(&f->bus, DATA);
}

static void put(struct fixture *f, uint8_t reg, uint8_t value)
{
    pio_outb(&f->bus, INDEX, reg);
    pio_outb(&f->bus, DATA, value);
}

static uint8_t to_bcd(int v)
{
    return (uint8_t)(v / 10 * 16 + v % 10);
}

static void expect_time(struct fixture *f, uint64_t time_s, bool binary)
{
    time_t t = (time_t)time_s;
    struct tm tm;
    int want[8];
    static const uint8_t regs[] = {0, 2, 4, 6, 7, 8, 9, 0x32};

    assert_non_null(gmtime_r(&t, &tm));
    want[0] = tm.tm_sec;
    want[1] = tm.tm_min;
    want[2] = tm.tm_hour;
    want[3] = tm.tm_wday + 1;
    want[4] = tm.tm_mday;
    want[5] = tm.tm_mon + 1;
    want[6] = tm.tm_year % 100;
    want[7] = 19 + tm.tm_year / 100;
    for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
        assert_int_equal(
            get(f, regs[i]), binary ? (uint8_t)want[i] : to_bcd(want[i]));
}

static void test_power_on_values(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(get(f, 0x0a), 0x26);
    assert_int_equal(get(f, 0x0b), 0x02);
    assert_int_equal(get(f, 0x0c), 0x00);
    assert_int_equal(get(f, 0x0d), 0x80);
    assert_int_equal(pio_inb(&f->bus, INDEX), 0xff);
}

static void test_known_date(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(get(f, 0x00), 0x42);
    assert_int_equal(get(f, 0x02), 0x37);
    assert_int_equal(get(f, 0x04), 0x13);
    assert_int_equal(get(f, 0x06), 0x05);
    assert_int_equal(get(f, 0x07), 0x29);
    assert_int_equal(get(f, 0x08), 0x02);
    assert_int_equal(get(f, 0x09), 0x24);
    assert_int_equal(get(f, 0x32), 0x20);
    put(f, 0x0b, 0x06);
    assert_int_equal(get(f, 0x04), 13);
    assert_int_equal(get(f, 0x09), 24);
    assert_int_equal(get(f, 0x32), 20);
}

/* Against the C library, over all of what 64 bits of nanoseconds hold. */
static void test_calendar_matches_the_library(void **state)
{
    const uint64_t last_s = UINT64_MAX / CLOCK_NS_PER_S;
    struct fixture *f = *state;

    for (uint64_t s = 0; s < last_s; s += 86400 * 31 + 5003) {
        f->now_ns = s * CLOCK_NS_PER_S;
        put(f, 0x0b, s % 2 == 0 ? 0x02 : 0x06);
        expect_time(f, s, s % 2 != 0);
    }
}

/* The seconds around every year's start and around each end of February. */
static void test_borders_of_years_and_months(void **state)
{
    struct fixture *f = *state;

    for (int year = 1971; year < 2500; year++) {
        struct tm tm = {.tm_year = year - 1900, .tm_mday = 1};

        for (tm.tm_mon = 0; tm.tm_mon < 12; tm.tm_mon++) {
            struct tm copy = tm;
            uint64_t s = (uint64_t)timegm(&copy);

            f->now_ns = s * CLOCK_NS_PER_S;
            expect_time(f, s, false);
            f->now_ns -= CLOCK_NS_PER_S;
            expect_time(f, s - 1, false);
        }
    }
}

static void test_update_in_progress_comes_and_goes(void **state)
{
    struct fixture *f = *state;
    uint64_t second = f->now_ns;

    for (uint64_t us = 0; us < 1000000; us += 50) {
        f->now_ns = second + us * 1000;
        assert_int_equal(get(f, 0x0a), us >= 1000000 - 244 ? 0xa6 : 0x26);
    }
    /* It is never up while the clock is being set. */
    f->now_ns = second + 999999999;
    put(f, 0x0b, 0x82);
    assert_int_equal(get(f, 0x0a), 0x26);
}

static void test_setting_the_clock(void **state)
{
    static const uint8_t regs[] = {0, 2, 4, 7, 8, 9, 0x32};
    static const uint8_t want[] = {0x59, 0x58, 0x23, 0x31, 0x12, 0x99, 0x20};
    struct fixture *f = *state;

    put(f, 0x0b, 0x82);
    for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
        put(f, regs[i], want[i]);
    /* The time stands while it is being set. */
    f->now_ns += 100 * CLOCK_NS_PER_S;
    for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
        assert_int_equal(get(f, regs[i]), want[i]);
    put(f, 0x0b, 0x02);
    expect_time(f, 4102444739, false);
    f->now_ns += CLOCK_NS_PER_S;
    expect_time(f, 4102444740, false);
    f->now_ns += 60 * CLOCK_NS_PER_S;
    expect_time(f, 4102444800, false);
}

static void test_set_mode_starts_from_the_present(void **state)
{
    struct fixture *f = *state;

    put(f, 0x0b, 0x82);
    put(f, 0x04, 0x15);
    put(f, 0x0b, 0x02);
    expect_time(f, 1709213862 + 2 * 3600, false);
}

/* Set in one format, then written and released in the other. */
static void test_format_of_the_release_counts(void **state)
{
    struct fixture *f = *state;

    put(f, 0x0b, 0x86);
    assert_int_equal(get(f, 0x04), 13);
    put(f, 0x0b, 0x82);
    assert_int_equal(get(f, 0x04), 13);
    put(f, 0x00, 0x42);
    put(f, 0x02, 0x37);
    put(f, 0x04, 0x14);
    put(f, 0x07, 0x29);
    put(f, 0x08, 0x02);
    put(f, 0x09, 0x24);
    put(f, 0x32, 0x20);
    put(f, 0x0b, 0x02);
    expect_time(f, 1709213862 + 3600, false);
}

static void test_writes_to_the_running_clock(void **state)
{
    struct fixture *f = *state;

    put(f, 0x02, 0x38);
    expect_time(f, 1709213862 + 60, false);
    put(f, 0x09, 0x28);
    expect_time(f, 1709213862 + 60 + 1461ull * 86400, false);
}

static void test_impossible_dates_are_dropped(void **state)
{
    static const uint8_t bad[][2] = {{0, 0x60}, {0, 0x0a}, {0, 0xff}, {2, 0x60},
        {4, 0x24}, {4, 0x93}, {7, 0x00}, {7, 0x30}, {8, 0x00}, {8, 0x13},
        {9, 0x23}, {9, 0x9a}, {9, 0xff}, {0x32, 0x18}, {0x32, 0xff},
        {0x32, 0x00}};
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        put(f, bad[i][0], bad[i][1]);
        expect_time(f, 1709213862, false);
        put(f, 0x0b, 0x82);
        put(f, bad[i][0], bad[i][1]);
        put(f, 0x0b, 0x02);
        expect_time(f, 1709213862, false);
    }
    /* Binary bytes that are no two digits. */
    put(f, 0x0b, 0x06);
    put(f, 0x09, 100);
    put(f, 0x09, 255);
    put(f, 0x32, 255);
    expect_time(f, 1709213862, true);
}

static void test_memory_keeps_what_is_written(void **state)
{
    struct fixture *f = *state;

    for (unsigned int reg = 0x0e; reg < 0x80; reg++) {
        if (reg != 0x32)
            put(f, (uint8_t)reg, (uint8_t)(reg * 3));
    }
    /* The alarm registers, too. */
    put(f, 0x01, 0x11);
    put(f, 0x03, 0x22);
    put(f, 0x05, 0xc0);
    for (unsigned int reg = 0x0e; reg < 0x80; reg++) {
        if (reg != 0x32)
            assert_int_equal(get(f, (uint8_t)reg), (uint8_t)(reg * 3));
    }
    assert_int_equal(get(f, 0x01), 0x11);
    assert_int_equal(get(f, 0x03), 0x22);
    assert_int_equal(get(f, 0x05), 0xc0);
    expect_time(f, 1709213862, false);
}

static void test_control_registers(void **state)
{
    struct fixture *f = *state;

    put(f, 0x0a, 0xff);
    assert_int_equal(get(f, 0x0a), 0x7f);
    put(f, 0x0b, 0x70);
    assert_int_equal(get(f, 0x0b), 0x72);
    put(f, 0x0c, 0xff);
    put(f, 0x0d, 0x00);
    assert_int_equal(get(f, 0x0c), 0x00);
    assert_int_equal(get(f, 0x0d), 0x80);
    /* Bit 7 of the index is the NMI mask of a PC. */
    put(f, 0x80 | 0x20, 0x99);
    assert_int_equal(get(f, 0x20), 0x99);
}

static void test_16_bit_access_is_index_and_data(void **state)
{
    struct fixture *f = *state;

    pio_out(&f->bus, INDEX, 2, 0x5540);
    assert_int_equal(get(f, 0x40), 0x55);
    assert_int_equal(pio_in(&f->bus, INDEX, 2), 0x55ff);
}

static void test_default_source_is_the_host(void **state)
{
    struct fixture *f = *state;
    bool seen = false;

    f->rtc.now_ns = NULL;
    put(f, 0x0b, 0x06);
    for (int i = 0; i < 10 && !seen; i++) {
        uint64_t before = clock_realtime_ns() / CLOCK_NS_PER_S;
        uint8_t second = get(f, 0);
        uint64_t after = clock_realtime_ns() / CLOCK_NS_PER_S;

        seen = before == after && second == before % 60;
    }
    assert_true(seen);
}

static void test_save_and_load(void **state)
{
    struct fixture *f = *state;
    struct fixture other = {.now_ns = f->now_ns + 10 * CLOCK_NS_PER_S};

    put(f, 0x02, 0x30);
    put(f, 0x40, 0x12);
    rtc_init(&other.rtc, now, &other);
    bus_init(&other.bus);
    assert_int_equal(
        bus_add(&other.bus, LAYOUT_PORT_RTC, RTC_PORTS, &other.rtc.dev), 0);
    assert_int_equal(pio_transfer(&f->rtc.dev, &other.rtc.dev), 0);
    /* Seven minutes late as before, and ten seconds have gone. */
    expect_time(&other, 1709213862 - 7 * 60 + 10, false);
    assert_int_equal(get(&other, 0x40), 0x12);
}

static void test_host_clock_far_off_is_clamped(void **state)
{
    struct fixture *f = *state;

    /* Set to 1970, then the host's clock falls back. */
    put(f, 0x0b, 0x82);
    put(f, 0x32, 0x19);
    put(f, 0x09, 0x70);
    put(f, 0x08, 0x01);
    put(f, 0x0b, 0x02);
    f->now_ns = 0;
    expect_time(f, 0, false);
    /* Set to 9999, then it jumps ahead. */
    put(f, 0x32, 0x99);
    put(f, 0x09, 0x99);
    f->now_ns = UINT64_MAX;
    assert_int_equal(get(f, 0x32), 0x99);
    assert_int_equal(get(f, 0x09), 0x99);
    assert_int_equal(get(f, 0x08), 0x12);
    assert_int_equal(get(f, 0x07), 0x31);
}

static void expect_refused(struct fixture *f, const struct rtc_state *bad)
{
    struct device *dev = &f->rtc.dev;

    f->rtc.state = *bad;
    assert_int_equal(dev->ops->post_load(dev, NULL), -EINVAL);
    expect_time(f, 1709213862, false);
}

static void test_hostile_states_are_refused(void **state)
{
    struct fixture *f = *state;
    const struct rtc_state base = f->rtc.state;
    struct rtc_state bad = base;

    bad.index = 0x80;
    expect_refused(f, &bad);
    bad = base;
    bad.cmos[0x0a] |= 0x80;
    expect_refused(f, &bad);
    bad = base;
    bad.cmos[0x0b] = 0;
    expect_refused(f, &bad);
    bad = base;
    bad.offset_s = UINT64_C(1) << 63;
    expect_refused(f, &bad);
    bad.offset_s = UINT64_C(253402300800);
    expect_refused(f, &bad);
    bad.offset_s = (uint64_t)-INT64_C(253402300800);
    expect_refused(f, &bad);
    bad.offset_s = (uint64_t)-INT64_C(253402300799);
    f->rtc.state = bad;
    assert_int_equal(f->rtc.dev.ops->post_load(&f->rtc.dev, NULL), 0);
    expect_time(f, 0, false);
}

#define RTC_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RTC_TEST(test_power_on_values),
        RTC_TEST(test_known_date),
        RTC_TEST(test_calendar_matches_the_library),
        RTC_TEST(test_borders_of_years_and_months),
        RTC_TEST(test_update_in_progress_comes_and_goes),
        RTC_TEST(test_setting_the_clock),
        RTC_TEST(test_set_mode_starts_from_the_present),
        RTC_TEST(test_format_of_the_release_counts),
        RTC_TEST(test_writes_to_the_running_clock),
        RTC_TEST(test_impossible_dates_are_dropped),
        RTC_TEST(test_memory_keeps_what_is_written),
        RTC_TEST(test_control_registers),
        RTC_TEST(test_16_bit_access_is_index_and_data),
        RTC_TEST(test_default_source_is_the_host),
        RTC_TEST(test_save_and_load),
        RTC_TEST(test_host_clock_far_off_is_clamped),
        RTC_TEST(test_hostile_states_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
