/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of the I/O thread: descriptors, timers and posted calls.
 *
 * Sources are embedded in their owners, the loop allocates nothing. A source
 * with a device gets its handler called with that device's lock held.
 *
 * Thread rule: loop_post and loop_stop from any thread; everything else from
 * the thread that runs the loop, or before it runs. A handler may remove any
 * source, its own included. Timers fire at or after their time.
 */
#ifndef VMM_CORE_LOOP_H
#define VMM_CORE_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/device.h"

struct loop;

struct loop_source {
    int fd; /* borrowed; must stay open while added */
    void (*handle)(void *opaque, uint32_t events);
    void *opaque;
    struct device *dev; /* locked around `handle`, or NULL */
    bool added;
};

struct loop_timer {
    void (*fire)(void *opaque);
    void *opaque;
    struct device *dev;   /* locked around `fire`, or NULL */
    uint64_t deadline_ns; /* loop's own */
    struct loop_timer *next;
    bool armed;
};

/* A call to be made on the loop's thread; embedded, posted at most once. */
struct loop_call {
    void (*run)(void *opaque);
    void *opaque;
    struct loop_call *next; /* loop's own */
    bool posted;            /* loop's own, under its lock */
};

#define LOOP_ROUND_MAX 32

struct loop {
    int epoll_fd;
    struct loop_source timer_source;
    struct loop_source wake_source;
    uint64_t timer_set_ns;     /* what the timerfd is set to, 0 if off */
    struct loop_timer *timers; /* by deadline */
    int round_count;           /* events in `round`, 0 between rounds */
    struct epoll_event round[LOOP_ROUND_MAX];
    pthread_mutex_t lock;
    struct loop_call *calls;   /* newest first; under lock */
    struct loop_call *running; /* of this round, oldest first; under lock */
    bool stop;                 /* atomic */
};

CC_MUST_CHECK int loop_init(struct loop *loop, struct err *err);
void loop_fini(struct loop *loop);

/* Watches src->fd for `events` (EPOLLIN, ...), level-triggered. */
CC_MUST_CHECK int loop_add(
    struct loop *loop, struct loop_source *src, uint32_t events);
CC_MUST_CHECK int loop_change(
    struct loop *loop, struct loop_source *src, uint32_t events);
/* Does nothing for a source that is not added. */
void loop_remove(struct loop *loop, struct loop_source *src);

/* Arms (or re-arms) for `deadline_ns` on clock_now_ns(). */
void loop_timer_arm(
    struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns);
void loop_timer_disarm(struct loop *loop, struct loop_timer *timer);

/* Has `call` run on the loop's thread soon; a no-op while it is pending. */
void loop_post(struct loop *loop, struct loop_call *call);

/* Takes a call back that has not been run yet; on the loop's thread. */
void loop_unpost(struct loop *loop, struct loop_call *call);

/* Runs until loop_stop: 0, or -errno if epoll itself fails. */
CC_MUST_CHECK int loop_run(struct loop *loop);

/* One round: waits up to `timeout_ms` (-1: for ever), handles what is due. */
CC_MUST_CHECK int loop_run_once(struct loop *loop, int timeout_ms);
void loop_stop(struct loop *loop);

#endif
