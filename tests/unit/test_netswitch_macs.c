/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "vmm/netswitch_macs.h"

#define PORTS 4u
#define AGE   1000u
#define HOLD  10u
#define MAC   UINT64_C(0x020000000001)
#define FLOOD UINT64_C(0x0a0000000000)

static int set_up(void **state)
{
    static struct netswitch_macs macs;

    assert_int_equal(netswitch_macs_init(&macs, PORTS, AGE, HOLD, NULL), 0);
    *state = &macs;
    return 0;
}

static int tear_down(void **state)
{
    netswitch_macs_fini(*state);
    return 0;
}

static void test_unknown_then_learnt(void **state)
{
    struct netswitch_macs *m = *state;

    assert_int_equal(netswitch_macs_find(m, MAC, 1), NETSWITCH_NO_PORT);
    assert_true(netswitch_macs_learn(m, MAC, 2, 1));
    assert_int_equal(netswitch_macs_find(m, MAC, 1), 2);
    assert_int_equal(netswitch_macs_find(m, MAC + 1, 1), NETSWITCH_NO_PORT);
    assert_int_equal(netswitch_macs_count(m, 2, 1), 1);
    assert_int_equal(netswitch_macs_count(m, 1, 1), 0);
}

static void test_ages_unless_heard(void **state)
{
    struct netswitch_macs *m = *state;

    assert_true(netswitch_macs_learn(m, MAC, 2, 1));
    assert_int_equal(netswitch_macs_find(m, MAC, 1 + AGE), 2);
    assert_int_equal(netswitch_macs_find(m, MAC, 2 + AGE), NETSWITCH_NO_PORT);
    assert_int_equal(netswitch_macs_count(m, 2, 2 + AGE), 0);
    assert_true(netswitch_macs_learn(m, MAC, 2, 2 + AGE));
    assert_int_equal(netswitch_macs_find(m, MAC, 2 + 2 * AGE), 2);
}

static void test_stays_while_it_is_heard(void **state)
{
    struct netswitch_macs *m = *state;

    assert_true(netswitch_macs_learn(m, MAC, 0, 100));
    assert_false(netswitch_macs_learn(m, MAC, 1, 100 + HOLD));
    assert_int_equal(netswitch_macs_find(m, MAC, 100 + HOLD), 0);
    assert_int_equal(m->refused, 1);
    assert_true(netswitch_macs_learn(m, MAC, 1, 101 + HOLD));
    assert_int_equal(netswitch_macs_find(m, MAC, 101 + HOLD), 1);
    assert_int_equal(netswitch_macs_count(m, 0, 101 + HOLD), 0);
}

static void test_flood_costs_its_own_port_only(void **state)
{
    struct netswitch_macs *m = *state;

    assert_true(netswitch_macs_learn(m, MAC, 0, 1));
    for (uint64_t i = 0; i < 100000; i++)
        assert_true(netswitch_macs_learn(m, FLOOD + i, 1, 2 + i / 1000));
    assert_int_equal(netswitch_macs_find(m, MAC, 102), 0);
    assert_int_equal(netswitch_macs_count(m, 1, 102), NETSWITCH_MACS_PER_PORT);
    assert_int_equal(m->evicted, 100000 - NETSWITCH_MACS_PER_PORT);
    assert_int_equal(netswitch_macs_find(m, FLOOD + 99999, 102), 1);
    assert_int_equal(netswitch_macs_find(m, FLOOD, 102), NETSWITCH_NO_PORT);
}

static void test_the_longest_unused_goes_first(void **state)
{
    struct netswitch_macs *m = *state;

    for (uint64_t i = 0; i < NETSWITCH_MACS_PER_PORT; i++)
        assert_true(netswitch_macs_learn(m, FLOOD + i, 3, 1 + i));
    assert_true(netswitch_macs_learn(m, FLOOD, 3, 200));
    assert_true(netswitch_macs_learn(m, MAC, 3, 201));
    assert_int_equal(netswitch_macs_find(m, FLOOD, 201), 3);
    assert_int_equal(netswitch_macs_find(m, FLOOD + 1, 201), NETSWITCH_NO_PORT);
    assert_int_equal(netswitch_macs_find(m, FLOOD + 2, 201), 3);
}

static void test_forgets_a_port(void **state)
{
    struct netswitch_macs *m = *state;

    for (uint64_t i = 0; i < 10; i++) {
        assert_true(netswitch_macs_learn(m, FLOOD + i, 1, 1));
        assert_true(netswitch_macs_learn(m, MAC + i, 2, 1));
    }
    netswitch_macs_forget(m, 1);
    for (uint64_t i = 0; i < 10; i++) {
        assert_int_equal(
            netswitch_macs_find(m, FLOOD + i, 1), NETSWITCH_NO_PORT);
        assert_int_equal(netswitch_macs_find(m, MAC + i, 1), 2);
    }
    /* Nobody holds it now. */
    assert_true(netswitch_macs_learn(m, FLOOD, 3, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_unknown_then_learnt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_ages_unless_heard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_stays_while_it_is_heard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_flood_costs_its_own_port_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_the_longest_unused_goes_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_forgets_a_port, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
