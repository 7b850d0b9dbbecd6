/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio entropy device (virtio 1.2, 5.4): fills the driver's buffers
 * with bytes of the host kernel's generator.
 *
 * A chain gets at most RNG_CHAIN_BYTES of them, which 5.4.6.2 allows, and all
 * of a rate limit if one is set: what is beyond it stays in the queue until
 * there are tokens. A reset does not refill the limiter, or a driver could
 * help itself.
 *
 * Thread rule: as virtio/device.h has it. Guest-controlled: number, place and
 * size of the buffers. After a load all of struct rng_state is hostile.
 */
#ifndef VIRTIO_RNG_H
#define VIRTIO_RNG_H

#include <stdint.h>

#include "virtio/device.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"
#include "vmm/core/rate.h"

#define RNG_QUEUE_SIZE  64u
#define RNG_CHAIN_BYTES 65536u

/* What a snapshot keeps; no padding. */
struct rng_state {
    struct virtio_state virtio;
    struct rate_state rate;
};
_Static_assert(sizeof(struct rng_state) ==
                   sizeof(struct virtio_state) + sizeof(struct rate_state),
    "no padding");

/* Since the device was made; under the device's lock. */
struct rng_stats {
    uint64_t throttled;   /* times that a chain had to wait for tokens */
    uint64_t host_failed; /* requests that getrandom(2) did not fill */
};

struct rng {
    struct virtio_device virtio;
    struct rng_state state;
    struct rate rate;
    struct loop_timer timer; /* armed while a chain waits for tokens */
    struct rng_stats stats;
};

struct rng_config {
    const char *id;          /* unique in the machine; borrowed */
    struct rate_config rate; /* bytes, and chains; all zero: no limit */
};

/*
 * Makes a device in its power-on state. -EINVAL for limits that rate_check
 * refuses. Without a loop there is no limit.
 */
CC_MUST_CHECK int rng_init(struct rng *rng, const struct rng_config *config,
    const struct virtio_host *host, struct err *err);

/* On the loop's thread, or when it runs no more. */
void rng_fini(struct rng *rng);

/*
 * Gives the device other limits, with full buckets. 0, or -EINVAL and nothing
 * is changed. On the loop's thread with the device's lock held.
 */
CC_MUST_CHECK int rng_set_rate(
    struct rng *rng, const struct rate_config *config, struct err *err);

#endif
