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
#include <unistd.h>

#include "fuzz/bundle.h"

static char dir[] = "/tmp/spore-bundle-XXXXXX";

static int begin(void **state)
{
    (void)state;
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int end(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

static struct bundle_text text(const char *t)
{
    return (struct bundle_text){strdup(t), strlen(t)};
}

static struct bundle make(void)
{
    struct bundle b = {
        .verdict = FUZZ_SANITIZER,
        .status = -3,
        .signal = 6,
        .rip = UINT64_C(0xfedcba9876543210),
        .stack_hash = 1,
        .has_regs = true,
    };

    b.parts[BUNDLE_INPUT] = (struct bundle_text){malloc(4), 4};
    memcpy(b.parts[BUNDLE_INPUT].text, "\0\1\xff\n", 4);
    b.parts[BUNDLE_REPORT] = text("ERROR: \x80 something");
    b.parts[BUNDLE_BACKTRACE] = text("#0 0x1 in f\n");
    b.snapshot = strdup("abc");
    for (size_t i = 0; i < UNWIND_REGS; i++)
        b.regs[i] = i << 60 | i;
    return b;
}

static void path_of(char ret_path[128], const char *name)
{
    (void)snprintf(ret_path, 128, "%s/%s", dir, name);
}

static void what_is_written_is_read(void **state)
{
    struct bundle b = make();
    struct bundle r;
    char path[128];
    struct err err;

    (void)state;
    assert_int_equal(bundle_write(dir, "one", &b, &err), 0);
    path_of(path, "one");
    assert_int_equal(bundle_read(path, &r, &err), 0);
    assert_int_equal(r.verdict, b.verdict);
    assert_int_equal(r.status, b.status);
    assert_int_equal(r.signal, b.signal);
    assert_int_equal(r.rip, b.rip);
    assert_int_equal(r.stack_hash, b.stack_hash);
    assert_string_equal(r.snapshot, "abc");
    assert_true(r.has_regs);
    assert_memory_equal(r.regs, b.regs, sizeof(b.regs));
    assert_int_equal(r.parts[BUNDLE_INPUT].size, 4);
    assert_memory_equal(r.parts[BUNDLE_INPUT].text, "\0\1\xff\n", 4);
    assert_string_equal(
        r.parts[BUNDLE_REPORT].text, b.parts[BUNDLE_REPORT].text);
    assert_string_equal(
        r.parts[BUNDLE_BACKTRACE].text, b.parts[BUNDLE_BACKTRACE].text);
    assert_null(r.parts[BUNDLE_MAPS].text);
    assert_int_equal(bundle_write(dir, "one", &b, &err), -EEXIST);
    bundle_fini(&r);
    bundle_fini(&b);
}

/* Neither a half of it nor anything temporary stays. */
static void failure_leaves_nothing(void **state)
{
    struct bundle b = make();
    char path[128];
    struct err err;

    (void)state;
    assert_int_equal(bundle_write(dir, "no/such", &b, &err), -ENOENT);
    assert_int_equal(bundle_write("/nonexistent", "a", &b, &err), -ENOENT);
    path_of(path, "one");
    assert_int_equal(unlink(path), -1);
    assert_int_equal(bundle_write(dir, "one", &b, &err), -EEXIST);
    (void)snprintf(path, sizeof(path), "%s/.one.%d", dir, getpid());
    assert_int_equal(access(path, F_OK), -1);
    bundle_fini(&b);
}

static void other_files_are_refused(void **state)
{
    struct bundle b = make();
    struct bundle r = {0};
    char path[128];
    struct err err;
    char *target;

    (void)state;
    assert_int_equal(bundle_write(dir, "two", &b, &err), 0);
    path_of(path, "two/report.txt");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    path_of(path, "two");
    assert_int_equal(bundle_read(path, &r, &err), -ELOOP);
    target = strstr(err.text, "report.txt");
    assert_non_null(target);
    path_of(path, "two/report.txt");
    assert_int_equal(unlink(path), 0);
    path_of(path, "two/input");
    assert_int_equal(unlink(path), 0);
    path_of(path, "two");
    assert_int_equal(bundle_read(path, &r, &err), -ENOENT);
    bundle_fini(&b);
}

static void other_results_are_refused(void **state)
{
#define TAIL                                                                   \
    "\"signal\": 6, \"rip\": \"0x0000000000000001\", \"stack_hash\": "         \
    "\"0x0000000000000002\""
    static const char good[] =
        "{\"version\": 1, \"verdict\": \"crash\", \"status\": 0, " TAIL "}";
    static const char *const bad[] = {
        "",
        "{}",
        "{\"version\": 2, \"verdict\": \"crash\", \"status\": 0, " TAIL "}",
        "{\"version\": 1, \"verdict\": \"cra\", \"status\": 0, " TAIL "}",
        "{\"version\": 1, \"verdict\": \"crash\", \"status\": 1e9, " TAIL "}",
        "{\"version\": 1, \"verdict\": \"crash\", \"status\": 4294967296, " TAIL
        "}",
        "{\"version\": 1, \"verdict\": \"crash\", \"status\": 0, " TAIL
        ", \"x\": 1}",
        "{\"version\": 1, \"verdict\": \"crash\", \"status\": 0, " TAIL
        ", \"registers\": {\"rax\": \"0x0000000000000001\"}}",
        ("{\"version\": 1, \"verdict\": \"crash\", \"status\": 0, "
         "\"signal\": 6, \"rip\": \"1\", \"stack_hash\": "
         "\"0x0000000000000002\"}"),
    };
    struct bundle r = {0};
    struct err err;

    (void)state;
    assert_int_equal(bundle_parse_result(good, strlen(good), &r, &err), 0);
    assert_int_equal(r.stack_hash, 2);
    bundle_fini(&r);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(
            bundle_parse_result(bad[i], strlen(bad[i]), &r, &err), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(failure_leaves_nothing),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(other_results_are_refused),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
