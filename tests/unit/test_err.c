/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"

static void test_code_is_made_negative(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(err_set(&err, EINVAL, "a"), -EINVAL);
    assert_int_equal(err_set(&err, -EINVAL, "a"), -EINVAL);
    assert_int_equal(err_sys(&err, ENOENT, "a"), -ENOENT);
    assert_int_equal(err_sys(&err, -ENOENT, "a"), -ENOENT);
}

static void test_wrap_leaves_code_alone(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(err_set(&err, EINVAL, "inner"), -EINVAL);
    assert_int_equal(err_wrap(&err, -EINVAL, "outer"), -EINVAL);
    assert_int_equal(err_wrap(&err, 7, "outer"), 7);
}

static void test_null_record_is_allowed(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, EIO, "%d", 1), -EIO);
    assert_int_equal(err_sys(NULL, -EIO, "%d", 1), -EIO);
    assert_int_equal(err_wrap(NULL, -EIO, "%d", 1), -EIO);
}

static void test_texts(void **state)
{
    struct err err;

    (void)state;
    (void)err_set(&err, EINVAL, "disk %d: %s", 3, "odd");
    assert_string_equal(err.text, "disk 3: odd");
    (void)err_wrap(&err, -EINVAL, "vm %s", "a");
    assert_string_equal(err.text, "vm a: disk 3: odd");
    (void)err_wrap(&err, -EINVAL, "top");
    assert_string_equal(err.text, "top: vm a: disk 3: odd");
    (void)err_sys(&err, ENOENT, "%s", "/x");
    assert_string_equal(err.text, "/x: No such file or directory");
}

/* ENOTSUPP and the like: kernels have them, the C library has no words. */
static void test_codes_without_words(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(err_sys(&err, 524, "%s", "/x"), -524);
    assert_string_equal(err.text, "/x: error 524");
    assert_int_equal(err_sys(&err, -4095, "a"), -4095);
    assert_string_equal(err.text, "a: error 4095");
}

static void test_later_failure_replaces_the_record(void **state)
{
    struct err err;

    (void)state;
    (void)err_set(&err, EINVAL, "a long text that was first");
    (void)err_set(&err, EINVAL, "short");
    assert_string_equal(err.text, "short");
}

/* Every length around the record's size, with a guard behind it. */
static void test_long_texts_are_cut(void **state)
{
    struct {
        struct err err;
        char guard[64];
    } box;
    char text[600];
    char guard[sizeof(box.guard)];

    (void)state;
    memset(guard, 0x5a, sizeof(guard));
    for (size_t len = 300; len < sizeof(text); len++) {
        size_t kept =
            len < sizeof(box.err.text) - 1 ? len : sizeof(box.err.text) - 1;

        memset(text, 'x', len);
        text[len] = '\0';
        memset(&box, 0x5a, sizeof(box));
        (void)err_set(&box.err, EIO, "%s", text);
        assert_int_equal(strlen(box.err.text), kept);
        (void)err_wrap(&box.err, -EIO, "%s", text);
        assert_true(strlen(box.err.text) < sizeof(box.err.text));
        assert_memory_equal(box.err.text, text, kept);
        (void)err_sys(&box.err, EIO, "%s", text);
        assert_true(strlen(box.err.text) < sizeof(box.err.text));
        assert_memory_equal(box.err.text, text, kept);
        assert_memory_equal(box.guard, guard, sizeof(guard));
    }
}

static void test_wrap_keeps_the_context_of_a_full_record(void **state)
{
    char text[600];
    struct err err;

    (void)state;
    memset(text, 'y', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    (void)err_set(&err, EIO, "%s", text);
    (void)err_wrap(&err, -EIO, "context");
    assert_memory_equal(err.text, "context: yyy", 12);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void test_record_is_one_line(void **state)
{
    struct err err;

    (void)state;
    (void)err_set(&err, EIO, "a%cb%cc%cd%c", '\n', '\r', 0x1b, 0x7f);
    assert_string_equal(err.text, "a?b?c?d?");
    (void)err_wrap(&err, -EIO, "w\n");
    assert_string_equal(err.text, "w?: a?b?c?d?");
    (void)err_sys(&err, EIO, "s\t");
    assert_string_equal(err.text, "s?: Input/output error");
    /* What is no control character stays, UTF-8 included. */
    (void)err_set(&err, EIO, "%s", "\xc3\xa4 ~");
    assert_string_equal(err.text, "\xc3\xa4 ~");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_code_is_made_negative),
        cmocka_unit_test(test_wrap_leaves_code_alone),
        cmocka_unit_test(test_null_record_is_allowed),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_codes_without_words),
        cmocka_unit_test(test_later_failure_replaces_the_record),
        cmocka_unit_test(test_long_texts_are_cut),
        cmocka_unit_test(test_wrap_keeps_the_context_of_a_full_record),
        cmocka_unit_test(test_record_is_one_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
