/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/serve_gate.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/base/num.h"

#define TICK_NS   (500 * CLOCK_NS_PER_MS)
#define TICK_JOBS 32u /* looked at in one tick */

/* Of those that leave, one is looked at every so often. */
#define LEAVE_SAMPLE_NS (100 * CLOCK_NS_PER_MS)

/* A sample's weight in the average is one of so many. */
#define TYPICAL_WEIGHT 8u

/* ---- what clones use ---------------------------------------------------- */

static void forget_sample(struct serve_gate *gate, struct serve_job *job)
{
    if (job->is_sampled)
        gate->sampled_bytes -= job->sample.private_bytes;
    else
        gate->unsampled--;
    job->is_sampled = false;
}

static void take_sample(struct serve_gate *gate, struct serve_job *job)
{
    struct serve_metrics *m = gate->config.metrics;
    struct proc_sample old = {0};
    struct proc_sample now;

    if (proc_sample_take(clone_pid(job->clone), &now) < 0)
        return;
    if (job->is_sampled)
        old = job->sample;
    forget_sample(gate, job);
    job->sample = now;
    job->is_sampled = true;
    gate->sampled_bytes += now.private_bytes;
    m->samples++;
    /* What a process that was put back had before counts once. */
    if (now.minor_faults > old.minor_faults)
        m->minor_faults += now.minor_faults - old.minor_faults;
    if (now.major_faults > old.major_faults)
        m->major_faults += now.major_faults - old.major_faults;
    if (gate->typical_bytes == 0)
        gate->typical_bytes = now.private_bytes;
    else
        gate->typical_bytes = gate->typical_bytes -
                              gate->typical_bytes / TYPICAL_WEIGHT +
                              now.private_bytes / TYPICAL_WEIGHT;
}

uint64_t serve_gate_memory(const struct serve_gate *gate)
{
    uint64_t rest;
    uint64_t sum;

    if (!num_mul(gate->unsampled, gate->typical_bytes, &rest) ||
        !num_add(gate->sampled_bytes, rest, &sum))
        return UINT64_MAX;
    return sum;
}

static bool has_memory(const struct serve_gate *gate)
{
    uint64_t more;
    uint64_t sum;

    /* One alone is let in whatever it takes, or there would never be any. */
    return gate->config.memory_max == 0 || gate->running + gate->waiting == 0 ||
           (num_mul(gate->typical_bytes, (uint64_t)gate->waiting + 1, &more) &&
               num_add(serve_gate_memory(gate), more, &sum) &&
               sum <= gate->config.memory_max);
}

static void arm_tick(struct serve_gate *gate)
{
    if (gate->running > 0 && !gate->tick.armed)
        loop_timer_arm(
            gate->config.loop, &gate->tick, clock_now_ns() + TICK_NS);
}

static void on_tick(void *opaque)
{
    struct serve_gate *gate = opaque;
    struct serve_job *job = gate->cursor;
    uint32_t seen = 0;

    for (uint32_t i = 0; i < gate->in && seen < TICK_JOBS; i++) {
        if (job == NULL)
            job = gate->first;
        if (job->clone != NULL) {
            take_sample(gate, job);
            seen++;
        }
        job = job->next;
    }
    gate->cursor = job;
    if (gate->held > 0)
        loop_post(gate->config.loop, &gate->admit);
    arm_tick(gate);
}

/* ---- requests ----------------------------------------------------------- */

static void link_job(struct serve_gate *gate, struct serve_job *job)
{
    job->next = NULL;
    job->prev = gate->last;
    if (gate->last == NULL)
        gate->first = job;
    else
        gate->last->next = job;
    gate->last = job;
    gate->in++;
}

static void unlink_job(struct serve_gate *gate, struct serve_job *job)
{
    if (gate->cursor == job)
        gate->cursor = job->next;
    if (job->prev == NULL)
        gate->first = job->next;
    else
        job->prev->next = job->next;
    if (job->next == NULL)
        gate->last = job->prev;
    else
        job->next->prev = job->prev;
    gate->in--;
}

static void count(struct serve_gate *gate, enum serve_outcome outcome)
{
    gate->config.metrics->outcomes[outcome]++;
}

/* Out of the gate, its clone gone or given back. */
static void release(struct serve_job *job, bool reuse)
{
    struct serve_gate *gate = job->gate;

    loop_timer_disarm(gate->config.loop, &job->timer);
    if (job->state == SERVE_JOB_WAITING) {
        pool_cancel(gate->config.pool, &job->waiter);
        gate->waiting--;
    }
    if (job->state == SERVE_JOB_HELD)
        gate->held--;
    if (job->clone != NULL) {
        forget_sample(gate, job);
        gate->running--;
        if (reuse)
            clone_recycle(job->clone);
        else
            clone_drop(job->clone);
        job->clone = NULL;
    }
    unlink_job(gate, job);
    job->state = SERVE_JOB_OUT;
    if (gate->held > 0)
        loop_post(gate->config.loop, &gate->admit);
}

/* What did not do as it should is not trusted to be put back. */
static bool may_reuse(enum serve_outcome outcome)
{
    return outcome == SERVE_OK || outcome == SERVE_CLIENT_GONE ||
           outcome == SERVE_CLIENT_SLOW || outcome == SERVE_BAD_REQUEST;
}

void serve_job_leave(struct serve_job *job, enum serve_outcome outcome)
{
    struct serve_gate *gate = job->gate;
    uint64_t now;

    if (job->state == SERVE_JOB_OUT)
        return;
    now = clock_now_ns();
    count(gate, outcome);
    if (job->state == SERVE_JOB_RUNNING)
        serve_metrics_time(
            gate->config.metrics, SERVE_STAGE_TOTAL, now - job->since_ns);
    if (job->clone != NULL && now - gate->last_sample_ns > LEAVE_SAMPLE_NS) {
        gate->last_sample_ns = now;
        take_sample(gate, job);
    }
    release(job, gate->config.resets && may_reuse(outcome));
}

void serve_job_note_byte(struct serve_job *job)
{
    if (job->state == SERVE_JOB_RUNNING)
        serve_metrics_time(job->gate->config.metrics, SERVE_STAGE_BYTE,
            clock_now_ns() - job->cloned_ns);
}

static void refuse(struct serve_job *job, enum serve_outcome outcome)
{
    count(job->gate, outcome);
    release(job, false);
    job->host->on_refused(job->opaque, outcome);
}

static void on_timer(void *opaque)
{
    struct serve_job *job = opaque;

    if (job->state == SERVE_JOB_RUNNING)
        job->host->on_timeout(job->opaque);
    else
        refuse(job, SERVE_QUEUE_TIMEOUT);
}

/* ---- what a clone says -------------------------------------------------- */

static void on_started(void *opaque, uint64_t ns)
{
    struct serve_job *job = opaque;

    /* It is the clone's word: nothing but a sensible time is counted. */
    if (ns >= job->cloned_ns && ns <= clock_now_ns())
        serve_metrics_time(
            job->gate->config.metrics, SERVE_STAGE_START, ns - job->cloned_ns);
}

static void on_closed(void *opaque, uint32_t cookie)
{
    struct serve_job *job = opaque;

    if (cookie == SERVE_GATE_COOKIE && job->host->on_closed != NULL)
        job->host->on_closed(job->opaque);
}

static void on_end(void *opaque, enum clone_end end, const char *text)
{
    struct serve_job *job = opaque;
    struct serve_gate *gate = job->gate;
    enum serve_outcome outcome = end == CLONE_POWERED_OFF ? SERVE_POWERED_OFF
                                 : end == CLONE_FAILED    ? SERVE_FAILED
                                                          : SERVE_KILLED;

    if (outcome != SERVE_POWERED_OFF)
        log_limited(&gate->end_log, LOG_WARN, "serve", "a VM ended: %s", text);
    forget_sample(gate, job);
    gate->running--;
    clone_drop(job->clone);
    job->clone = NULL;
    job->host->on_end(job->opaque, outcome);
}

/* The clone is the request's from here on. */
static void give(struct serve_job *job, struct clone *clone)
{
    struct serve_gate *gate = job->gate;
    const struct clone_host host = {.on_started = on_started,
        .on_closed = on_closed,
        .on_end = on_end,
        .opaque = job};

    job->state = SERVE_JOB_RUNNING;
    job->clone = clone;
    job->cloned_ns = clock_now_ns();
    job->is_sampled = false;
    gate->unsampled++;
    gate->running++;
    clone_watch(clone, &host);
    serve_metrics_time(
        gate->config.metrics, SERVE_STAGE_WAIT, job->cloned_ns - job->since_ns);
    loop_timer_arm(gate->config.loop, &job->timer,
        job->cloned_ns + gate->config.timeout_ns);
    arm_tick(gate);
}

static void complain(struct serve_gate *gate, const struct err *err)
{
    log_limited(&gate->clone_log, LOG_ERR, "serve",
        "there is no VM for a request: %s", err->text);
}

static void on_pool_clone(
    void *opaque, struct clone *clone, const struct err *err)
{
    struct serve_job *job = opaque;

    /* The pool knows it no more. */
    job->gate->waiting--;
    if (clone == NULL) {
        job->state = SERVE_JOB_HELD;
        job->gate->held++;
        complain(job->gate, err);
        refuse(job, SERVE_NO_CLONE);
        return;
    }
    give(job, clone);
    job->host->on_clone(job->opaque);
}

/* Has it wait in the pool's turn: 1 with a clone, 0, or -errno. */
static int ask_pool(struct serve_job *job, struct err *err)
{
    struct clone *clone = NULL;
    int rc;

    job->state = SERVE_JOB_WAITING;
    rc = pool_take(job->gate->config.pool, &job->waiter, &clone, err);
    if (rc < 0) {
        job->state = SERVE_JOB_HELD;
        job->gate->held++;
        return rc;
    }
    if (clone == NULL) {
        job->gate->waiting++;
        return 0;
    }
    give(job, clone);
    return 1;
}

static struct serve_job *first_held(const struct serve_gate *gate)
{
    struct serve_job *job = gate->first;

    while (job != NULL && job->state != SERVE_JOB_HELD)
        job = job->next;
    return job;
}

/* Lets in what was held, as far as there is memory now. */
static void on_admit(void *opaque)
{
    struct serve_gate *gate = opaque;
    struct serve_job *job = gate->held == 0 ? NULL : first_held(gate);
    struct err err;
    int rc;

    if (job == NULL || !has_memory(gate))
        return;
    /* One at a time: its owner may do anything to the others. */
    if (gate->held > 1)
        loop_post(gate->config.loop, &gate->admit);
    gate->held--;
    rc = ask_pool(job, &err);
    if (rc < 0) {
        complain(gate, &err);
        refuse(job, SERVE_NO_CLONE);
    } else if (rc > 0) {
        job->host->on_clone(job->opaque);
    }
}

int serve_gate_enter(struct serve_gate *gate, struct serve_job *job,
    const struct serve_job_host *host, void *opaque)
{
    struct err err;
    int rc;

    assert(job->state == SERVE_JOB_OUT);
    if (gate->in >= (uint64_t)gate->config.vms_max + gate->config.queue_max) {
        count(gate, SERVE_OVERLOAD);
        return -EBUSY;
    }
    *job = (struct serve_job){.gate = gate,
        .host = host,
        .opaque = opaque,
        .state = SERVE_JOB_HELD,
        .waiter = {.on_clone = on_pool_clone, .opaque = job},
        .timer = {.fire = on_timer, .opaque = job},
        .since_ns = clock_now_ns()};
    link_job(gate, job);
    if (gate->held > 0 || !has_memory(gate)) {
        gate->held++;
        rc = 0;
    } else {
        rc = ask_pool(job, &err);
    }
    if (rc < 0) {
        complain(gate, &err);
        count(gate, SERVE_NO_CLONE);
        release(job, false);
        return rc;
    }
    if (rc == 0)
        loop_timer_arm(gate->config.loop, &job->timer,
            job->since_ns + gate->config.queue_timeout_ns);
    return rc;
}

void serve_gate_init(
    struct serve_gate *gate, const struct serve_gate_config *config)
{
    *gate = (struct serve_gate){.config = *config,
        .tick = {.fire = on_tick, .opaque = gate},
        .admit = {.run = on_admit, .opaque = gate}};
}

void serve_gate_fini(struct serve_gate *gate)
{
    assert(gate->in == 0);
    loop_timer_disarm(gate->config.loop, &gate->tick);
    loop_unpost(gate->config.loop, &gate->admit);
}
