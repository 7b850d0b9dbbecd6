/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>

#include "vmm/base/thread.h"

struct seen {
    sigset_t mask;
    size_t stack_bytes;
};

static void *look(void *opaque)
{
    struct seen *seen = opaque;
    pthread_attr_t attr;
    void *at;

    (void)pthread_sigmask(SIG_SETMASK, NULL, &seen->mask);
    (void)pthread_getattr_np(pthread_self(), &attr);
    (void)pthread_attr_getstack(&attr, &at, &seen->stack_bytes);
    (void)pthread_attr_destroy(&attr);
    return seen;
}

static void run(const struct thread_config *config)
{
    void *result = NULL;
    pthread_t thread;
    sigset_t before;
    sigset_t after;

    (void)pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(thread_start(&thread, config), 0);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int i = 1; i < SIGRTMAX; i++)
        assert_int_equal(sigismember(&after, i), sigismember(&before, i));
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, config->opaque);
}

static void test_signals_are_blocked_but_one(void **state)
{
    struct seen seen;

    (void)state;
    run(&(struct thread_config){.run = look, .opaque = &seen});
    assert_int_equal(sigismember(&seen.mask, SIGTERM), 1);
    assert_int_equal(sigismember(&seen.mask, SIGRTMIN), 1);
    run(&(struct thread_config){
        .run = look, .opaque = &seen, .signal = SIGRTMIN});
    assert_int_equal(sigismember(&seen.mask, SIGTERM), 1);
    assert_int_equal(sigismember(&seen.mask, SIGRTMIN), 0);
}

static void test_stack(void **state)
{
    struct seen seen;
    pthread_t thread;

    (void)state;
    run(&(struct thread_config){
        .run = look, .opaque = &seen, .stack_bytes = 256 * 1024});
    assert_int_equal(seen.stack_bytes, 256 * 1024);
    run(&(struct thread_config){.run = look, .opaque = &seen});
    assert_true(seen.stack_bytes > 256 * 1024);
    assert_int_equal(thread_start(&thread,
                         &(struct thread_config){
                             .run = look, .opaque = &seen, .stack_bytes = 1}),
        -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signals_are_blocked_but_one),
        cmocka_unit_test(test_stack),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
