/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "vmm/base/cc.h"
#include "vmm/hw/cmdline.h"

static void test_words_are_joined_by_spaces(void **state)
{
    struct cmdline line;

    (void)state;
    cmdline_init(&line);
    assert_string_equal(line.text, "");
    assert_int_equal(cmdline_append(&line, "", NULL), 0);
    assert_int_equal(cmdline_append(&line, "quiet", NULL), 0);
    assert_int_equal(cmdline_append(&line, "", NULL), 0);
    assert_int_equal(cmdline_append(&line, "root=/dev/vda ro", NULL), 0);
    assert_string_equal(line.text, "quiet root=/dev/vda ro");
    assert_int_equal(line.len, strlen(line.text));
}

static void test_virtio_word(void **state)
{
    struct cmdline line;

    (void)state;
    cmdline_init(&line);
    assert_int_equal(cmdline_append_virtio(&line, 0xc0001000, 17, 1, NULL), 0);
    assert_int_equal(
        cmdline_append_virtio(&line, UINT64_MAX, UINT32_MAX, 4294967295u, NULL),
        0);
    assert_string_equal(line.text,
        "virtio_mmio.device=4K@0xc0001000:17:1 "
        "virtio_mmio.device=4K@0xffffffffffffffff:4294967295:4294967295");
}

static void test_control_characters_are_refused(void **state)
{
    struct cmdline line;
    struct err err;

    (void)state;
    cmdline_init(&line);
    assert_int_equal(cmdline_append(&line, "a", NULL), 0);
    for (int c = 1; c < 256; c++) {
        char word[] = {'x', (char)c, 'y', '\0'};
        struct cmdline copy = line;
        int rc = cmdline_append(&copy, word, &err);

        if (c < 0x20 || c == 0x7f) {
            assert_int_equal(rc, -EINVAL);
            assert_string_equal(copy.text, "a");
            assert_int_equal(copy.len, 1);
            assert_non_null(strstr(err.text, "byte 1"));
        } else {
            assert_int_equal(rc, 0);
        }
    }
}

/* Fills the line to the last byte in every split, then one byte more. */
static void test_bound(void **state)
{
    static char words[LAYOUT_CMDLINE_MAX + 1];

    (void)state;
    for (size_t first = 0; first < LAYOUT_CMDLINE_MAX - 2; first += 7) {
        size_t left = LAYOUT_CMDLINE_MAX - 1 - first - (first != 0);
        struct cmdline line;

        cmdline_init(&line);
        memset(words, 'w', sizeof(words));
        words[first] = '\0';
        assert_int_equal(cmdline_append(&line, words, NULL), 0);
        words[first] = 'w';
        words[left + 1] = '\0';
        assert_int_equal(cmdline_append(&line, words, NULL), -E2BIG);
        assert_int_equal(line.len, first);
        assert_int_equal(line.text[first], '\0');
        words[left] = '\0';
        assert_int_equal(cmdline_append(&line, words, NULL), 0);
        assert_int_equal(line.len, LAYOUT_CMDLINE_MAX - 1);
        assert_int_equal(line.text[line.len], '\0');
        assert_int_equal(cmdline_append(&line, "", NULL), 0);
        assert_int_equal(cmdline_append(&line, "x", NULL), -E2BIG);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_are_joined_by_spaces),
        cmocka_unit_test(test_virtio_word),
        cmocka_unit_test(test_control_characters_are_refused),
        cmocka_unit_test(test_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
