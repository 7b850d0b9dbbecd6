/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/rundir.h"

struct fixture {
    char folder[200];
    char spore[256]; /* folder/spore */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    (void)strcpy(f->folder, "/tmp/test_rundir.XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->spore, sizeof(f->spore), "%s/spore", f->folder);
    assert_int_equal(setenv("XDG_RUNTIME_DIR", f->folder, 1), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[300];

    (void)snprintf(command, sizeof(command), "rm -rf %s", f->folder);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static bool exists(const struct fixture *f, const char *name)
{
    char path[400];

    (void)snprintf(path, sizeof(path), "%s/%s", f->spore, name);
    return access(path, F_OK) == 0;
}

static int count(void *opaque, const char *id)
{
    unsigned int *n = opaque;

    assert_true(rundir_id_is_valid(id));
    (*n)++;
    return 0;
}

static unsigned int count_all(void)
{
    unsigned int n = 0;

    assert_int_equal(rundir_walk(count, &n, NULL), 0);
    return n;
}

static void ids_are_checked(void **state)
{
    char longest[RUNDIR_ID_MAX + 2];
    char id[RUNDIR_ID_SIZE];
    char other[RUNDIR_ID_SIZE];

    (void)state;
    memset(longest, 'x', sizeof(longest));
    longest[RUNDIR_ID_MAX + 1] = '\0';
    assert_false(rundir_id_is_valid(longest));
    longest[RUNDIR_ID_MAX] = '\0';
    assert_true(rundir_id_is_valid(longest));
    assert_true(rundir_id_is_valid("a-B_9"));
    assert_false(rundir_id_is_valid(""));
    assert_false(rundir_id_is_valid("."));
    assert_false(rundir_id_is_valid(".."));
    assert_false(rundir_id_is_valid("a/b"));
    assert_false(rundir_id_is_valid("a b"));
    assert_false(rundir_id_is_valid("caf\xc3\xa9"));
    assert_false(rundir_id_is_valid(RUNDIR_NET));
    assert_int_equal(rundir_make_id(id, NULL), 0);
    assert_int_equal(rundir_make_id(other, NULL), 0);
    assert_true(rundir_id_is_valid(id));
    assert_string_not_equal(id, other);
}

static void folders_are_made_private(void **state)
{
    struct fixture *f = *state;
    struct rundir dir;
    struct stat st;

    assert_int_equal(count_all(), 0);
    assert_false(exists(f, ""));
    assert_int_equal(rundir_open(&dir, RUNDIR_NET, NULL), 0);
    assert_int_equal(fstat(dir.fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_string_equal(strrchr(dir.path, '/'), "/" RUNDIR_NET);
    rundir_close(&dir);
    assert_int_equal(stat(f->spore, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    /* It is no machine, and stays. */
    assert_int_equal(count_all(), 0);
    assert_true(exists(f, RUNDIR_NET));
}

static void foreign_folders_are_refused(void **state)
{
    struct fixture *f = *state;
    struct rundir dir;
    struct err err;

    assert_int_equal(mkdir(f->spore, 0700), 0);
    assert_int_equal(chmod(f->spore, 0770), 0);
    assert_int_equal(rundir_open(&dir, NULL, &err), -EPERM);
    assert_non_null(strstr(err.text, f->spore));
    assert_int_equal(rmdir(f->spore), 0);
    assert_int_equal(symlink("/tmp", f->spore), 0);
    assert_int_equal(rundir_open(&dir, NULL, &err), -EPERM);
    assert_int_equal(unlink(f->spore), 0);
    if (geteuid() == 0) {
        assert_int_equal(mkdir(f->spore, 0700), 0);
        assert_int_equal(chown(f->spore, 12345, 12345), 0);
        assert_int_equal(rundir_claim(&dir, "vm", &err), -EPERM);
    }
}

static void an_id_is_claimed_once(void **state)
{
    struct fixture *f = *state;
    struct rundir dir;
    struct rundir other;
    struct err err;

    assert_int_equal(rundir_find(&other, "vm", &err), -ENOENT);
    assert_int_equal(rundir_claim(&dir, "vm", NULL), 0);
    assert_int_equal(rundir_claim(&other, "vm", &err), -EEXIST);
    assert_non_null(strstr(err.text, "vm"));
    assert_int_equal(rundir_find(&other, "vm", NULL), 0);
    rundir_close(&other);
    assert_int_equal(rundir_claim(&other, "vm2", NULL), 0);
    assert_int_equal(count_all(), 2);
    close(openat(dir.fd, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    rundir_remove(&dir, "vm");
    assert_int_equal(dir.fd, -1);
    assert_false(exists(f, "vm"));
    assert_int_equal(count_all(), 1);
    rundir_remove(&other, "vm2");
    assert_int_equal(rundir_find(&other, "../vm", &err), -EINVAL);
}

static void abandon(const char *id)
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        struct rundir dir;

        if (rundir_claim(&dir, id, NULL) < 0)
            _exit(1);
        if (openat(dir.fd, "api.sock", O_CREAT | O_WRONLY | O_CLOEXEC, 0600) <
            0)
            _exit(2);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void what_the_dead_left_is_removed(void **state)
{
    struct fixture *f = *state;
    struct rundir dir;

    abandon("dead");
    assert_true(exists(f, "dead/api.sock"));
    assert_int_equal(count_all(), 0);
    assert_false(exists(f, "dead"));
    abandon("dead");
    assert_int_equal(rundir_find(&dir, "dead", NULL), -ENOENT);
    assert_false(exists(f, "dead"));
    abandon("dead");
    assert_int_equal(rundir_claim(&dir, "dead", NULL), 0);
    assert_true(exists(f, "dead"));
    assert_false(exists(f, "dead/api.sock"));
    rundir_remove(&dir, "dead");
}

/* A machine may be made and removed while others are looked for. */
static void claims_and_walks_do_not_meet(void **state)
{
    pid_t pid = fork();
    int status;

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0) {
        unsigned int n = 0;

        for (int i = 0; i < 2000; i++) {
            if (rundir_walk(count, &n, NULL) < 0)
                _exit(1);
        }
        _exit(0);
    }
    for (int i = 0; i < 500; i++) {
        struct rundir dir;

        assert_int_equal(rundir_claim(&dir, "vm", NULL), 0);
        assert_int_equal(faccessat(dir.fd, ".", F_OK, 0), 0);
        rundir_remove(&dir, "vm");
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void sockets_have_short_addresses(void **state)
{
    struct rundir dir;
    struct sockaddr_un addr;
    int server;
    int client;

    (void)state;
    assert_int_equal(rundir_claim(&dir, "vm", NULL), 0);
    addr = rundir_address(&dir, "api.sock");
    server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(server, 1), 0);
    assert_int_equal(
        connect(client, (struct sockaddr *)&addr, sizeof(addr)), 0);
    fd_closep(&server);
    fd_closep(&client);
    rundir_remove(&dir, "vm");
}

static void without_the_variable(void **state)
{
    struct rundir dir;
    char want[64];

    (void)state;
    if (geteuid() == 0)
        return;
    assert_int_equal(unsetenv("XDG_RUNTIME_DIR"), 0);
    (void)snprintf(want, sizeof(want), "/tmp/spore-%u", (unsigned)geteuid());
    assert_int_equal(rundir_open(&dir, NULL, NULL), 0);
    assert_string_equal(dir.path, want);
    rundir_close(&dir);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ids_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(
            folders_are_made_private, setup, teardown),
        cmocka_unit_test_setup_teardown(
            foreign_folders_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(an_id_is_claimed_once, setup, teardown),
        cmocka_unit_test_setup_teardown(
            what_the_dead_left_is_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(
            claims_and_walks_do_not_meet, setup, teardown),
        cmocka_unit_test_setup_teardown(
            sockets_have_short_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(without_the_variable, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
