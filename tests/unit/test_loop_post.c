/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/cc.h"
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

struct trace {
    struct loop *loop;
    char text[64];
    size_t len;
};

/* Posted calls append their letter, too. */
struct note {
    struct loop_call call;
    struct trace *trace;
    char letter;
    void (*act)(struct note *self);
    struct note *other;
};

static void on_note(void *opaque)
{
    struct note *n = opaque;

    n->trace->text[n->trace->len++] = n->letter;
    if (n->act != NULL)
        n->act(n);
}

static void note_init(struct note *n, struct trace *trace, char letter)
{
    *n = (struct note){.trace = trace, .letter = letter};
    n->call = (struct loop_call){.run = on_note, .opaque = n};
}

static void test_posts_run_once_in_order(void **state)
{
    struct trace t = {.loop = *state};
    struct note a;
    struct note b;
    struct note c;

    note_init(&a, &t, 'a');
    note_init(&b, &t, 'b');
    note_init(&c, &t, 'c');
    loop_post(t.loop, &b.call);
    loop_post(t.loop, &a.call);
    loop_post(t.loop, &b.call);
    loop_post(t.loop, &c.call);
    run_round(t.loop);
    assert_string_equal(t.text, "bac");
    run_round(t.loop);
    assert_string_equal(t.text, "bac");
    loop_post(t.loop, &a.call);
    run_round(t.loop);
    assert_string_equal(t.text, "baca");
}

static void post_self_once(struct note *self)
{
    self->act = NULL;
    loop_post(self->trace->loop, &self->call);
}

static void test_call_posts_itself_for_the_next_round(void **state)
{
    struct trace t = {.loop = *state};
    struct note a;
    struct note b;

    note_init(&a, &t, 'a');
    note_init(&b, &t, 'b');
    a.act = post_self_once;
    loop_post(t.loop, &a.call);
    loop_post(t.loop, &b.call);
    run_round(t.loop);
    assert_string_equal(t.text, "ab");
    run_round(t.loop);
    assert_string_equal(t.text, "aba");
}

static void post_other(struct note *self)
{
    loop_post(self->trace->loop, &self->other->call);
}

/* It still is to come in this round: a second post adds nothing. */
static void test_call_posts_one_that_is_pending(void **state)
{
    struct trace t = {.loop = *state};
    struct note a;
    struct note b;

    note_init(&a, &t, 'a');
    note_init(&b, &t, 'b');
    a.act = post_other;
    a.other = &b;
    loop_post(t.loop, &a.call);
    loop_post(t.loop, &b.call);
    run_round(t.loop);
    run_round(t.loop);
    assert_string_equal(t.text, "ab");
}

static void free_note(struct note *self)
{
    free(self);
}

static void test_call_may_be_freed_by_its_run(void **state)
{
    struct trace t = {.loop = *state};
    struct note *a = malloc(sizeof(*a));
    struct note b;

    assert_non_null(a);
    note_init(a, &t, 'a');
    note_init(&b, &t, 'b');
    a->act = free_note;
    loop_post(t.loop, &a->call);
    loop_post(t.loop, &b.call);
    run_round(t.loop);
    assert_string_equal(t.text, "ab");
}

static void test_unposted_call_does_not_run(void **state)
{
    struct trace t = {.loop = *state};
    struct note notes[3];

    for (int gone = 0; gone < 3; gone++) {
        memset(t.text, 0, sizeof(t.text));
        t.len = 0;
        for (int i = 0; i < 3; i++) {
            note_init(&notes[i], &t, (char)('a' + i));
            loop_post(t.loop, &notes[i].call);
        }
        loop_unpost(t.loop, &notes[gone].call);
        run_round(t.loop);
        assert_string_equal(
            t.text, gone == 0 ? "bc" : (gone == 1 ? "ac" : "ab"));
    }
}

static void unpost_other(struct note *self)
{
    loop_unpost(self->trace->loop, &self->other->call);
}

/* It was taken into the same round already, first, between or last. */
static void test_call_unposts_one_that_is_pending(void **state)
{
    struct trace t = {.loop = *state};
    struct note notes[3];

    for (int gone = 1; gone < 3; gone++) {
        memset(t.text, 0, sizeof(t.text));
        t.len = 0;
        for (int i = 0; i < 3; i++) {
            note_init(&notes[i], &t, (char)('a' + i));
            loop_post(t.loop, &notes[i].call);
        }
        notes[0].act = unpost_other;
        notes[0].other = &notes[gone];
        run_round(t.loop);
        run_round(t.loop);
        assert_string_equal(t.text, gone == 1 ? "ac" : "ab");
        assert_false(notes[gone].call.posted);
    }
}

static void test_unpost_of_an_idle_call(void **state)
{
    struct trace t = {.loop = *state};
    struct note a;
    struct note b;

    note_init(&a, &t, 'a');
    note_init(&b, &t, 'b');
    loop_unpost(t.loop, &a.call);
    loop_post(t.loop, &b.call);
    loop_unpost(t.loop, &a.call);
    run_round(t.loop);
    assert_string_equal(t.text, "b");
}

static void test_unposted_call_can_be_posted_again(void **state)
{
    struct trace t = {.loop = *state};
    struct note a;

    note_init(&a, &t, 'a');
    loop_post(t.loop, &a.call);
    loop_unpost(t.loop, &a.call);
    loop_post(t.loop, &a.call);
    run_round(t.loop);
    run_round(t.loop);
    assert_string_equal(t.text, "a");
}

/*
 * Each thread posts its own call and waits until it has run, many times: a
 * lost wake-up or a lost call would hang the test.
 */
#define POSTERS 4
#define POSTS   500

struct poster {
    struct loop *loop;
    struct loop_call call;
    uint32_t runs; /* atomic */
    uint32_t *finished;
};

static void on_post(void *opaque)
{
    struct poster *p = opaque;

    (void)__atomic_add_fetch(&p->runs, 1, __ATOMIC_RELEASE);
}

static void *run_poster(void *opaque)
{
    struct poster *p = opaque;

    for (uint32_t i = 0; i < POSTS; i++) {
        loop_post(p->loop, &p->call);
        while (__atomic_load_n(&p->runs, __ATOMIC_ACQUIRE) == i)
            (void)sched_yield();
    }
    if (__atomic_add_fetch(p->finished, 1, __ATOMIC_ACQ_REL) == POSTERS)
        loop_stop(p->loop);
    return NULL;
}

static void test_posts_from_threads_are_not_lost(void **state)
{
    struct poster posters[POSTERS];
    pthread_t threads[POSTERS];
    struct loop *loop = *state;
    uint32_t finished = 0;

    for (int i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){.loop = loop, .finished = &finished};
        posters[i].call =
            (struct loop_call){.run = on_post, .opaque = &posters[i]};
        assert_int_equal(
            pthread_create(&threads[i], NULL, run_poster, &posters[i]), 0);
    }
    assert_int_equal(loop_run(loop), 0);
    for (int i = 0; i < POSTERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(posters[i].runs, POSTS);
    }
}

/* Many threads, one call: it runs at least once after the last post. */
struct shared_call {
    struct loop *loop;
    struct loop_call call;
    uint32_t posted; /* atomic: posts begun */
    uint32_t seen;   /* loop's thread: `posted` when it last ran */
};

static void on_shared(void *opaque)
{
    struct shared_call *s = opaque;

    s->seen = __atomic_load_n(&s->posted, __ATOMIC_ACQUIRE);
    if (s->seen == POSTERS * POSTS)
        loop_stop(s->loop);
}

static void *post_shared(void *opaque)
{
    struct shared_call *s = opaque;

    for (int i = 0; i < POSTS; i++) {
        (void)__atomic_add_fetch(&s->posted, 1, __ATOMIC_ACQ_REL);
        loop_post(s->loop, &s->call);
    }
    return NULL;
}

static void test_threads_share_one_call(void **state)
{
    struct shared_call s = {.loop = *state};
    pthread_t threads[POSTERS];

    s.call = (struct loop_call){.run = on_shared, .opaque = &s};
    for (int i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_shared, &s), 0);
    assert_int_equal(loop_run(s.loop), 0);
    for (int i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(s.seen, POSTERS * POSTS);
}

#define LOOP_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_posts_run_once_in_order),
        LOOP_TEST(test_call_posts_itself_for_the_next_round),
        LOOP_TEST(test_call_posts_one_that_is_pending),
        LOOP_TEST(test_call_may_be_freed_by_its_run),
        LOOP_TEST(test_posts_from_threads_are_not_lost),
        LOOP_TEST(test_threads_share_one_call),
        LOOP_TEST(test_unposted_call_does_not_run),
        LOOP_TEST(test_call_unposts_one_that_is_pending),
        LOOP_TEST(test_unpost_of_an_idle_call),
        LOOP_TEST(test_unposted_call_can_be_posted_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
