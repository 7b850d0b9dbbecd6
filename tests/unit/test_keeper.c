/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A keeper and a monitor, each a process of its own: what it does for that,
 * what it refuses one that was taken over, and what it says at its end.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot/working_set.h"
#include "tests/unit/support/snapshot_rig.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/keeper.h"
#include "vmm/keeper_wire.h"

#define PAGES  UINT64_C(1000) /* not a multiple of 64 */
#define STATUS 42

/* In the monitor, whose end is all that the test sees of it. */
#define CHECK(condition)                                                       \
    do {                                                                       \
        if (!(condition)) {                                                    \
            (void)dprintf(                                                     \
                STDERR_FILENO, "line %d: %s\n", __LINE__, #condition);         \
            _exit(99);                                                         \
        }                                                                      \
    } while (0)

struct fixture {
    char folder[64];
    char vsock[80];  /* folder/v: not made */
    int listen_fd;   /* "<vsock>_5" */
    int record_fd;   /* folder/snapshot */
    char said[1024]; /* on standard error, by either process */
    int said_fd;
    pid_t keeper;
};

typedef void monitor_main(const struct fixture *f, int link_fd);

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct sockaddr_un addr;
    char path[128];

    assert_non_null(f);
    (void)strcpy(f->folder, "/tmp/test_keeper.XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    assert_int_equal(setenv("XDG_RUNTIME_DIR", f->folder, 1), 0);
    (void)snprintf(f->vsock, sizeof(f->vsock), "%s/v", f->folder);
    (void)snprintf(path, sizeof(path), "%s_5", f->vsock);
    assert_int_equal(fd_unix_address("test", path, &addr, NULL), 0);
    assert_int_equal(fd_listen_unix(&addr, path, &f->listen_fd, NULL), 0);
    (void)snprintf(path, sizeof(path), "%s/snapshot", f->folder);
    assert_int_equal(mkdir(path, 0700), 0);
    f->record_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(f->record_fd >= 0);
    f->said_fd = memfd_create("said", MFD_CLOEXEC);
    assert_true(f->said_fd >= 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    fd_closep(&f->listen_fd);
    fd_closep(&f->record_fd);
    fd_closep(&f->said_fd);
    snapshot_rig_remove_tree(f->folder);
    free(f);
    return 0;
}

/* The process that is the keeper: makes its monitor as a cell does. */
CC_NORETURN static void be_keeper(
    const struct fixture *f, monitor_main *monitor)
{
    struct cell cell = CELL_NONE;
    struct place place;
    struct detach detach;
    struct keeper_config config = {
        .place = &place, .id = "box", .detach = &detach, .command = "run"};
    int fds[2];

    (void)dup2(f->said_fd, STDERR_FILENO);
    place_init(&place);
    detach_init(&detach);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
    cell.pid = fork();
    CHECK(cell.pid >= 0);
    if (cell.pid == 0) {
        struct err err;

        (void)close(fds[0]);
        CHECK(cell_tie(&err) == 0);
        monitor(f, fds[1]);
        _exit(STATUS);
    }
    (void)close(fds[1]);
    cell.link_fd = fds[0];
    _exit(keeper_run(&cell, &config));
}

static void start(struct fixture *f, monitor_main *monitor)
{
    f->keeper = fork();
    assert_true(f->keeper >= 0);
    if (f->keeper == 0)
        be_keeper(f, monitor);
}

/* Of wait(2); what both have said is in `said`. */
static int end(struct fixture *f)
{
    ssize_t n;
    int status;

    assert_int_equal(waitpid(f->keeper, &status, 0), f->keeper);
    n = pread(f->said_fd, f->said, sizeof(f->said) - 1, 0);
    assert_true(n >= 0);
    f->said[n] = '\0';
    return status;
}

static void assert_runs(struct fixture *f, monitor_main *monitor)
{
    int status;

    start(f, monitor);
    status = end(f);
    assert_string_equal(f->said, "");
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), STATUS);
}

static bool exists(const struct fixture *f, const char *name)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", f->folder, name);
    return access(path, F_OK) == 0;
}

/* ---- what a monitor does, in its process --------------------------------- */

static void greet(int link_fd)
{
    pid_t pid = 0;

    CHECK(keeper_hello(link_fd, &pid, NULL) == 0);
    CHECK(pid == getpid());
}

static void settle(const struct fixture *f, int link_fd, bool adds)
{
    const struct keeper_settlement settlement = {.vsock_path = f->vsock,
        .owns_vsock_path = true,
        .record_fd = f->record_fd,
        .record_adds = adds,
        .pages = PAGES};

    CHECK(keeper_settle(link_fd, &settlement, NULL) == 0);
}

/* The error that a request gets; 0 for none. No descriptor comes with it. */
static int ask_fd(
    int link_fd, const struct keeper_request *request, int passed_fd)
{
    struct keeper_reply reply;
    int fd = -1;

    CHECK(keeper_send(link_fd, request, sizeof(*request), passed_fd) == 0);
    CHECK(keeper_receive(link_fd, &reply, sizeof(reply), &fd) == 1);
    CHECK(reply.rc == 0 || (fd < 0 && reply.err.text[0] != '\0'));
    fd_closep(&fd);
    return reply.rc;
}

static int ask(int link_fd, uint32_t op)
{
    const struct keeper_request request = {.op = op, .path = "nowhere"};

    return ask_fd(link_fd, &request, -1);
}

/* Still serves, as before. */
static void check_serves(int link_fd)
{
    int fd = keeper_connect(link_fd, 5);

    CHECK(fd >= 0);
    (void)close(fd);
}

/* Those of the keeper, when it has done with what was asked before. */
static unsigned int count_fds(int link_fd)
{
    unsigned int count = 0;
    char path[64];

    CHECK(ask(link_fd, KEEPER_OPS) == -ENOSYS);
    for (int fd = 0; fd < 1000; fd++) {
        (void)snprintf(
            path, sizeof(path), "/proc/%d/fd/%d", (int)getppid(), fd);
        count += faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    }
    return count;
}

/* ---- tests --------------------------------------------------------------- */

static void do_all(const struct fixture *f, int link_fd)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char id[RUNDIR_ID_SIZE] = "";
    struct bitmap touched;
    struct stat st;
    int fd = -1;

    greet(link_fd);
    settle(f, link_fd, false);
    CHECK(keeper_serve(link_fd, &fd, id, NULL) == 0);
    CHECK(strcmp(id, "box") == 0);
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path),
        "%s/spore/box/api.sock", f->folder);
    CHECK(stat(addr.sun_path, &st) == 0 && S_ISSOCK(st.st_mode));
    CHECK(listen(fd, 1) == 0);
    CHECK(keeper_serve(link_fd, &fd, id, NULL) == -EALREADY);
    check_serves(link_fd);
    CHECK(keeper_connect(link_fd, 6) == -ENOENT);
    CHECK(bitmap_init(&touched, PAGES) == 0);
    bitmap_set(&touched, 3, 70);
    CHECK(keeper_record(link_fd, &touched, NULL) == 0);
    /* Once. */
    CHECK(keeper_record(link_fd, &touched, NULL) == -EEXIST);
    CHECK(keeper_record(link_fd, &touched, NULL) < 0);
    bitmap_fini(&touched);
    keeper_released(link_fd);
    keeper_leave(link_fd);
    CHECK(stat(addr.sun_path, &st) < 0);
    check_serves(link_fd);
}

static void test_it_does_what_is_asked(void **state)
{
    struct fixture *f = *state;
    struct working_set set;
    int fd = open(f->vsock, O_CREAT | O_CLOEXEC | O_RDWR, 0600);

    (void)close(fd);
    assert_runs(f, do_all);
    assert_false(exists(f, "spore/box"));
    assert_false(exists(f, "v"));
    assert_int_equal(working_set_load(f->record_fd, PAGES, &set), 0);
    working_set_fini(&set);
}

static void leave_the_rest(const struct fixture *f, int link_fd)
{
    char id[RUNDIR_ID_SIZE];
    int fd;

    greet(link_fd);
    settle(f, link_fd, false);
    CHECK(keeper_serve(link_fd, &fd, id, NULL) == 0);
}

static void test_it_cleans_up_behind_its_monitor(void **state)
{
    struct fixture *f = *state;

    assert_runs(f, leave_the_rest);
    assert_false(exists(f, "spore/box"));
}

static void ask_too_early(const struct fixture *f, int link_fd)
{
    greet(link_fd);
    CHECK(ask(link_fd, KEEPER_CONNECT) == -EPERM);
    CHECK(ask(link_fd, KEEPER_RECORD_BEGIN) == -EPERM);
    CHECK(ask(link_fd, KEEPER_RECORD_END) == -EPERM);
    settle(f, link_fd, false);
    check_serves(link_fd);
}

static void test_nothing_early(void **state)
{
    assert_runs(*state, ask_too_early);
}

/* A second settlement would name another path and folder. */
static void ask_too_late(const struct fixture *f, int link_fd)
{
    struct keeper_request request = {.op = KEEPER_SETTLE, .path = "/tmp/other"};

    greet(link_fd);
    settle(f, link_fd, false);
    CHECK(ask(link_fd, KEEPER_JOIN_SWITCH) == -EPERM);
    CHECK(keeper_send(link_fd, &request, sizeof(request), f->record_fd) == 0);
    check_serves(link_fd);
}

static void test_nothing_late(void **state)
{
    struct fixture *f = *state;

    assert_runs(f, ask_too_late);
    assert_false(exists(f, "spore/net"));
}

static void ask_nonsense(const struct fixture *f, int link_fd)
{
    struct keeper_request request = {.op = KEEPER_CONNECT, .port = 5};
    struct keeper_reply reply;
    int fd;

    greet(link_fd);
    settle(f, link_fd, false);
    CHECK(ask(link_fd, KEEPER_HELLO) == -ENOSYS);
    CHECK(ask(link_fd, KEEPER_OPS) == -ENOSYS);
    CHECK(ask(link_fd, UINT32_MAX) == -ENOSYS);
    CHECK(ask(link_fd, KEEPER_RECORD_END) == -EINVAL);
    memset(request.path, 'x', sizeof(request.path));
    CHECK(ask_fd(link_fd, &request, -1) == -EBADMSG);
    CHECK(keeper_send(link_fd, &request, sizeof(request) - 1, -1) == 0);
    CHECK(keeper_receive(link_fd, &reply, sizeof(reply), &fd) == 1);
    CHECK(reply.rc == -EBADMSG);
    check_serves(link_fd);
}

static void test_nonsense_is_refused(void **state)
{
    assert_runs(*state, ask_nonsense);
}

/* `count` copies of a descriptor with one request: the error it gets. */
static int send_many(int link_fd, unsigned int count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control = {0};
    struct keeper_request request = {.op = KEEPER_CONNECT, .port = 5};
    struct iovec iov = {.iov_base = &request, .iov_len = sizeof(request)};
    struct msghdr message = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    struct keeper_reply reply;
    int fd = -1;

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (unsigned int i = 0; i < count; i++)
        memcpy(CMSG_DATA(head) + i * sizeof(int), &link_fd, sizeof(int));
    CHECK(sendmsg(link_fd, &message, 0) == (ssize_t)sizeof(request));
    CHECK(keeper_receive(link_fd, &reply, sizeof(reply), &fd) == 1);
    fd_closep(&fd);
    return reply.rc;
}

static void pass_descriptors(const struct fixture *f, int link_fd)
{
    unsigned int before;

    greet(link_fd);
    settle(f, link_fd, false);
    check_serves(link_fd);
    before = count_fds(link_fd);
    CHECK(before > 3);
    CHECK(send_many(link_fd, 1) == 0);
    CHECK(send_many(link_fd, 2) == -EBADMSG);
    CHECK(send_many(link_fd, 3) == -EBADMSG);
    CHECK(send_many(link_fd, 8) == -EBADMSG);
    check_serves(link_fd);
    CHECK(count_fds(link_fd) == before);
}

static void test_descriptors_do_not_pile_up(void **state)
{
    assert_runs(*state, pass_descriptors);
}

/* More pages than there are, in a set that cannot grow. */
static void record_wrong_set(const struct fixture *f, int link_fd)
{
    struct keeper_request request = {.op = KEEPER_RECORD_BEGIN};
    struct keeper_reply reply;
    uint64_t words[16];
    int fd;

    greet(link_fd);
    settle(f, link_fd, true);
    CHECK(keeper_send(link_fd, &request, sizeof(request), -1) == 0);
    CHECK(keeper_receive(link_fd, &reply, sizeof(reply), &fd) == 1);
    CHECK(reply.rc == 0 && fd >= 0);
    CHECK(ask(link_fd, KEEPER_RECORD_BEGIN) == -EEXIST);
    CHECK(ftruncate(fd, 1 << 20) < 0);
    CHECK(ftruncate(fd, 0) < 0);
    memset(words, 0, sizeof(words));
    words[15] = UINT64_MAX;
    CHECK(pwrite(fd, words, sizeof(words), 0) == (ssize_t)sizeof(words));
    CHECK(pwrite(fd, words, 1, sizeof(words)) < 0);
    CHECK(ask(link_fd, KEEPER_RECORD_END) == 0);
    CHECK(ask(link_fd, KEEPER_RECORD_END) == -EINVAL);
    CHECK(ask(link_fd, KEEPER_RECORD_BEGIN) == -EEXIST);
}

static void test_a_set_has_no_other_pages(void **state)
{
    struct fixture *f = *state;
    struct working_set set;

    assert_runs(f, record_wrong_set);
    assert_int_equal(working_set_load(f->record_fd, PAGES, &set), 0);
    assert_int_equal(set.run_count, 1);
    assert_int_equal(set.runs[0].page, 15 * 64);
    assert_int_equal(set.runs[0].count, PAGES - UINT64_C(15) * 64);
    working_set_fini(&set);
}

/* Waits for a signal that the keeper was sent, and is ended if it hangs. */
static void hear_signal(void)
{
    sigset_t set;
    int signal;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)alarm(60);
    (void)kill(getppid(), SIGTERM);
    CHECK(sigwait(&set, &signal) == 0);
}

/* Asks and reads nothing, which must not hold up its keeper. */
static void ask_without_end(const struct fixture *f, int link_fd)
{
    const struct keeper_request request = {.op = KEEPER_CONNECT, .port = 6};
    unsigned int refused = 0;

    settle(f, link_fd, false);
    while (refused < 10000)
        refused +=
            keeper_send(link_fd, &request, sizeof(request), -1) == -EAGAIN;
    hear_signal();
}

static void test_replies_that_nobody_reads(void **state)
{
    assert_runs(*state, ask_without_end);
}

static void close_link(const struct fixture *f, int link_fd)
{
    (void)f;
    greet(link_fd);
    (void)close(link_fd);
}

static void send_nothing(const struct fixture *f, int link_fd)
{
    (void)f;
    greet(link_fd);
    CHECK(send(link_fd, "", 0, 0) == 0);
}

static void test_a_link_that_ends(void **state)
{
    assert_runs(*state, close_link);
    assert_runs(*state, send_nothing);
}

static void die(const struct fixture *f, int link_fd)
{
    leave_the_rest(f, link_fd);
    (void)raise(SIGKILL);
}

static void die_as_by_seccomp(const struct fixture *f, int link_fd)
{
    leave_the_rest(f, link_fd);
    (void)signal(SIGSYS, SIG_DFL);
    (void)raise(SIGSYS);
}

static void test_what_ended_it_is_said(void **state)
{
    struct fixture *f = *state;
    int status;

    start(f, die);
    status = end(f);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 128 + SIGKILL);
    assert_non_null(strstr(f->said, "ended by signal 9"));
    assert_false(exists(f, "spore/box"));
    start(f, die_as_by_seccomp);
    status = end(f);
    assert_int_equal(WEXITSTATUS(status), 125);
    assert_non_null(strstr(f->said, "what its jail does not allow"));
    assert_false(exists(f, "spore/box"));
}

/* Its monitor's end is nothing that it can wait for. */
CC_NORETURN static void be_keeper_without_status(const struct fixture *f)
{
    struct sigaction action = {.sa_flags = SA_NOCLDWAIT};

    action.sa_handler = SIG_DFL;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    be_keeper(f, leave_the_rest);
}

static void test_an_end_that_cannot_be_waited_for(void **state)
{
    struct fixture *f = *state;
    int status;

    f->keeper = fork();
    assert_true(f->keeper >= 0);
    if (f->keeper == 0)
        be_keeper_without_status(f);
    status = end(f);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 125);
    assert_non_null(strstr(f->said, "spore: run: nobody can look after the "
                                    "monitor: waitpid: No child processes"));
    assert_false(exists(f, "spore/box"));
}

static void wait_for_term(const struct fixture *f, int link_fd)
{
    leave_the_rest(f, link_fd);
    hear_signal();
}

static void test_signals_are_passed_on(void **state)
{
    assert_runs(*state, wait_for_term);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_it_does_what_is_asked),
        TEST(test_it_cleans_up_behind_its_monitor),
        TEST(test_nothing_early),
        TEST(test_nothing_late),
        TEST(test_nonsense_is_refused),
        TEST(test_descriptors_do_not_pile_up),
        TEST(test_a_set_has_no_other_pages),
        TEST(test_replies_that_nobody_reads),
        TEST(test_a_link_that_ends),
        TEST(test_what_ended_it_is_said),
        TEST(test_an_end_that_cannot_be_waited_for),
        TEST(test_signals_are_passed_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
