/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "vmm/base/cc.h"
#include "vmm/base/num.h"

/* Numbers around every place where a carry or a sign could go wrong. */
static const uint64_t edges[] = {0, 1, 2, 3, 7, 8, 9, 4095, 4096, 4097,
    UINT32_MAX - UINT64_C(1), UINT32_MAX, UINT64_C(1) << 32,
    (UINT64_C(1) << 32) + 1, (UINT64_C(1) << 63) - 1, UINT64_C(1) << 63,
    (UINT64_C(1) << 63) + 1, UINT64_MAX - 4096, UINT64_MAX - 1, UINT64_MAX};

#define FOR_PAIRS(i, j)                                                        \
    for (size_t i = 0; i < ARRAY_SIZE(edges); i++)                             \
        for (size_t j = 0; j < ARRAY_SIZE(edges); j++)

__extension__ typedef unsigned __int128 wide;

static void test_add_and_mul(void **state)
{
    (void)state;
    FOR_PAIRS(i, j)
    {
        wide sum = (wide)edges[i] + edges[j];
        wide product = (wide)edges[i] * edges[j];
        uint64_t got = 0x5a;

        assert_int_equal(num_add(edges[i], edges[j], &got), sum <= UINT64_MAX);
        assert_int_equal(got, sum <= UINT64_MAX ? (uint64_t)sum : 0x5a);
        got = 0x5a;
        assert_int_equal(
            num_mul(edges[i], edges[j], &got), product <= UINT64_MAX);
        assert_int_equal(got, product <= UINT64_MAX ? (uint64_t)product : 0x5a);
    }
}

static void test_range_within(void **state)
{
    (void)state;
    FOR_PAIRS(i, j)
    {
        for (size_t k = 0; k < ARRAY_SIZE(edges); k++)
            assert_int_equal(num_range_within(edges[i], edges[j], edges[k]),
                (wide)edges[i] + edges[j] <= edges[k]);
    }
}

static void test_pow2(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(edges); i++)
        assert_int_equal(
            num_is_pow2(edges[i]), __builtin_popcountll(edges[i]) == 1);
    for (unsigned int bit = 0; bit < 64; bit++)
        assert_true(num_is_pow2(UINT64_C(1) << bit));
}

static void test_min_and_max(void **state)
{
    (void)state;
    FOR_PAIRS(i, j)
    {
        bool less = edges[i] < edges[j];

        assert_int_equal(
            num_min(edges[i], edges[j]), less ? edges[i] : edges[j]);
        assert_int_equal(
            num_max(edges[i], edges[j]), less ? edges[j] : edges[i]);
    }
}

static void test_align(void **state)
{
    (void)state;
    for (unsigned int bit = 0; bit < 64; bit++) {
        uint64_t align = UINT64_C(1) << bit;

        for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
            uint64_t down = edges[i] / align * align;
            wide up = ((wide)edges[i] + align - 1) / align * align;

            assert_int_equal(num_align_down(edges[i], align), down);
            /* Cut to 64 bits: 0 at the very top. */
            assert_int_equal(num_align_up(edges[i], align), (uint64_t)up);
        }
    }
}

static void test_div_up(void **state)
{
    (void)state;
    FOR_PAIRS(i, j)
    {
        if (edges[j] != 0)
            assert_int_equal(num_div_up(edges[i], edges[j]),
                (uint64_t)(((wide)edges[i] + edges[j] - 1) / edges[j]));
    }
}

static void test_take_digits(void **state)
{
    uint64_t value = 5;
    const char *end = num_take_digits("18446744073709551615/x", &value);

    (void)state;
    assert_non_null(end);
    assert_string_equal(end, "/x");
    assert_true(value == UINT64_MAX);
    assert_null(num_take_digits("18446744073709551616", &value));
    assert_null(num_take_digits("", &value));
    assert_null(num_take_digits("-1", &value));
    assert_true(value == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add_and_mul),
        cmocka_unit_test(test_range_within),
        cmocka_unit_test(test_pow2),
        cmocka_unit_test(test_min_and_max),
        cmocka_unit_test(test_align),
        cmocka_unit_test(test_div_up),
        cmocka_unit_test(test_take_digits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
