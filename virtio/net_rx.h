/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receive side of the network device: from the backend into the driver's
 * buffers. A part of virtio/net.h, whose rules apply.
 */
#ifndef VIRTIO_NET_RX_H
#define VIRTIO_NET_RX_H

#include "vmm/base/cc.h"

struct net;

/* net->rx_chains counts in fractions of a chain; it starts with all of them. */
#define NET_RX_CHAINS_UNIT 16u

/*
 * Delivers frames until the backend has none, the driver has no buffers, the
 * gate is closed or the batch is full, and says in net->rx_waits whether the
 * backend is to be polled. 0, or -ENOTCONN if its other end is gone.
 */
CC_MUST_CHECK int net_rx_serve(struct net *net);

#endif
