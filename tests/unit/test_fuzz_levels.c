/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz/levels, with an agent that tells of a place behind each ';'. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fuzz/levels.h"

#define INPUT_MAX 1000u
#define MAP_SIZE  4u

struct rig {
    struct levels levels;
    uint32_t level; /* that the last run began at */
    uint32_t pushed;
};

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct err err;

    assert_non_null(r);
    assert_int_equal(levels_init(&r->levels, INPUT_MAX, MAP_SIZE, &err), 0);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;

    levels_fini(&r->levels);
    free(r);
    return 0;
}

/* Of the highest level: how many ';' there were in front of it. */
static uint8_t done_before(const struct rig *r)
{
    const uint8_t *map = levels_map(&r->levels);

    return map == NULL ? 0 : map[0];
}

static void run_bytes(struct rig *r, const char *input, size_t size)
{
    uint8_t map[MAP_SIZE] = {0};
    size_t from;

    r->level = levels_begin(&r->levels, (const uint8_t *)input, size);
    assert_int_equal(r->level, r->levels.count);
    from = r->level == 0 ? 0 : r->levels.held[r->level - 1].at;
    map[0] = done_before(r);
    for (size_t i = from; i + 1 < size; i++) {
        if (input[i] != ';')
            continue;
        map[0]++;
        if (levels_reach(&r->levels, i + 1)) {
            levels_pushed(&r->levels, map);
            r->pushed++;
        }
    }
}

static void run(struct rig *r, const char *input)
{
    run_bytes(r, input, strlen(input));
}

/* As many as it takes, each with something else behind `prefix`. */
static void insist(struct rig *r, const char *prefix, unsigned int times)
{
    char input[64];

    for (unsigned int i = 0; i < times; i++) {
        (void)snprintf(input, sizeof(input), "%s%c%u", prefix, 'a' + i % 20, i);
        run(r, input);
    }
}

static void what_inputs_share_becomes_a_level(void **state)
{
    struct rig *r = *state;

    insist(r, "login;user;", LEVELS_PATIENCE_MIN);
    assert_int_equal(r->pushed, 0);
    insist(r, "login;user;", 2);
    assert_int_equal(r->pushed, 1);
    assert_int_equal(r->level, 1);
    /* Both of its messages are behind it. */
    assert_int_equal(r->levels.held[0].at, strlen("login;user;"));
    assert_int_equal(done_before(r), 2);
    insist(r, "login;user;get;", LEVELS_PATIENCE_MIN + 2);
    assert_int_equal(r->level, 2);
    assert_int_equal(done_before(r), 3);
}

static void another_beginning_goes_back_to_what_it_fits(void **state)
{
    struct rig *r = *state;

    insist(r, "one;", LEVELS_PATIENCE_MIN + 2);
    insist(r, "one;two;", LEVELS_PATIENCE_MIN + 2);
    assert_int_equal(r->level, 2);
    run(r, "one;twe;three");
    assert_int_equal(r->level, 1);
    assert_int_equal(done_before(r), 1);
    run(r, "own;");
    assert_int_equal(r->level, 0);
    assert_null(levels_map(&r->levels));
}

static void a_level_needs_more_behind_it(void **state)
{
    struct rig *r = *state;

    insist(r, "one;", LEVELS_PATIENCE_MIN + 2);
    assert_int_equal(r->level, 1);
    run(r, "one;x");
    assert_int_equal(r->level, 1);
    /* Its agent knew that there was more. */
    run(r, "one;");
    assert_int_equal(r->level, 0);
    insist(r, "one;", LEVELS_PATIENCE_MIN * 3);
    run(r, "one");
    assert_int_equal(r->level, 0);
    run(r, "");
    assert_int_equal(r->level, 0);
}

static void guesses_that_come_to_nothing_get_rarer(void **state)
{
    struct rig *r = *state;
    uint32_t first;

    for (unsigned int i = 0; i < 400; i++)
        insist(r, i % 2 == 0 ? "even;" : "odd;", 2 * LEVELS_PATIENCE_MIN);
    first = r->pushed;
    assert_true(first > 0 && first < 10);
    /* A long stretch is still seen. */
    insist(r, "same;", 2 * LEVELS_PATIENCE_MAX);
    assert_int_equal(r->level, 1);
    assert_int_equal(r->pushed, first + 1);
    /* And trusted in again. */
    run(r, "none");
    insist(r, "next;", LEVELS_PATIENCE_MIN + 2);
    assert_int_equal(r->level, 1);
}

static void as_many_as_there_may_be(void **state)
{
    struct rig *r = *state;
    char prefix[2 * LEVELS_MAX + 8] = "";

    for (unsigned int i = 0; i < LEVELS_MAX + 2; i++) {
        (void)snprintf(prefix + strlen(prefix), 3, "%u;", i);
        insist(r, prefix, LEVELS_PATIENCE_MIN + 2);
    }
    assert_int_equal(r->level, LEVELS_MAX);
    assert_int_equal(done_before(r), LEVELS_MAX);
}

/* From a guest: where it has not been, backwards, or nowhere. */
static void places_that_are_none(void **state)
{
    struct rig *r = *state;
    static const uint64_t places[] = {0, 5, 4, 5, 7, UINT64_MAX, 6};
    uint8_t map[MAP_SIZE] = {0};

    for (unsigned int i = 0; i < 3 * LEVELS_PATIENCE_MIN; i++) {
        uint8_t input[7] = "abcdef";

        input[6] = (uint8_t)i;
        (void)levels_begin(&r->levels, input, sizeof(input));
        for (size_t k = 0; k < sizeof(places) / sizeof(places[0]); k++) {
            if (!levels_reach(&r->levels, places[k]))
                continue;
            assert_int_equal(places[k], 6);
            levels_pushed(&r->levels, map);
        }
    }
    assert_int_equal(r->levels.count, 1);
}

static void long_inputs_are_cut(void **state)
{
    struct rig *r = *state;
    static char input[2 * INPUT_MAX];

    memset(input, ';', sizeof(input));
    for (unsigned int i = 0; i < 4 * LEVELS_PATIENCE_MIN; i++) {
        input[INPUT_MAX - 1] = (char)i;
        r->level =
            levels_begin(&r->levels, (const uint8_t *)input, sizeof(input));
        for (size_t at = 1; at < sizeof(input); at++) {
            uint8_t map[MAP_SIZE] = {0};

            if (levels_reach(&r->levels, at))
                levels_pushed(&r->levels, map);
        }
    }
    /* Of so many places the first count. */
    assert_int_equal(r->level, 1);
    assert_int_equal(r->levels.held[0].at, LEVELS_PLACE_MAX);
}

int main(void)
{
#define LEVELS_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        LEVELS_TEST(what_inputs_share_becomes_a_level),
        LEVELS_TEST(another_beginning_goes_back_to_what_it_fits),
        LEVELS_TEST(a_level_needs_more_behind_it),
        LEVELS_TEST(guesses_that_come_to_nothing_get_rarer),
        LEVELS_TEST(as_many_as_there_may_be),
        LEVELS_TEST(places_that_are_none),
        LEVELS_TEST(long_inputs_are_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
