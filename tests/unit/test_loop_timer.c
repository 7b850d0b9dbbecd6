/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/cc.h"
#include "vmm/base/clock.h"
#include "vmm/core/loop.h"

static int setup(void **state)
{
    struct loop *loop = malloc(sizeof(*loop));

    if (loop == NULL || loop_init(loop, NULL) < 0)
        return -1;
    *state = loop;
    return 0;
}

static int teardown(void **state)
{
    loop_fini(*state);
    free(*state);
    return 0;
}

static void run_round(struct loop *loop)
{
    assert_int_equal(loop_run_once(loop, 0), 0);
}

struct nothing {
    struct device dev;
    uint8_t state;
};

/* Timers append their letter to a common string. */
struct trace {
    struct loop *loop;
    char text[64];
    size_t len;
};

struct alarm {
    struct loop_timer timer;
    struct trace *trace;
    char letter;
    bool was_locked;
    void (*act)(struct alarm *self);
    struct alarm *other;
    uint32_t rearms;
};

static void on_alarm(void *opaque)
{
    struct alarm *a = opaque;

    assert_false(a->timer.armed);
    assert_true(a->trace->len < sizeof(a->trace->text) - 1);
    a->trace->text[a->trace->len++] = a->letter;
    if (a->timer.dev != NULL)
        a->was_locked = pthread_mutex_trylock(&a->timer.dev->lock) == EBUSY;
    if (a->act != NULL)
        a->act(a);
}

static void alarm_init(struct alarm *a, struct trace *trace, char letter)
{
    *a = (struct alarm){.trace = trace, .letter = letter};
    a->timer = (struct loop_timer){.fire = on_alarm, .opaque = a};
}

/* Runs rounds until `len` letters are there; the deadlines are near. */
static void run_until(struct trace *t, size_t len)
{
    for (int i = 0; i < 1000 && t->len < len; i++)
        assert_int_equal(loop_run_once(t->loop, 1000), 0);
    assert_int_equal(t->len, len);
}

static void test_timers_fire_by_deadline(void **state)
{
    struct trace t = {.loop = *state};
    uint64_t now = clock_now_ns();
    struct alarm a;
    struct alarm b;
    struct alarm c;
    struct alarm d;

    alarm_init(&a, &t, 'a');
    alarm_init(&b, &t, 'b');
    alarm_init(&c, &t, 'c');
    alarm_init(&d, &t, 'd');
    loop_timer_arm(t.loop, &c.timer, now + 3000000);
    loop_timer_arm(t.loop, &a.timer, now + 1000000);
    loop_timer_arm(t.loop, &d.timer, now + 3000000);
    loop_timer_arm(t.loop, &b.timer, now + 2000000);
    run_until(&t, 4);
    /* Equal deadlines keep the order of arming. */
    assert_string_equal(t.text, "abcd");
    assert_true(clock_now_ns() >= now + 3000000);
    assert_null(t.loop->timers);
}

static void test_timer_is_never_early(void **state)
{
    struct trace t = {.loop = *state};
    uint64_t deadline = clock_now_ns() + 20 * CLOCK_NS_PER_MS;
    struct alarm a;

    alarm_init(&a, &t, 'a');
    loop_timer_arm(t.loop, &a.timer, deadline);
    while (t.len == 0) {
        assert_true(a.timer.armed);
        assert_int_equal(loop_run_once(t.loop, -1), 0);
    }
    assert_true(clock_now_ns() >= deadline);
}

static void test_past_and_zero_deadlines_fire_at_once(void **state)
{
    struct trace t = {.loop = *state};
    struct alarm a;
    struct alarm b;

    alarm_init(&a, &t, 'a');
    alarm_init(&b, &t, 'b');
    loop_timer_arm(t.loop, &a.timer, clock_now_ns() - 1);
    loop_timer_arm(t.loop, &b.timer, 0);
    run_until(&t, 2);
    assert_string_equal(t.text, "ba");
}

static void test_far_deadline_does_not_fire(void **state)
{
    struct trace t = {.loop = *state};
    struct alarm a;

    alarm_init(&a, &t, 'a');
    loop_timer_arm(t.loop, &a.timer, UINT64_MAX);
    run_round(t.loop);
    assert_true(a.timer.armed);
    loop_timer_arm(t.loop, &a.timer, clock_now_ns() + 3600 * CLOCK_NS_PER_S);
    run_round(t.loop);
    assert_true(a.timer.armed);
    assert_int_equal(t.len, 0);
    loop_timer_disarm(t.loop, &a.timer);
}

static void test_disarmed_timer_is_silent(void **state)
{
    struct trace t = {.loop = *state};
    struct alarm a;
    struct alarm b;

    alarm_init(&a, &t, 'a');
    alarm_init(&b, &t, 'b');
    loop_timer_disarm(t.loop, &a.timer);
    loop_timer_arm(t.loop, &a.timer, 1);
    loop_timer_arm(t.loop, &b.timer, 2);
    loop_timer_disarm(t.loop, &a.timer);
    assert_false(a.timer.armed);
    loop_timer_disarm(t.loop, &a.timer);
    run_until(&t, 1);
    run_round(t.loop);
    assert_string_equal(t.text, "b");
    /* The last one gone, the descriptor is quiet. */
    loop_timer_arm(t.loop, &a.timer, 1);
    loop_timer_disarm(t.loop, &a.timer);
    run_round(t.loop);
    assert_string_equal(t.text, "b");
}

static void test_rearming_moves_a_timer(void **state)
{
    struct trace t = {.loop = *state};
    uint64_t now = clock_now_ns();
    struct alarm a;
    struct alarm b;

    alarm_init(&a, &t, 'a');
    alarm_init(&b, &t, 'b');
    loop_timer_arm(t.loop, &a.timer, now + 1000);
    loop_timer_arm(t.loop, &b.timer, now + 2000);
    loop_timer_arm(t.loop, &a.timer, now + 3000);
    loop_timer_arm(t.loop, &a.timer, now + 4000);
    run_until(&t, 2);
    run_round(t.loop);
    assert_string_equal(t.text, "ba");
}

static void rearm_self(struct alarm *self)
{
    if (self->rearms-- > 0)
        loop_timer_arm(self->trace->loop, &self->timer, clock_now_ns() + 1000);
}

static void test_timer_rearms_itself(void **state)
{
    struct trace t = {.loop = *state};
    struct alarm a;

    alarm_init(&a, &t, 'a');
    a.act = rearm_self;
    a.rearms = 4;
    loop_timer_arm(t.loop, &a.timer, clock_now_ns());
    run_until(&t, 5);
    run_round(t.loop);
    assert_string_equal(t.text, "aaaaa");
    assert_false(a.timer.armed);
}

static void disarm_other(struct alarm *self)
{
    loop_timer_disarm(self->trace->loop, &self->other->timer);
}

/* Both are due when the first one fires. */
static void test_timer_disarms_another_that_is_due(void **state)
{
    struct trace t = {.loop = *state};
    struct alarm a;
    struct alarm b;
    struct alarm c;

    alarm_init(&a, &t, 'a');
    alarm_init(&b, &t, 'b');
    alarm_init(&c, &t, 'c');
    a.act = disarm_other;
    a.other = &b;
    loop_timer_arm(t.loop, &a.timer, 1);
    loop_timer_arm(t.loop, &b.timer, 2);
    loop_timer_arm(t.loop, &c.timer, 3);
    run_until(&t, 2);
    run_round(t.loop);
    assert_string_equal(t.text, "ac");
}

static void postpone_other(struct alarm *self)
{
    loop_timer_arm(self->trace->loop, &self->other->timer,
        clock_now_ns() + CLOCK_NS_PER_MS);
}

static void test_timer_postpones_another_that_is_due(void **state)
{
    struct trace t = {.loop = *state};
    struct alarm a;
    struct alarm b;
    struct alarm c;

    alarm_init(&a, &t, 'a');
    alarm_init(&b, &t, 'b');
    alarm_init(&c, &t, 'c');
    a.act = postpone_other;
    a.other = &b;
    loop_timer_arm(t.loop, &a.timer, 1);
    loop_timer_arm(t.loop, &b.timer, 2);
    loop_timer_arm(t.loop, &c.timer, 3);
    run_until(&t, 3);
    assert_string_equal(t.text, "acb");
}

static void arm_and_disarm_other(struct alarm *self)
{
    loop_timer_arm(self->trace->loop, &self->other->timer, 1);
    loop_timer_disarm(self->trace->loop, &self->other->timer);
}

static void test_armed_and_disarmed_in_a_handler(void **state)
{
    struct trace t = {.loop = *state};
    struct alarm a;
    struct alarm b;

    alarm_init(&a, &t, 'a');
    alarm_init(&b, &t, 'b');
    a.act = arm_and_disarm_other;
    a.other = &b;
    loop_timer_arm(t.loop, &a.timer, 1);
    run_until(&t, 1);
    run_round(t.loop);
    assert_string_equal(t.text, "a");
    /* The timer descriptor still works afterwards. */
    loop_timer_arm(t.loop, &b.timer, clock_now_ns() + 1000);
    run_until(&t, 2);
    assert_string_equal(t.text, "ab");
}

static void free_self(struct alarm *self)
{
    free(self);
}

static void test_timer_may_be_freed_by_its_handler(void **state)
{
    struct trace t = {.loop = *state};
    struct alarm *a = malloc(sizeof(*a));

    assert_non_null(a);
    alarm_init(a, &t, 'a');
    a->act = free_self;
    loop_timer_arm(t.loop, &a->timer, 1);
    run_until(&t, 1);
    assert_string_equal(t.text, "a");
}

static void test_device_is_locked_around_timers(void **state)
{
    static const struct device_ops ops = {0};
    struct trace t = {.loop = *state};
    struct nothing n;
    struct alarm a;

    device_init(&n.dev, &ops, "nothing", &n.state);
    alarm_init(&a, &t, 'a');
    a.timer.dev = &n.dev;
    loop_timer_arm(t.loop, &a.timer, 1);
    run_until(&t, 1);
    assert_true(a.was_locked);
    assert_int_equal(pthread_mutex_trylock(&n.dev.lock), 0);
    device_unlock(&n.dev);
}

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(*seed >> 33);
}

#define ALARMS 26

/* Random arming in the past: what fires, and in which order, is known. */
static void test_random_timers_match_a_model(void **state)
{
    struct trace t = {.loop = *state};
    struct alarm alarms[ALARMS];
    uint64_t seed = 5;

    for (int round = 0; round < 200; round++) {
        uint64_t deadline[ALARMS] = {0};
        uint64_t order[ALARMS] = {0};
        char want[ALARMS + 1] = "";
        size_t count = 0;

        memset(t.text, 0, sizeof(t.text));
        t.len = 0;
        for (int i = 0; i < ALARMS; i++)
            alarm_init(&alarms[i], &t, (char)('a' + i));
        for (uint64_t step = 1; step < 60; step++) {
            uint32_t i = next_random(&seed) % ALARMS;

            deadline[i] =
                next_random(&seed) % 3 == 0 ? 0 : 1 + next_random(&seed) % 9;
            order[i] = step;
            if (deadline[i] == 0)
                loop_timer_disarm(t.loop, &alarms[i].timer);
            else
                loop_timer_arm(t.loop, &alarms[i].timer, deadline[i]);
        }
        for (uint64_t due = 1; due < 10; due++) {
            for (uint64_t step = 1; step < 60; step++) {
                for (int i = 0; i < ALARMS; i++) {
                    if (deadline[i] == due && order[i] == step)
                        want[count++] = (char)('a' + i);
                }
            }
        }
        run_until(&t, count);
        assert_string_equal(t.text, want);
        run_round(t.loop);
        assert_int_equal(t.len, count);
    }
}

#define LOOP_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_timers_fire_by_deadline),
        LOOP_TEST(test_timer_is_never_early),
        LOOP_TEST(test_past_and_zero_deadlines_fire_at_once),
        LOOP_TEST(test_far_deadline_does_not_fire),
        LOOP_TEST(test_disarmed_timer_is_silent),
        LOOP_TEST(test_rearming_moves_a_timer),
        LOOP_TEST(test_timer_rearms_itself),
        LOOP_TEST(test_timer_disarms_another_that_is_due),
        LOOP_TEST(test_timer_postpones_another_that_is_due),
        LOOP_TEST(test_armed_and_disarmed_in_a_handler),
        LOOP_TEST(test_timer_may_be_freed_by_its_handler),
        LOOP_TEST(test_device_is_locked_around_timers),
        LOOP_TEST(test_random_timers_match_a_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
