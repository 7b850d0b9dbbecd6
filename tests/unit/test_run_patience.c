/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/run_state.h"

/* A machine whose agent has been waited for; nothing of it but this is used. */
static struct run run;

static void stop(void *opaque)
{
    loop_stop(opaque);
}

/* Has a loop find that the time is over; what was said to standard error. */
static void run_out_of_patience(bool has_agent, bool is_done, char text[512])
{
    struct loop_timer last = {.fire = stop, .opaque = &run.inst.loop};
    struct err err;
    uint64_t now = clock_now_ns();
    int saved = dup(STDERR_FILENO);
    int fd = memfd_create("stderr", MFD_CLOEXEC);
    ssize_t n;

    assert_true(saved >= 0 && fd >= 0);
    run = (struct run){.is_done = is_done};
    run.inst.has_agent = has_agent;
    run.patience = (struct loop_timer){.fire = run_on_patience, .opaque = &run};
    assert_int_equal(loop_init(&run.inst.loop, &err), 0);
    loop_timer_arm(&run.inst.loop, &run.patience, now);
    loop_timer_arm(&run.inst.loop, &last, now + 1);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(loop_run(&run.inst.loop), 0);
    (void)fflush(stderr);
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    loop_fini(&run.inst.loop);
    n = pread(fd, text, 511, 0);
    assert_true(n >= 0);
    text[n] = '\0';
    close(fd);
    close(saved);
}

static void test_what_to_do_is_said_once(void **state)
{
    char text[512];
    const char *end;

    (void)state;
    run_out_of_patience(false, false, text);
    assert_ptr_equal(strstr(text, "spore: run: "), text);
    assert_non_null(strstr(text, "still waiting for the guest's agent"));
    assert_non_null(strstr(text, "--console"));
    assert_non_null(strstr(text, "--timeout"));
    end = strchr(text, '\n');
    assert_non_null(end);
    assert_string_equal(end, "\n");
    /* The run goes on as before. */
    assert_false(run.is_done);
}

static void test_nothing_where_nobody_waits(void **state)
{
    char text[512];

    (void)state;
    run_out_of_patience(true, false, text);
    assert_string_equal(text, "");
    run_out_of_patience(false, true, text);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_to_do_is_said_once),
        cmocka_unit_test(test_nothing_where_nobody_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
