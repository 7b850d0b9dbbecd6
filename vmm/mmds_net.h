/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata service on a network: what stands between a network device and
 * its backend, and takes the guest's frames for the service out of the way to
 * that. All other frames pass as they are, both ways.
 *
 * Owns its station; the backend behind it is borrowed. Thread rule: that of
 * net_backend_ops, but mmds_net_init and mmds_net_fini: before and after the
 * device is.
 */
#ifndef VMM_MMDS_NET_H
#define VMM_MMDS_NET_H

#include "virtio/net.h"
#include "vmm/mmds.h"
#include "vmm/mmds_tcp.h"

struct mmds_net {
    struct net_backend backend; /* the device's */
    struct net_backend *inner;
    struct mmds_tcp tcp;
    uint8_t frame[MMDS_FRAME_IN_MAX];
};

void mmds_net_init(
    struct mmds_net *net, struct net_backend *inner, struct mmds *mmds);

/* Fine on one that is zeroed. */
void mmds_net_fini(struct mmds_net *net);

#endif
