/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "vmm/jail_options.h"

static int set_up(void **state)
{
    static struct jail_options options;

    assert_int_equal(unsetenv(JAIL_OPTIONS_ENV), 0);
    assert_int_equal(jail_options_init(&options, NULL), 0);
    *state = &options;
    return 0;
}

static void take(
    struct jail_options *o, enum jail_option option, const char *value)
{
    assert_int_equal(jail_options_set(o, option, value, NULL), 0);
}

/* The error names the option. */
static void refuse(struct jail_options *o, enum jail_option option,
    const char *value, const char *name)
{
    struct err err;

    assert_true(jail_options_set(o, option, value, &err) < 0);
    assert_non_null(strstr(err.text, name));
}

static void test_defaults(void **state)
{
    const struct jail_options *o = *state;

    assert_int_equal(o->jail.level, JAIL_DEFAULT);
    assert_int_equal(o->jail.uid, JAIL_ID_OWN);
    assert_int_equal(o->jail.gid, JAIL_ID_OWN);
    assert_false(o->has_cgroup);
    assert_null(o->netns);
    assert_int_equal(jail_options_check(o, NULL), 0);
}

static void test_level(void **state)
{
    struct jail_options *o = *state;

    take(o, JAIL_OPTION_JAIL, "strict");
    assert_int_equal(o->jail.level, JAIL_STRICT);
    take(o, JAIL_OPTION_JAIL, "off");
    assert_int_equal(o->jail.level, JAIL_OFF);
    take(o, JAIL_OPTION_JAIL, "default");
    assert_int_equal(o->jail.level, JAIL_DEFAULT);
    refuse(o, JAIL_OPTION_JAIL, "", "--jail=");
    refuse(o, JAIL_OPTION_JAIL, "of", "--jail=of");
    refuse(o, JAIL_OPTION_JAIL, "strictly", "--jail=strictly");
    assert_int_equal(o->jail.level, JAIL_DEFAULT);
}

static void test_level_of_the_environment(void **state)
{
    struct jail_options *o = *state;
    struct err err;

    assert_int_equal(setenv(JAIL_OPTIONS_ENV, "strict", 1), 0);
    assert_int_equal(jail_options_init(o, NULL), 0);
    assert_int_equal(o->jail.level, JAIL_STRICT);
    /* The option is above it. */
    take(o, JAIL_OPTION_JAIL, "off");
    assert_int_equal(o->jail.level, JAIL_OFF);
    assert_int_equal(setenv(JAIL_OPTIONS_ENV, "", 1), 0);
    assert_int_equal(jail_options_init(o, NULL), 0);
    assert_int_equal(o->jail.level, JAIL_DEFAULT);
    /* A word that is none must not become no jail. */
    assert_int_equal(setenv(JAIL_OPTIONS_ENV, "none", 1), 0);
    assert_int_equal(jail_options_init(o, &err), -EINVAL);
    assert_non_null(strstr(err.text, JAIL_OPTIONS_ENV "=none"));
}

static void test_ids(void **state)
{
    struct jail_options *o = *state;

    take(o, JAIL_OPTION_UID, "0");
    assert_int_equal(o->jail.uid, 0);
    take(o, JAIL_OPTION_UID, "4294967294");
    assert_int_equal(o->jail.uid, JAIL_ID_OWN - 1);
    take(o, JAIL_OPTION_GID, "100");
    assert_int_equal(o->jail.gid, 100);
    /* The value that means none, and those that would wrap to others. */
    assert_true(jail_options_set(o, JAIL_OPTION_UID, "4294967295", NULL) < 0);
    assert_true(jail_options_set(o, JAIL_OPTION_UID, "4294967296", NULL) < 0);
    assert_true(jail_options_set(o, JAIL_OPTION_UID, "-1", NULL) < 0);
    assert_true(jail_options_set(o, JAIL_OPTION_UID, "root", NULL) < 0);
    assert_true(jail_options_set(o, JAIL_OPTION_GID, "", NULL) < 0);
    assert_int_equal(o->jail.uid, JAIL_ID_OWN - 1);
    assert_int_equal(o->jail.gid, 100);
}

static void test_limits_make_a_cgroup(void **state)
{
    static const struct {
        enum jail_option option;
        const char *value;
    } rows[] = {{JAIL_OPTION_CGROUP, "/spore"},
        {JAIL_OPTION_MEMORY_MAX, "256M"}, {JAIL_OPTION_PIDS_MAX, "64"},
        {JAIL_OPTION_CPU_MAX, "50%"}, {JAIL_OPTION_CPU_WEIGHT, "10"},
        {JAIL_OPTION_IO_MAX, "8:0,rbps=1000"}};
    struct jail_options *o = *state;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_int_equal(jail_options_init(o, NULL), 0);
        take(o, rows[i].option, rows[i].value);
        assert_true(o->has_cgroup);
        assert_int_equal(jail_options_check(o, NULL), 0);
    }
    assert_int_equal(jail_options_init(o, NULL), 0);
    take(o, JAIL_OPTION_RLIMIT, "nofile=512");
    take(o, JAIL_OPTION_NETNS, "/run/netns/a");
    assert_false(o->has_cgroup);
}

static void test_values(void **state)
{
    struct jail_options *o = *state;
    const struct cgroup_config *cgroup = &o->cgroup;

    take(o, JAIL_OPTION_CGROUP, "/spore/tenants");
    assert_string_equal(cgroup->parent, "/spore/tenants");
    take(o, JAIL_OPTION_MEMORY_MAX, "1G");
    assert_true(cgroup->memory_max == UINT64_C(1) << 30);
    take(o, JAIL_OPTION_PIDS_MAX, "64");
    assert_int_equal(cgroup->pids_max, 64);
    take(o, JAIL_OPTION_CPU_MAX, "25000/50000");
    assert_int_equal(cgroup->cpu_quota_us, 25000);
    assert_int_equal(cgroup->cpu_period_us, 50000);
    take(o, JAIL_OPTION_CPU_WEIGHT, "10000");
    assert_int_equal(cgroup->cpu_weight, 10000);
    take(o, JAIL_OPTION_IO_MAX, "8:0,rbps=1000");
    take(o, JAIL_OPTION_IO_MAX, "8:16,wiops=10");
    assert_int_equal(cgroup->io_count, 2);
    take(o, JAIL_OPTION_RLIMIT, "nofile=100:200");
    assert_int_equal(o->jail.limits.list[RLIMIT_NOFILE].soft, 100);
    assert_int_equal(o->jail.limits.list[RLIMIT_NOFILE].hard, 200);
}

static void test_what_is_no_value(void **state)
{
    struct jail_options *o = *state;

    refuse(o, JAIL_OPTION_CGROUP, "", "--cgroup");
    refuse(o, JAIL_OPTION_CGROUP, "/a/../b", "--cgroup");
    refuse(o, JAIL_OPTION_MEMORY_MAX, "much", "--memory-max much");
    refuse(o, JAIL_OPTION_PIDS_MAX, "0", "--pids-max 0");
    refuse(o, JAIL_OPTION_CPU_MAX, "50", "--cpu-max 50");
    refuse(o, JAIL_OPTION_CPU_MAX, "0%", "--cpu-max 0%");
    refuse(o, JAIL_OPTION_CPU_WEIGHT, "10001", "--cpu-weight 10001");
    refuse(o, JAIL_OPTION_IO_MAX, "sda", "--io-max sda");
    refuse(o, JAIL_OPTION_RLIMIT, "files=1", "--rlimit files=1");
}

static void test_what_does_not_go_together(void **state)
{
    static const struct {
        enum jail_option option;
        const char *value;
    } rows[] = {{JAIL_OPTION_MEMORY_MAX, "256M"}, {JAIL_OPTION_CGROUP, "/a"},
        {JAIL_OPTION_NETNS, "/run/netns/a"}};
    struct jail_options *o = *state;
    struct err err;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_int_equal(jail_options_init(o, NULL), 0);
        take(o, rows[i].option, rows[i].value);
        take(o, JAIL_OPTION_JAIL, "off");
        assert_int_equal(jail_options_check(o, &err), -EINVAL);
        assert_non_null(strstr(err.text, "--jail=off"));
    }
}

/* Ids are root's to give, and for who is in a jail. */
static void test_who_may_be_another(void **state)
{
    struct jail_options *o = *state;
    struct err err;

    take(o, JAIL_OPTION_GID, "100");
    if (geteuid() != 0) {
        assert_int_equal(jail_options_check(o, &err), -EPERM);
        assert_non_null(strstr(err.text, "only root"));
        return;
    }
    assert_int_equal(jail_options_check(o, NULL), 0);
    take(o, JAIL_OPTION_JAIL, "off");
    assert_int_equal(jail_options_check(o, &err), -EINVAL);
    assert_int_equal(seteuid(65534), 0);
    assert_int_equal(jail_options_check(o, &err), -EPERM);
    assert_int_equal(seteuid(0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_defaults, set_up),
        cmocka_unit_test_setup(test_level, set_up),
        cmocka_unit_test_setup(test_level_of_the_environment, set_up),
        cmocka_unit_test_setup(test_ids, set_up),
        cmocka_unit_test_setup(test_limits_make_a_cgroup, set_up),
        cmocka_unit_test_setup(test_values, set_up),
        cmocka_unit_test_setup(test_what_is_no_value, set_up),
        cmocka_unit_test_setup(test_what_does_not_go_together, set_up),
        cmocka_unit_test_setup(test_who_may_be_another, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
