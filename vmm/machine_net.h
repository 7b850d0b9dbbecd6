/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network interface of a machine: a virtio network device, its limits, and
 * what it is connected to.
 *
 * Thread rule: made before and freed after the vCPUs run.
 */
#ifndef VMM_MACHINE_NET_H
#define VMM_MACHINE_NET_H

#include "virtio/net.h"
#include "virtio/net_limit.h"
#include "virtio/net_stream.h"
#include "virtio/net_tap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"
#include "vmm/mmds_net.h"
#include "vmm/outside.h"
#include "vmm/passt.h"

struct machine_net {
    const struct config_net *config; /* borrowed */
    char id[CONFIG_ID_MAX + 8];      /* of the device */
    struct net net;
    struct net_limit rx;
    struct net_limit tx;
    struct net_backend *backend; /* of one of these, or NULL */
    struct net_tap tap;
    struct net_stream stream;
    struct passt passt;    /* CONFIG_NET_USER */
    struct mmds_net *mmds; /* in front of `backend`, or NULL */
};

/* What the guest's kernel is told about itself, IPv4 as numbers. */
struct machine_net_address {
    uint32_t address;
    uint32_t gateway; /* 0: none */
    uint32_t dns;     /* 0: none */
    uint8_t prefix;
};

/*
 * The address of an interface: what is configured, or 10.0.2.15/24 with the
 * gateway 10.0.2.2 and the resolver 10.0.2.3 for CONFIG_NET_USER, or another
 * network's addresses like these. False if it has none.
 */
bool machine_net_address(
    const struct config_net *config, struct machine_net_address *ret_address);

/* The MTU that its guest is told when it boots; 0: none. */
uint16_t machine_net_mtu(const struct config_net *config);

/*
 * Connects the interface that `config` describes and makes its device;
 * `config` outlives it. `outside` joins switches; NULL: it does so itself.
 * `mmds` is what the metadata service serves; NULL: there is none. An inherited
 * descriptor belongs to it afterwards, and stays the caller's on failure.
 */
CC_MUST_CHECK int machine_net_new(const struct config_net *config,
    const struct virtio_host *host, const struct outside *outside,
    struct mmds *mmds, struct machine_net **ret_net, struct err *err);

/* NULL is fine. */
void machine_net_free(struct machine_net *net);

#endif
