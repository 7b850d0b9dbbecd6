/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/minimize.h"

/* Contains "BUG" somewhere before an '!'. */
static int has_bug(void *opaque, const uint8_t *bytes, size_t size,
    bool *ret_keeps, struct err *err)
{
    unsigned int *calls = opaque;
    const uint8_t *bug = memmem(bytes, size, "BUG", 3);

    (void)err;
    (*calls)++;
    *ret_keeps =
        bug != NULL && memchr(bug, '!', size - (size_t)(bug - bytes)) != NULL;
    return 0;
}

static int fails(void *opaque, const uint8_t *bytes, size_t size,
    bool *ret_keeps, struct err *err)
{
    (void)opaque;
    (void)bytes;
    (void)size;
    *ret_keeps = true;
    return err_set(err, EIO, "broken");
}

/* The third byte from the end on counts, and there must be ten of them. */
static int is_long(void *opaque, const uint8_t *bytes, size_t size,
    bool *ret_keeps, struct err *err)
{
    (void)opaque;
    (void)err;
    *ret_keeps = size >= 10 && bytes[size - 3] == 'x';
    return 0;
}

static void smallest_is_found(void **state)
{
    static const char text[] = "some text with a BUG in it, as they say! and "
                               "a good deal more of it behind that!!";
    unsigned int calls = 0;
    const struct minimize m = {
        .keeps = has_bug, .opaque = &calls, .tries_max = 10000};
    uint8_t bytes[sizeof(text)];
    size_t size = strlen(text);
    struct minimize_stats stats;

    (void)state;
    memcpy(bytes, text, sizeof(text));
    assert_int_equal(minimize_run(&m, bytes, &size, &stats, NULL), 0);
    assert_int_equal(size, 4);
    assert_memory_equal(bytes, "BUG!", 4);
    assert_true(stats.is_complete);
    assert_int_equal(stats.tries, calls);
}

static void rest_is_filled(void **state)
{
    const struct minimize m = {.keeps = is_long, .tries_max = 10000};
    uint8_t bytes[] = "abcdefghijklmnopqrstuvxyz";
    size_t size = sizeof(bytes) - 1;
    struct minimize_stats stats;

    (void)state;
    assert_int_equal(minimize_run(&m, bytes, &size, &stats, NULL), 0);
    assert_int_equal(size, 10);
    assert_memory_equal(bytes, "0000000x00", 10);
}

static void tries_are_bounded(void **state)
{
    unsigned int calls = 0;
    const struct minimize m = {
        .keeps = has_bug, .opaque = &calls, .tries_max = 3};
    uint8_t bytes[1000];
    size_t size = sizeof(bytes);
    struct minimize_stats stats;

    (void)state;
    memset(bytes, 'a', sizeof(bytes));
    memcpy(bytes + 500, "BUG!", 4);
    assert_int_equal(minimize_run(&m, bytes, &size, &stats, NULL), 0);
    assert_int_equal(calls, 3);
    assert_false(stats.is_complete);
    assert_non_null(memmem(bytes, size, "BUG!", 4));
}

static void errors_end_it(void **state)
{
    const struct minimize m = {.keeps = fails, .tries_max = 10};
    uint8_t bytes[] = "abc";
    size_t size = 3;
    struct minimize_stats stats;
    struct err err;

    (void)state;
    assert_int_equal(minimize_run(&m, bytes, &size, &stats, &err), -EIO);
    assert_int_equal(size, 3);
    assert_string_equal((char *)bytes, "abc");
    size = 0;
    assert_int_equal(minimize_run(&m, bytes, &size, &stats, &err), 0);
    assert_int_equal(stats.tries, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smallest_is_found),
        cmocka_unit_test(rest_is_filled),
        cmocka_unit_test(tries_are_bounded),
        cmocka_unit_test(errors_end_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
