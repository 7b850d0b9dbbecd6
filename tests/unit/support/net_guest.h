/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network device with a driver for tests: guest memory, a loop, the device
 * in front of any backend, and frames in and out of its queues.
 *
 * Thread rule: one thread. Failures of the set-up abort.
 */
#ifndef TESTS_UNIT_SUPPORT_NET_GUEST_H
#define TESTS_UNIT_SUPPORT_NET_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/net.h"
#include "vmm/core/gmem.h"
#include "vmm/core/loop.h"

#define NET_GUEST_SIZE     ((uint16_t)64) /* entries of each queue */
#define NET_GUEST_RX_BYTES 69632u         /* room of one rx buffer at most */

struct net_guest {
    struct gmem mem;
    struct loop loop;
    bool has_loop;
    int irq;
    struct net net;
    struct device *dev;
    struct drive_queue q[NET_QUEUES];
    unsigned int gone; /* calls of on_gone */
    uint32_t tx_free;  /* tx slots that the device does not have */
};

/* `config` NULL: the defaults; its id, size and on_gone are set here. */
void net_guest_init(struct net_guest *g, struct net_backend *backend,
    const struct net_config *config, bool with_loop);
void net_guest_fini(struct net_guest *g);

/* Fresh rings, and all of 3.1.1 with VERSION_1 and `features`. */
void net_guest_start(struct net_guest *g, uint64_t features);

/* Makes `count` rx buffers of `len` bytes available, without a kick. */
void net_guest_post(struct net_guest *g, unsigned int count, uint32_t len);

/*
 * Puts a frame into the tx queue, without a kick; false if that is full.
 * `cut` bytes of header and frame are in the first descriptor (0: all).
 */
bool net_guest_send(struct net_guest *g, const struct net_header *header,
    const void *frame, uint32_t len, uint32_t cut);

/* Takes back the tx chains that the device is done with; their number. */
unsigned int net_guest_reap(struct net_guest *g);

/*
 * The next frame from the rx queue, into `buf` of NET_FRAME_MAX bytes: its
 * length, or -1 if there is none. *ret_buffers is the number of used elements.
 */
int64_t net_guest_receive(struct net_guest *g, struct net_header *ret_header,
    uint8_t *buf, unsigned int *ret_buffers);

/* Kicks the queue and lets the loop have `rounds` rounds that do not wait. */
void net_guest_kick(struct net_guest *g, uint32_t queue);
void net_guest_run(struct net_guest *g, unsigned int rounds);

#endif
