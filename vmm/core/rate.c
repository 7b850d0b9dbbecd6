/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/core/rate.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>

#include "vmm/base/clock.h"
#include "vmm/base/num.h"

/* One bucket with its time, put together for the functions below. */
struct bucket {
    const struct rate_bucket_config *config;
    struct rate_bucket_state *state;
    uint64_t *at_ns;
};

static struct bucket bytes_of(struct rate *r)
{
    return (struct bucket){&r->config.bytes, &r->state->bytes, &r->bytes_ns};
}

static struct bucket ops_of(struct rate *r)
{
    return (struct bucket){&r->config.ops, &r->state->ops, &r->ops_ns};
}

static bool is_limited(const struct bucket *b)
{
    return b->config->size != 0 && b->config->refill_ms != 0;
}

static uint64_t refill_ns(const struct bucket *b)
{
    return b->config->refill_ms * CLOCK_NS_PER_MS;
}

/* a * b / by, rounded down; UINT64_MAX if that does not fit. */
static uint64_t scale(uint64_t a, uint64_t b, uint64_t by)
{
    __extension__ unsigned __int128 v = a;

    v = v * b / by;
    return v > UINT64_MAX ? UINT64_MAX : (uint64_t)v;
}

/* The same, rounded up. */
static uint64_t scale_up(uint64_t a, uint64_t b, uint64_t by)
{
    __extension__ unsigned __int128 v = a;

    v = (v * b + (by - 1)) / by;
    return v > UINT64_MAX ? UINT64_MAX : (uint64_t)v;
}

/* Brings a bucket up to `now_ns`; what comes first pays the debt. */
static void refill(const struct bucket *b, uint64_t now_ns)
{
    struct rate_bucket_state *st = b->state;
    uint64_t elapsed = now_ns > *b->at_ns ? now_ns - *b->at_ns : 0;
    uint64_t tokens = scale(elapsed, b->config->size, refill_ns(b));
    uint64_t paid = num_min(tokens, st->debt);
    uint64_t room = b->config->size - st->budget;

    if (tokens == 0)
        return;
    st->debt -= paid;
    if (tokens - paid >= room) {
        st->budget = b->config->size;
        *b->at_ns = now_ns;
        return;
    }
    st->budget += tokens - paid;
    /* Only the time that made whole tokens is used up. */
    *b->at_ns +=
        num_min(elapsed, scale_up(tokens, refill_ns(b), b->config->size));
}

/* Nanoseconds until `n` tokens can be taken; 0: now. */
static uint64_t wait_for(const struct bucket *b, uint64_t now_ns, uint64_t n)
{
    const struct rate_bucket_state *st = b->state;
    uint64_t elapsed;
    uint64_t missing;
    uint64_t need_ns;

    if (!is_limited(b) || (n <= st->burst && st->debt == 0))
        return 0;
    refill(b, now_ns);
    n -= num_min(n, st->burst);
    /* More than a bucketful is never there: it is taken on credit. */
    missing = st->debt;
    if (n <= b->config->size && n > st->budget &&
        !num_add(missing, n - st->budget, &missing))
        missing = UINT64_MAX;
    if (missing == 0)
        return 0;
    need_ns = scale_up(missing, refill_ns(b), b->config->size);
    elapsed = now_ns > *b->at_ns ? now_ns - *b->at_ns : 0;
    need_ns = need_ns > elapsed ? need_ns - elapsed : 1;
    return num_min(need_ns, RATE_WAIT_NS_MAX);
}

/* For a request that wait_for lets through. */
static void take(const struct bucket *b, uint64_t n)
{
    struct rate_bucket_state *st = b->state;
    uint64_t part;

    if (!is_limited(b))
        return;
    part = num_min(n, st->burst);
    st->burst -= part;
    n -= part;
    part = num_min(n, st->budget);
    st->budget -= part;
    assert(n == part || st->debt == 0);
    st->debt += n - part;
}

uint64_t rate_take(
    struct rate *r, uint64_t now_ns, uint64_t bytes, uint64_t ops)
{
    struct bucket b = bytes_of(r);
    struct bucket o = ops_of(r);
    uint64_t wait_ns =
        num_max(wait_for(&b, now_ns, bytes), wait_for(&o, now_ns, ops));

    if (wait_ns == 0) {
        take(&b, bytes);
        take(&o, ops);
    }
    return wait_ns;
}

uint64_t rate_wait(struct rate *r, uint64_t now_ns)
{
    struct bucket b = bytes_of(r);
    struct bucket o = ops_of(r);

    return num_max(wait_for(&b, now_ns, 1), wait_for(&o, now_ns, 1));
}

void rate_charge(struct rate *r, uint64_t bytes, uint64_t ops)
{
    struct bucket b = bytes_of(r);
    struct bucket o = ops_of(r);

    take(&b, bytes);
    take(&o, ops);
}

bool rate_is_limited(const struct rate *r)
{
    return (r->config.bytes.size != 0 && r->config.bytes.refill_ms != 0) ||
           (r->config.ops.size != 0 && r->config.ops.refill_ms != 0);
}

static int check_bucket(
    const struct rate_bucket_config *config, const char *name, struct err *err)
{
    if (config->refill_ms <= RATE_REFILL_MS_MAX)
        return 0;
    return err_set(err, EINVAL,
        "rate limit, %s: a refill time of %llu ms; the longest is %llu ms",
        name, (unsigned long long)config->refill_ms,
        (unsigned long long)RATE_REFILL_MS_MAX);
}

int rate_check(const struct rate_config *config, struct err *err)
{
    int rc = check_bucket(&config->bytes, "bytes", err);

    return rc == 0 ? check_bucket(&config->ops, "operations", err) : rc;
}

static struct rate_bucket_state full(const struct rate_bucket_config *config)
{
    return (struct rate_bucket_state){
        .budget = config->size, .burst = config->burst};
}

void rate_init(struct rate *r, const struct rate_config *config,
    struct rate_state *state, uint64_t now_ns)
{
    assert(config->bytes.refill_ms <= RATE_REFILL_MS_MAX);
    assert(config->ops.refill_ms <= RATE_REFILL_MS_MAX);
    *r = (struct rate){.config = *config,
        .state = state,
        .bytes_ns = now_ns,
        .ops_ns = now_ns};
    *state = (struct rate_state){
        .bytes = full(&config->bytes), .ops = full(&config->ops)};
}

int rate_update(struct rate *r, const struct rate_change *change,
    uint64_t now_ns, struct err *err)
{
    int rc = rate_check(&change->limits, err);

    if (rc < 0)
        return rc;
    if (change->has_bytes) {
        r->config.bytes = change->limits.bytes;
        r->state->bytes = full(&r->config.bytes);
        r->bytes_ns = now_ns;
    }
    if (change->has_ops) {
        r->config.ops = change->limits.ops;
        r->state->ops = full(&r->config.ops);
        r->ops_ns = now_ns;
    }
    return 0;
}

static void cut(const struct bucket *b)
{
    struct rate_bucket_state *st = b->state;

    st->burst = num_min(st->burst, b->config->burst);
    st->budget = num_min(st->budget, b->config->size);
    if (st->debt != 0)
        st->budget = 0;
}

void rate_resume(struct rate *r, uint64_t now_ns)
{
    struct bucket b = bytes_of(r);
    struct bucket o = ops_of(r);

    cut(&b);
    cut(&o);
    r->bytes_ns = now_ns;
    r->ops_ns = now_ns;
}
