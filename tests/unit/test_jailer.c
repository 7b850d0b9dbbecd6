/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of spore-jailer, and what it makes in a folder, as far as
 * that takes no privilege. The rest is in tests/cli/jailer.bats.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jail/jailer.h"
#include "jail/jailer_files.h"
#include "vmm/base/cc.h"
#include "vmm/base/fd.h"

#define ARGS_MAX 32

struct fixture {
    char path[64];
    int fd;
};

static int set_up(void **state)
{
    static struct fixture f;

    (void)strcpy(f.path, "/tmp/spore-jailer-XXXXXX");
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

/* Parses the words of a line. */
static int parse(
    char *line, struct jailer_options *ret_options, struct err *err)
{
    static char *argv[ARGS_MAX];
    char *rest = NULL;
    int argc = 0;

    for (char *word = strtok_r(line, " ", &rest); word != NULL;
         word = strtok_r(NULL, " ", &rest)) {
        assert_true(argc < ARGS_MAX);
        argv[argc++] = word;
    }
    return jailer_parse(argc, argv, ret_options, err);
}

static void test_defaults(void **state)
{
    char line[] =
        "jailer --id a-1 --exec-file /bin/vmm --uid 0 --gid 4294967294";
    struct jailer_options o;
    struct err err;

    (void)state;
    assert_int_equal(parse(line, &o, &err), 0);
    assert_string_equal(o.id, "a-1");
    assert_string_equal(o.base, "/srv/jailer");
    assert_string_equal(o.exec_file, "/bin/vmm");
    assert_int_equal(o.uid, 0);
    assert_true(o.gid == UINT32_C(4294967294));
    assert_int_equal(o.cgroup_version, 1);
    assert_null(o.netns);
    assert_null(o.parent_cgroup);
    assert_int_equal(o.cgroup.pair_count, 0);
    assert_int_equal(o.extra_count, 0);
    assert_false(o.daemonize || o.new_pid_ns || o.help || o.version);
    assert_int_equal(o.limits.list[RLIMIT_NOFILE].hard, 2048);
    assert_false(o.limits.list[RLIMIT_FSIZE].is_set);
}

static void test_everything(void **state)
{
    char line[] =
        "jailer --id=a --exec-file=vmm --uid 1 --gid 2 --daemonize "
        "--new-pid-ns "
        "--chroot-base-dir b --netns n --cgroup cpuset.cpus=0 --cgroup "
        "cpu.shares=5 --cgroup-version 2 --parent-cgroup p/q --resource-limit "
        "fsize=9 --resource-limit no-file=8 -- --id b -- c";
    struct jailer_options o;
    struct err err;

    (void)state;
    assert_int_equal(parse(line, &o, &err), 0);
    assert_string_equal(o.id, "a");
    assert_true(o.daemonize && o.new_pid_ns);
    assert_string_equal(o.base, "b");
    assert_string_equal(o.netns, "n");
    assert_string_equal(o.parent_cgroup, "p/q");
    assert_int_equal(o.cgroup_version, 2);
    assert_int_equal(o.cgroup.pair_count, 2);
    assert_string_equal(o.cgroup.pairs[1].file, "cpu.shares");
    assert_int_equal(o.limits.list[RLIMIT_FSIZE].hard, 9);
    assert_int_equal(o.limits.list[RLIMIT_NOFILE].hard, 8);
    assert_int_equal(o.extra_count, 4);
    assert_string_equal(o.extra[0], "--id");
    assert_string_equal(o.extra[2], "--");
}

/* What is refused is in jailer.bats; here, that nothing is written then. */
static void test_refused(void **state)
{
    char line[] = "jailer --id a --exec-file vmm --uid 1";
    struct jailer_options o = {.uid = 77};
    struct err err;

    (void)state;
    assert_int_equal(parse(line, &o, &err), -EINVAL);
    assert_int_equal(o.uid, 77);
    assert_non_null(strstr(err.text, "'gid' required"));
}

static void test_misc(void **state)
{
    static const char text[] = "130 vhost-net\n 55 userfaultfd\n200 tun\n";

    (void)state;
    assert_int_equal(jailer_find_misc(text, "userfaultfd"), 55);
    assert_int_equal(jailer_find_misc(text, "tun"), 200);
    assert_int_equal(jailer_find_misc(text, "vhost"), -ENOENT);
    assert_int_equal(jailer_find_misc("", "tun"), -ENOENT);
    assert_int_equal(jailer_find_misc("x tun\n-1 tun\n", "tun"), -ENOENT);
    assert_int_equal(jailer_find_misc("9999999 tun", "tun"), -ENOENT);
    assert_int_equal(jailer_find_misc("1 tun", "tun"), 1);
}

static void test_folder(void **state)
{
    struct fixture *f = *state;
    CC_CLEANUP(fd_closep) int fd = -1;
    CC_CLEANUP(fd_closep) int again = -1;
    struct err err;

    assert_int_equal(
        jailer_open_folder(f->fd, "vmm/a/root", "all", &fd, &err), 0);
    assert_int_equal(faccessat(f->fd, "vmm/a/root", F_OK, 0), 0);
    assert_int_equal(
        jailer_open_folder(f->fd, "vmm/a/root", "all", &again, &err), 0);
    assert_int_equal(symlinkat("/tmp", f->fd, "vmm/b"), 0);
    fd_closep(&again);
    assert_int_equal(
        jailer_open_folder(f->fd, "vmm/b/root", "all", &again, &err), -ENOTDIR);
    assert_non_null(strstr(err.text, "Failed to create directory all"));
    assert_int_equal(again, -1);
}

static void put(int dir, const char *name, const char *text)
{
    CC_CLEANUP(fd_closep)
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
    assert_int_equal(fchmod(fd, 0640), 0);
}

static void test_copy(void **state)
{
    struct fixture *f = *state;
    CC_CLEANUP(fd_closep) int from = -1;
    CC_CLEANUP(fd_closep) int to = -1;
    char got[32] = "";
    struct stat st;
    struct err err;

    put(f->fd, "from", "short");
    put(f->fd, "to", "what was there is longer");
    from = openat(f->fd, "from", O_RDONLY | O_CLOEXEC);
    assert_int_equal(jailer_copy_program(from, "from", f->fd, "dir", "to",
                         getuid(), getgid(), &err),
        0);
    to = openat(f->fd, "to", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fd_read_full(to, got, sizeof(got) - 1), 5);
    assert_string_equal(got, "short");
    assert_int_equal(fstat(to, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(linkat(f->fd, "to", f->fd, "other", 0), 0);
    assert_int_equal(jailer_copy_program(from, "from", f->fd, "dir", "to",
                         getuid(), getgid(), &err),
        -EMLINK);
    assert_string_equal(err.text, "Detected hard link at: dir/to");
}

static void test_pid_file(void **state)
{
    struct fixture *f = *state;
    CC_CLEANUP(fd_closep) int fd = -1;
    char got[32] = "";
    struct err err;

    assert_int_equal(jailer_write_pid(f->fd, "vmm.pid", 123, &err), 0);
    fd = openat(f->fd, "vmm.pid", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fd_read_full(fd, got, sizeof(got) - 1), 3);
    assert_string_equal(got, "123");
    assert_int_equal(jailer_write_pid(f->fd, "vmm.pid", 124, &err), -EEXIST);
}

#define FOLDER_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_misc),
        FOLDER_TEST(test_folder),
        FOLDER_TEST(test_copy),
        FOLDER_TEST(test_pid_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
