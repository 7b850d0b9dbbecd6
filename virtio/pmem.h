/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio persistent memory device (virtio 1.2, 5.19): tells the driver
 * where a file is mapped into its physical address space, and makes what was
 * written there durable on request.
 *
 * The guest reads and writes the mapping itself. One fdatasync(2) is in flight
 * at a time and answers every flush that was popped before it began; those
 * that come meanwhile wait in the queue for the next, so that no number of
 * them is more work than one after the other.
 *
 * There is no way to tell the driver that a device is read-only (5.19 has no
 * feature for it). What it writes to one comes out of KVM as an access to a
 * device, as does any access that the host could not carry out because the
 * file was cut or its disk failed. `window` stands on the MMIO bus for these:
 * it drops writes to a read-only device, and from then on every flush fails,
 * since what the driver believes to be written is not; the others end the
 * guest.
 *
 * Thread rule: as virtio/device.h has it; `window` is a device of its own,
 * with its own lock. Guest-controlled: the requests. After a load all of
 * struct pmem_state is hostile.
 */
#ifndef VIRTIO_PMEM_H
#define VIRTIO_PMEM_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/device.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/base/le.h"
#include "vmm/core/loop.h"
#include "vmm/core/rate.h"
#include "vmm/core/uring.h"

#define PMEM_QUEUE_SIZE 64u

/* 5.19.4 Device configuration layout. */
struct pmem_config_space {
    le64 start;
    le64 size;
};
_Static_assert(sizeof(struct pmem_config_space) == 16, "virtio 1.2, 5.19.4");

/* 5.19.6 A request is its type, 5.19.7 the answer one status, both le32. */
#define PMEM_REQ_FLUSH 0u
#define PMEM_RESP_OK   0u
#define PMEM_RESP_EIO  1u

/* What a snapshot keeps; no padding. */
struct pmem_state {
    struct virtio_state virtio;
    uint64_t start; /* as the guest was told */
    uint64_t size;
    struct rate_state rate;
};
_Static_assert(sizeof(struct pmem_state) ==
                   sizeof(struct virtio_state) + sizeof(struct rate_state) + 16,
    "no padding");

/* Since the device was made; under the device's lock but for the last. */
struct pmem_stats {
    uint64_t flushes;        /* answered, whatever the answer */
    uint64_t syncs;          /* fdatasync calls */
    uint64_t throttled;      /* times that flushes had to wait for tokens */
    uint64_t dropped_writes; /* of the guest, to a read-only device; atomic */
};

struct pmem_request;

struct pmem {
    struct virtio_device virtio;
    struct pmem_state state;
    struct device window; /* for [start, start + size) of the MMIO bus */
    uint64_t start;       /* as configured, as is the rest up to opaque */
    uint64_t size;
    int fd; /* borrowed */
    bool read_only;
    void (*on_fault)(void *opaque);
    void *opaque;
    struct rate rate;
    struct loop_timer timer; /* armed while flushes wait for tokens */
    struct uring *uring;     /* borrowed, or NULL */
    struct uring_client client;
    struct uring_op op;
    struct pmem_request *syncing; /* what the fdatasync in flight answers */
    int slot;                     /* in the ring, -1: not registered (yet) */
    bool tried;                   /* to register it */
    bool dropping; /* a write was dropped since the last reset; atomic */
    struct pmem_stats stats;
};

struct pmem_config {
    const char *id;      /* unique in the machine; borrowed */
    int fd;              /* the mapped file; borrowed */
    struct uring *uring; /* borrowed; NULL: plain system calls */
    uint64_t start;      /* guest address of the mapping */
    uint64_t size;       /* bytes of it */
    bool read_only;
    struct rate_config rate; /* an fdatasync is 1 operation and `size` bytes */

    /*
     * The host could not carry out an access of the guest to the mapping. On
     * a vCPU thread, with the lock of `window` held.
     */
    void (*on_fault)(void *opaque);
    void *opaque;
};

/*
 * Makes a device in its power-on state. -EINVAL for limits that rate_check
 * refuses. Without a loop there is no limit.
 */
CC_MUST_CHECK int pmem_init(struct pmem *pmem, const struct pmem_config *config,
    const struct virtio_host *host, struct err *err);

/* On the loop's thread, or when it runs no more; the device is quiet. */
void pmem_fini(struct pmem *pmem);

/*
 * Gives the device other limits, with full buckets. 0, or -EINVAL and nothing
 * is changed. On the loop's thread with the device's lock held.
 */
CC_MUST_CHECK int pmem_set_rate(
    struct pmem *pmem, const struct rate_config *config, struct err *err);

#endif
