/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of switches and joining them. The switch that a join starts is this
 * program, which is `spore switch` when it is called so.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/netswitch_join.h"
#include "vmm/netswitch_place.h"
#include "vmm/switch.h"

#define JOINERS  8
#define WAIT_MS  20000
#define FRAME    (4 + 60)
#define NAMES_IN "/spore/net"

struct fixture {
    char dir[64];
};

static int set_up(void **state)
{
    static struct fixture f;

    (void)snprintf(f.dir, sizeof(f.dir), "/tmp/spore-join-XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    assert_int_equal(setenv("XDG_RUNTIME_DIR", f.dir, 1), 0);
    *state = &f;
    return 0;
}

static void remove_dir(const char *dir)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    remove_dir(f->dir);
    return 0;
}

/* Waits until the switch of that name took its files away. */
static void expect_end(const char *name)
{
    struct sockaddr_un addr;
    char lock[128];

    assert_int_equal(netswitch_place_find(name, &addr, NULL), 0);
    (void)snprintf(lock, sizeof(lock), "%s.lock", addr.sun_path);
    for (int i = 0; i < WAIT_MS / 5; i++) {
        if (access(addr.sun_path, F_OK) < 0 && access(lock, F_OK) < 0)
            return;
        (void)poll(NULL, 0, 5);
    }
    fail_msg("the switch does not end");
}

static void say(int fd, uint8_t host)
{
    uint8_t frame[FRAME] = {
        0, 0, 0, 60, 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, host};

    assert_int_equal(write(fd, frame, sizeof(frame)), sizeof(frame));
}

/* Whether a frame of `host` comes within `ms`, after others. */
static bool hear(int fd, uint8_t host, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint8_t frame[FRAME];

    while (poll(&p, 1, ms) == 1) {
        assert_int_equal(read(fd, frame, sizeof(frame)), sizeof(frame));
        if (frame[15] == host)
            return true;
    }
    return false;
}

/*
 * `host` at `from` reaches `to`. A join does not wait until the switch has
 * taken the port in, so the first frames may miss it.
 */
static void reach(int from, uint8_t host, int to)
{
    for (int i = 0; i < WAIT_MS / 10; i++) {
        say(from, host);
        if (hear(to, host, 10))
            return;
    }
    fail_msg("host %u is not heard", host);
}

static void test_names(void **state)
{
    const char *const bad[] = {"", ".", ".x", "a b", "a\n", "caf\xc3\xa9",
        "123456789012345678901234567890123"};
    struct fixture *f = *state;
    struct sockaddr_un addr;
    char want[128];
    struct err err;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(netswitch_place_find(bad[i], &addr, &err), -EINVAL);
    assert_int_equal(netswitch_place_find("lab-1_x.y", &addr, &err), 0);
    (void)snprintf(want, sizeof(want), "%s" NAMES_IN "/lab-1_x.y.sock", f->dir);
    assert_string_equal(addr.sun_path, want);
    assert_int_equal(netswitch_place_find("./x", &addr, &err), 0);
    assert_string_equal(addr.sun_path, "./x");
    memset(want, 'a', sizeof(want) - 1);
    want[0] = '/';
    want[sizeof(want) - 1] = '\0';
    assert_int_equal(netswitch_place_find(want, &addr, &err), -ENAMETOOLONG);
}

static void test_folder_is_ours_alone(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_un addr;
    struct stat st;
    char path[128];
    struct err err;

    assert_int_equal(netswitch_place_find("x", &addr, &err), 0);
    (void)snprintf(path, sizeof(path), "%s" NAMES_IN, f->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(chmod(path, 0770), 0);
    assert_int_equal(netswitch_place_find("x", &addr, &err), -EPERM);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink("/tmp", path), 0);
    assert_int_equal(netswitch_place_find("x", &addr, &err), -EPERM);
}

static void test_without_a_runtime_folder(void **state)
{
    char want[64];
    struct sockaddr_un addr;
    struct err err;
    struct fixture *f = *state;

    (void)snprintf(want, sizeof(want), "/tmp/spore-%u/net/x.sock",
        (unsigned int)geteuid());
    assert_int_equal(unsetenv("XDG_RUNTIME_DIR"), 0);
    assert_int_equal(netswitch_place_find("x", &addr, &err), 0);
    assert_string_equal(addr.sun_path, want);
    assert_int_equal(setenv("XDG_RUNTIME_DIR", "relative", 1), 0);
    assert_int_equal(netswitch_place_find("x", &addr, &err), 0);
    assert_string_equal(addr.sun_path, want);
    if (geteuid() != 0)
        return;
    /* After sudo: the variable is another user's. */
    assert_int_equal(setenv("XDG_RUNTIME_DIR", f->dir, 1), 0);
    assert_int_equal(chown(f->dir, 12345, 12345), 0);
    assert_int_equal(netswitch_place_find("x", &addr, &err), 0);
    assert_string_equal(addr.sun_path, want);
}

static void test_one_owner(void **state)
{
    struct netswitch_place first;
    struct netswitch_place second;
    struct sockaddr_un addr;
    struct stat st;
    struct err err;

    (void)state;
    assert_int_equal(netswitch_place_find("x", &addr, &err), 0);
    assert_int_equal(netswitch_place_open(&first, &addr, &err), 0);
    assert_int_equal(stat(addr.sun_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(netswitch_place_open(&second, &addr, &err), -EBUSY);
    assert_non_null(strstr(err.text, "already"));
    netswitch_place_close(&second);
    assert_int_equal(access(addr.sun_path, F_OK), 0);
    netswitch_place_close(&first);
    assert_int_equal(access(addr.sun_path, F_OK), -1);
    assert_int_equal(netswitch_place_open(&second, &addr, &err), 0);
    netswitch_place_close(&second);
    netswitch_place_close(&second);
}

static void test_what_is_in_the_way(void **state)
{
    struct netswitch_place place;
    struct sockaddr_un addr;
    struct err err;
    int fd;

    (void)state;
    assert_int_equal(netswitch_place_find("x", &addr, &err), 0);
    /* A socket whose owner was killed is replaced. */
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (void *)&addr, sizeof(addr)), 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(netswitch_place_open(&place, &addr, &err), 0);
    netswitch_place_close(&place);
    /* One that answers is not, though nobody holds the lock. */
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (void *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(netswitch_place_open(&place, &addr, &err), -EADDRINUSE);
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlink(addr.sun_path), 0);
    /* Nor is a file. */
    fd = open(addr.sun_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(netswitch_place_open(&place, &addr, &err), -EEXIST);
    assert_int_equal(access(addr.sun_path, F_OK), 0);
}

static void test_nobody_at_a_path(void **state)
{
    struct fixture *f = *state;
    char path[128];
    struct err err;
    int fd = -1;

    (void)snprintf(path, sizeof(path), "%s/none.sock", f->dir);
    assert_int_equal(netswitch_join(path, &fd, &err), -ENOENT);
    assert_non_null(strstr(err.text, "spore switch --listen"));
    assert_int_equal(fd, -1);
}

static void test_join_starts_and_the_last_ends_it(void **state)
{
    struct err err;
    int a;
    int b;

    (void)state;
    assert_int_equal(netswitch_join("lab", &a, &err), 0);
    assert_int_equal(netswitch_join("lab", &b, &err), 0);
    assert_true((fcntl(a, F_GETFD) & FD_CLOEXEC) != 0);
    reach(a, 1, b);
    reach(b, 2, a);
    assert_int_equal(close(a), 0);
    /* One is left, and one more can come. */
    assert_int_equal(netswitch_join("lab", &a, &err), 0);
    reach(b, 2, a);
    assert_int_equal(close(a), 0);
    assert_int_equal(close(b), 0);
    expect_end("lab");
    /* It is nobody's child any more, so no zombie of ours. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void test_two_switches_are_apart(void **state)
{
    struct err err;
    uint8_t frame[FRAME];
    int fds[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(
            netswitch_join(i < 2 ? "left" : "right", &fds[i], &err), 0);
    reach(fds[0], 1, fds[1]);
    reach(fds[2], 2, fds[3]);
    reach(fds[1], 3, fds[0]);
    reach(fds[3], 4, fds[2]);
    for (int i = 0; i < 4; i++) {
        /* The odd ones are on the left. */
        while (read(fds[i], frame, sizeof(frame)) == sizeof(frame))
            assert_int_equal(frame[15] % 2, i < 2);
        assert_int_equal(close(fds[i]), 0);
    }
    expect_end("left");
    expect_end("right");
}

static void *join_in_thread(void *opaque)
{
    int *fd = opaque;
    struct err err;

    if (netswitch_join("race", fd, &err) < 0)
        (void)fprintf(stderr, "%s\n", err.text);
    return NULL;
}

static void test_first_joiners_at_once(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        pthread_t threads[JOINERS];
        int fds[JOINERS];

        for (int i = 0; i < JOINERS; i++) {
            fds[i] = -1;
            assert_int_equal(
                pthread_create(&threads[i], NULL, join_in_thread, &fds[i]), 0);
        }
        for (int i = 0; i < JOINERS; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        for (int i = 1; i < JOINERS; i++)
            reach(fds[0], 1, fds[i]);
        /* The next round's first may meet it while it ends. */
        for (int i = 0; i < JOINERS; i++)
            assert_int_equal(close(fds[i]), 0);
    }
    expect_end("race");
}

/* Whoever joins while the switch ends gets the old one or a new one. */
static void test_joining_one_that_ends(void **state)
{
    struct err err;

    (void)state;
    for (int i = 0; i < 100; i++) {
        int a;
        int b;

        assert_int_equal(netswitch_join("end", &a, &err), 0);
        assert_int_equal(netswitch_join("end", &b, &err), 0);
        reach(a, 1, b);
        assert_int_equal(close(a), 0);
        assert_int_equal(close(b), 0);
    }
    expect_end("end");
}

static void test_switch_keeps_nothing_open(void **state)
{
    struct pollfd p;
    struct err err;
    int ends[2];
    int fd;

    (void)state;
    /* Not close-on-exec, as what a shell hands down. */
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(netswitch_join("open", &fd, &err), 0);
    assert_int_equal(close(ends[1]), 0);
    p = (struct pollfd){.fd = ends[0], .events = POLLIN};
    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    assert_true((p.revents & POLLHUP) != 0);
    assert_int_equal(close(ends[0]), 0);
    assert_int_equal(close(fd), 0);
    expect_end("open");
}

int main(int argc, char **argv)
{
#define T(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_names),
        T(test_folder_is_ours_alone),
        T(test_without_a_runtime_folder),
        T(test_one_owner),
        T(test_what_is_in_the_way),
        T(test_nobody_at_a_path),
        T(test_join_starts_and_the_last_ends_it),
        T(test_two_switches_are_apart),
        T(test_first_joiners_at_once),
        T(test_joining_one_that_ends),
        T(test_switch_keeps_nothing_open),
    };

    if (argc > 1 && strcmp(argv[1], "switch") == 0)
        return cmd_switch(argc - 1, argv + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
