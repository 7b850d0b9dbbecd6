/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/files.h"

static int parse(const char *text, struct files *ret_files, struct err *err)
{
    return files_parse(text, strlen(text), ret_files, err);
}

static void list_is_read(void **state)
{
    struct files files;
    struct files again;
    char *text;

    (void)state;
    assert_int_equal(
        parse("{\"version\": 1, \"files\": [{\"guest\": \"/a\", \"host\": "
              "\"/b/a\", \"build_id\": \"0123ef\"}, {\"guest\": \"/c\", "
              "\"host\": \"/c\"}]}",
            &files, NULL),
        0);
    assert_int_equal(files.count, 2);
    assert_string_equal(files_find(&files, "/a")->host, "/b/a");
    assert_string_equal(files_find(&files, "/a")->build_id, "0123ef");
    assert_null(files_find(&files, "/c")->build_id);
    assert_null(files_find(&files, "/d"));
    text = files_to_json(&files);
    assert_int_equal(parse(text, &again, NULL), 0);
    assert_int_equal(again.count, 2);
    assert_string_equal(again.entries[0].host, "/b/a");
    assert_null(again.entries[1].build_id);
    free(text);
    files_fini(&files);
    files_fini(&again);
}

static void others_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{\"version\": 2, \"files\": []}",
        "{\"version\": 1}",
        "{\"version\": 1, \"files\": {}}",
        "{\"version\": 1, \"files\": [], \"more\": 1}",
        "{\"version\": 1, \"files\": [{\"guest\": \"/a\"}]}",
        "{\"version\": 1, \"files\": [{\"guest\": \"a\", \"host\": \"/a\"}]}",
        ("{\"version\": 1, \"files\": [{\"guest\": \"/a\", \"host\": \"/a\", "
         "\"build_id\": \"XY\"}]}"),
    };
    struct files files = {0};
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse(bad[i], &files, &err), -EINVAL);
    assert_string_equal(
        err.text, "files.json: files[0].build_id is not in hex digits");
    assert_int_equal(files_read("/nonexistent", &files, &err), -ENOENT);
    assert_int_equal(files.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_is_read),
        cmocka_unit_test(others_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
