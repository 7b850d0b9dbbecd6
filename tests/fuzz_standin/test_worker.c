/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker in its jail and one in the test's process: they run, tell and end.
 */
#include "fuzz/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* After those. */
#include <cmocka.h>

#include "fuzz/executor.h"
#include "guest/fuzz/abi.h"
#include "tests/fuzz_standin/standin.h"
#include "vmm/base/fd.h"

#define TIMEOUT_US 50000u

static const struct jail_config jailed = {
    .level = JAIL_DEFAULT, .uid = JAIL_ID_OWN, .gid = JAIL_ID_OWN};
static const struct jail_config here = {.level = JAIL_OFF};

struct fixture {
    char dir[64];
    struct fuzz_target target;
    struct worker_options options;
    struct worker *worker;
};

static void make_root(const struct fuzz_target *target)
{
    const struct executor_options none = {.print_fd = -1};
    struct executor *ex = NULL;

    assert_int_equal(executor_boot(target, &none, &ex, NULL), 0);
    assert_int_equal(executor_save(ex, NULL), 0);
    executor_free(ex);
}

static struct fixture *make(const struct jail_config *jail)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err;

    assert_non_null(f);
    (void)strcpy(f->dir, "/tmp/spore-worker-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->target.dir = f->dir;
    f->options = (struct worker_options){.jail = jail, .print_fd = -1};
    make_root(&f->target);
    if (worker_start(&f->target, &f->options, &f->worker, NULL, &err) < 0)
        fail_msg("%s", err.text);
    return f;
}

static int setup_jailed(void **state)
{
    *state = make(&jailed);
    return 0;
}

static int setup_here(void **state)
{
    *state = make(&here);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char path[128];

    worker_stop(f->worker);
    (void)snprintf(path, sizeof(path), "%s/snapshots/root", f->dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/snapshots", f->dir);
    (void)rmdir(path);
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

static int run(struct fixture *f, const char *input, struct fuzz_result *result,
    struct err *err)
{
    return worker_run(f->worker, input, strlen(input), TIMEOUT_US, result, err);
}

static enum fuzz_verdict verdict_of(struct fixture *f, const char *input)
{
    struct fuzz_result result;
    struct err err;

    if (run(f, input, &result, &err) < 0)
        fail_msg("%s: %s", input, err.text);
    return result.verdict;
}

/* What ends the worker with this input. */
static void assert_ends(
    struct fixture *f, const char *input, int code, const char *text)
{
    struct fuzz_result result;
    struct err err;

    assert_int_equal(run(f, input, &result, &err), -code);
    if (strstr(err.text, text) == NULL)
        fail_msg("'%s' lacks '%s'", err.text, text);
}

static void test_verdicts(void **state)
{
    struct fixture *f = *state;
    struct fuzz_result result;
    struct err err;

    assert_int_equal(verdict_of(f, "nothing"), FUZZ_OK);
    assert_int_equal(verdict_of(f, ""), FUZZ_OK);
    assert_int_equal(verdict_of(f, "HANG"), FUZZ_HANG);
    assert_int_equal(verdict_of(f, "writtent"), FUZZ_INPUT_WRITE);
    assert_int_equal(verdict_of(f, "abortion"), FUZZ_ABORT);
    assert_int_equal(run(f, "FUZZ", &result, &err), 0);
    assert_int_equal(result.verdict, FUZZ_CRASH);
    assert_int_equal(result.signal, SIGSEGV);
    assert_int_equal(result.rip, 0x401234);
    assert_int_equal(verdict_of(f, "nothing"), FUZZ_OK);
}

static void test_the_map_is_of_one_run(void **state)
{
    struct fixture *f = *state;
    const uint8_t *map = worker_map(f->worker);

    assert_int_equal(worker_map_size(f->worker), 1000);
    assert_int_equal(verdict_of(f, "FU"), FUZZ_OK);
    assert_int_equal(map[10] + map[11], 2);
    assert_int_equal(map[12], 0);
    assert_int_equal(verdict_of(f, "F"), FUZZ_OK);
    assert_int_equal(map[10], 1);
    assert_int_equal(map[11], 0);
}

static void test_text(void **state)
{
    struct fixture *f = *state;
    static char text[STANDIN_REPORT + 1];

    assert_int_equal(verdict_of(f, "asanasan"), FUZZ_SANITIZER);
    assert_int_equal(worker_text_size(f->worker), STANDIN_REPORT);
    assert_int_equal(
        worker_text(f->worker, text, sizeof(text)), STANDIN_REPORT);
    assert_int_equal(text[STANDIN_REPORT - 1], 'r');
    assert_int_equal(worker_text(f->worker, text, 10), 10);
    assert_int_equal(verdict_of(f, "FUZZ"), FUZZ_CRASH);
    assert_int_equal(worker_text(f->worker, text, sizeof(text)), 28);
    assert_memory_equal(text, "stand-in: crash", 15);
    assert_int_equal(verdict_of(f, "x"), FUZZ_OK);
    assert_int_equal(worker_text(f->worker, text, sizeof(text)), 0);
}

/* The report is there for those who ask for it, until the next run. */
static void test_a_report_that_is_asked_for(void **state)
{
    struct fixture *f = *state;
    struct err err;

    worker_stop(f->worker);
    f->options.stops_at_report = true;
    assert_int_equal(
        worker_start(&f->target, &f->options, &f->worker, NULL, &err), 0);
    assert_int_equal(worker_read_on(f->worker, TIMEOUT_US, &err), 0);
    assert_int_equal(worker_text_size(f->worker), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(verdict_of(f, "asanasan"), FUZZ_SANITIZER);
        assert_int_equal(worker_text_size(f->worker), 0);
        assert_int_equal(worker_read_on(f->worker, TIMEOUT_US, &err), 0);
        assert_int_equal(worker_text_size(f->worker), STANDIN_REPORT);
        assert_int_equal(worker_read_on(f->worker, TIMEOUT_US, &err), 0);
        assert_int_equal(worker_text_size(f->worker), STANDIN_REPORT);
        assert_int_equal(verdict_of(f, "FUZZ"), FUZZ_CRASH);
        assert_int_equal(worker_read_on(f->worker, TIMEOUT_US, &err), 0);
        assert_int_equal(worker_text_size(f->worker), 28);
    }
}

static void test_input_in_place_and_too_long(void **state)
{
    struct fixture *f = *state;
    struct fuzz_result result;
    struct err err;
    size_t size = worker_input_max(f->worker) + 1;
    uint8_t *input = calloc(1, size);

    assert_non_null(input);
    memcpy(worker_input(f->worker), "FUZZ", 4);
    assert_int_equal(worker_run(f->worker, worker_input(f->worker), 4,
                         TIMEOUT_US, &result, &err),
        0);
    assert_int_equal(result.verdict, FUZZ_CRASH);
    assert_int_equal(
        worker_run(f->worker, input, size, TIMEOUT_US, &result, &err), 0);
    assert_int_equal(result.verdict, FUZZ_OK);
    free(input);
}

static void test_an_executor_that_fails(void **state)
{
    assert_ends(*state, "dyingnow", EIO, "the stand-in fails");
}

static const struct worker *to_cancel;

static void on_alarm(int signal)
{
    (void)signal;
    worker_cancel(to_cancel);
}

static void test_cancel(void **state)
{
    struct fixture *f = *state;
    struct fuzz_result result;
    struct err err;

    to_cancel = f->worker;
    worker_cancel(f->worker); /* between runs: nothing */
    assert_int_equal(verdict_of(f, "x"), FUZZ_OK);
    (void)signal(SIGALRM, on_alarm);
    (void)alarm(1);
    /* Far beyond what ctest gives a test. */
    assert_int_equal(
        worker_run(f->worker, "HANG", 4, UINT64_C(3600000000), &result, &err),
        0);
    assert_int_equal(result.verdict, FUZZ_HANG);
    (void)signal(SIGALRM, SIG_DFL);
}

/* ---- in the jail only ---------------------------------------------------- */

static void test_a_forbidden_call(void **state)
{
    assert_ends(*state, "jailfree", ESHUTDOWN, "the jail does not allow");
}

static void test_an_end(void **state)
{
    assert_ends(*state, "killdead", ESHUTDOWN, "ended with status 3");
    assert_ends(*state, "nothing", ESHUTDOWN, "ended with status 3");
}

/* As one that a guest has taken over may say anything. */
static void test_an_answer_that_is_none(void **state)
{
    assert_ends(*state, "nonsense", EPROTO, "answers with nonsense");
}

static void test_a_root_that_is_missing(void **state)
{
    struct fixture *f = *state;
    static char nowhere[] = "/nonexistent";
    struct fuzz_target none = {.dir = nowhere};
    struct worker *w = NULL;
    struct err err;

    assert_int_equal(worker_start(&none, &f->options, &w, NULL, &err), -ENOENT);
    assert_string_equal(err.text, "there is no root");
    assert_null(w);
}

static void test_a_map_of_the_callers(void **state)
{
    struct fixture *f = *state;
    struct worker_options options = f->options;
    struct worker *w = NULL;
    struct fuzz_result result;
    size_t need = 0;
    struct err err;

    options.map.size = 4096;
    options.map.at = mmap(
        NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(options.map.at, MAP_FAILED);
    assert_int_equal(worker_start(&f->target, &options, &w, &need, &err), 0);
    assert_int_equal(need, 1000);
    assert_ptr_equal(worker_map(w), options.map.at);
    assert_int_equal(worker_run(w, "F", 1, TIMEOUT_US, &result, &err), 0);
    assert_int_equal(worker_run(w, "F", 1, TIMEOUT_US, &result, &err), 0);
    /* It is the caller that clears. */
    assert_int_equal(worker_map(w)[10], 2);
    worker_stop(w);
    options.map.size = 512;
    assert_int_equal(
        worker_start(&f->target, &options, &w, &need, &err), -ENOSPC);
    assert_int_equal(need, 1000);
    (void)munmap(options.map.at, 4096);
}

/* What a caller does that is killed while its worker runs: says who that is. */
static CC_NORETURN void be_caller(struct fixture *f, int to)
{
    struct fuzz_result result;
    struct worker *w = NULL;
    struct err err;

    if (worker_start(&f->target, &f->options, &w, NULL, &err) < 0)
        _exit(1);
    (void)!write(to, "x", 1);
    (void)!worker_run(w, "HANG", 4, UINT64_C(3600000000), &result, &err);
    _exit(1);
}

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define HAS_TSAN true
#else
#define HAS_TSAN false
#endif

static void test_a_caller_that_is_killed(void **state)
{
    struct fixture *f = *state;
    char byte;
    pid_t caller;
    int link[2];

    /* Its runtime does not get over a clone in a process that was forked. */
    if (HAS_TSAN)
        skip();
    /* The worker's standard error is all that it keeps of its caller's. */
    assert_int_equal(pipe(link), 0);
    caller = fork();
    assert_true(caller >= 0);
    if (caller == 0) {
        (void)dup2(link[1], STDERR_FILENO);
        (void)close(link[0]);
        be_caller(f, link[1]);
    }
    (void)close(link[1]);
    assert_int_equal(read(link[0], &byte, 1), 1);
    assert_int_equal(kill(caller, SIGKILL), 0);
    assert_int_equal(waitpid(caller, NULL, 0), caller);
    /* The end of file comes with the end of all who could write. */
    assert_int_equal(read(link[0], &byte, 1), 0);
    (void)close(link[0]);
}

#define BOTH(test)                                                             \
    cmocka_unit_test_setup_teardown(test, setup_jailed, teardown),             \
        cmocka_unit_test_setup_teardown(test, setup_here, teardown)
#define JAILED(test)                                                           \
    cmocka_unit_test_setup_teardown(test, setup_jailed, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_verdicts),
        BOTH(test_the_map_is_of_one_run),
        BOTH(test_text),
        BOTH(test_a_report_that_is_asked_for),
        BOTH(test_input_in_place_and_too_long),
        BOTH(test_an_executor_that_fails),
        BOTH(test_cancel),
        BOTH(test_a_root_that_is_missing),
        BOTH(test_a_map_of_the_callers),
        JAILED(test_a_forbidden_call),
        JAILED(test_an_end),
        JAILED(test_an_answer_that_is_none),
        JAILED(test_a_caller_that_is_killed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
