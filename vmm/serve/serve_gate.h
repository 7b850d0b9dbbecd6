/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may have a clone, and when: requests come in, wait their turn, get a
 * clone of the pool, and leave.
 *
 * At most vms_max + queue_max requests are in at a time; one more is refused
 * at once. With a bound on memory, requests wait as well while the clones that
 * run use as much (their private memory is sampled now and then; one that was
 * not looked at yet counts as a typical one). A request whose time is up is
 * told, and leaves with its clone.
 *
 * Owns the clones of its requests. Thread rule: the loop's thread; callbacks
 * come from the loop only, never from within a call, and a request may leave
 * in any of them. Not trusted: what clones say, by way of the pool.
 */
#ifndef VMM_SERVE_SERVE_GATE_H
#define VMM_SERVE_SERVE_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/log.h"
#include "vmm/core/loop.h"
#include "vmm/serve/pool.h"
#include "vmm/serve/proc_sample.h"
#include "vmm/serve/serve_metrics.h"

/* The cookie of the one connection that a request makes. */
#define SERVE_GATE_COOKIE 1u

struct serve_job_host {
    /* job->clone is there, and stands still. */
    void (*on_clone)(void *opaque);
    /* The request is out already: there was no clone in time, or at all. */
    void (*on_refused)(void *opaque, enum serve_outcome outcome);
    /* Its time is up: it is to leave. */
    void (*on_timeout)(void *opaque);
    /* The connection is closed on the guest's side. */
    void (*on_closed)(void *opaque);
    /* The clone ended by itself and job->clone is NULL: it is to leave. */
    void (*on_end)(void *opaque, enum serve_outcome outcome);
};

enum serve_job_state {
    SERVE_JOB_OUT,
    SERVE_JOB_HELD,    /* for want of memory */
    SERVE_JOB_WAITING, /* in the pool's turn */
    SERVE_JOB_RUNNING, /* has, or had, a clone */
};

struct serve_gate;

/* A request; embedded in its owner, all zero before the first. */
struct serve_job {
    struct serve_gate *gate;
    const struct serve_job_host *host;
    void *opaque;
    enum serve_job_state state;
    struct clone *clone;
    struct serve_job *prev; /* of all that are in, oldest first */
    struct serve_job *next;
    struct pool_waiter waiter;
    struct loop_timer timer;
    uint64_t since_ns;  /* that it is in */
    uint64_t cloned_ns; /* that it has a clone */
    bool is_sampled;
    struct proc_sample sample; /* the last one */
};

struct serve_gate_config {
    struct loop *loop;
    struct pool *pool;
    struct serve_metrics *metrics;
    uint32_t vms_max;   /* clones that serve at a time, 1 at least */
    uint32_t queue_max; /* requests that wait beside those */
    uint64_t queue_timeout_ns;
    uint64_t timeout_ns; /* from having a clone */
    uint64_t memory_max; /* bytes of all clones that serve; 0: no limit */
    bool resets;         /* clones are put back, not thrown away */
};

struct serve_gate {
    struct serve_gate_config config;
    struct serve_job *first;
    struct serve_job *last;
    uint32_t in;
    uint32_t held;
    uint32_t waiting;   /* in the pool's turn */
    uint32_t running;   /* with a clone */
    uint32_t unsampled; /* of them */
    uint64_t sampled_bytes;
    uint64_t typical_bytes;   /* moving average of samples */
    uint64_t last_sample_ns;  /* of one that left */
    struct serve_job *cursor; /* the next to be sampled */
    struct loop_timer tick;
    struct loop_call admit;
    struct log_rate end_log;
    struct log_rate clone_log;
};

void serve_gate_init(
    struct serve_gate *gate, const struct serve_gate_config *config);

/* All requests have left. */
void serve_gate_fini(struct serve_gate *gate);

/*
 * Lets a request in: 1 if job->clone is there at once (on_clone is not called
 * then), 0 if it has to wait; -EBUSY if there are too many, and -EPIPE if
 * there is no pool any more: it is not in then, which is counted.
 */
CC_MUST_CHECK int serve_gate_enter(struct serve_gate *gate,
    struct serve_job *job, const struct serve_job_host *host, void *opaque);

/* Ends a request that is in; its clone goes. Does nothing for one outside. */
void serve_job_leave(struct serve_job *job, enum serve_outcome outcome);

/* The first byte of the answer is on its way. */
void serve_job_note_byte(struct serve_job *job);

/* Private memory of all clones that serve, as far as it is known. */
uint64_t serve_gate_memory(const struct serve_gate *gate);

#endif
