/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets for the guest: from the connections into the driver's buffers. A
 * part of virtio/vsock.h, whose rules apply.
 */
#ifndef VIRTIO_VSOCK_RX_H
#define VIRTIO_VSOCK_RX_H

#include "virtio/vsock.h"
#include "vmm/base/cc.h"

/*
 * Sends what is next, of which there is something: a reset, a packet of the
 * connection whose turn it is, or several full ones of its data. The buffers
 * that were looked at, 0 if the driver has none; then a kick comes with one.
 */
CC_MUST_CHECK unsigned int vsock_rx_send(struct vsock *s);

#endif
