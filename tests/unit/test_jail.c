/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process goes into its jail, and looks around from there; its parent looks
 * in from outside. tests/escape has what it then tries.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/jail.h"
#include "jail/privs.h"
#include "tests/unit/support/skip.h"
#include "vmm/base/fd.h"

/* In the jail, whose end is all that the test sees of it. */
#define CHECK(condition)                                                       \
    do {                                                                       \
        if (!(condition)) {                                                    \
            (void)dprintf(STDERR_FILENO, "line %d: %s (%s)\n", __LINE__,       \
                #condition, strerrorname_np(errno));                           \
            _exit(99);                                                         \
        }                                                                      \
    } while (0)

/* What was open when the process was made. */
struct inherited {
    int file_fd;      /* not meant */
    int folder_fd;    /* meant, and lost */
    struct stat file; /* of file_fd */
    int kept_fd;
};

struct prisoner {
    struct cell cell;
    struct jail jail;
    struct inherited inherited;
    struct spaces shared; /* with `shares` */
    bool shares;
    pid_t host_pid;
};

typedef void prisoner_main(const struct prisoner *p);

static int set_up(void **state)
{
    static struct prisoner p;

    p = (struct prisoner){
        .cell = CELL_NONE, .jail = JAIL_NONE, .shared = SPACES_NONE};
    p.inherited.file_fd = memfd_create("file", MFD_CLOEXEC);
    p.inherited.kept_fd = memfd_create("kept", MFD_CLOEXEC);
    p.inherited.folder_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(p.inherited.file_fd >= 0 && p.inherited.kept_fd >= 0 &&
                p.inherited.folder_fd >= 0);
    assert_int_equal(fstat(p.inherited.file_fd, &p.inherited.file), 0);
    *state = &p;
    return 0;
}

static int tear_down(void **state)
{
    struct prisoner *p = *state;

    fd_closep(&p->cell.link_fd);
    fd_closep(&p->inherited.file_fd);
    fd_closep(&p->inherited.kept_fd);
    fd_closep(&p->inherited.folder_fd);
    spaces_abandon(&p->shared);
    return 0;
}

CC_NORETURN static void be_prisoner(struct prisoner *p, prisoner_main *go)
{
    const struct jail_config config = {.level = JAIL_STRICT,
        .uid = JAIL_ID_OWN,
        .gid = JAIL_ID_OWN,
        .spaces = p->shares ? &p->shared : NULL};
    const int keep[] = {p->cell.link_fd, p->inherited.kept_fd,
        p->inherited.folder_fd, -1, p->shared.fds[SPACES_NET],
        p->shared.fds[SPACES_IPC], p->shared.fds[SPACES_UTS],
        p->shared.fds[SPACES_CGROUP], p->shared.root_fd};
    struct err err = {0};
    int rc =
        jail_begin(&p->jail, &config, &p->cell, keep, ARRAY_SIZE(keep), &err);

    CHECK(read(p->cell.link_fd, &p->host_pid, sizeof(p->host_pid)) ==
          (ssize_t)sizeof(p->host_pid));
    if (rc == 0)
        rc = jail_enter(&p->jail, p->host_pid, &err);
    if (rc < 0)
        (void)dprintf(STDERR_FILENO, "%s\n", err.text);
    CHECK(rc == 0);
    go(p);
    _exit(0);
}

/* Started, not in its jail yet. */
static void start(struct prisoner *p, prisoner_main *go)
{
    const struct cell_options options = {.strict = true, .cgroup_fd = -1};
    struct err err;
    int rc = cell_fork(&p->cell, &options, &err);

    if (rc == 0)
        be_prisoner(p, go);
    assert_int_equal(rc, 1);
    p->host_pid = p->cell.pid;
    assert_int_equal(write(p->cell.link_fd, &p->host_pid, sizeof(p->host_pid)),
        sizeof(p->host_pid));
}

static int end(struct prisoner *p)
{
    int status;

    assert_int_equal(waitpid(p->cell.pid, &status, 0), p->cell.pid);
    return status;
}

static void assert_content(struct prisoner *p, prisoner_main *go)
{
    start(p, go);
    assert_int_equal(end(p), 0);
}

/* ---- as the process sees it ---------------------------------------------- */

static void look_for_files(const struct prisoner *p)
{
    static const char *const paths[] = {"/etc", "/proc", "/dev", "/tmp", "etc",
        "../etc", "../../../../etc", "/proc/self/root/etc"};
    struct stat st;

    (void)p;
    for (unsigned int i = 0; i < 8; i++)
        CHECK(chdir("..") == 0);
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        CHECK(stat(paths[i], &st) < 0 && errno == ENOENT);
        CHECK(open(paths[i], O_RDONLY | O_CLOEXEC) < 0);
    }
    CHECK(stat("/", &st) == 0);
    CHECK(mkdir("/etc", 0700) < 0);
    CHECK(open("/file", O_CREAT | O_RDWR | O_CLOEXEC, 0600) < 0);
}

static void test_its_root_is_empty(void **state)
{
    assert_content(*state, look_for_files);
}

static void look_at_fds(const struct prisoner *p)
{
    struct stat st;

    CHECK(fcntl(p->inherited.kept_fd, F_GETFD) >= 0);
    CHECK(fcntl(p->cell.link_fd, F_GETFD) >= 0);
    /* Their numbers may be others' by now. */
    CHECK(fstat(p->inherited.file_fd, &st) < 0 ||
          st.st_dev != p->inherited.file.st_dev ||
          st.st_ino != p->inherited.file.st_ino);
    CHECK(fstat(p->inherited.folder_fd, &st) < 0 || !S_ISDIR(st.st_mode));
}

static void test_only_what_is_kept_is_open(void **state)
{
    assert_content(*state, look_at_fds);
}

static void look_at_rights(const struct prisoner *p)
{
    struct __user_cap_header_struct head = {
        .version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2];
    struct rlimit core;
    uid_t ids[3];

    CHECK(syscall(SYS_capget, &head, caps) == 0);
    for (unsigned int i = 0; i < 2; i++)
        CHECK(
            (caps[i].effective | caps[i].permitted | caps[i].inheritable) == 0);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
    CHECK(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0);
    CHECK(getresuid(&ids[0], &ids[1], &ids[2]) == 0);
    CHECK(ids[0] == ids[1] && ids[1] == ids[2]);
    CHECK(ids[0] != 0 && setuid(0) < 0 && setgid(0) < 0);
    if (!p->cell.has_user_space) {
        CHECK(ids[0] == PRIVS_ID_FIRST + (uint32_t)p->host_pid);
        CHECK(getegid() == PRIVS_ID_FIRST + (uint32_t)p->host_pid);
        CHECK(getgroups(0, NULL) == 0);
    }
}

static void test_it_is_nobody(void **state)
{
    assert_content(*state, look_at_rights);
}

static void look_for_others(const struct prisoner *p)
{
    CHECK(syscall(SYS_getpid) == 1);
    CHECK(syscall(SYS_getppid) == 0);
    /* Low numbers may be threads of ours. */
    CHECK(kill(p->host_pid, 0) < 0 && errno == ESRCH);
}

static void test_it_is_alone(void **state)
{
    assert_content(*state, look_for_others);
}

/* ---- as others see it ---------------------------------------------------- */

/* Until it is looked at: the parent closes its end. */
static void wait_in_jail(const struct prisoner *p)
{
    char byte = 0;

    CHECK(write(p->cell.link_fd, &byte, 1) == 1);
    (void)!read(p->cell.link_fd, &byte, 1);
}

/* "net:[4026531992]" of a process. */
static void read_space(pid_t pid, const char *kind, char ret_name[64])
{
    char path[64];
    ssize_t n;

    (void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, kind);
    n = readlink(path, ret_name, 63);
    assert_true(n > 0);
    ret_name[n] = '\0';
}

static unsigned int count_entries(pid_t pid, const char *folder)
{
    unsigned int count = 0;
    const struct dirent *entry;
    char path[64];
    DIR *dir;

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, folder);
    dir = opendir(path);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        count += entry->d_name[0] != '.';
    (void)closedir(dir);
    return count;
}

static void test_it_has_spaces_of_its_own(void **state)
{
    static const char *const kinds[] = {"net", "ipc", "uts", "pid", "cgroup"};
    struct prisoner *p = *state;
    char byte;

    /* It is undumpable: others of its user cannot look. */
    if (geteuid() != 0)
        skip();
    start(p, wait_in_jail);
    assert_int_equal(read(p->cell.link_fd, &byte, 1), 1);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        char own[64];
        char its[64];

        read_space(getpid(), kinds[i], own);
        read_space(p->cell.pid, kinds[i], its);
        assert_string_not_equal(own, its);
    }
    assert_int_equal(count_entries(p->cell.pid, "root"), 0);
    assert_int_equal(count_entries(p->cell.pid, "cwd"), 0);
    fd_closep(&p->cell.link_fd);
    assert_int_equal(end(p), 0);
}

static void test_spaces_can_be_shared(void **state)
{
    struct prisoner *p = *state;
    struct err err;
    struct stat made;
    struct stat its;
    char own[64];
    char space[64];
    char path[64];
    char byte;

    if (geteuid() != 0)
        skip();
    if (spaces_begin(&p->shared, &err) < 0)
        fail_msg("%s", err.text);
    spaces_wait(&p->shared);
    assert_int_equal(p->shared.rc, 0);
    p->shares = true;
    start(p, wait_in_jail);
    assert_int_equal(read(p->cell.link_fd, &byte, 1), 1);
    read_space(getpid(), "net", own);
    read_space(p->cell.pid, "net", space);
    assert_string_not_equal(own, space);
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)p->cell.pid);
    assert_int_equal(stat(path, &its), 0);
    assert_int_equal(fstat(p->shared.fds[SPACES_NET], &made), 0);
    assert_int_equal(its.st_ino, made.st_ino);
    assert_int_equal(count_entries(p->cell.pid, "root"), 0);
    fd_closep(&p->cell.link_fd);
    assert_int_equal(end(p), 0);
}

/* ---- its system calls ---------------------------------------------------- */

#ifndef __SANITIZE_ADDRESS__
static void go_on(const struct prisoner *p)
{
    struct err err;
    char byte = 0;

    CHECK(jail_confine(&p->jail, JAIL_ROLE_MAIN, &err) == 0);
    CHECK(write(p->cell.link_fd, &byte, 1) == 1);
    CHECK(syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
              -1, 0) != MAP_FAILED);
}

static void test_what_is_allowed_or_refused(void **state)
{
    assert_content(*state, go_on);
}

static void open_a_file(const struct prisoner *p)
{
    CHECK(jail_confine(&p->jail, JAIL_ROLE_MAIN, NULL) == 0);
    (void)syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY | O_CLOEXEC);
}

static void map_code(const struct prisoner *p)
{
    CHECK(jail_confine(&p->jail, JAIL_ROLE_VCPU, NULL) == 0);
    (void)mmap(
        NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* A main thread may, a worker not: a second filter only takes. */
static void narrow_down(const struct prisoner *p)
{
    int fds[2];

    CHECK(jail_confine(&p->jail, JAIL_ROLE_MAIN, NULL) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    CHECK(jail_confine(&p->jail, JAIL_ROLE_WORKER, NULL) == 0);
    (void)socketpair(AF_UNIX, SOCK_STREAM, 0, fds);
}

static void test_the_rest_ends_it(void **state)
{
    static prisoner_main *const crimes[] = {open_a_file, map_code, narrow_down};
    struct prisoner *p = *state;

    for (size_t i = 0; i < ARRAY_SIZE(crimes); i++) {
        int status;

        fd_closep(&p->cell.link_fd);
        start(p, crimes[i]);
        status = end(p);
        /* A build that names the call ends by itself. */
        if (WIFEXITED(status))
            assert_int_equal(WEXITSTATUS(status), 128 + SIGSYS);
        else
            assert_int_equal(WTERMSIG(status), SIGSYS);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_its_root_is_empty),
        TEST(test_only_what_is_kept_is_open),
        TEST(test_it_is_nobody),
        TEST(test_it_is_alone),
        TEST(test_it_has_spaces_of_its_own),
        TEST(test_spaces_can_be_shared),
/* Whose runtime makes system calls of its own. */
#ifndef __SANITIZE_ADDRESS__
        TEST(test_what_is_allowed_or_refused),
        TEST(test_the_rest_ends_it),
#endif
    };
    const struct cell_options options = {.strict = true, .cgroup_fd = -1};
    struct cell cell;
    struct err err;
    int rc = cell_fork(&cell, &options, &err);

    if (rc == 0)
        _exit(0);
    if (rc < 0)
        return skip_all(err.text);
    (void)waitpid(cell.pid, NULL, 0);
    fd_closep(&cell.link_fd);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
