/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of a virtqueue and of a virtio-mmio window, for tests.
 *
 * It lays rings out in guest memory and can make every mistake a driver can.
 * Thread rule: one thread; accesses go through the device's lock.
 */
#ifndef TESTS_UNIT_SUPPORT_DRIVE_QUEUE_H
#define TESTS_UNIT_SUPPORT_DRIVE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/device.h"
#include "virtio/queue.h"
#include "vmm/core/gmem.h"

struct drive_buffer {
    uint64_t addr;
    uint32_t len;
    bool writable;
};

struct drive_queue {
    struct gmem *mem;
    uint64_t desc; /* guest addresses */
    uint64_t avail;
    uint64_t used;
    uint16_t size;
    uint16_t avail_idx; /* the driver's own copies */
    uint16_t used_seen;
    uint16_t next_desc; /* descriptors are handed out in a circle */
};

/* Bytes from `base` that a queue of `size` takes. */
uint64_t drive_queue_bytes(uint16_t size);

/* Lays out zeroed rings from `base`, a multiple of 4096. */
void drive_queue_init(
    struct drive_queue *d, struct gmem *mem, uint64_t base, uint16_t size);

/* Starts both indices at `start`, in memory too. */
void drive_queue_set_index(struct drive_queue *d, uint16_t start);

/* The state that a device would have after setting this queue up. */
struct queue_state drive_queue_state(const struct drive_queue *d);

/* Writes a descriptor, wherever `table` says. */
void drive_set_desc(struct gmem *mem, uint64_t table, uint16_t i,
    const struct drive_buffer *buf, uint16_t flags, uint16_t next);

/* Puts a head into the ring and, unless held back, moves the index. */
void drive_put_avail(struct drive_queue *d, uint16_t head);
void drive_set_avail_idx(struct drive_queue *d, uint16_t idx);

/* Makes a chain of `n` > 0 buffers available; the head. */
uint16_t drive_add(
    struct drive_queue *d, const struct drive_buffer *bufs, uint16_t n);

/* The same through an indirect table at `table`. */
uint16_t drive_add_indirect(struct drive_queue *d, uint64_t table,
    const struct drive_buffer *bufs, uint16_t n);

/* The next used element, false if there is none. */
bool drive_get_used(struct drive_queue *d, uint32_t *ret_id, uint32_t *ret_len);

void drive_set_used_event(struct drive_queue *d, uint16_t event);
void drive_set_avail_flags(struct drive_queue *d, uint16_t flags);
uint16_t drive_avail_event(const struct drive_queue *d);
uint16_t drive_used_flags(const struct drive_queue *d);

/* One 32-bit register access. */
uint32_t drive_read(struct device *dev, uint64_t offset);
void drive_write(struct device *dev, uint64_t offset, uint32_t value);

/* Registers for one queue, up to and with QueueReady. */
void drive_setup_queue(
    struct device *dev, uint32_t index, const struct drive_queue *d);

/* Reset, features and FEATURES_OK; whether the device accepted. */
bool drive_negotiate(struct device *dev, uint64_t features);

/* All of 3.1.1 with `count` queues; asserts that the device came up. */
void drive_start(struct device *dev, uint64_t features,
    const struct drive_queue *queues, uint32_t count);

void drive_kick(struct device *dev, uint32_t index);

#endif
