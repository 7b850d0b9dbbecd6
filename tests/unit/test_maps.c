/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/maps.h"
#include "vmm/base/fd.h"

static int parse(const char *text, struct maps *ret_maps, struct err *err)
{
    return maps_parse(text, strlen(text), ret_maps, err);
}

static void ranges_are_read(void **state)
{
    struct maps maps;

    (void)state;
    assert_int_equal(
        parse("555555554000-555555555000 r--p 00001000 103:02 42    /bin/a b\n"
              "7ffff7fc1000-7ffff7fc3000 r-xs 00000000 00:00 0\n"
              "7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0   [stack]",
            &maps, NULL),
        0);
    assert_int_equal(maps.count, 3);
    assert_int_equal(maps.ranges[0].start, 0x555555554000);
    assert_int_equal(maps.ranges[0].end, 0x555555555000);
    assert_int_equal(maps.ranges[0].offset, 0x1000);
    assert_string_equal(maps.ranges[0].perms, "r--p");
    assert_string_equal(maps.ranges[0].name, "/bin/a b");
    assert_string_equal(maps.ranges[1].name, "");
    assert_string_equal(maps.ranges[2].name, "[stack]");
    assert_ptr_equal(maps_find(&maps, 0x555555554fff), &maps.ranges[0]);
    assert_null(maps_find(&maps, 0x555555555000));
    assert_null(maps_find(&maps, 0));
    assert_ptr_equal(maps_find(&maps, 0x7ffffffde000), &maps.ranges[2]);
    maps_fini(&maps);
}

static void ours_is_read(void **state)
{
    struct maps maps;
    uint8_t *text;
    size_t size;

    (void)state;
    assert_int_equal(
        fd_read_file("/proc/self/maps", MAPS_TEXT_MAX, &text, &size, NULL), 0);
    assert_int_equal(maps_parse((char *)text, size, &maps, NULL), 0);
    free(text);
    assert_string_equal(maps_find(&maps, (uintptr_t)&maps)->name, "[stack]");
    maps_fini(&maps);
}

static void others_are_refused(void **state)
{
    static const char *const bad[] = {
        "\n",
        "x",
        "1000-1000 r--p 0 0:0 0",
        "2000-1000 r--p 0 0:0 0",
        "1000-2000 r--q 0 0:0 0",
        "1000-2000 r-- 0 0:0 0",
        "1000-2000 r--p 0 0:0",
        "1000-2000 r--p 0 00 0",
        "10000000000000000-20000000000000000 r--p 0 0:0 0",
        "1000-1001 r--p 0 0:0 0 /a\n",
        "1001-2000 r--p 0 0:0 0 /a\n",
        "1000-2000 r--p 10 0:0 0 /a\n",
        "1000-3000 r--p 0 0:0 0 /a\n2000-4000 r--p 0 0:0 0 /b\n",
        "3000-4000 r--p 0 0:0 0 /a\n1000-2000 r--p 0 0:0 0 /b\n",
    };
    struct maps maps = {0};
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse(bad[i], &maps, &err), -EINVAL);
    assert_string_equal(
        err.text, "maps: line 2 begins before the one above it ends");
    assert_int_equal(
        maps_parse("1-2 r--p 0 0:0 0 a\0b", 20, &maps, &err), -EINVAL);
    assert_int_equal(maps.count, 0);
}

static void many_are_refused(void **state)
{
    char *text = calloc(MAPS_RANGE_MAX + 1, 40);
    size_t at = 0;
    struct maps maps;

    (void)state;
    assert_non_null(text);
    for (unsigned int i = 1; i <= MAPS_RANGE_MAX + 1; i++)
        at += (size_t)sprintf(
            text + at, "%x-%x r--p 0 0:0 0\n", i << 12, (i + 1) << 12);
    assert_int_equal(maps_parse(text, at, &maps, NULL), -E2BIG);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_read),
        cmocka_unit_test(ours_is_read),
        cmocka_unit_test(others_are_refused),
        cmocka_unit_test(many_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
