/* SPDX-License-Identifier: Apache-2.0 */
/* Finding hierarchies of cgroups in what /proc says of some kinds of host. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "jail/cgroup_mounts.h"
#include "jail/cgroup_places.h"
#include "vmm/base/cc.h"
#include "vmm/base/fd.h"

#define PROC "22 27 0:21 / /proc rw,relatime - proc proc rw\n"

static void parse(
    const char *own, const char *mounts, struct cgroup_places *places)
{
    struct err err;

    if (cgroup_places_parse(own, mounts, places, &err) < 0)
        fail_msg("%s", err.text);
}

static void assert_located(
    const struct cgroup_hierarchy *h, const char *path, const char *below)
{
    const char *found = NULL;

    assert_non_null(h);
    assert_int_equal(cgroup_places_locate(h, path, &found, NULL), 0);
    assert_string_equal(found, below);
}

static void assert_not_located(
    const struct cgroup_hierarchy *h, const char *path)
{
    const char *found = NULL;

    assert_non_null(h);
    assert_int_equal(cgroup_places_locate(h, path, &found, NULL), -ENOENT);
    assert_null(found);
}

static void test_unified(void **state)
{
    struct cgroup_places places;
    const struct cgroup_hierarchy *h;

    (void)state;
    parse("0::/user.slice/user-1000.slice/session-2.scope\n",
        PROC "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 "
             "rw,nsdelegate,memory_recursiveprot\n",
        &places);
    assert_null(cgroup_places_find_v1(&places, "memory"));
    assert_null(cgroup_places_find_v1(&places, ""));
    h = cgroup_places_find_v2(&places);
    assert_non_null(h);
    assert_string_equal(h->mount, "/sys/fs/cgroup");
    assert_false(h->is_read_only);
    assert_located(h, NULL, "user.slice/user-1000.slice/session-2.scope");
    assert_located(h, "/spore/a", "spore/a");
    assert_located(h, "//", "");
    assert_not_located(h, "spore");
    assert_not_located(h, "/a/../b");
    cgroup_places_fini(&places);
}

static void test_hybrid(void **state)
{
    struct cgroup_places places;
    const struct cgroup_hierarchy *h;

    (void)state;
    parse("9:name=systemd:/\n4:memory:/box/a\n2:cpu,cpuacct:/b:c\n0::/d\n",
        PROC
        "32 31 0:29 / /cg/cpu\\040here rw - cgroup cgroup rw,cpu,cpuacct\n"
        "35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n"
        "40 31 0:37 / /cg/systemd rw - cgroup cgroup rw,name=systemd\n"
        "41 31 0:38 / /cg/unified rw shared:2 master:1 - cgroup2 none rw\n",
        &places);
    h = cgroup_places_find_v1(&places, "cpuacct");
    assert_non_null(h);
    assert_ptr_equal(h, cgroup_places_find_v1(&places, "cpu"));
    assert_string_equal(h->mount, "/cg/cpu here");
    assert_located(h, NULL, "b:c");
    h = cgroup_places_find_v1(&places, "memory");
    assert_located(h, NULL, "box/a");
    h = cgroup_places_find_v2(&places);
    assert_string_equal(h->mount, "/cg/unified");
    assert_located(h, NULL, "d");
    assert_null(cgroup_places_find_v1(&places, "pids"));
    assert_null(cgroup_places_find_v1(&places, "cpu,cpuacct"));
    cgroup_places_fini(&places);
}

/* Only a part is mounted, as in containers without a namespace of cgroups. */
static void test_container(void **state)
{
    struct cgroup_places places;
    const struct cgroup_hierarchy *h;

    (void)state;
    parse("4:memory:/docker/abc/vm\n0::/docker/abcd\n",
        "35 31 0:32 /docker/abc /m ro - cgroup cgroup rw,memory\n"
        "41 31 0:38 /docker/abc /u rw - cgroup2 none ro\n",
        &places);
    h = cgroup_places_find_v1(&places, "memory");
    assert_true(h->is_read_only);
    assert_located(h, NULL, "vm");
    assert_located(h, "/docker/abc", "");
    assert_not_located(h, "/");
    assert_not_located(h, "/docker/abcd");
    h = cgroup_places_find_v2(&places);
    assert_true(h->is_read_only);
    assert_not_located(h, NULL);
    cgroup_places_fini(&places);
}

static void test_outside_of_namespace(void **state)
{
    struct cgroup_places places;

    (void)state;
    parse("0::/../other\n", "41 31 0:38 / /u rw - cgroup2 none rw\n", &places);
    assert_not_located(cgroup_places_find_v2(&places), NULL);
    assert_located(cgroup_places_find_v2(&places), "/a", "a");
    cgroup_places_fini(&places);
    parse("0::/\n", "41 31 0:38 /.. /u rw - cgroup2 none rw\n", &places);
    assert_not_located(cgroup_places_find_v2(&places), NULL);
    cgroup_places_fini(&places);
}

/* Of several mounts, the one that shows us, then all, then is writable. */
static void test_choice(void **state)
{
    struct cgroup_places places;

    (void)state;
    parse("0::/a/b\n",
        "1 1 0:38 /c /other rw - cgroup2 none rw\n"
        "2 1 0:38 /a /part rw - cgroup2 none rw\n"
        "3 1 0:38 / /fixed ro - cgroup2 none rw\n"
        "4 1 0:38 / /good rw - cgroup2 none rw\n"
        "5 1 0:38 / /later rw - cgroup2 none rw\n"
        "6 1 0:38 /a /last rw - cgroup2 none rw\n",
        &places);
    assert_string_equal(cgroup_places_find_v2(&places)->mount, "/good");
    cgroup_places_fini(&places);
}

static void test_nowhere(void **state)
{
    struct cgroup_places places;

    (void)state;
    parse("4:memory:/\n0::/\n", PROC, &places);
    assert_not_located(cgroup_places_find_v1(&places, "memory"), NULL);
    assert_not_located(cgroup_places_find_v2(&places), NULL);
    cgroup_places_fini(&places);
    parse("", "", &places);
    assert_null(cgroup_places_find_v2(&places));
    cgroup_places_fini(&places);
}

static void test_malformed(void **state)
{
    static const char *const own[] = {
        "\n", "x\n", "4:memory\n", "4:memory:\n", "::/\n", "4:memory:a\n"};
    static const char *const mounts[] = {"\n", "1 2 3\n",
        "1 1 0:38 / /m rw shared:1 cgroup2 none rw\n", "1 1 0:38 / /m rw -"};
    struct cgroup_places places = {.count = 77};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        assert_int_equal(
            cgroup_places_parse(own[i], PROC, &places, NULL), -EINVAL);
    for (size_t i = 0; i < ARRAY_SIZE(mounts); i++)
        assert_int_equal(
            cgroup_places_parse("0::/\n", mounts[i], &places, NULL), -EINVAL);
    assert_int_equal(places.count, 77);
}

static void test_too_many(void **state)
{
    char own[64 * 16] = "";
    struct cgroup_places places;

    (void)state;
    for (size_t i = 0; i < 64; i++)
        (void)strcat(own, "3:x:/a\n");
    parse(own, PROC, &places);
    assert_int_equal(places.count, CGROUP_HIERARCHY_MAX);
    cgroup_places_fini(&places);
}

/*
 * This host's, whatever they are: what was asked of the kernel for each mount
 * is what the list of all mounts says.
 */
static void test_real(void **state)
{
    struct cgroup_places asked;
    struct cgroup_places listed;
    uint8_t *own = NULL;
    uint8_t *mounts = NULL;
    size_t size;
    struct err err;

    (void)state;
    if (cgroup_places_read(&asked, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(
        fd_read_file("/proc/self/cgroup", 1 << 20, &own, &size, &err), 0);
    assert_int_equal(
        fd_read_file("/proc/self/mountinfo", 1 << 24, &mounts, &size, &err), 0);
    parse((const char *)own, (const char *)mounts, &listed);
    assert_int_equal(asked.count, listed.count);
    for (size_t i = 0; i < asked.count; i++) {
        const struct cgroup_hierarchy *a = &asked.list[i];
        const struct cgroup_hierarchy *l = &listed.list[i];

        assert_string_equal(a->own, l->own);
        if (a->mount == NULL)
            continue; /* one with a name, which is not looked for */
        assert_non_null(l->mount);
        assert_string_equal(a->mount_root, l->mount_root);
        assert_int_equal(a->is_read_only, l->is_read_only);
    }
    cgroup_places_fini(&asked);
    cgroup_places_fini(&listed);
    free(own);
    free(mounts);
}

static void test_described(void **state)
{
    struct cgroup_mount m;
    int rc = cgroup_mount_describe(AT_FDCWD, "/proc", &m);

    (void)state;
    if (rc == -ENOSYS || rc == -EOPNOTSUPP || rc == -EPERM)
        skip(); /* a kernel before 6.8, or a filter of system calls */
    assert_int_equal(rc, 0);
    assert_string_equal(m.type, "proc");
    assert_string_equal(m.root, "/");
    assert_string_equal(m.point, "/proc");
    assert_int_equal(cgroup_mount_describe(AT_FDCWD, "/nothing", &m), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unified),
        cmocka_unit_test(test_hybrid),
        cmocka_unit_test(test_container),
        cmocka_unit_test(test_outside_of_namespace),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_nowhere),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_real),
        cmocka_unit_test(test_described),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
