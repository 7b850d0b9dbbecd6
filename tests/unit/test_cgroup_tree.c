/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders of cgroups, and how limits are written to them, in a made-up tree:
 * an ordinary folder, where files are only there if the test makes them.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/cgroup_files.h"
#include "jail/cgroup_limits.h"
#include "jail/cgroup_text.h"
#include "jail/cgroup_tree.h"
#include "vmm/base/cc.h"
#include "vmm/base/fd.h"

#define RACERS 4
#define ROUNDS 200

struct fixture {
    char path[64];
    int fd;
};

static int set_up(void **state)
{
    static struct fixture f;

    (void)strcpy(f.path, "/tmp/spore-cgroup-XXXXXX");
    if (mkdtemp(f.path) == NULL)
        return -1;
    f.fd = open(f.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = &f;
    return f.fd < 0 ? -1 : 0;
}

static int remove_entry(
    const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    (void)close(f->fd);
    return nftw(f->path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static bool exists(const struct fixture *f, const char *name)
{
    return faccessat(f->fd, name, F_OK, 0) == 0;
}

static void put_file(
    const struct fixture *f, const char *name, const char *text)
{
    CC_CLEANUP(fd_closep)
    int fd =
        openat(f->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
}

static void assert_file(
    const struct fixture *f, const char *name, const char *text)
{
    char got[512];

    assert_true(cgroup_file_read(f->fd, name, got, sizeof(got)) >= 0);
    assert_string_equal(got, text);
}

static struct cgroup_tree make(
    const struct fixture *f, const char *above, const char *name)
{
    int root = fcntl(f->fd, F_DUPFD_CLOEXEC, 3);
    struct cgroup_tree tree;
    struct err err;

    if (cgroup_tree_make(root, above, name, NULL, NULL, &tree, &err) < 0)
        fail_msg("%s", err.text);
    return tree;
}

static void test_names(void **state)
{
    char longest[CGROUP_NAME_MAX + 1];

    (void)state;
    assert_true(cgroup_name_is_valid("vm-1_a.b"));
    assert_false(cgroup_name_is_valid(""));
    assert_false(cgroup_name_is_valid("."));
    assert_false(cgroup_name_is_valid(".."));
    assert_false(cgroup_name_is_valid("a/b"));
    assert_false(cgroup_name_is_valid("a b"));
    assert_false(cgroup_name_is_valid("a\n"));
    memset(longest, 'a', sizeof(longest));
    longest[CGROUP_NAME_MAX] = '\0';
    assert_false(cgroup_name_is_valid(longest));
    longest[CGROUP_NAME_MAX - 1] = '\0';
    assert_true(cgroup_name_is_valid(longest));
}

static void test_made_and_removed(void **state)
{
    struct fixture *f = *state;
    struct cgroup_tree tree = make(f, "a//b/", "vm");

    assert_true(exists(f, "a/b/vm"));
    assert_int_equal(cgroup_tree_remove(&tree), 0);
    cgroup_tree_close(&tree);
    assert_false(exists(f, "a"));
    assert_int_equal(mkdirat(f->fd, "mine", 0755), 0);
    tree = make(f, "mine/ours", "vm");
    assert_int_equal(cgroup_tree_remove(&tree), 0);
    cgroup_tree_close(&tree);
    assert_false(exists(f, "mine/ours"));
    assert_true(exists(f, "mine"));
}

/* The last of several that share a parent removes it, whoever made it. */
static void test_shared_parent(void **state)
{
    struct fixture *f = *state;
    struct cgroup_tree first = make(f, "a/b", "one");
    struct cgroup_tree second = make(f, "a/b", "two");

    assert_int_equal(cgroup_tree_remove(&first), 0);
    cgroup_tree_close(&first);
    assert_true(exists(f, "a/b/two"));
    assert_int_equal(cgroup_tree_remove(&second), 0);
    cgroup_tree_close(&second);
    assert_false(exists(f, "a"));
}

static void test_name_in_use(void **state)
{
    struct fixture *f = *state;
    struct cgroup_tree tree = make(f, "a", "vm");
    struct cgroup_tree other;
    struct err err;

    assert_int_equal(
        cgroup_tree_make(f->fd, "a", "vm", NULL, NULL, &other, &err), -EEXIST);
    assert_non_null(strstr(err.text, "in use"));
    assert_true(exists(f, "a/vm"));
    /* Left behind by one that was killed: it holds nothing, or something. */
    cgroup_tree_close(&tree);
    tree = make(f, "a", "vm");
    put_file(f, "a/vm/busy", "");
    cgroup_tree_close(&tree);
    assert_true(
        cgroup_tree_make(f->fd, "a", "vm", NULL, NULL, &other, &err) < 0);
    assert_true(exists(f, "a/vm"));
    /* Made by somebody else, for us or not: nothing of ours to remove. */
    assert_int_equal(mkdirat(f->fd, "a/theirs", 0755), 0);
    assert_int_equal(
        cgroup_tree_make(f->fd, "a", "theirs", NULL, NULL, &other, &err),
        -EEXIST);
    assert_true(exists(f, "a/theirs"));
}

/* What killed makers left goes, and nothing that anybody has or uses. */
static void test_sweep(void **state)
{
    struct fixture *f = *state;
    struct cgroup_tree mine = make(f, "a", "vm1");
    struct cgroup_tree other = make(f, "a", "vm2");
    struct cgroup_tree left = make(f, "a", "vm3");
    struct cgroup_tree busy = make(f, "a", "vm4");
    struct cgroup_tree stays = make(f, "a", "vm5");

    assert_int_equal(mkdirat(f->fd, "a/theirs", 0755), 0);
    put_file(f, "a/vm4/busy", "");
    put_file(f, "a/cgroup.procs", "");
    cgroup_tree_leave(&stays);
    cgroup_tree_close(&stays);
    assert_int_equal(cgroup_tree_sweep(&mine), 0);
    cgroup_tree_close(&left);
    cgroup_tree_close(&busy);
    assert_int_equal(cgroup_tree_sweep(&mine), 1);
    assert_false(exists(f, "a/vm3"));
    assert_true(exists(f, "a/vm1"));
    assert_true(exists(f, "a/vm2"));
    assert_true(exists(f, "a/vm4"));
    assert_true(exists(f, "a/theirs"));
    assert_true(exists(f, "a/vm5"));
    /* Until it is wanted again. */
    stays = make(f, "a", "vm5");
    cgroup_tree_close(&stays);
    assert_int_equal(cgroup_tree_sweep(&mine), 1);
    cgroup_tree_close(&other);
    cgroup_tree_close(&mine);
}

static void test_bad_paths(void **state)
{
    struct fixture *f = *state;
    char longest[2 * CGROUP_PATH_MAX];
    struct cgroup_tree tree;

    memset(longest, 'a', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(
        cgroup_tree_make(f->fd, "..", "vm", NULL, NULL, &tree, NULL), -EINVAL);
    assert_int_equal(
        cgroup_tree_make(f->fd, "a/../b", "vm", NULL, NULL, &tree, NULL),
        -EINVAL);
    assert_int_equal(
        cgroup_tree_make(f->fd, longest, "vm", NULL, NULL, &tree, NULL),
        -ENAMETOOLONG);
    assert_int_equal(symlinkat("/tmp", f->fd, "link"), 0);
    assert_true(
        cgroup_tree_make(f->fd, "link", "vm", NULL, NULL, &tree, NULL) < 0);
    /* Nothing stays of what failed. */
    assert_false(exists(f, "a"));
}

static int refuse_b(void *opaque, int fd, const char *path, struct err *err)
{
    (void)opaque;
    (void)fd;
    return strcmp(path, "/a/b") == 0 ? err_set(err, EPERM, "refused") : 0;
}

static void test_visit_fails(void **state)
{
    struct fixture *f = *state;
    struct cgroup_tree tree;
    struct err err;

    assert_int_equal(
        cgroup_tree_make(f->fd, "a/b/c", "vm", refuse_b, NULL, &tree, &err),
        -EPERM);
    assert_string_equal(err.text, "refused");
    assert_false(exists(f, "a"));
}

/* Makes and removes below the same parent; status 0 if all went well. */
static int race(const struct fixture *f, int who)
{
    char name[16];

    (void)snprintf(name, sizeof(name), "vm%d", who);
    for (int i = 0; i < ROUNDS; i++) {
        struct cgroup_tree tree;
        struct err err;
        int root = fcntl(f->fd, F_DUPFD_CLOEXEC, 3);

        if (cgroup_tree_make(root, "a/b", name, NULL, NULL, &tree, &err) < 0) {
            (void)fprintf(stderr, "%s\n", err.text);
            return 1;
        }
        /* All makers live: there is nothing to find. */
        if (cgroup_tree_sweep(&tree) != 0 || cgroup_tree_remove(&tree) < 0)
            return 1;
        cgroup_tree_close(&tree);
    }
    return 0;
}

/* Who wants the name of one that was left behind has it, whoever sweeps. */
static int leave_and_want(const struct fixture *f)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct cgroup_tree tree;
        struct err err;
        int root = fcntl(f->fd, F_DUPFD_CLOEXEC, 3);

        if (cgroup_tree_make(root, "s", "vm", NULL, NULL, &tree, &err) < 0) {
            (void)fprintf(stderr, "%s\n", err.text);
            return 1;
        }
        cgroup_tree_close(&tree);
    }
    return 0;
}

static void test_sweep_races(void **state)
{
    struct fixture *f = *state;
    struct cgroup_tree mine = make(f, "s", "mine");
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(leave_and_want(f));
    while (waitpid(pid, &status, WNOHANG) == 0)
        (void)cgroup_tree_sweep(&mine);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    cgroup_tree_close(&mine);
}

static void test_races(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < RACERS; i++) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
            _exit(race(f, i));
    }
    for (int i = 0; i < RACERS; i++) {
        int status;

        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    assert_false(exists(f, "a"));
}

static void test_enable(void **state)
{
    struct fixture *f = *state;
    struct err err;

    put_file(f, "cgroup.controllers", "cpuset cpu io memory pids\n");
    put_file(f, "cgroup.subtree_control", "memory\n");
    assert_int_equal(cgroup_enable(f->fd, "/", "", &err), 0);
    assert_int_equal(cgroup_enable(f->fd, "/", "memory", &err), 0);
    assert_file(f, "cgroup.subtree_control", "memory\n");
    assert_int_equal(cgroup_enable(f->fd, "/", "memory pids", &err), 0);
    /* A plain file keeps what was behind; the kernel adds it to the list. */
    assert_file(f, "cgroup.subtree_control", "+pidsy\n");
}

static void test_enable_missing(void **state)
{
    struct fixture *f = *state;
    struct err err;

    put_file(f, "cgroup.controllers", "cpu\n");
    put_file(f, "cgroup.subtree_control", "\n");
    assert_int_equal(cgroup_enable(f->fd, "/a", "memory", &err), -EOPNOTSUPP);
    assert_non_null(strstr(err.text, "'/a' has no memory controller"));
    assert_int_equal(unlinkat(f->fd, "cgroup.subtree_control", 0), 0);
    assert_true(cgroup_enable(f->fd, "/a", "memory", &err) < 0);
}

static void test_limits_v2(void **state)
{
    struct fixture *f = *state;
    struct cgroup_config config = {.memory_max = 1 << 20,
        .pids_max = 9,
        .cpu_quota_us = 5000,
        .cpu_period_us = 10000,
        .cpu_weight = 50};
    static const char *const files[] = {"memory.max", "memory.swap.max",
        "memory.oom.group", "pids.max", "cpu.max", "cpu.weight", "io.max"};

    assert_int_equal(
        cgroup_parse_io_max("8:0,rbps=5,wiops=6", &config, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        put_file(f, files[i], "");
    for (int i = 0; i < CGROUP_LIMITS; i++) {
        assert_true(cgroup_limit_is_set((enum cgroup_limit)i, &config));
        assert_int_equal(cgroup_limit_write(
                             f->fd, true, (enum cgroup_limit)i, &config, NULL),
            0);
    }
    assert_file(f, "memory.max", "1048576");
    assert_file(f, "memory.swap.max", "0");
    assert_file(f, "memory.oom.group", "1");
    assert_file(f, "pids.max", "9");
    assert_file(f, "cpu.max", "5000 10000");
    assert_file(f, "cpu.weight", "50");
    assert_file(f, "io.max", "8:0 rbps=5 wiops=6");
}

static void test_limits_v1(void **state)
{
    struct fixture *f = *state;
    struct cgroup_config config = {.memory_max = 1 << 20,
        .cpu_quota_us = 5000,
        .cpu_period_us = 10000,
        .cpu_weight = 50};
    static const char *const files[] = {"memory.limit_in_bytes",
        "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.shares",
        "blkio.throttle.read_bps_device", "blkio.throttle.write_iops_device"};
    struct err err;

    assert_int_equal(
        cgroup_parse_io_max("8:0,rbps=5,wiops=6", &config, NULL), 0);
    assert_false(cgroup_limit_is_set(CGROUP_LIMIT_PIDS, &config));
    assert_int_equal(
        cgroup_limit_write(f->fd, false, CGROUP_LIMIT_MEMORY, &config, &err),
        -EOPNOTSUPP);
    assert_non_null(strstr(err.text, "memory.limit_in_bytes"));
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        put_file(f, files[i], "");
    for (int i = 0; i < CGROUP_LIMITS; i++) {
        if (cgroup_limit_is_set((enum cgroup_limit)i, &config))
            assert_int_equal(cgroup_limit_write(f->fd, false,
                                 (enum cgroup_limit)i, &config, NULL),
                0);
    }
    /* Without accounting of swap there is no memsw file. */
    assert_file(f, "memory.limit_in_bytes", "1048576");
    assert_file(f, "cpu.cfs_period_us", "10000");
    assert_file(f, "cpu.cfs_quota_us", "5000");
    assert_file(f, "cpu.shares", "512");
    assert_file(f, "blkio.throttle.read_bps_device", "8:0 5");
    assert_file(f, "blkio.throttle.write_iops_device", "8:0 6");
}

static void test_cpuset(void **state)
{
    struct fixture *f = *state;
    struct cgroup_cpuset inherited = {.cpus = "0-3", .mems = "0"};

    put_file(f, "cpuset.cpus", "");
    put_file(f, "cpuset.mems", "");
    assert_int_equal(cgroup_cpuset_inherit(f->fd, "/", &inherited, NULL), 0);
    assert_file(f, "cpuset.cpus", "0-3");
    assert_file(f, "cpuset.mems", "0");
    inherited = (struct cgroup_cpuset){.cpus = "7"};
    assert_int_equal(cgroup_cpuset_inherit(f->fd, "/", &inherited, NULL), 0);
    assert_string_equal(inherited.cpus, "0-3");
    assert_file(f, "cpuset.cpus", "0-3");
}

static void test_bounded_files(void **state)
{
    struct fixture *f = *state;
    uint64_t value = 0;
    char small[8];

    put_file(f, "x", "1234567\n");
    assert_int_equal(
        cgroup_file_read(f->fd, "x", small, sizeof(small)), -EFBIG);
    assert_int_equal(cgroup_file_number(f->fd, "x", NULL, &value), 0);
    assert_int_equal(value, 1234567);
    assert_int_equal(cgroup_file_number(f->fd, "y", NULL, &value), -ENOENT);
    assert_int_equal(cgroup_file_write(f->fd, "y", "1"), -ENOENT);
    assert_int_equal(symlinkat("x", f->fd, "z"), 0);
    assert_int_equal(cgroup_file_write(f->fd, "z", "1"), -ELOOP);
}

#define TREE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        TREE_TEST(test_made_and_removed),
        TREE_TEST(test_shared_parent),
        TREE_TEST(test_name_in_use),
        TREE_TEST(test_sweep),
        TREE_TEST(test_bad_paths),
        TREE_TEST(test_visit_fails),
        TREE_TEST(test_races),
        TREE_TEST(test_sweep_races),
        TREE_TEST(test_enable),
        TREE_TEST(test_enable_missing),
        TREE_TEST(test_limits_v2),
        TREE_TEST(test_limits_v1),
        TREE_TEST(test_cpuset),
        TREE_TEST(test_bounded_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
