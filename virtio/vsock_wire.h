/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wire structs and constants of the socket device (virtio 1.2, 5.10).
 */
#ifndef VIRTIO_VSOCK_WIRE_H
#define VIRTIO_VSOCK_WIRE_H

#include <stdint.h>

#include "vmm/base/le.h"

/* 5.10.2 Virtqueues. */
#define VSOCK_QUEUE_RX    0u
#define VSOCK_QUEUE_TX    1u
#define VSOCK_QUEUE_EVENT 2u
#define VSOCK_QUEUES      3u

/* 5.10.3 Feature bits. */
#define VSOCK_F_STREAM (UINT64_C(1) << 0)

/* 5.10.4 Device configuration layout. */
struct vsock_config_space {
    le64 guest_cid;
};
_Static_assert(sizeof(struct vsock_config_space) == 8, "virtio 1.2, 5.10.4");

/* Reserved addresses; a guest has one from VSOCK_CID_GUEST_MIN up. */
#define VSOCK_CID_HOST      2u
#define VSOCK_CID_GUEST_MIN 3u
#define VSOCK_CID_ANY       0xffffffffu

/* 5.10.6 Device operation. */
struct vsock_header {
    le64 src_cid;
    le64 dst_cid;
    le32 src_port;
    le32 dst_port;
    le32 len;
    le16 type;
    le16 op;
    le32 flags;
    le32 buf_alloc;
    le32 fwd_cnt;
};
_Static_assert(sizeof(struct vsock_header) == 44, "virtio 1.2, 5.10.6");

#define VSOCK_TYPE_STREAM 1u

enum vsock_op {
    VSOCK_OP_INVALID = 0,
    VSOCK_OP_REQUEST = 1,
    VSOCK_OP_RESPONSE = 2,
    VSOCK_OP_RST = 3,
    VSOCK_OP_SHUTDOWN = 4,
    VSOCK_OP_RW = 5,
    VSOCK_OP_CREDIT_UPDATE = 6,
    VSOCK_OP_CREDIT_REQUEST = 7,
};

/* 5.10.6.5 Flags of SHUTDOWN: what its sender will not do any more. */
#define VSOCK_SHUTDOWN_RCV  0x1u
#define VSOCK_SHUTDOWN_SEND 0x2u
#define VSOCK_SHUTDOWN_BOTH (VSOCK_SHUTDOWN_RCV | VSOCK_SHUTDOWN_SEND)

/* 5.10.6.7 Device events. */
struct vsock_event {
    le32 id;
};
_Static_assert(sizeof(struct vsock_event) == 4, "virtio 1.2, 5.10.6.7");
#define VSOCK_EVENT_TRANSPORT_RESET 0u

#endif
