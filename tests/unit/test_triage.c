/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/triage.h"

static void add(struct triage *t, const char *name, enum fuzz_verdict verdict,
    uint64_t hash, size_t size, const char *top)
{
    struct bundle b = {.verdict = verdict, .stack_hash = hash};

    b.parts[BUNDLE_INPUT].text = calloc(1, size + 1);
    b.parts[BUNDLE_INPUT].size = size;
    assert_int_equal(triage_add(t, name, &b, top, NULL), 0);
    assert_null(b.parts[BUNDLE_INPUT].text);
}

static void fill(struct triage *t)
{
    add(t, "a", FUZZ_CRASH, 1, 9, "in f");
    add(t, "b", FUZZ_CRASH, 2, 5, "in g\033[2J");
    add(t, "c", FUZZ_OK, 1, 1, "");
    add(t, "d", FUZZ_CRASH, 2, 3, "in g");
    add(t, "e", FUZZ_CRASH, 2, 3, "in g later");
    add(t, "f", FUZZ_HANG, 1, 3, "");
    triage_sort(t);
}

static void smallest_stands_for_all(void **state)
{
    struct triage t = {0};
    char name[TRIAGE_NAME_SIZE];

    (void)state;
    fill(&t);
    assert_int_equal(t.count, 3);
    assert_int_equal(t.harmless, 1);
    assert_int_equal(t.groups[0].count, 3);
    assert_int_equal(t.groups[0].bundle.parts[BUNDLE_INPUT].size, 3);
    assert_string_equal(t.groups[0].names[t.groups[0].smallest], "d");
    assert_string_equal(t.groups[0].top, "in g");
    triage_group_name(&t.groups[0], name);
    assert_string_equal(name, "crash-0000000000000002");
    assert_int_equal(t.groups[1].bundle.verdict, FUZZ_CRASH);
    assert_int_equal(t.groups[2].bundle.verdict, FUZZ_HANG);
    triage_fini(&t);
}

static void table_is_printed(void **state)
{
    struct triage t = {0};
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    triage_print(&t, out);
    add(&t, "a", FUZZ_CRASH, 1, 9, "in f\n\033[2J");
    triage_print(&t, out);
    (void)fclose(out);
    assert_string_equal(text,
        "no crash among 0 inputs\n"
        "GROUP                         INPUTS    BYTES  WHERE\n"
        "crash-0000000000000001             1        9  in f??[2J\n");
    free(text);
    triage_fini(&t);
}

static void json_is_made(void **state)
{
    struct triage t = {0};
    json_t *json;
    json_t *group;

    (void)state;
    fill(&t);
    json = triage_to_json(&t);
    assert_int_equal(json_array_size(json_object_get(json, "groups")), 3);
    assert_int_equal(json_integer_value(json_object_get(json, "harmless")), 1);
    group = json_array_get(json_object_get(json, "groups"), 0);
    assert_string_equal(
        json_string_value(json_object_get(group, "smallest")), "d");
    assert_int_equal(json_array_size(json_object_get(group, "inputs")), 3);
    json_decref(json);
    triage_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smallest_stands_for_all),
        cmocka_unit_test(table_is_printed),
        cmocka_unit_test(json_is_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
