/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/artifacts.h"
#include "vmm/base/num.h"

static const struct {
    enum artifact which;
    const char *variable;
    const char *cached;
    const char *missing; /* how the complaint begins and ends */
    const char *option;
} kinds[] = {
    {ARTIFACT_KERNEL, "SPORE_KERNEL", "kernel/vmlinux",
        "no guest kernel in the cache", "or give --kernel"},
    {ARTIFACT_ROOTFS, "SPORE_ROOTFS", "rootfs/rootfs.ext4",
        "no root file system in the cache", "or give --rootfs"},
};

struct fixture {
    char dir[PATH_MAX / 2];
};

static int forget(
    const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    if (f == NULL)
        return -1;
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/spore-artifacts-XXXXXX");
    if (mkdtemp(f->dir) == NULL)
        return -1;
    (void)unsetenv("SPORE_KERNEL");
    (void)unsetenv("SPORE_ROOTFS");
    (void)unsetenv("XDG_CACHE_HOME");
    (void)unsetenv("HOME");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (chdir("/") < 0)
        return -1;
    (void)nftw(f->dir, forget, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

/* An empty file below the fixture's folder, with the folders it needs. */
static void make_file(const struct fixture *f, const char *path, char *ret_at)
{
    int fd;

    (void)snprintf(ret_at, PATH_MAX, "%s/%s", f->dir, path);
    for (char *p = ret_at + strlen(f->dir) + 1; *p != '\0'; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        assert_true(mkdir(ret_at, 0700) == 0 || errno == EEXIST);
        *p = '/';
    }
    fd = open(ret_at, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
}

static void set(const char *name, const struct fixture *f, const char *below)
{
    char value[PATH_MAX];

    (void)snprintf(value, sizeof(value), "%s%s", f->dir, below);
    assert_int_equal(setenv(name, value, 1), 0);
}

static void expect_found(enum artifact which, const char *want)
{
    char *path = NULL;
    struct err err = {""};

    if (artifacts_find(which, &path, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(path, want);
    free(path);
}

static void expect_refused(enum artifact which, int code, const char *text)
{
    char *path = NULL;
    struct err err;

    assert_int_equal(artifacts_find(which, &path, &err), code);
    assert_null(path);
    assert_string_equal(err.text, text);
}

/* The complaint names what is missing and both cures. */
static void expect_missing(size_t kind)
{
    char *path = NULL;
    struct err err;
    const char *end;

    assert_int_equal(artifacts_find(kinds[kind].which, &path, &err), -ENOENT);
    assert_null(path);
    assert_memory_equal(
        err.text, kinds[kind].missing, strlen(kinds[kind].missing));
    assert_non_null(strstr(err.text, "./quickstart.sh"));
    end = strstr(err.text, kinds[kind].option);
    assert_non_null(end);
    assert_string_equal(end, kinds[kind].option);
}

static void test_variable_goes_first(void **state)
{
    struct fixture *f = *state;
    char cached[PATH_MAX];
    char given[PATH_MAX];

    set("XDG_CACHE_HOME", f, "/cache");
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        char below[PATH_MAX];

        (void)snprintf(below, sizeof(below), "cache/spore/%s", kinds[i].cached);
        make_file(f, below, cached);
        make_file(f, "given", given);
        set(kinds[i].variable, f, "/given");
        expect_found(kinds[i].which, given);
        /* Set but empty is not set. */
        assert_int_equal(setenv(kinds[i].variable, "", 1), 0);
        expect_found(kinds[i].which, cached);
    }
}

static void test_variable_is_made_absolute(void **state)
{
    struct fixture *f = *state;
    char given[PATH_MAX];

    make_file(f, "sub/given", given);
    assert_int_equal(chdir(f->dir), 0);
    assert_int_equal(setenv("SPORE_KERNEL", "sub/../sub/given", 1), 0);
    expect_found(ARTIFACT_KERNEL, given);
}

static void test_variable_that_names_nothing(void **state)
{
    struct fixture *f = *state;
    char cached[PATH_MAX];

    /* What the user asked for is not replaced by something else. */
    make_file(f, ".cache/spore/kernel/vmlinux", cached);
    set("HOME", f, "");
    assert_int_equal(setenv("SPORE_KERNEL", "/nonexistent/vmlinux", 1), 0);
    expect_refused(ARTIFACT_KERNEL, -ENOENT,
        "SPORE_KERNEL: /nonexistent/vmlinux: No such file or directory");
    assert_int_equal(setenv("SPORE_ROOTFS", "/dev/null/x", 1), 0);
    expect_refused(ARTIFACT_ROOTFS, -ENOTDIR,
        "SPORE_ROOTFS: /dev/null/x: Not a directory");
}

static void test_cache_and_home(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        char below[PATH_MAX];
        char in_cache[PATH_MAX];
        char in_home[PATH_MAX];

        (void)unsetenv("XDG_CACHE_HOME");
        (void)snprintf(
            below, sizeof(below), "home/.cache/spore/%s", kinds[i].cached);
        make_file(f, below, in_home);
        set("HOME", f, "/home");
        expect_found(kinds[i].which, in_home);
        (void)snprintf(below, sizeof(below), "cache/spore/%s", kinds[i].cached);
        make_file(f, below, in_cache);
        set("XDG_CACHE_HOME", f, "/cache");
        expect_found(kinds[i].which, in_cache);
        /* Neither empty nor relative is a place. */
        assert_int_equal(setenv("XDG_CACHE_HOME", "", 1), 0);
        expect_found(kinds[i].which, in_home);
        assert_int_equal(setenv("XDG_CACHE_HOME", "cache", 1), 0);
        assert_int_equal(chdir(f->dir), 0);
        expect_found(kinds[i].which, in_home);
        assert_int_equal(unlink(in_home), 0);
        assert_int_equal(unlink(in_cache), 0);
    }
}

static void test_missing(void **state)
{
    struct fixture *f = *state;

    if (access("/usr/local/share/spore", F_OK) == 0)
        skip(); /* an installed one is found, rightly */
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        (void)unsetenv("HOME");
        expect_missing(i);
        set("HOME", f, "/home");
        expect_missing(i);
        set("XDG_CACHE_HOME", f, "/cache");
        expect_missing(i);
        (void)unsetenv("XDG_CACHE_HOME");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_variable_goes_first, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_variable_is_made_absolute, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_variable_that_names_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cache_and_home, setup, teardown),
        cmocka_unit_test_setup_teardown(test_missing, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
