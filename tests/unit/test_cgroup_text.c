/* SPDX-License-Identifier: Apache-2.0 */
/* Limits as people write them, and what the files of cgroups say. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "jail/cgroup_files.h"
#include "jail/cgroup_text.h"
#include "vmm/base/cc.h"

static void test_cpu_max(void **state)
{
    static const struct {
        const char *text;
        uint64_t quota;
        uint64_t period;
    } good[] = {
        {"50%", 50000, 100000},
        {"1%", 1000, 100000},
        {"250%", 250000, 100000},
        {"1000000%", 1000000000, 100000},
        {"1000/1000", 1000, 1000},
        {"20000/1000000", 20000, 1000000},
    };
    static const char *const bad[] = {"", "%", "50", "0%", "1000001%", "-5%",
        "5 %", "5%%", "1/2", "999/1000", "1000/999", "1000/1000001", "1000/",
        "/1000", "1000/1000x", "99999999999999999999/1000",
        "9223372036854775808/1000"};
    struct cgroup_config config = {0};
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(cgroup_parse_cpu_max(good[i].text, &config, &err), 0);
        assert_int_equal(config.cpu_quota_us, good[i].quota);
        assert_int_equal(config.cpu_period_us, good[i].period);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        config = (struct cgroup_config){0};
        assert_true(cgroup_parse_cpu_max(bad[i], &config, &err) < 0);
        assert_int_equal(config.cpu_quota_us, 0);
    }
}

static void test_cpu_weight(void **state)
{
    static const char *const bad[] = {"", "0", "10001", "1x", "-1"};
    struct cgroup_config config = {0};

    (void)state;
    assert_int_equal(cgroup_parse_cpu_weight("1", &config, NULL), 0);
    assert_int_equal(config.cpu_weight, 1);
    assert_int_equal(cgroup_parse_cpu_weight("10000", &config, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(
            cgroup_parse_cpu_weight(bad[i], &config, NULL), -EINVAL);
    assert_int_equal(config.cpu_weight, 10000);
}

static void test_io_max(void **state)
{
    static const char *const bad[] = {"", "8", "8:", "8:0", "8:0,", "8:0,rbps",
        "8:0,rbps=", "8:0,rbps=0", "8:0,rbps=1,rbps=2", "8:0,rbps=max,rbps=1",
        "8:0 rbps=1x", "8:0,rbps=1,", "4096:0,rbps=1", "8:1048576,rbps=1",
        "8:0rbps=1", "8:0,wbps=99999999999999999999", "8:0,ops=1"};
    struct cgroup_config config = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(cgroup_parse_io_max(bad[i], &config, NULL), -EINVAL);
    assert_int_equal(config.io_count, 0);
    assert_int_equal(cgroup_parse_io_max(
                         "8:16,rbps=1048576,wiops=20,wbps=max", &config, NULL),
        0);
    assert_int_equal(config.io[0].major, 8);
    assert_int_equal(config.io[0].minor, 16);
    assert_int_equal(config.io[0].read_bytes, 1048576);
    assert_int_equal(config.io[0].write_bytes, 0);
    assert_int_equal(config.io[0].write_ops, 20);
    for (size_t i = 1; i < CGROUP_IO_MAX; i++)
        assert_int_equal(
            cgroup_parse_io_max("259:1048575 riops=1", &config, NULL), 0);
    assert_int_equal(cgroup_parse_io_max("8:0,riops=1", &config, NULL), -E2BIG);
}

static void test_pair(void **state)
{
    static const char *const bad[] = {"", "=", "memory.max",
        "memory.max=", "=1", "/memory.max=1", "a/b.c=1", "..=1", "a..b=1",
        ".max=1", "memory.=1", "memory=1", "memory max.a=1", "cgroup.procs=1",
        "cgroup.kill=1", "memory.max=1\n2",
        "m.2345678901234567890123456789012345678901234567890123456789012345=1"};
    struct cgroup_config config = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(cgroup_parse_pair(bad[i], &config, NULL), -EINVAL);
    assert_int_equal(config.pair_count, 0);
    assert_int_equal(cgroup_parse_pair("io.max=8:0 rbps=5", &config, NULL), 0);
    assert_string_equal(config.pairs[0].file, "io.max");
    assert_string_equal(config.pairs[0].value, "8:0 rbps=5");
    for (size_t i = 1; i < CGROUP_PAIR_MAX; i++)
        assert_int_equal(
            cgroup_parse_pair("hugetlb.2MB.max=0", &config, NULL), 0);
    assert_int_equal(cgroup_parse_pair("a.b=1", &config, NULL), -E2BIG);
}

static void test_parent(void **state)
{
    static const char *const bad[] = {
        "", "..", "/..", "/a/../b", "a/..", "/a/.", "a\nb"};
    struct cgroup_config config = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(cgroup_parse_parent(bad[i], &config, NULL), -EINVAL);
    assert_null(config.parent);
    assert_int_equal(cgroup_parse_parent("/a/..b", &config, NULL), 0);
    assert_string_equal(config.parent, "/a/..b");
}

static void test_numbers(void **state)
{
    static const char *const bad[] = {
        "", "\n", "x", "1 2", "-1", "maxi", "18446744073709551616"};
    uint64_t value = 7;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(cgroup_text_number(bad[i], &value), -EINVAL);
    assert_int_equal(value, 7);
    assert_int_equal(cgroup_text_number("12\n", &value), 0);
    assert_int_equal(value, 12);
    assert_int_equal(cgroup_text_number("max\n", &value), 0);
    assert_true(value == UINT64_MAX);
}

static void test_keys(void **state)
{
    static const char text[] = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
    uint64_t value = 0;

    (void)state;
    assert_int_equal(cgroup_text_key(text, "oom_kill", &value), 0);
    assert_int_equal(value, 2);
    assert_int_equal(cgroup_text_key(text, "oom", &value), 0);
    assert_int_equal(value, 3);
    assert_int_equal(cgroup_text_key(text, "kill", &value), -ENOENT);
    assert_int_equal(cgroup_text_key(text, "oom_", &value), -ENOENT);
    assert_int_equal(cgroup_text_key("oom ", "oom", &value), -EINVAL);
    assert_int_equal(cgroup_text_key("", "oom", &value), -ENOENT);
}

static void test_pids(void **state)
{
    pid_t pids[3];

    (void)state;
    assert_int_equal(cgroup_text_pids("", pids, 3), 0);
    assert_int_equal(cgroup_text_pids("1\n0\n4194304\n", pids, 3), 3);
    assert_int_equal(pids[1], 0);
    assert_int_equal(pids[2], 4194304);
    assert_int_equal(cgroup_text_pids("1\n2\n3\n4\n", pids, 3), 3);
    assert_int_equal(cgroup_text_pids("1\n\n", pids, 3), -EINVAL);
    assert_int_equal(cgroup_text_pids("-1\n", pids, 3), -EINVAL);
    assert_int_equal(cgroup_text_pids("2147483648\n", pids, 3), -EINVAL);
    assert_int_equal(cgroup_text_pids("1 2\n", pids, 3), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_max),
        cmocka_unit_test(test_cpu_weight),
        cmocka_unit_test(test_io_max),
        cmocka_unit_test(test_pair),
        cmocka_unit_test(test_parent),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_pids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
