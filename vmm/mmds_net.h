/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata service on a network: what stands between a network device and
 * its backend, and takes the guest's frames for the service out of the way to
 * that. All other frames pass as they are, both ways.
 *
 * Owns its station; the backend behind it is borrowed. Thread rule: that of
 * net_backend_ops, but mmds_net_init and mmds_net_fini: before and after the
 * device is, and mmds_net_attach: before it runs.
 */
#ifndef VMM_MMDS_NET_H
#define VMM_MMDS_NET_H

#include "virtio/net.h"
#include "vmm/core/loop.h"
#include "vmm/mmds.h"
#include "vmm/mmds_tcp.h"

struct mmds_net {
    struct net_backend backend; /* the device's */
    struct net_backend *inner;
    struct mmds_tcp tcp;
    struct loop *loop;       /* borrowed; NULL: nothing is sent again */
    struct loop_timer timer; /* while an acknowledgement is missing */
    bool is_ticking;
    uint8_t frame[MMDS_FRAME_IN_MAX];
};

void mmds_net_init(
    struct mmds_net *net, struct net_backend *inner, struct mmds *mmds);

/* Has a clock from here on: the loop's, with `dev` locked. */
void mmds_net_attach(
    struct mmds_net *net, struct loop *loop, struct device *dev);

/* Fine on one that is zeroed. */
void mmds_net_fini(struct mmds_net *net);

#endif
