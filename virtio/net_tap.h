/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network backend on a tap interface of the host.
 *
 * Owns the descriptor of /dev/net/tun, never the interface: that is made and
 * set up by whoever runs the host, with its MTU before it is given to us:
 * without GSO, frames longer than that allowed are lost. Thread rule: as
 * virtio/net.h has it for backends. Frames go between guest memory and the
 * kernel without a copy of ours; the kernel checks their headers as well.
 */
#ifndef VIRTIO_NET_TAP_H
#define VIRTIO_NET_TAP_H

#include <net/if.h>

#include "virtio/net.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct net_tap {
    struct net_backend backend;
    char name[IFNAMSIZ];
    uint32_t plain_frame_max; /* of frames that are no GSO ones */
};

/*
 * Attaches to the tap interface `name`, which must exist. 0 or -errno:
 * -ENODEV if it does not, -EPERM if it may not be used, -EBUSY if another
 * process has it, -EINVAL if it is no tap.
 */
CC_MUST_CHECK int net_tap_open(
    struct net_tap *tap, const char *name, struct err *err);

/*
 * Takes a descriptor that is attached to a tap interface already, which is
 * the backend's from then on; on failure it stays the caller's. One without
 * IFF_VNET_HDR will do, with no offloads. It must be attached with IFF_NO_PI,
 * which is taken on trust: what TUNGETIFF has in its place is IFF_NOFILTER.
 */
CC_MUST_CHECK int net_tap_init(struct net_tap *tap, int fd, struct err *err);

/* A zeroed struct, or one whose init failed, is let be. */
void net_tap_fini(struct net_tap *tap);

#endif
