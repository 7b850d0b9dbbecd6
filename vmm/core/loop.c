/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/core/loop.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"

static void run_timers(void *opaque, uint32_t events);
static void run_calls(void *opaque, uint32_t events);

static int watch(
    struct loop *loop, int op, struct loop_source *src, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = src};

    return epoll_ctl(loop->epoll_fd, op, src->fd, &ev) < 0 ? -errno : 0;
}

int loop_init(struct loop *loop, struct err *err)
{
    int rc;

    *loop = (struct loop){.epoll_fd = -1};
    loop->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    loop->wake_source =
        (struct loop_source){.fd = -1, .handle = run_calls, .opaque = loop};
    loop->timer_source =
        (struct loop_source){.fd = -1, .handle = run_timers, .opaque = loop};
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        rc = err_sys(err, errno, "cannot create an epoll descriptor");
        goto fail;
    }
    loop->wake_source.fd = fd_eventfd();
    if (loop->wake_source.fd < 0) {
        rc = err_sys(err, loop->wake_source.fd, "cannot create an eventfd");
        goto fail;
    }
    loop->timer_source.fd =
        timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (loop->timer_source.fd < 0) {
        rc = err_sys(err, errno, "cannot create a timerfd");
        goto fail;
    }
    rc = loop_add(loop, &loop->wake_source, EPOLLIN);
    if (rc == 0)
        rc = loop_add(loop, &loop->timer_source, EPOLLIN);
    if (rc < 0) {
        rc = err_sys(err, rc, "cannot set up the event loop");
        goto fail;
    }
    return 0;
fail:
    loop_fini(loop);
    return rc;
}

void loop_fini(struct loop *loop)
{
    fd_closep(&loop->epoll_fd);
    fd_closep(&loop->timer_source.fd);
    fd_closep(&loop->wake_source.fd);
}

int loop_add(struct loop *loop, struct loop_source *src, uint32_t events)
{
    int rc;

    assert(!src->added && src->handle != NULL);
    rc = watch(loop, EPOLL_CTL_ADD, src, events);
    if (rc == 0)
        src->added = true;
    return rc;
}

int loop_change(struct loop *loop, struct loop_source *src, uint32_t events)
{
    assert(src->added);
    return watch(loop, EPOLL_CTL_MOD, src, events);
}

void loop_remove(struct loop *loop, struct loop_source *src)
{
    if (!src->added)
        return;
    (void)watch(loop, EPOLL_CTL_DEL, src, 0);
    /* Its events of this round may still be to come. */
    for (int i = 0; i < loop->round_count; i++) {
        if (loop->round[i].data.ptr == src)
            loop->round[i].data.ptr = NULL;
    }
    src->added = false;
}

/* Sets the timerfd to the nearest deadline, if it is not already. */
static void set_timer_fd(struct loop *loop)
{
    uint64_t at = loop->timers == NULL ? 0 : loop->timers->deadline_ns;
    struct itimerspec spec = {
        .it_value = {.tv_sec = (time_t)(at / CLOCK_NS_PER_S),
            .tv_nsec = (long)(at % CLOCK_NS_PER_S)}};
    int rc;

    if (at == loop->timer_set_ns)
        return;
    rc = timerfd_settime(loop->timer_source.fd, TFD_TIMER_ABSTIME, &spec, NULL);
    assert(rc == 0);
    (void)rc;
    loop->timer_set_ns = at;
}

static void unlink_timer(struct loop *loop, struct loop_timer *timer)
{
    struct loop_timer **at = &loop->timers;

    while (*at != timer) {
        assert(*at != NULL);
        at = &(*at)->next;
    }
    *at = timer->next;
    timer->armed = false;
}

void loop_timer_arm(
    struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns)
{
    struct loop_timer **at = &loop->timers;

    if (timer->armed)
        unlink_timer(loop, timer);
    /* 0 would switch the timerfd off; 1 ns after boot is as good. */
    timer->deadline_ns = deadline_ns == 0 ? 1 : deadline_ns;
    while (*at != NULL && (*at)->deadline_ns <= timer->deadline_ns)
        at = &(*at)->next;
    timer->next = *at;
    *at = timer;
    timer->armed = true;
    set_timer_fd(loop);
}

void loop_timer_disarm(struct loop *loop, struct loop_timer *timer)
{
    if (!timer->armed)
        return;
    unlink_timer(loop, timer);
    set_timer_fd(loop);
}

void loop_post(struct loop *loop, struct loop_call *call)
{
    bool first;

    (void)pthread_mutex_lock(&loop->lock);
    if (call->posted) {
        (void)pthread_mutex_unlock(&loop->lock);
        return;
    }
    first = loop->calls == NULL;
    call->posted = true;
    call->next = loop->calls;
    loop->calls = call;
    (void)pthread_mutex_unlock(&loop->lock);
    if (first)
        fd_eventfd_signal(loop->wake_source.fd);
}

void loop_unpost(struct loop *loop, struct loop_call *call)
{
    struct loop_call **at = &loop->calls;

    (void)pthread_mutex_lock(&loop->lock);
    while (*at != NULL && *at != call)
        at = &(*at)->next;
    if (*at == NULL)
        for (at = &loop->running; *at != NULL && *at != call;)
            at = &(*at)->next;
    if (*at != NULL) {
        *at = call->next;
        call->posted = false;
    }
    (void)pthread_mutex_unlock(&loop->lock);
}

static void run_timers(void *opaque, uint32_t events)
{
    struct loop *loop = opaque;
    uint64_t now = clock_now_ns();

    (void)events;
    (void)fd_eventfd_drain(loop->timer_source.fd);
    loop->timer_set_ns = 0;
    while (loop->timers != NULL && loop->timers->deadline_ns <= now) {
        struct loop_timer *timer = loop->timers;
        /* Kept here: the timer may be gone when its handler returns. */
        struct device *dev = timer->dev;

        unlink_timer(loop, timer);
        if (dev != NULL)
            device_lock(dev);
        timer->fire(timer->opaque);
        if (dev != NULL)
            device_unlock(dev);
    }
    set_timer_fd(loop);
}

static void run_calls(void *opaque, uint32_t events)
{
    struct loop *loop = opaque;
    struct loop_call *newest;

    (void)events;
    (void)fd_eventfd_drain(loop->wake_source.fd);
    (void)pthread_mutex_lock(&loop->lock);
    newest = loop->calls;
    loop->calls = NULL;
    while (newest != NULL) {
        struct loop_call *call = newest;

        newest = call->next;
        call->next = loop->running;
        loop->running = call;
    }
    while (loop->running != NULL) {
        struct loop_call *call = loop->running;

        loop->running = call->next;
        /* From here on it may be posted again, or freed by its run(). */
        call->posted = false;
        (void)pthread_mutex_unlock(&loop->lock);
        call->run(call->opaque);
        (void)pthread_mutex_lock(&loop->lock);
    }
    (void)pthread_mutex_unlock(&loop->lock);
}

static void handle_event(const struct epoll_event *ev)
{
    struct loop_source *src = ev->data.ptr;
    struct device *dev;

    /* An earlier handler of this round may have removed it. */
    if (src == NULL)
        return;
    dev = src->dev;
    if (dev != NULL)
        device_lock(dev);
    src->handle(src->opaque, ev->events);
    if (dev != NULL)
        device_unlock(dev);
}

int loop_run_once(struct loop *loop, int timeout_ms)
{
    int n;

    assert(loop->round_count == 0);
    n = epoll_wait(loop->epoll_fd, loop->round, LOOP_ROUND_MAX, timeout_ms);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    loop->round_count = n;
    for (int i = 0; i < n; i++)
        handle_event(&loop->round[i]);
    loop->round_count = 0;
    return 0;
}

int loop_run(struct loop *loop)
{
    int rc = 0;

    while (rc == 0 && !__atomic_load_n(&loop->stop, __ATOMIC_ACQUIRE))
        rc = loop_run_once(loop, -1);
    return rc;
}

void loop_stop(struct loop *loop)
{
    __atomic_store_n(&loop->stop, true, __ATOMIC_RELEASE);
    fd_eventfd_signal(loop->wake_source.fd);
}
