/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Constants and wire structs of virtio 1.2 that the devices share, with the
 * clause that defines each. Those of one device type are in its own header.
 */
#ifndef VIRTIO_SPEC_H
#define VIRTIO_SPEC_H

#include <stdint.h>

#include "vmm/base/le.h"

/* 2.1 Device status field. */
#define VIRTIO_STATUS_ACKNOWLEDGE 0x01u
#define VIRTIO_STATUS_DRIVER      0x02u
#define VIRTIO_STATUS_DRIVER_OK   0x04u
#define VIRTIO_STATUS_FEATURES_OK 0x08u
#define VIRTIO_STATUS_NEEDS_RESET 0x40u
#define VIRTIO_STATUS_FAILED      0x80u
#define VIRTIO_STATUS_ALL         0xcfu

/* 6 Reserved feature bits, as masks. */
#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX     (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1     (UINT64_C(1) << 32)
#define VIRTIO_F_RING_RESET    (UINT64_C(1) << 40)

/* Of one device: what we keep room for. */
#define VIRTIO_QUEUES_MAX 8

/* 5 Device types. */
#define VIRTIO_ID_NET     1u
#define VIRTIO_ID_BLOCK   2u
#define VIRTIO_ID_CONSOLE 3u
#define VIRTIO_ID_RNG     4u
#define VIRTIO_ID_BALLOON 5u
#define VIRTIO_ID_VSOCK   19u
#define VIRTIO_ID_PMEM    27u

/* 2.7.5 The virtqueue descriptor table. */
#define VIRTQ_DESC_F_NEXT     0x1u
#define VIRTQ_DESC_F_WRITE    0x2u
#define VIRTQ_DESC_F_INDIRECT 0x4u

struct virtq_desc {
    le64 addr;
    le32 len;
    le16 flags;
    le16 next;
};
_Static_assert(sizeof(struct virtq_desc) == 16, "virtio 1.2, 2.7.5");
#define VIRTQ_DESC_ALIGN UINT64_C(16)

/*
 * 2.7.6 The available ring: flags, idx, ring[size], used_event, all 16 bits.
 */
#define VIRTQ_AVAIL_ALIGN          UINT64_C(2)
#define VIRTQ_AVAIL_FLAGS          UINT64_C(0)
#define VIRTQ_AVAIL_IDX            UINT64_C(2)
#define VIRTQ_AVAIL_RING           UINT64_C(4)
#define VIRTQ_AVAIL_F_NO_INTERRUPT 0x1u

/*
 * 2.7.8 The used ring: flags and idx of 16 bits, ring[size], avail_event of
 * 16 bits.
 */
struct virtq_used_elem {
    le32 id;
    le32 len;
};
_Static_assert(sizeof(struct virtq_used_elem) == 8, "virtio 1.2, 2.7.8");
#define VIRTQ_USED_ALIGN       UINT64_C(4)
#define VIRTQ_USED_FLAGS       UINT64_C(0)
#define VIRTQ_USED_IDX         UINT64_C(2)
#define VIRTQ_USED_RING        UINT64_C(4)
#define VIRTQ_USED_F_NO_NOTIFY 0x1u

/* 2.7 A queue is a power of two in size, at most this. */
#define VIRTQ_SIZE_LIMIT 32768u

/* Bytes of the three parts of a queue of `size` entries (2.7, 2.7.6, 2.7.8). */
static inline uint64_t virtq_desc_bytes(uint16_t size)
{
    return (uint64_t)size * sizeof(struct virtq_desc);
}

static inline uint64_t virtq_avail_bytes(uint16_t size)
{
    return VIRTQ_AVAIL_RING + (uint64_t)size * 2 + 2;
}

static inline uint64_t virtq_used_bytes(uint16_t size)
{
    return VIRTQ_USED_RING + (uint64_t)size * sizeof(struct virtq_used_elem) +
           2;
}

/* 4.2.2 MMIO device register layout. */
#define VIRTIO_MMIO_MAGIC_VALUE         0x000u
#define VIRTIO_MMIO_VERSION             0x004u
#define VIRTIO_MMIO_DEVICE_ID           0x008u
#define VIRTIO_MMIO_VENDOR_ID           0x00cu
#define VIRTIO_MMIO_DEVICE_FEATURES     0x010u
#define VIRTIO_MMIO_DEVICE_FEATURES_SEL 0x014u
#define VIRTIO_MMIO_DRIVER_FEATURES     0x020u
#define VIRTIO_MMIO_DRIVER_FEATURES_SEL 0x024u
#define VIRTIO_MMIO_QUEUE_SEL           0x030u
#define VIRTIO_MMIO_QUEUE_NUM_MAX       0x034u
#define VIRTIO_MMIO_QUEUE_NUM           0x038u
#define VIRTIO_MMIO_QUEUE_READY         0x044u
#define VIRTIO_MMIO_QUEUE_NOTIFY        0x050u
#define VIRTIO_MMIO_INTERRUPT_STATUS    0x060u
#define VIRTIO_MMIO_INTERRUPT_ACK       0x064u
#define VIRTIO_MMIO_STATUS              0x070u
#define VIRTIO_MMIO_QUEUE_DESC_LOW      0x080u
#define VIRTIO_MMIO_QUEUE_DESC_HIGH     0x084u
#define VIRTIO_MMIO_QUEUE_DRIVER_LOW    0x090u
#define VIRTIO_MMIO_QUEUE_DRIVER_HIGH   0x094u
#define VIRTIO_MMIO_QUEUE_DEVICE_LOW    0x0a0u
#define VIRTIO_MMIO_QUEUE_DEVICE_HIGH   0x0a4u
#define VIRTIO_MMIO_SHM_SEL             0x0acu
#define VIRTIO_MMIO_SHM_LEN_LOW         0x0b0u
#define VIRTIO_MMIO_SHM_LEN_HIGH        0x0b4u
#define VIRTIO_MMIO_SHM_BASE_LOW        0x0b8u
#define VIRTIO_MMIO_SHM_BASE_HIGH       0x0bcu
#define VIRTIO_MMIO_QUEUE_RESET         0x0c0u
#define VIRTIO_MMIO_CONFIG_GENERATION   0x0fcu
#define VIRTIO_MMIO_CONFIG              0x100u
#define VIRTIO_MMIO_SIZE                0x1000u /* of our window */

#define VIRTIO_MMIO_MAGIC     0x74726976u
#define VIRTIO_MMIO_VERSION_2 2u
#define VIRTIO_MMIO_VENDOR    0x524f5053u

/* InterruptStatus bits. */
#define VIRTIO_INTERRUPT_USED   0x1u
#define VIRTIO_INTERRUPT_CONFIG 0x2u

#endif
