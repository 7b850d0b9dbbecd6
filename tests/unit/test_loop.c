/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/cc.h"
#include "vmm/base/fd.h"
#include "vmm/core/loop.h"

/* An eventfd that counts its calls and may do one thing to another one. */
struct peer {
    struct loop *loop;
    struct loop_source src;
    uint32_t calls;
    uint32_t events;
    bool leaves_pending;
    bool was_locked;
    void (*act)(struct peer *self);
    struct peer *other;
    struct peer **winner;
    bool *gone;
};

static void on_event(void *opaque, uint32_t events)
{
    struct peer *p = opaque;

    p->calls++;
    p->events = events;
    if (p->src.dev != NULL)
        p->was_locked = pthread_mutex_trylock(&p->src.dev->lock) == EBUSY;
    if (!p->leaves_pending)
        (void)fd_eventfd_drain(p->src.fd);
    if (p->act != NULL)
        p->act(p);
}

static void peer_init(struct peer *p, struct loop *loop)
{
    *p = (struct peer){.loop = loop};
    p->src = (struct loop_source){
        .fd = fd_eventfd(), .handle = on_event, .opaque = p};
    assert_true(p->src.fd >= 0);
    assert_int_equal(loop_add(loop, &p->src, EPOLLIN), 0);
}

static void peer_fini(struct peer *p)
{
    loop_remove(p->loop, &p->src);
    fd_closep(&p->src.fd);
}

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

static void test_descriptors_are_close_on_exec(void **state)
{
    const struct loop *loop = *state;
    const int fds[] = {
        loop->epoll_fd, loop->timer_source.fd, loop->wake_source.fd};

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        assert_int_equal(fcntl(fds[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

static void test_event_calls_its_handler(void **state)
{
    struct loop *loop = *state;
    struct peer a;
    struct peer b;

    peer_init(&a, loop);
    peer_init(&b, loop);
    run_round(loop);
    assert_int_equal(a.calls + b.calls, 0);
    fd_eventfd_signal(b.src.fd);
    run_round(loop);
    assert_int_equal(a.calls, 0);
    assert_int_equal(b.calls, 1);
    assert_int_equal(b.events, EPOLLIN);
    run_round(loop);
    assert_int_equal(b.calls, 1);
    peer_fini(&a);
    peer_fini(&b);
}

static void test_sources_are_level_triggered(void **state)
{
    struct loop *loop = *state;
    struct peer p;

    peer_init(&p, loop);
    p.leaves_pending = true;
    fd_eventfd_signal(p.src.fd);
    run_round(loop);
    run_round(loop);
    run_round(loop);
    assert_int_equal(p.calls, 3);
    peer_fini(&p);
}

static void test_change_of_events(void **state)
{
    struct loop *loop = *state;
    struct peer p;

    peer_init(&p, loop);
    fd_eventfd_signal(p.src.fd);
    assert_int_equal(loop_change(loop, &p.src, 0), 0);
    run_round(loop);
    assert_int_equal(p.calls, 0);
    assert_int_equal(loop_change(loop, &p.src, EPOLLOUT), 0);
    run_round(loop);
    assert_int_equal(p.calls, 1);
    assert_int_equal(p.events, EPOLLOUT);
    peer_fini(&p);
}

static void test_add_of_a_bad_descriptor(void **state)
{
    struct loop *loop = *state;
    struct loop_source bad = {.fd = -1, .handle = on_event};
    int file = memfd_create("file", MFD_CLOEXEC);
    struct loop_source regular = {.fd = file, .handle = on_event};

    assert_int_equal(loop_add(loop, &bad, EPOLLIN), -EBADF);
    assert_false(bad.added);
    loop_remove(loop, &bad);
    assert_int_equal(loop_add(loop, &regular, EPOLLIN), -EPERM);
    assert_false(regular.added);
    fd_closep(&file);
}

static void test_removed_source_is_silent(void **state)
{
    struct loop *loop = *state;
    struct peer p;

    peer_init(&p, loop);
    fd_eventfd_signal(p.src.fd);
    loop_remove(loop, &p.src);
    assert_false(p.src.added);
    loop_remove(loop, &p.src);
    run_round(loop);
    assert_int_equal(p.calls, 0);
    assert_int_equal(loop_add(loop, &p.src, EPOLLIN), 0);
    run_round(loop);
    assert_int_equal(p.calls, 1);
    peer_fini(&p);
}

static void remove_other(struct peer *self)
{
    loop_remove(self->loop, &self->other->src);
}

/*
 * Both are ready in one round and each removes the other: whichever comes
 * first, the second must not be called any more.
 */
static void test_handler_removes_another_of_its_round(void **state)
{
    struct loop *loop = *state;
    struct peer a;
    struct peer b;

    peer_init(&a, loop);
    peer_init(&b, loop);
    a.act = remove_other;
    a.other = &b;
    b.act = remove_other;
    b.other = &a;
    fd_eventfd_signal(a.src.fd);
    fd_eventfd_signal(b.src.fd);
    run_round(loop);
    assert_int_equal(a.calls + b.calls, 1);
    assert_true(a.src.added != b.src.added);
    run_round(loop);
    assert_int_equal(a.calls + b.calls, 1);
    peer_fini(&a);
    peer_fini(&b);
}

static void remove_and_free_other(struct peer *self)
{
    if (self->other == NULL)
        return;
    peer_fini(self->other);
    free(self->other);
    self->other = NULL;
    *self->winner = self;
}

/* As above with the loser's memory gone: a stale pointer is caught. */
static void test_removed_source_may_be_freed(void **state)
{
    struct loop *loop = *state;
    struct peer *winner = NULL;
    struct peer *p[2];

    for (int i = 0; i < 2; i++) {
        p[i] = malloc(sizeof(*p[i]));
        assert_non_null(p[i]);
        peer_init(p[i], loop);
        p[i]->act = remove_and_free_other;
        p[i]->winner = &winner;
        fd_eventfd_signal(p[i]->src.fd);
    }
    p[0]->other = p[1];
    p[1]->other = p[0];
    run_round(loop);
    assert_non_null(winner);
    assert_int_equal(winner->calls, 1);
    fd_eventfd_signal(winner->src.fd);
    run_round(loop);
    assert_int_equal(winner->calls, 2);
    peer_fini(winner);
    free(winner);
}

static void remove_self(struct peer *self)
{
    loop_remove(self->loop, &self->src);
}

static void remove_and_free_self(struct peer *self)
{
    *self->gone = true;
    peer_fini(self);
    free(self);
}

static void test_handler_removes_itself(void **state)
{
    struct loop *loop = *state;
    struct peer *heap = malloc(sizeof(*heap));
    bool gone = false;
    struct peer p;

    peer_init(&p, loop);
    p.act = remove_self;
    p.leaves_pending = true;
    fd_eventfd_signal(p.src.fd);
    run_round(loop);
    run_round(loop);
    assert_int_equal(p.calls, 1);
    peer_fini(&p);

    assert_non_null(heap);
    peer_init(heap, loop);
    heap->act = remove_and_free_self;
    heap->gone = &gone;
    fd_eventfd_signal(heap->src.fd);
    run_round(loop);
    assert_true(gone);
    run_round(loop);
}

static void readd_other(struct peer *self)
{
    loop_remove(self->loop, &self->other->src);
    assert_int_equal(loop_add(self->loop, &self->other->src, EPOLLIN), 0);
}

/* The events of the round are those of the source before it was removed. */
static void test_readded_source_waits_for_the_next_round(void **state)
{
    struct loop *loop = *state;
    struct peer a;
    struct peer b;

    peer_init(&a, loop);
    peer_init(&b, loop);
    a.act = readd_other;
    a.other = &b;
    b.act = readd_other;
    b.other = &a;
    fd_eventfd_signal(a.src.fd);
    fd_eventfd_signal(b.src.fd);
    run_round(loop);
    assert_int_equal(a.calls + b.calls, 1);
    run_round(loop);
    assert_int_equal(a.calls, 1);
    assert_int_equal(b.calls, 1);
    peer_fini(&a);
    peer_fini(&b);
}

#define CROWD (3 * LOOP_ROUND_MAX)

static void test_more_sources_than_a_round_holds(void **state)
{
    static struct peer crowd[CROWD];
    struct loop *loop = *state;

    for (int i = 0; i < CROWD; i++) {
        peer_init(&crowd[i], loop);
        fd_eventfd_signal(crowd[i].src.fd);
    }
    for (int i = 0; i < CROWD / LOOP_ROUND_MAX; i++)
        run_round(loop);
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(crowd[i].calls, 1);
        peer_fini(&crowd[i]);
    }
}

struct nothing {
    struct device dev;
    uint8_t state;
};

static void test_device_is_locked_around_handlers(void **state)
{
    static const struct device_ops ops = {0};
    struct loop *loop = *state;
    struct nothing n;
    struct peer p;

    device_init(&n.dev, &ops, "nothing", &n.state);
    peer_init(&p, loop);
    p.src.dev = &n.dev;
    fd_eventfd_signal(p.src.fd);
    run_round(loop);
    assert_int_equal(p.calls, 1);
    assert_true(p.was_locked);
    assert_int_equal(pthread_mutex_trylock(&n.dev.lock), 0);
    device_unlock(&n.dev);
    peer_fini(&p);
}

static void stop_loop(struct peer *self)
{
    loop_stop(self->loop);
}

static void test_stop_from_a_handler(void **state)
{
    struct loop *loop = *state;
    struct peer p;

    peer_init(&p, loop);
    p.act = stop_loop;
    fd_eventfd_signal(p.src.fd);
    assert_int_equal(loop_run(loop), 0);
    assert_int_equal(p.calls, 1);
    peer_fini(&p);
}

static void test_stop_before_run(void **state)
{
    struct loop *loop = *state;

    loop_stop(loop);
    assert_int_equal(loop_run(loop), 0);
}

static void test_fini_twice(void **state)
{
    struct loop *loop = *state;

    loop_fini(loop);
    assert_int_equal(loop->epoll_fd, -1);
    loop_fini(loop);
}

#define LOOP_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_descriptors_are_close_on_exec),
        LOOP_TEST(test_event_calls_its_handler),
        LOOP_TEST(test_sources_are_level_triggered),
        LOOP_TEST(test_change_of_events),
        LOOP_TEST(test_add_of_a_bad_descriptor),
        LOOP_TEST(test_removed_source_is_silent),
        LOOP_TEST(test_handler_removes_another_of_its_round),
        LOOP_TEST(test_removed_source_may_be_freed),
        LOOP_TEST(test_handler_removes_itself),
        LOOP_TEST(test_readded_source_waits_for_the_next_round),
        LOOP_TEST(test_more_sources_than_a_round_holds),
        LOOP_TEST(test_device_is_locked_around_handlers),
        LOOP_TEST(test_stop_from_a_handler),
        LOOP_TEST(test_stop_before_run),
        LOOP_TEST(test_fini_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
