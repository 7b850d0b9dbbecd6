/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/net_limit.h"

#include "vmm/base/clock.h"

static bool is_open(struct net_gate *gate)
{
    struct net_limit *limit = container_of(gate, struct net_limit, gate);
    uint64_t now_ns;
    uint64_t wait_ns;

    /* Without a loop nothing could open it again. */
    if (limit->loop == NULL || !rate_is_limited(&limit->rate))
        return true;
    now_ns = clock_now_ns();
    wait_ns = rate_wait(&limit->rate, now_ns);
    if (wait_ns == 0)
        return true;
    loop_timer_arm(limit->loop, &limit->timer, now_ns + wait_ns);
    return false;
}

static void charge(struct net_gate *gate, uint64_t bytes)
{
    struct net_limit *limit = container_of(gate, struct net_limit, gate);

    if (limit->loop != NULL)
        rate_charge(&limit->rate, bytes, 1);
}

static void on_timer(void *opaque)
{
    struct net_limit *limit = opaque;

    net_ready(limit->net);
}

int net_limit_init(struct net_limit *limit, const struct rate_config *config,
    struct loop *loop, struct err *err)
{
    int rc = rate_check(config, err);

    if (rc < 0)
        return rc;
    *limit = (struct net_limit){.gate = {.is_open = is_open, .charge = charge},
        .loop = loop,
        .timer = {.fire = on_timer, .opaque = limit}};
    rate_init(&limit->rate, config, &limit->state, clock_now_ns());
    return 0;
}

void net_limit_attach(struct net_limit *limit, struct net *net)
{
    limit->net = net;
    limit->timer.dev = &net->virtio.base;
}

void net_limit_fini(struct net_limit *limit)
{
    if (limit->loop != NULL)
        loop_timer_disarm(limit->loop, &limit->timer);
    limit->loop = NULL;
}

int net_limit_set(
    struct net_limit *limit, const struct rate_change *change, struct err *err)
{
    int rc = rate_update(&limit->rate, change, clock_now_ns(), err);

    if (rc < 0)
        return rc;
    /* What waited for the old limits must not wait that long for these. */
    net_ready(limit->net);
    return 0;
}
