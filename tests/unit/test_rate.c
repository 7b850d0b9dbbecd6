/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "vmm/core/rate.h"

#define MS UINT64_C(1000000)
#define T0 (UINT64_C(77) * MS)

static struct rate make(struct rate_state *st, struct rate_bucket_config bytes,
    struct rate_bucket_config ops)
{
    const struct rate_config config = {.bytes = bytes, .ops = ops};
    struct rate r;

    assert_int_equal(rate_check(&config, NULL), 0);
    rate_init(&r, &config, st, T0);
    return r;
}

static const struct rate_bucket_config none;

static void test_no_limit(void **state)
{
    static const struct rate_bucket_config unlimited[] = {
        {0, 0, 0}, {0, 100, 5}, {100, 0, 5}};
    struct rate_state st;

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct rate r = make(&st, unlimited[i], unlimited[i]);

        for (int k = 0; k < 3; k++)
            assert_int_equal(rate_take(&r, T0, UINT64_MAX, UINT64_MAX), 0);
    }
}

static void test_bucket_runs_empty_and_refills(void **state)
{
    struct rate_state st;
    struct rate r = make(&st, (struct rate_bucket_config){1000, 100, 0}, none);

    (void)state;
    assert_int_equal(rate_take(&r, T0, 600, 1), 0);
    assert_int_equal(rate_take(&r, T0, 400, 1), 0);
    /* 10 tokens a millisecond from here. */
    assert_int_equal(rate_take(&r, T0, 1, 1), MS / 10);
    assert_int_equal(rate_take(&r, T0, 50, 1), 5 * MS);
    assert_int_equal(rate_take(&r, T0 + 5 * MS - 1, 50, 1), 1);
    assert_int_equal(rate_take(&r, T0 + 5 * MS, 50, 1), 0);
    assert_int_equal(rate_take(&r, T0 + 5 * MS, 1, 1), MS / 10);
    /* It does not grow beyond its size. */
    assert_int_equal(rate_take(&r, T0 + 100000 * MS, 1000, 1), 0);
    assert_int_equal(rate_take(&r, T0 + 100000 * MS, 1, 1), MS / 10);
}

static void test_burst_comes_first_and_once(void **state)
{
    struct rate_state st;
    struct rate r = make(&st, (struct rate_bucket_config){100, 100, 500}, none);

    (void)state;
    assert_int_equal(rate_take(&r, T0, 450, 1), 0);
    assert_int_equal(st.bytes.budget, 100);
    assert_int_equal(st.bytes.burst, 50);
    /* 50 of the burst and 100 of the bucket. */
    assert_int_equal(rate_take(&r, T0, 150, 1), 0);
    assert_int_equal(st.bytes.burst, 0);
    assert_int_equal(rate_take(&r, T0, 1, 1), MS);
    assert_int_equal(rate_take(&r, T0 + 10000 * MS, 100, 1), 0);
    assert_int_equal(rate_take(&r, T0 + 10000 * MS, 1, 1), MS);
}

static void test_more_than_a_bucketful_is_paid_back(void **state)
{
    struct rate_state st;
    struct rate r = make(&st, (struct rate_bucket_config){100, 100, 0}, none);

    (void)state;
    assert_int_equal(rate_take(&r, T0, 350, 1), 0);
    assert_int_equal(st.bytes.debt, 250);
    assert_int_equal(rate_take(&r, T0, 10, 1), 260 * MS);
    /* The next one on credit waits until nothing is owed. */
    assert_int_equal(rate_take(&r, T0, 1000, 1), 250 * MS);
    assert_int_equal(rate_take(&r, T0 + 100 * MS, 10, 1), 160 * MS);
    assert_int_equal(st.bytes.debt, 150);
    assert_int_equal(rate_take(&r, T0 + 260 * MS, 10, 1), 0);
    assert_int_equal(st.bytes.debt, 0);
    assert_int_equal(st.bytes.budget, 0);
}

static void test_both_or_neither(void **state)
{
    struct rate_state st;
    struct rate r = make(&st, (struct rate_bucket_config){1000, 1000, 0},
        (struct rate_bucket_config){2, 1000, 0});
    struct rate_state before;

    (void)state;
    assert_int_equal(rate_take(&r, T0, 10, 1), 0);
    assert_int_equal(rate_take(&r, T0, 10, 1), 0);
    before = st;
    assert_int_equal(rate_take(&r, T0, 10, 1), 500 * MS);
    assert_memory_equal(&st, &before, sizeof(st));
    /* The longer wait of the two counts. */
    assert_int_equal(rate_take(&r, T0, 1000, 1), 500 * MS);
    assert_int_equal(rate_take(&r, T0 + 500 * MS, 1000, 1), 0);
    assert_int_equal(rate_take(&r, T0 + 500 * MS, 900, 1), 900 * MS);
}

/* However the time is cut, no more comes than the limit allows, nor less. */
static void test_rate_is_exact_over_time(void **state)
{
    struct rate_state st;
    struct rate r = make(&st, (struct rate_bucket_config){7, 3, 0}, none);
    uint64_t now = T0;
    uint64_t taken = 0;
    uint64_t step = 1;

    (void)state;
    while (now < T0 + 3000 * MS) {
        while (rate_take(&r, now, 1, 0) == 0)
            taken++;
        step = step * 6364136223846793005u + 1442695040888963407u;
        now += 1 + step % (MS / 2);
    }
    assert_in_range(taken, 6995, 7007 + 2);
}

static void test_following_the_wait_succeeds(void **state)
{
    static const uint64_t sizes[] = {1, 3, 999999937, UINT64_MAX};
    static const uint64_t times[] = {1, 7, 86400000};
    struct rate_state st;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        for (size_t k = 0; k < 3; k++) {
            const struct rate_bucket_config c = {sizes[i], times[k], 0};
            struct rate r = make(&st, c, none);
            uint64_t now = T0;
            uint64_t wait = 0;
            int asked = 0;

            assert_int_equal(rate_take(&r, now, sizes[i], 0), 0);
            do {
                now += wait;
                wait = rate_take(&r, now, sizes[i] / 2 + 1, 0);
                assert_true(wait <= RATE_WAIT_NS_MAX);
                asked++;
            } while (wait != 0);
            /* Only waits beyond the longest are cut. */
            assert_true(asked <= (times[k] > 3600000 ? 25 : 3));
            assert_true(now <= T0 + (times[k] + 1) * MS);
        }
    }
}

static void test_extremes(void **state)
{
    struct rate_state st;
    struct rate r = make(&st,
        (struct rate_bucket_config){UINT64_MAX, RATE_REFILL_MS_MAX, UINT64_MAX},
        (struct rate_bucket_config){1, RATE_REFILL_MS_MAX, 0});

    (void)state;
    assert_int_equal(rate_take(&r, T0, UINT64_MAX, 1), 0);
    assert_int_equal(rate_take(&r, T0, UINT64_MAX, 0), 0);
    assert_int_equal(rate_take(&r, T0, 1, 0), 1);
    assert_int_equal(rate_take(&r, T0, 1, 1), RATE_WAIT_NS_MAX);
    /* A clock that goes back. */
    assert_int_equal(rate_take(&r, 0, 1, 0), 1);
    r = make(&st, (struct rate_bucket_config){1, RATE_REFILL_MS_MAX, 0}, none);
    assert_int_equal(rate_take(&r, T0, UINT64_MAX, 0), 0);
    assert_int_equal(rate_take(&r, T0, UINT64_MAX, 0), RATE_WAIT_NS_MAX);
    assert_int_equal(rate_take(&r, T0 + 9 * MS, 1, 0), RATE_WAIT_NS_MAX);
}

static void test_refill_time_is_checked(void **state)
{
    struct rate_config config = {
        .ops = {.size = 1, .refill_ms = RATE_REFILL_MS_MAX}};
    struct err err;

    (void)state;
    assert_int_equal(rate_check(&config, &err), 0);
    config.ops.refill_ms++;
    assert_int_equal(rate_check(&config, &err), -EINVAL);
    assert_non_null(strstr(err.text, "operations"));
    config.ops.refill_ms = 1;
    config.bytes.refill_ms = UINT64_MAX;
    assert_int_equal(rate_check(&config, &err), -EINVAL);
    assert_non_null(strstr(err.text, "bytes"));
}

static void test_loaded_state_is_cut_to_the_limits(void **state)
{
    struct rate_state st;
    struct rate r = make(&st, (struct rate_bucket_config){100, 100, 10},
        (struct rate_bucket_config){5, 100, 0});

    (void)state;
    memset(&st, 0xff, sizeof(st));
    rate_resume(&r, T0);
    assert_int_equal(st.bytes.budget, 0);
    assert_int_equal(st.bytes.burst, 10);
    assert_int_equal(rate_take(&r, T0, 11, 0), RATE_WAIT_NS_MAX);
    st = (struct rate_state){
        .bytes = {UINT64_MAX, 0, 0}, .ops = {UINT64_MAX, UINT64_MAX, 0}};
    /* Long ago does not count. */
    rate_resume(&r, T0 + 1000 * MS);
    assert_int_equal(st.bytes.budget, 100);
    assert_int_equal(st.ops.budget, 5);
    assert_int_equal(st.ops.burst, 0);
    st.bytes.budget = 40;
    rate_resume(&r, T0 + 2000 * MS);
    assert_int_equal(rate_take(&r, T0 + 2000 * MS, 40, 1), 0);
    assert_int_equal(rate_take(&r, T0 + 2000 * MS, 1, 1), MS);
}

static void test_wait_and_charge(void **state)
{
    struct rate_state st;
    struct rate r = make(&st, (struct rate_bucket_config){1000, 100, 0},
        (struct rate_bucket_config){2, 100, 0});

    (void)state;
    assert_true(rate_is_limited(&r));
    assert_int_equal(rate_wait(&r, T0), 0);
    assert_int_equal(rate_wait(&r, T0), 0);
    /* More than there is: 200 are owed, at 10 a millisecond, and one more. */
    rate_charge(&r, 1200, 1);
    assert_int_equal(rate_wait(&r, T0), 20 * MS + MS / 10);
    assert_int_equal(rate_wait(&r, T0 + 20 * MS), MS / 10);
    assert_int_equal(rate_wait(&r, T0 + 21 * MS), 0);
    rate_charge(&r, 1, 1);
    /* Two operations in 100 ms, and both are gone. */
    assert_true(rate_wait(&r, T0 + 21 * MS) > 20 * MS);
    assert_int_equal(rate_wait(&r, T0 + 71 * MS), 0);
}

/* No run leaves a burst beside a debt, but a load may. */
static void test_loaded_burst_beside_a_debt(void **state)
{
    struct rate_state st;
    struct rate r = make(&st, (struct rate_bucket_config){1000, 100, 50}, none);

    (void)state;
    st.bytes.debt = 100;
    rate_resume(&r, T0);
    assert_int_equal(rate_wait(&r, T0), 10 * MS);
    assert_int_equal(rate_take(&r, T0, 1, 0), 10 * MS);
    assert_int_equal(rate_wait(&r, T0 + 10 * MS), 0);
    rate_charge(&r, 5000, 0);
    assert_int_equal(st.bytes.burst, 0);
    assert_int_equal(st.bytes.debt, 4950);
}

static void test_update(void **state)
{
    struct rate_state st;
    struct rate r = make(&st, (struct rate_bucket_config){1000, 100, 0},
        (struct rate_bucket_config){2, 100, 0});
    struct rate_change change = {.has_bytes = true,
        .limits = {.bytes = {500, 100, 9}, .ops = {77, 77, 77}}};

    (void)state;
    rate_charge(&r, 1000, 2);
    assert_int_equal(rate_update(&r, &change, T0 + MS, NULL), 0);
    assert_int_equal(st.bytes.budget, 500);
    assert_int_equal(st.bytes.burst, 9);
    assert_int_equal(st.ops.budget, 0);
    assert_int_equal(r.config.ops.size, 2);
    change.has_ops = true;
    change.limits.ops.refill_ms = RATE_REFILL_MS_MAX + 1;
    change.limits.bytes.size = 1;
    assert_int_equal(rate_update(&r, &change, T0 + MS, NULL), -EINVAL);
    assert_int_equal(r.config.bytes.size, 500);
    change = (struct rate_change){.has_bytes = true, .has_ops = true};
    assert_int_equal(rate_update(&r, &change, T0 + MS, NULL), 0);
    assert_false(rate_is_limited(&r));
    assert_int_equal(rate_wait(&r, T0 + MS), 0);
    rate_charge(&r, UINT64_MAX, UINT64_MAX);
    assert_int_equal(rate_wait(&r, T0 + MS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_bucket_runs_empty_and_refills),
        cmocka_unit_test(test_burst_comes_first_and_once),
        cmocka_unit_test(test_more_than_a_bucketful_is_paid_back),
        cmocka_unit_test(test_both_or_neither),
        cmocka_unit_test(test_rate_is_exact_over_time),
        cmocka_unit_test(test_following_the_wait_succeeds),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_refill_time_is_checked),
        cmocka_unit_test(test_loaded_state_is_cut_to_the_limits),
        cmocka_unit_test(test_wait_and_charge),
        cmocka_unit_test(test_loaded_burst_beside_a_debt),
        cmocka_unit_test(test_update),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
