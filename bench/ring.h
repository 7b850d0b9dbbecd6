/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of a split queue for programs that measure devices
 * without a guest: as cheap as a driver can be, with event indices, and every
 * failure ends the program. It reaches memory as a guest does, without the
 * device's checks and dirty marks, so that it adds little to what is measured.
 *
 * Chains are laid out once with ring_set_desc; ring_put makes one available.
 */
#ifndef BENCH_RING_H
#define BENCH_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/device.h"
#include "vmm/core/gmem.h"

struct ring {
    struct gmem *mem;
    struct device *dev;
    uint32_t index; /* of the queue in its device */
    uint16_t size;
    uint64_t base; /* guest address of the rings, RING_BYTES of them */
    struct gslice avail;
    struct gslice used;
    le16 *heads; /* of the available ring */
    const struct virtq_used_elem *answers;
    uint16_t avail_idx;
    uint16_t published;
    uint16_t used_seen;
};
#define RING_BYTES UINT64_C(0x8000) /* up to 256 entries */

void ring_init(struct ring *r, struct gmem *mem, struct device *dev,
    uint32_t index, uint64_t base, uint16_t size);

/* Registers, with VERSION_1 and EVENT_IDX besides `features`. */
void ring_start(struct device *dev, uint64_t features, const struct ring *rings,
    uint32_t count);

/* Descriptor `i`: `len` bytes at `addr`; `flags` as VIRTQ_DESC_F_*. */
void ring_set_desc(struct ring *r, uint16_t i, uint64_t addr, uint32_t len,
    uint16_t flags, uint16_t next);

void ring_put(struct ring *r, uint16_t head);

/* Shows what was put to the device and kicks if it asks for that (2.7.10). */
void ring_publish(struct ring *r);

/* An interrupt once `count` more entries are used (2.7.7). */
void ring_want_interrupt(struct ring *r, uint16_t count);

/* The next used element, false if there is none. */
bool ring_next(struct ring *r, uint32_t *ret_id, uint32_t *ret_len);

#endif
