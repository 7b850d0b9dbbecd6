/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/base/num.h"
#include "vmm/timings.h"
#include "vmm/timings_svg.h"

#define MAIN_NS UINT64_C(5000000000)

static const char *const keys[TIMINGS_COUNT] = {"process_start", "main",
    "kvm_ready", "kernel_loaded", "first_guest_instruction", "init",
    "root_mounted", "agent_ready", "command", "command_end", "exit"};

/* What one of the formats writes; the caller frees it. */
static char *print(const struct timings *t,
    void (*print_one)(const struct timings *t, FILE *out))
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    print_one(t, out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(text);
    return text;
}

/* The time of a phase, INT64_MAX for null. */
static int64_t json_phase(const json_t *root, const char *key)
{
    const json_t *value = json_object_get(root, key);

    assert_non_null(value);
    if (json_is_null(value))
        return INT64_MAX;
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static json_t *parse(const struct timings *t)
{
    char *text = print(t, timings_print_json);
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);

    if (root == NULL)
        fail_msg("%s in %s", error.text, text);
    assert_int_equal(text[strlen(text) - 1], '\n');
    free(text);
    assert_string_equal(json_string_value(json_object_get(root, "unit")), "ns");
    assert_int_equal(json_object_size(root), TIMINGS_COUNT + 2);
    return root;
}

static void test_json(void **state)
{
    struct timings t = {0};
    json_t *root;

    (void)state;
    for (unsigned int i = 0; i < TIMINGS_COUNT; i++)
        timings_mark_at(&t, (enum timings_phase)i, MAIN_NS + 1000 * i - 1000);
    root = parse(&t);
    for (unsigned int i = 0; i < TIMINGS_COUNT; i++)
        assert_int_equal(json_phase(root, keys[i]), 1000 * (int64_t)i - 1000);
    json_decref(root);
}

static void test_json_of_emulated_instructions(void **state)
{
    struct timings t = {.emulated = {[TIMINGS_INIT] = 7, [TIMINGS_READY] = 9}};
    json_t *root = parse(&t);
    json_t *emulated = json_object_get(root, "emulated_instructions");

    (void)state;
    assert_int_equal(json_object_size(emulated), 2);
    assert_int_equal(json_integer_value(json_object_get(emulated, "init")), 7);
    assert_int_equal(
        json_integer_value(json_object_get(emulated, "agent_ready")), 9);
    json_decref(root);
}

static void test_json_of_phases_not_reached(void **state)
{
    struct timings t = {0};
    json_t *root;

    (void)state;
    timings_mark_at(&t, TIMINGS_MAIN, MAIN_NS);
    timings_mark_at(&t, TIMINGS_EXIT, MAIN_NS + 7);
    root = parse(&t);
    for (unsigned int i = 0; i < TIMINGS_COUNT; i++) {
        int64_t want = i == TIMINGS_MAIN ? 0 : INT64_MAX;

        assert_int_equal(
            json_phase(root, keys[i]), i == TIMINGS_EXIT ? 7 : want);
    }
    json_decref(root);
}

static void test_first_mark_counts(void **state)
{
    struct timings t = {0};

    (void)state;
    timings_mark_at(&t, TIMINGS_INIT, 10);
    timings_mark_at(&t, TIMINGS_INIT, 20);
    timings_mark(&t, TIMINGS_INIT);
    assert_int_equal(t.at_ns[TIMINGS_INIT], 10);
}

static void test_mark_is_now(void **state)
{
    struct timings t = {0};
    uint64_t before = clock_now_ns();

    (void)state;
    timings_mark(&t, TIMINGS_MAIN);
    assert_in_range(t.at_ns[TIMINGS_MAIN], before, clock_now_ns());
}

/* One line of the table, which must end in the two numbers. */
static void expect_line(
    char **at, const char *name, const char *since, const char *took)
{
    char *line = strsep(at, "\n");
    char got_since[32];
    char got_took[32];

    assert_non_null(line);
    assert_int_equal(strlen(line), 26 + 13 + 13);
    assert_int_equal(sscanf(line + 26, "%31s %31s", got_since, got_took), 2);
    line[26] = '\0';
    for (size_t n = 26; n > 0 && line[n - 1] == ' '; n--)
        line[n - 1] = '\0';
    assert_string_equal(line, name);
    assert_string_equal(got_since, since);
    assert_string_equal(got_took, took);
}

static void expect_head(char **at)
{
    const char *line = strsep(at, "\n");

    assert_non_null(line);
    assert_memory_equal(line, "phase ", 6);
    assert_non_null(strstr(line, "at ms"));
    assert_non_null(strstr(line, "took ms"));
}

static void test_table(void **state)
{
    struct timings t = {0};
    char *text;
    char *at;

    (void)state;
    timings_mark_at(&t, TIMINGS_PROCESS, MAIN_NS - 1500000);
    timings_mark_at(&t, TIMINGS_MAIN, MAIN_NS);
    timings_mark_at(&t, TIMINGS_GUEST, MAIN_NS + 2250000);
    timings_mark_at(&t, TIMINGS_EXIT, MAIN_NS + 1002250000);
    text = print(&t, timings_print);
    at = text;
    expect_head(&at);
    expect_line(&at, "process start", "-1.500", "0.000");
    expect_line(&at, "main", "0.000", "1.500");
    expect_line(&at, "first guest instruction", "2.250", "2.250");
    expect_line(&at, "exit", "1002.250", "1000.000");
    assert_string_equal(at, "");
    free(text);
}

/* A guest that says "ready" before "init": nothing breaks, nothing lies. */
static void test_phases_out_of_order(void **state)
{
    struct timings t = {0};
    json_t *root;
    char *text;
    char *at;

    (void)state;
    timings_mark_at(&t, TIMINGS_READY, MAIN_NS + 1000000);
    timings_mark_at(&t, TIMINGS_INIT, MAIN_NS + 3000000);
    timings_mark_at(&t, TIMINGS_MAIN, MAIN_NS);
    text = print(&t, timings_print);
    at = text;
    expect_head(&at);
    expect_line(&at, "main", "0.000", "0.000");
    expect_line(&at, "init", "3.000", "3.000");
    expect_line(&at, "agent ready", "1.000", "-2.000");
    assert_string_equal(at, "");
    free(text);
    root = parse(&t);
    assert_int_equal(json_phase(root, "init"), 3000000);
    assert_int_equal(json_phase(root, "agent_ready"), 1000000);
    json_decref(root);
}

/* A picture; the caller frees it. */
static char *draw(const struct timings *t, const char *title)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    timings_print_svg(t, title, out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(text);
    assert_memory_equal(text, "<svg ", 5);
    assert_string_equal(text + len - 7, "</svg>\n");
    return text;
}

static size_t count_of(const char *text, const char *what)
{
    size_t count = 0;

    while ((text = strstr(text, what)) != NULL) {
        count++;
        text += strlen(what);
    }
    return count;
}

#define ROW "<text class=\"label\""

/* Each phase ends a bar but the first; a second panel has the monitor's. */
static void test_picture(void **state)
{
    struct timings t = {0};
    char *text;

    (void)state;
    for (unsigned int i = 0; i < TIMINGS_COUNT; i++)
        timings_mark_at(&t, (enum timings_phase)i,
            MAIN_NS + (i <= TIMINGS_GUEST ? UINT64_C(1000000)
                                          : UINT64_C(1000000000)) *
                          i);
    t.emulated[TIMINGS_INIT] = 16100000;
    text = draw(&t, "true");
    assert_int_equal(count_of(text, ROW), TIMINGS_COUNT - 1 + TIMINGS_GUEST);
    assert_int_equal(count_of(text, ">command ended</text>"), 1);
    assert_int_equal(count_of(text, ">kernel loaded</text>"), 2);
    assert_int_equal(count_of(text, "16.1 M instr."), 1);
    assert_int_equal(count_of(text, ">1.00 s</text>"), 6);
    free(text);
}

/* Where the monitor's part can be seen it is drawn once. */
static void test_picture_of_a_short_run(void **state)
{
    struct timings t = {0};
    char *text;

    (void)state;
    timings_mark_at(&t, TIMINGS_MAIN, MAIN_NS);
    timings_mark_at(&t, TIMINGS_GUEST, MAIN_NS + 2250000);
    timings_mark_at(&t, TIMINGS_EXIT, MAIN_NS + 3000000);
    text = draw(&t, "bare");
    assert_int_equal(count_of(text, ROW), 2);
    assert_int_equal(count_of(text, ">2.25 ms</text>"), 1);
    assert_null(strstr(text, "agent ready"));
    free(text);
}

/* The title is the user's, the order of phases the guest's. */
static void test_picture_of_hostile_input(void **state)
{
    struct timings t = {0};
    char *text;

    (void)state;
    free(draw(&t, ""));
    timings_mark_at(&t, TIMINGS_MAIN, MAIN_NS);
    free(draw(&t, ""));
    timings_mark_at(&t, TIMINGS_READY, MAIN_NS + 1000000);
    timings_mark_at(&t, TIMINGS_INIT, MAIN_NS + 3000000);
    text = draw(&t, "<b>&\x01\xff</text>");
    assert_non_null(strstr(text, ">&lt;b&gt;&amp;??&lt;/text&gt;</text>"));
    assert_int_equal(count_of(text, "width=\"-"), 0);
    assert_int_equal(count_of(text, ROW), 2);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_json_of_emulated_instructions),
        cmocka_unit_test(test_json_of_phases_not_reached),
        cmocka_unit_test(test_first_mark_counts),
        cmocka_unit_test(test_mark_is_now),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_phases_out_of_order),
        cmocka_unit_test(test_picture),
        cmocka_unit_test(test_picture_of_a_short_run),
        cmocka_unit_test(test_picture_of_hostile_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
