/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clones of a bare guest that is a function (tests/guests/function.c), through
 * zygote and pool.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "snapshot/store.h"
#include "tests/guests/function.h"
#include "tests/kvm/support/bare.h"
#include "vmm/base/fd.h"
#include "vmm/machine_snapshot.h"
#include "vmm/serve/pool.h"
#include "vmm/serve/zygote.h"

#define CLONES_MAX 16u
#define COOKIE     7u
#define REQUEST    "GET / HTTP/1.1\r\n\r\n"
#define HEAD_END   "\r\n\r\n"

/*
 * A thread that ends gives its signal stack back, if the address sanitizer has
 * made it one, and the jail of a clone does not allow that.
 */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "use_sigaltstack=0";
}

/* One who wants a clone, and what befell it. */
struct taker {
    struct pool_waiter waiter;
    struct clone *clone;
    bool was_refused;
    unsigned int starts;
    unsigned int closes;
    unsigned int ends;
    enum clone_end end;
};

struct fixture {
    char path[64];
    struct store store;
    struct loop loop;
    struct pool *pool;
    struct taker takers[CLONES_MAX];
};

/* ---- the snapshot -------------------------------------------------------- */

static void save_function(struct store *store)
{
    const struct machine_snapshot_options options = {.name = TEMPLATE_SNAPSHOT};
    struct bare *b = bare_prepare(&(struct bare_options){.guest = "function"});
    struct snapshot_id id;
    struct err err;

    b->config.vsock_path = strdup("/tmp/spore-test-function");
    assert_non_null(b->config.vsock_path);
    if (bare_build(b, &err) < 0)
        fail_msg("%s", err.text);
    bare_start(b);
    bare_wait_change(b, FUNCTION_MAILBOX, 0);
    machine_pause(&b->machine);
    if (machine_snapshot_paused(&b->machine, store, &options, &id, &err) < 0)
        fail_msg("%s", err.text);
    bare_free(b);
}

static int set_up_all(void **state)
{
    static struct fixture f;
    struct err err;

    (void)snprintf(f.path, sizeof(f.path), "/tmp/spore-test-XXXXXX");
    assert_non_null(mkdtemp(f.path));
    if (store_open(&f.store, f.path, true, &err) < 0)
        fail_msg("%s", err.text);
    save_function(&f.store);
    *state = &f;
    return 0;
}

static int tear_down_all(void **state)
{
    struct fixture *f = *state;
    struct snapshot_id id;

    assert_int_equal(store_find(&f->store, TEMPLATE_SNAPSHOT, &id, NULL), 0);
    assert_int_equal(store_remove(&f->store, &id, NULL), 0);
    store_close(&f->store);
    assert_int_equal(rmdir(f->path), 0);
    return 0;
}

/* ---- the pool ------------------------------------------------------------ */

static void open_pool(struct fixture *f, const struct pool_config *wanted)
{
    struct template template = {.store = f->path};
    const struct zygote_config zygote = {.template = &template};
    struct pool_config config = *wanted;
    struct err err;

    memset(f->takers, 0, sizeof(f->takers));
    config.loop = &f->loop;
    if (zygote_start(&zygote, &config.zygote_fd, &err) < 0 ||
        loop_init(&f->loop, &err) < 0 || pool_open(&config, &f->pool, &err) < 0)
        fail_msg("%s", err.text);
}

static int close_pool(void **state)
{
    struct fixture *f = *state;

    pool_close(f->pool);
    f->pool = NULL;
    loop_fini(&f->loop);
    return 0;
}

static void run_loop(struct fixture *f)
{
    assert_int_equal(loop_run_once(&f->loop, 10000), 0);
}

static void on_clone(
    void *opaque, struct clone *clone, const struct err *problem)
{
    struct taker *t = opaque;

    (void)problem;
    t->clone = clone;
    t->was_refused = clone == NULL;
}

static void on_started(void *opaque, uint64_t ns)
{
    struct taker *t = opaque;

    assert_true(ns > 0);
    t->starts++;
}

static void on_closed(void *opaque, uint32_t cookie)
{
    struct taker *t = opaque;

    assert_int_equal(cookie, COOKIE);
    t->closes++;
}

static void on_end(void *opaque, enum clone_end end, const char *text)
{
    struct taker *t = opaque;

    assert_true(text[0] != '\0');
    t->ends++;
    t->end = end;
}

static void ask(struct fixture *f, struct taker *t)
{
    struct clone *clone;
    struct err err;

    *t = (struct taker){.waiter = {.on_clone = on_clone, .opaque = t}};
    if (pool_take(f->pool, &t->waiter, &clone, &err) < 0)
        fail_msg("%s", err.text);
    if (clone != NULL)
        t->clone = clone;
}

static struct taker *take(struct fixture *f, uint32_t i)
{
    struct taker *t = &f->takers[i];
    struct clone_host host = {.on_started = on_started,
        .on_closed = on_closed,
        .on_end = on_end,
        .opaque = t};

    ask(f, t);
    while (t->clone == NULL && !t->was_refused)
        run_loop(f);
    assert_non_null(t->clone);
    clone_watch(t->clone, &host);
    return t;
}

/* Our end of a connection, on which `text` was sent. */
static int connect_with(struct taker *t, uint32_t port, const char *text)
{
    struct err err;
    int fds[2];

    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
        0);
    assert_int_equal(fd_write_full(fds[0], text, strlen(text)), 0);
    if (clone_connect(t->clone, port, fds[1], COOKIE, &err) < 0)
        fail_msg("%s", err.text);
    return fds[0];
}

/* Until the other side closes, or `want` bytes are there. */
static size_t read_all(struct fixture *f, int fd, char *buf, size_t want)
{
    size_t len = 0;

    while (len < want) {
        ssize_t n = read(fd, buf + len, want - len);

        if (n > 0) {
            len += (size_t)n;
        } else if (n == 0 || errno != EAGAIN) {
            break;
        } else {
            assert_int_equal(loop_run_once(&f->loop, 1), 0);
        }
    }
    buf[len] = '\0';
    return len;
}

/* What the function answers, which is how often it was asked. */
static void expect_first_request(struct fixture *f, struct taker *t)
{
    char answer[256];
    const char *body;
    int fd = connect_with(t, FUNCTION_HTTP, REQUEST);

    (void)read_all(f, fd, answer, sizeof(answer) - 1);
    body = strstr(answer, HEAD_END);
    assert_non_null(body);
    assert_string_equal(body + strlen(HEAD_END), "1\n");
    (void)close(fd);
}

/* ---- the tests ----------------------------------------------------------- */

static void test_one_clone(void **state)
{
    struct fixture *f = *state;
    char answer[8];
    struct taker *t;
    int fd;

    open_pool(f, &(struct pool_config){.max = 1});
    t = take(f, 0);
    assert_int_equal(t->starts, 0);
    fd = connect_with(t, FUNCTION_ECHO, "echo");
    assert_int_equal(read_all(f, fd, answer, 4), 4);
    assert_string_equal(answer, "echo");
    (void)close(fd);
    while (t->starts == 0 || t->closes == 0)
        run_loop(f);
    assert_int_equal(t->starts, 1);
    assert_int_equal(t->closes, 1);
    assert_int_equal(pool_stats(f->pool).taken, 1);
    clone_drop(t->clone);
    assert_int_equal(pool_stats(f->pool).taken, 0);
    assert_int_equal(pool_stats(f->pool).dropped, 1);
}

static void test_nobody_listens(void **state)
{
    struct fixture *f = *state;
    char answer[8];
    struct taker *t;
    int fd;

    open_pool(f, &(struct pool_config){.max = 1});
    t = take(f, 0);
    fd = connect_with(t, 1, "echo");
    while (t->closes == 0)
        run_loop(f);
    /* What it was sent and nobody has read is an error of the connection. */
    assert_int_equal(read_all(f, fd, answer, 4), 0);
    (void)close(fd);
    clone_drop(t->clone);
}

static void test_each_has_its_own(void **state)
{
    struct fixture *f = *state;

    open_pool(f, &(struct pool_config){.max = 2, .min = 2});
    for (unsigned int i = 0; i < 30; i++) {
        struct taker *t = take(f, 0);

        expect_first_request(f, t);
        clone_drop(t->clone);
    }
    assert_int_equal(pool_stats(f->pool).failures, 0);
}

static void test_recycled_is_as_new(void **state)
{
    struct fixture *f = *state;
    struct pool_stats stats;

    open_pool(f, &(struct pool_config){.max = 1, .with_resets = true});
    for (unsigned int i = 0; i < 100; i++) {
        struct taker *t = take(f, 0);

        expect_first_request(f, t);
        clone_recycle(t->clone);
    }
    while (pool_stats(f->pool).ready == 0)
        run_loop(f);
    stats = pool_stats(f->pool);
    assert_int_equal(stats.made, 1);
    assert_int_equal(stats.resets, 100);
    assert_int_equal(stats.reset_errors, 0);
}

static void test_many_at_once(void **state)
{
    struct fixture *f = *state;

    open_pool(f, &(struct pool_config){.max = CLONES_MAX});
    for (uint32_t i = 0; i < CLONES_MAX; i++)
        (void)take(f, i);
    assert_int_equal(pool_stats(f->pool).alive, CLONES_MAX);
    for (uint32_t i = 0; i < CLONES_MAX; i++)
        expect_first_request(f, &f->takers[i]);
    for (uint32_t i = 0; i < CLONES_MAX; i++)
        clone_drop(f->takers[i].clone);
    assert_int_equal(pool_stats(f->pool).alive, 0);
}

static void test_no_more_than_may_be(void **state)
{
    struct fixture *f = *state;
    struct taker *first;
    struct taker *second = &f->takers[1];
    struct taker *third = &f->takers[2];

    open_pool(f, &(struct pool_config){.max = 1});
    first = take(f, 0);
    ask(f, second);
    ask(f, third);
    assert_null(second->clone);
    assert_int_equal(pool_stats(f->pool).waiting, 2);
    /* Who does not wait any more gets none. */
    pool_cancel(f->pool, &second->waiter);
    clone_drop(first->clone);
    while (third->clone == NULL)
        run_loop(f);
    assert_null(second->clone);
    assert_int_equal(pool_stats(f->pool).alive, 1);
    clone_drop(third->clone);
}

static void end_by(struct fixture *f, const char *request, enum clone_end end)
{
    struct taker *t = take(f, 0);
    int fd = connect_with(t, FUNCTION_HTTP, request);

    while (t->ends == 0)
        run_loop(f);
    assert_int_equal(t->ends, 1);
    assert_int_equal(t->end, end);
    (void)close(fd);
    clone_drop(t->clone);
}

static void test_guests_that_end(void **state)
{
    struct fixture *f = *state;

    open_pool(f, &(struct pool_config){.max = 2});
    end_by(f, "GET /exit HTTP/1.1\r\n\r\n", CLONE_POWERED_OFF);
    end_by(f, "GET /fault HTTP/1.1\r\n\r\n", CLONE_FAILED);
    /* Others take no harm. */
    expect_first_request(f, take(f, 0));
    clone_drop(f->takers[0].clone);
}

static void test_a_process_that_is_killed(void **state)
{
    struct fixture *f = *state;
    struct taker *t;

    open_pool(f, &(struct pool_config){.max = 2, .min = 1});
    t = take(f, 0);
    assert_int_equal(kill(clone_pid(t->clone), SIGKILL), 0);
    while (t->ends == 0)
        run_loop(f);
    assert_int_equal(t->end, CLONE_KILLED);
    clone_drop(t->clone);
    expect_first_request(f, take(f, 1));
    clone_drop(f->takers[1].clone);
}

/* Whose parent `pid` is. */
static pid_t parent_of(pid_t pid)
{
    char path[64];
    char text[512];
    const char *at;
    FILE *file;
    pid_t parent = -1;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return -1;
    at = fgets(text, sizeof(text), file) == NULL ? NULL : strrchr(text, ')');
    (void)fclose(file);
    if (at != NULL)
        parent = (pid_t)strtol(at + 4, NULL, 10);
    return parent;
}

/* All that `parent` has but `spared`. */
static void kill_children(pid_t parent, pid_t spared)
{
    char path[64];
    FILE *file;
    pid_t pid;

    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)parent,
        (int)parent);
    file = fopen(path, "re");
    assert_non_null(file);
    while (fscanf(file, "%d", &pid) == 1) {
        if (pid != spared)
            assert_int_equal(kill(pid, SIGKILL), 0);
    }
    (void)fclose(file);
}

/* Even if its zygote has no time to say that it is dead. */
static void test_a_ready_one_that_is_killed(void **state)
{
    struct fixture *f = *state;
    struct taker *t;
    pid_t zygote;

    open_pool(f, &(struct pool_config){.max = 3, .min = 1});
    t = take(f, 0);
    zygote = parent_of(clone_pid(t->clone));
    while (pool_stats(f->pool).ready == 0)
        run_loop(f);
    assert_int_equal(kill(zygote, SIGSTOP), 0);
    kill_children(zygote, clone_pid(t->clone));
    for (int i = 0; i < 20 && pool_stats(f->pool).ready > 0; i++)
        assert_int_equal(loop_run_once(&f->loop, 100), 0);
    /* Whatever comes now, it is not to stay like that. */
    assert_int_equal(kill(zygote, SIGCONT), 0);
    assert_int_equal(pool_stats(f->pool).ready, 0);
    clone_drop(t->clone);
}

static void test_the_zygote_is_killed(void **state)
{
    struct fixture *f = *state;
    struct taker *t;
    struct clone *clone;
    pid_t zygote;
    pid_t pid;

    open_pool(f, &(struct pool_config){.max = 2, .min = 2});
    t = take(f, 0);
    pid = clone_pid(t->clone);
    zygote = parent_of(pid);
    assert_true(zygote > 1 && zygote != getpid());
    assert_int_equal(kill(zygote, SIGKILL), 0);
    while (t->ends == 0)
        run_loop(f);
    assert_int_equal(t->end, CLONE_KILLED);
    assert_int_equal(
        pool_take(f->pool, &f->takers[1].waiter, &clone, NULL), -EPIPE);
    clone_drop(t->clone);
    /* The kernel ends what it has made. */
    while (parent_of(pid) > 1)
        assert_int_equal(loop_run_once(&f->loop, 1), 0);
}

static void test_a_template_that_is_none(void **state)
{
    char store[] = "/nowhere";
    struct template template = {.store = store};
    const struct zygote_config zygote = {.template = &template};
    struct err err;
    int fd;

    (void)state;
    assert_int_equal(zygote_start(&zygote, &fd, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nowhere"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_one_clone, close_pool),
        cmocka_unit_test_teardown(test_nobody_listens, close_pool),
        cmocka_unit_test_teardown(test_each_has_its_own, close_pool),
        cmocka_unit_test_teardown(test_recycled_is_as_new, close_pool),
        cmocka_unit_test_teardown(test_many_at_once, close_pool),
        cmocka_unit_test_teardown(test_no_more_than_may_be, close_pool),
        cmocka_unit_test_teardown(test_guests_that_end, close_pool),
        cmocka_unit_test_teardown(test_a_process_that_is_killed, close_pool),
        cmocka_unit_test_teardown(test_a_ready_one_that_is_killed, close_pool),
        cmocka_unit_test_teardown(test_the_zygote_is_killed, close_pool),
        cmocka_unit_test(test_a_template_that_is_none),
    };
    int skip = bare_need_kvm();

    return skip != 0 ? skip
                     : cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
