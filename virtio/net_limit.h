/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rate limit for one direction of a network device: the gate of
 * virtio/net.h over the token buckets of vmm/core/rate.h, of bytes and of
 * frames.
 *
 * A frame passes while nothing is owed and is charged for afterwards, so that
 * a bucket may go into debt by one frame. A gate that has said no has a timer
 * of the loop open it again. The buckets are not part of a snapshot: they are
 * full after a restore. Thread rule: as virtio/device.h has it for the network
 * device; every function but init, attach and fini with its lock held.
 */
#ifndef VIRTIO_NET_LIMIT_H
#define VIRTIO_NET_LIMIT_H

#include "virtio/net.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"
#include "vmm/core/rate.h"

struct net_limit {
    struct net_gate gate; /* what net_init is given */
    struct rate rate;
    struct rate_state state;
    struct loop *loop; /* borrowed */
    struct net *net;   /* borrowed */
    struct loop_timer timer;
};

/*
 * A limit with full buckets; all zero: none, until net_limit_set makes one.
 * -EINVAL for limits that rate_check refuses.
 */
CC_MUST_CHECK int net_limit_init(struct net_limit *limit,
    const struct rate_config *config, struct loop *loop, struct err *err);

/* The device that has the gate; before it is first kicked. */
void net_limit_attach(struct net_limit *limit, struct net *net);

/* Before net_fini; a zeroed struct is let be. */
void net_limit_fini(struct net_limit *limit);

/*
 * Other limits from now on; a bucket that is not in `change` goes on as it is.
 * On the loop's thread. -EINVAL as above.
 */
CC_MUST_CHECK int net_limit_set(
    struct net_limit *limit, const struct rate_change *change, struct err *err);

#endif
