/* SPDX-License-Identifier: Apache-2.0 */
/* Resource limits by name, and on a child of this process. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/rlimits.h"
#include "vmm/base/cc.h"

static void test_names(void **state)
{
    (void)state;
    for (int i = 0; i < RLIMITS_COUNT; i++)
        assert_non_null(rlimits_name(i));
    assert_string_equal(rlimits_name(RLIMIT_NOFILE), "nofile");
    assert_null(rlimits_name(-1));
    assert_null(rlimits_name(RLIMITS_COUNT));
}

static void test_parse(void **state)
{
    static const struct {
        const char *text;
        int resource;
        uint64_t soft;
        uint64_t hard;
    } good[] = {
        {"nofile=2048", RLIMIT_NOFILE, 2048, 2048},
        {"no-file=7", RLIMIT_NOFILE, 7, 7},
        {"nofile=10:20", RLIMIT_NOFILE, 10, 20},
        {"core=0", RLIMIT_CORE, 0, 0},
        {"fsize=250000000", RLIMIT_FSIZE, 250000000, 250000000},
        {"as=2G", RLIMIT_AS, UINT64_C(2) << 30, UINT64_C(2) << 30},
        {"memlock=64K:unlimited", RLIMIT_MEMLOCK, 65536, RLIM_INFINITY},
        {"nproc=unlimited", RLIMIT_NPROC, RLIM_INFINITY, RLIM_INFINITY},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct rlimits limits = {0};

        assert_int_equal(rlimits_parse(good[i].text, &limits, NULL), 0);
        assert_true(limits.list[good[i].resource].is_set);
        assert_true(limits.list[good[i].resource].soft == good[i].soft);
        assert_true(limits.list[good[i].resource].hard == good[i].hard);
    }
}

static void test_refused(void **state)
{
    static const char *const bad[] = {"", "nofile", "nofile=", "nofile=5K",
        "nofile=20:10", "nofile=5:", "nofile=:5", "nofile=-1", "nofile=5 ",
        "nofile=unlimited:5", "core=1T", "core=1KK", "as=18446744073709551616",
        "as=17179869184G", "nofile=5:6:7"};
    static const char *const unknown[] = {
        "=5", "files=5", "NOFILE=5", "no-files=5"};
    struct rlimits limits = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(rlimits_parse(bad[i], &limits, NULL), -EINVAL);
    for (size_t i = 0; i < ARRAY_SIZE(unknown); i++)
        assert_int_equal(rlimits_parse(unknown[i], &limits, NULL), -ENOENT);
    for (size_t i = 0; i < RLIMITS_COUNT; i++)
        assert_false(limits.list[i].is_set);
}

static void test_defaults(void **state)
{
    struct rlimits limits = {0};

    (void)state;
    rlimits_set_defaults(&limits, false);
    assert_true(limits.list[RLIMIT_CORE].is_set);
    assert_int_equal(limits.list[RLIMIT_CORE].hard, 0);
    assert_false(limits.list[RLIMIT_NPROC].is_set);
    assert_false(limits.list[RLIMIT_FSIZE].is_set);
    rlimits_set_defaults(&limits, true);
    assert_true(limits.list[RLIMIT_NPROC].is_set);
    /* What the user says goes over them. */
    assert_int_equal(rlimits_parse("core=5", &limits, NULL), 0);
    assert_int_equal(limits.list[RLIMIT_CORE].hard, 5);
}

/* The child: opens until it must not; how many it could open. */
static int open_until_refused(void)
{
    int count = 0;

    while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0 && count < 100)
        count++;
    return count;
}

static void test_applied(void **state)
{
    struct rlimits limits = {0};
    int status = 0;
    pid_t pid;

    (void)state;
    rlimits_set_defaults(&limits, false);
    assert_int_equal(rlimits_parse("nofile=16", &limits, NULL), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit core;

        if (rlimits_apply(&limits, 0, NULL) < 0 ||
            getrlimit(RLIMIT_CORE, &core) < 0 || core.rlim_max != 0)
            _exit(255);
        _exit(open_until_refused());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) > 0 && WEXITSTATUS(status) <= 13);
}

/* A default that cannot be had is lowered, what was asked for is an error. */
static void test_not_raised(void **state)
{
    int status = 0;
    pid_t pid = fork();

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimits limits = {0};
        struct err err;

        if (geteuid() == 0 && seteuid(65534) < 0)
            _exit(1);
        if (rlimits_parse("nofile=64", &limits, NULL) < 0 ||
            rlimits_apply(&limits, 0, NULL) < 0)
            _exit(2);
        rlimits_set_defaults(&limits, false);
        if (rlimits_apply(&limits, 0, &err) < 0)
            _exit(3);
        if (rlimits_parse("nofile=2048", &limits, NULL) < 0 ||
            rlimits_apply(&limits, 0, &err) != -EPERM)
            _exit(4);
        _exit(strstr(err.text, "hard limit is 64") == NULL ? 5 : 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_applied),
        cmocka_unit_test(test_not_raised),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
