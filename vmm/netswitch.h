/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A learning Ethernet switch between stream sockets, one port each, on which
 * every frame has its length of 32 bits, big-endian, in front: what
 * virtio/net_stream and passt speak.
 *
 * A frame goes to the port that its destination was heard on, or to all
 * others; never back, and nowhere outside. A port that does not read loses
 * what does not fit its queue, and nobody waits for it. Frames are sent from
 * the buffer they were read into, many at a time while they have the same
 * destination, and copied only for a port that is behind.
 *
 * Owns the sockets of its ports and two buffers for each, made when the port
 * opens; nothing is allocated after that. Thread rule: the loop's thread.
 * Everything that comes from a port is hostile: a length of 0 or above
 * NET_FRAME_MAX closes it, as there is no way to find the next frame; frames
 * that are too short or have an impossible source are dropped; nothing beyond
 * the two addresses is looked at.
 */
#ifndef VMM_NETSWITCH_H
#define VMM_NETSWITCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtio/net_wire.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"
#include "vmm/core/rate.h"
#include "vmm/netswitch_macs.h"

#define NETSWITCH_PORTS_MAX 1024u
#define NETSWITCH_PREFIX    4u

/* Read at most at a time; what a port that is behind may have waiting. */
#define NETSWITCH_IN_BYTES  ((size_t)256 << 10)
#define NETSWITCH_OUT_BYTES ((size_t)512 << 10)

/* Of a port, since it was opened. `rx` is from it, `tx` to it. */
struct netswitch_stats {
    uint64_t rx_frames;   /* all that came, dropped ones included */
    uint64_t rx_bytes;    /* of these, without prefixes */
    uint64_t rx_runt;     /* shorter than an Ethernet header */
    uint64_t rx_source;   /* from a group address, or zero */
    uint64_t rx_stolen;   /* from an address that another port was holding */
    uint64_t rx_filtered; /* for the port itself, or never to be forwarded */
    uint64_t rx_paused;   /* times that the rate limit was reached */
    uint64_t tx_frames;   /* sent or queued */
    uint64_t tx_bytes;
    uint64_t tx_dropped; /* the queue was full */
    uint64_t violations; /* of the framing: 0 or 1 */
};

struct netswitch;

struct netswitch_port {
    struct netswitch *sw;
    uint32_t index;
    struct loop_source source; /* the socket; fd -1: the port is free */
    uint32_t watched;          /* events */
    uint8_t *in;               /* NETSWITCH_IN_BYTES */
    size_t in_start;           /* of what was not forwarded yet */
    size_t in_len;
    uint8_t *out; /* NETSWITCH_OUT_BYTES, a ring */
    size_t out_start;
    size_t out_len;
    struct rate rate;
    struct rate_state rate_state;
    struct loop_timer resume; /* armed while the port is paused */
    struct netswitch_stats stats;
};

struct netswitch_config {
    uint32_t ports_max;      /* 1 to NETSWITCH_PORTS_MAX */
    uint64_t age_ns;         /* an address is known for so long */
    uint64_t hold_ns;        /* and is its port's alone for so long */
    struct rate_config rate; /* of each port, from it; has passed rate_check */

    /* After a port was closed, with the number of those left; may be NULL. */
    void (*on_close)(void *opaque, uint32_t ports);
    void *opaque;
};

struct netswitch {
    struct loop *loop; /* borrowed */
    struct netswitch_config config;
    struct netswitch_macs macs;
    struct netswitch_port *ports; /* ports_max */
    uint32_t open;                /* number of ports */
    uint32_t above;  /* no port with this index or higher is open */
    uint64_t opened; /* ports since the start */
    struct netswitch_stats closed; /* the sum over ports that are gone */
};

CC_MUST_CHECK int netswitch_init(struct netswitch *sw, struct loop *loop,
    const struct netswitch_config *config, struct err *err);

/* Closes all ports, without on_close. A zeroed struct is let be. */
void netswitch_fini(struct netswitch *sw);

/*
 * Makes a connected stream socket a port, and the switch's from then on; on
 * failure it stays the caller's. -ENOSPC if there are `ports_max`, -EINVAL for
 * what is no stream socket, -ENOMEM or what epoll says.
 */
CC_MUST_CHECK int netswitch_add_port(
    struct netswitch *sw, int fd, struct err *err);

/* The sum over all ports, past ones included. */
struct netswitch_stats netswitch_total(const struct netswitch *sw);

#endif
