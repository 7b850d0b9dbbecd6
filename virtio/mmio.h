/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers of the virtio-mmio transport, version 2 (virtio 1.2, 4.2):
 * device status, feature negotiation, queue set-up, interrupt status and the
 * window onto the configuration space. The legacy interface is refused: a
 * driver that does not accept VIRTIO_F_VERSION_1 never gets FEATURES_OK.
 *
 * Thread rule: called by the bus on vCPU threads with the device's lock held.
 * Guest-controlled: offset, length, direction and value of every access.
 */
#ifndef VIRTIO_MMIO_H
#define VIRTIO_MMIO_H

#include "vmm/core/device.h"

/*
 * One access to the window of VIRTIO_MMIO_SIZE bytes; `dev` is the base of a
 * struct virtio_device. Registers take aligned 4-byte accesses only (4.2.2.2):
 * others are ignored, and read as all ones. A write of 0 to Status, to
 * QueueReady of a queue in use, or to QueueReset returns when the requests
 * concerned are no longer in flight.
 */
void virtio_mmio_access(struct device *dev, struct bus_access *access);

#endif
