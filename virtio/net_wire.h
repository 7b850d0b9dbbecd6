/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Constants and wire structs of the network device (virtio 1.2, 5.1).
 */
#ifndef VIRTIO_NET_WIRE_H
#define VIRTIO_NET_WIRE_H

#include <stdint.h>

#include "vmm/base/le.h"

/* 5.1.2 Virtqueues of one pair. */
#define NET_QUEUE_RX 0u
#define NET_QUEUE_TX 1u
#define NET_QUEUES   2u

/* 5.1.3 Feature bits. */
#define NET_F_CSUM       (UINT64_C(1) << 0)
#define NET_F_GUEST_CSUM (UINT64_C(1) << 1)
#define NET_F_MTU        (UINT64_C(1) << 3)
#define NET_F_MAC        (UINT64_C(1) << 5)
#define NET_F_GUEST_TSO4 (UINT64_C(1) << 7)
#define NET_F_GUEST_TSO6 (UINT64_C(1) << 8)
#define NET_F_GUEST_ECN  (UINT64_C(1) << 9)
#define NET_F_GUEST_UFO  (UINT64_C(1) << 10)
#define NET_F_HOST_TSO4  (UINT64_C(1) << 11)
#define NET_F_HOST_TSO6  (UINT64_C(1) << 12)
#define NET_F_HOST_ECN   (UINT64_C(1) << 13)
#define NET_F_HOST_UFO   (UINT64_C(1) << 14)
#define NET_F_MRG_RXBUF  (UINT64_C(1) << 15)
#define NET_F_STATUS     (UINT64_C(1) << 16)

/* What a backend can do for the driver, and the driver for a backend. */
#define NET_HOST_OFFLOADS                                                      \
    (NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_HOST_ECN |         \
        NET_F_HOST_UFO)
#define NET_GUEST_GSO                                                          \
    (NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_ECN | NET_F_GUEST_UFO)
#define NET_GUEST_OFFLOADS (NET_F_GUEST_CSUM | NET_GUEST_GSO)

/* 5.1.4 Device configuration layout, up to mtu. */
#define NET_MAC_BYTES 6u
struct net_config_space {
    uint8_t mac[NET_MAC_BYTES];
    le16 status;
    le16 max_virtqueue_pairs;
    le16 mtu;
};
_Static_assert(sizeof(struct net_config_space) == 12, "virtio 1.2, 5.1.4");
#define NET_S_LINK_UP 0x1u

/* 5.1.4.1: a device offers no smaller MTU. */
#define NET_MTU_MIN 68u

/* 5.1.6 What every frame starts with. */
struct net_header {
    uint8_t flags;
    uint8_t gso_type;
    le16 hdr_len;
    le16 gso_size;
    le16 csum_start;
    le16 csum_offset;
    le16 num_buffers;
};
_Static_assert(sizeof(struct net_header) == 12, "virtio 1.2, 5.1.6");
#define NET_HDR_F_NEEDS_CSUM 0x01u
#define NET_HDR_GSO_NONE     0u
#define NET_HDR_GSO_TCPV4    1u
#define NET_HDR_GSO_UDP      3u
#define NET_HDR_GSO_TCPV6    4u
#define NET_HDR_GSO_ECN      0x80u

/*
 * Ethernet: the header, and the longest frame, an IP packet of 65535 bytes
 * with one VLAN tag.
 */
#define NET_FRAME_MIN 14u
#define NET_FRAME_MAX 65553u

#endif
