/* SPDX-License-Identifier: Apache-2.0 */
/* The line table of this very program. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/coverage.h"
#include "vmm/base/fd.h"

#define BIAS UINT64_C(0x10000)

struct bench {
    struct debug_file *file;
    struct coverage coverage;
    char dir[32];
};

static int begin(void **state)
{
    struct bench *b = calloc(1, sizeof(*b));

    (void)snprintf(b->dir, sizeof(b->dir), "/tmp/spore-cov-XXXXXX");
    if (mkdtemp(b->dir) == NULL ||
        debug_file_open("/proc/self/exe", NULL, &b->file, NULL) < 0 ||
        coverage_add(&b->coverage, b->file, BIAS, NULL) < 0)
        return -1;
    *state = b;
    return 0;
}

static int end(void **state)
{
    struct bench *b = *state;
    char command[64];

    (void)snprintf(command, sizeof(command), "rm -r %s", b->dir);
    coverage_fini(&b->coverage);
    debug_file_free(b->file);
    free(b);
    return system(command);
}

/* Whether the line of this function's beginning counts as run; -1: no line. */
static int is_hit(struct bench *b, uint64_t address, uint32_t *ret_line)
{
    struct debug_file_place places[DEBUG_FILE_PLACES];
    size_t count;
    struct coverage_line *lines = coverage_lines(&b->coverage, &count);
    int hit = -1;

    assert_int_equal(debug_file_find(b->file, address, places), 1);
    *ret_line = places[0].line;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(b->coverage.names[lines[i].source], places[0].source) == 0 &&
            lines[i].line == places[0].line)
            hit = lines[i].is_hit ? 1 : 0;
    }
    free(lines);
    return hit;
}

static void addresses_ascend(void **state)
{
    struct bench *b = *state;
    size_t count;
    uint64_t *list = coverage_addresses(&b->coverage, &count);
    uint64_t address;

    assert_true(count > 100);
    for (size_t i = 1; i < count; i++)
        assert_true(list[i - 1] < list[i]);
    assert_true(debug_file_function(b->file, "addresses_ascend", &address));
    for (size_t i = 0; i < count; i++) {
        if (list[i] == address + BIAS)
            address = 0;
    }
    assert_int_equal(address, 0);
    free(list);
}

static void hits_make_lines(void **state)
{
    struct bench *b = *state;
    uint64_t address;
    uint32_t line;
    size_t lines;
    size_t hit;

    assert_true(debug_file_function(b->file, "hits_make_lines", &address));
    assert_int_equal(is_hit(b, address, &line), 0);
    coverage_hit(&b->coverage, address);
    assert_int_equal(is_hit(b, address, &line), 0);
    coverage_hit(&b->coverage, address + BIAS);
    assert_int_equal(is_hit(b, address, &line), 1);
    assert_int_equal(coverage_count(&b->coverage, &lines, &hit, NULL), 0);
    assert_int_equal(hit, 1);
    assert_true(lines > 100);
}

static void tracefile_is_written(void **state)
{
    struct bench *b = *state;
    uint64_t address;
    char expected[32];
    char path[64];
    uint32_t line;
    uint8_t *text;
    size_t size;

    assert_true(debug_file_function(b->file, "tracefile_is_written", &address));
    coverage_hit(&b->coverage, address + BIAS);
    assert_int_equal(is_hit(b, address, &line), 1);
    (void)snprintf(path, sizeof(path), "%s/lcov.info", b->dir);
    assert_int_equal(coverage_write_lcov(&b->coverage, path, NULL), 0);
    assert_int_equal(fd_read_file(path, 1 << 24, &text, &size, NULL), 0);
    (void)snprintf(expected, sizeof(expected), "\nDA:%u,1\n", line);
    assert_non_null(strstr((char *)text, expected));
    assert_non_null(strstr((char *)text, "test_coverage.c\nDA:"));
    assert_string_equal((char *)text + size - 14, "end_of_record\n");
    free(text);
    assert_int_equal(
        coverage_write_lcov(&b->coverage, "/nonexistent/a", NULL), -ENOENT);
}

/* This line is <shown> & "escaped": <b>. */
static void pages_are_written(void **state)
{
    struct bench *b = *state;
    char path[64];
    uint8_t *text;
    size_t size;

    for (uint32_t i = 0; i < b->coverage.name_count; i++) {
        if (strstr(b->coverage.names[i], "test_coverage.c") != NULL)
            (void)snprintf(path, sizeof(path), "%s/%u.html", b->dir, i);
    }
    assert_int_equal(coverage_write_html(&b->coverage, b->dir, NULL), 0);
    assert_int_equal(fd_read_file(path, 1 << 24, &text, &size, NULL), 0);
    assert_non_null(strstr((char *)text,
        "This line is &lt;shown&gt; &amp; &quot;escaped&quot;: &lt;b&gt;"));
    assert_non_null(strstr((char *)text, "<span class=\"n\">"));
    assert_null(strstr((char *)text, "<span class=\"y\">"));
    free(text);
    (void)snprintf(path, sizeof(path), "%s/index.html", b->dir);
    assert_int_equal(fd_read_file(path, 1 << 24, &text, &size, NULL), 0);
    assert_non_null(strstr((char *)text, "test_coverage.c</a></td><td>0.0 %"));
    free(text);
    assert_int_equal(
        coverage_write_html(&b->coverage, "/nonexistent", NULL), -EIO);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        T(addresses_ascend),
        T(hits_make_lines),
        T(tracefile_is_written),
        T(pages_are_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
