/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rate limits: token buckets for bytes and for operations.
 *
 * A bucket holds `size` tokens, starts full and is refilled evenly, all of it
 * in `refill_ms`. On top come `burst` tokens that are used first and never
 * come back. A request larger than the bucket is let through when nothing is
 * owed, and what it took too much is paid back before the next one. Time is
 * passed in, so that nothing here looks at a clock.
 *
 * Thread rule: pure functions on what the caller owns; a device calls them
 * with its lock held. After a load struct rate_state is hostile: rate_resume
 * cuts it to what the limits allow.
 */
#ifndef VMM_CORE_RATE_H
#define VMM_CORE_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* No limit if `size` or `refill_ms` is 0. */
struct rate_bucket_config {
    uint64_t size;      /* tokens */
    uint64_t refill_ms; /* from empty to full; at most RATE_REFILL_MS_MAX */
    uint64_t burst;     /* tokens on top of the first bucketful, once */
};
#define RATE_REFILL_MS_MAX (UINT64_MAX / UINT64_C(1000000))

struct rate_config {
    struct rate_bucket_config bytes;
    struct rate_bucket_config ops;
};

struct rate_bucket_state {
    uint64_t budget; /* tokens, at most `size` */
    uint64_t burst;  /* left of it */
    uint64_t debt;   /* tokens; the budget is 0 while there is any */
};

/* What a snapshot keeps; no padding. */
struct rate_state {
    struct rate_bucket_state bytes;
    struct rate_bucket_state ops;
};
_Static_assert(sizeof(struct rate_state) == 48, "no padding");

/* Entries of a state table for member `m` (a struct rate_state) of `t`. */
#define RATE_STATE_FIELDS(t, m)                                                \
    STATE_SCALAR(t, m.bytes.budget, 1), STATE_SCALAR(t, m.bytes.burst, 1),     \
        STATE_SCALAR(t, m.bytes.debt, 1), STATE_SCALAR(t, m.ops.budget, 1),    \
        STATE_SCALAR(t, m.ops.burst, 1), STATE_SCALAR(t, m.ops.debt, 1)

struct rate {
    struct rate_config config;
    struct rate_state *state; /* borrowed, in the device's state */
    uint64_t bytes_ns;        /* up to when the buckets are refilled */
    uint64_t ops_ns;
};

/* The longest wait that rate_take asks for. */
#define RATE_WAIT_NS_MAX UINT64_C(3600000000000)

/* -EINVAL for a refill time beyond RATE_REFILL_MS_MAX. */
CC_MUST_CHECK int rate_check(const struct rate_config *config, struct err *err);

/*
 * Full buckets at time `now_ns`, for a limiter that is new or gets new limits;
 * `config` has passed rate_check and is copied.
 */
void rate_init(struct rate *r, const struct rate_config *config,
    struct rate_state *state, uint64_t now_ns);

/*
 * Goes on from a state that was loaded, which is first cut to the limits: the
 * time between the save and `now_ns` does not count.
 */
void rate_resume(struct rate *r, uint64_t now_ns);

/*
 * Takes `bytes` and `ops` tokens, both or neither: 0 if they were taken, else
 * the nanoseconds, 1 to RATE_WAIT_NS_MAX, after which it is worth asking
 * again. A clock that went backwards counts as standing still.
 */
CC_MUST_CHECK uint64_t rate_take(
    struct rate *r, uint64_t now_ns, uint64_t bytes, uint64_t ops);

/*
 * For those who learn what something costs only when it is done: rate_wait
 * says how long nothing may be begun (0: it may now), and rate_charge takes
 * what it was, on credit where there is less. Between a 0 of the one and the
 * other nothing else is taken.
 */
CC_MUST_CHECK uint64_t rate_wait(struct rate *r, uint64_t now_ns);
void rate_charge(struct rate *r, uint64_t bytes, uint64_t ops);

/* New limits for some buckets, full; the others keep limits and tokens. */
struct rate_change {
    bool has_bytes;
    bool has_ops;
    struct rate_config limits;
};

/* -EINVAL, with nothing changed, for limits that rate_check refuses. */
CC_MUST_CHECK int rate_update(struct rate *r, const struct rate_change *change,
    uint64_t now_ns, struct err *err);

/* False if it lets everything through and counts nothing. */
bool rate_is_limited(const struct rate *r);

#endif
