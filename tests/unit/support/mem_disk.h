/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block backend in memory that can hold operations back, complete them in
 * any order, fail them, and keep a log of what was written and flushed.
 *
 * Thread rule: one thread. Ranges are asserted against the capacity.
 */
#ifndef TESTS_UNIT_SUPPORT_MEM_DISK_H
#define TESTS_UNIT_SUPPORT_MEM_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/blk.h"

#define MEM_DISK_HELD_MAX 512u

struct mem_disk {
    struct blk_backend backend;
    uint8_t *data; /* the caller's, capacity * BLK_SECTOR bytes */
    struct blk_io *held[MEM_DISK_HELD_MAX];
    unsigned int held_count;
    bool holds;     /* operations wait for mem_disk_finish or a drain */
    int fails_with; /* 0, or what everything but a read fails with */
    bool reads_fail;
    bool tears; /* a write that fails has been done in half */
    unsigned int reads;
    unsigned int writes;
    unsigned int flushes;
    unsigned int zeroes; /* and discards */
    unsigned int commits;

    /* Called before an operation takes effect; may be NULL. */
    void (*on_effect)(void *opaque, const struct blk_io *io);
    void *opaque;
};

/* `data` is borrowed: `sectors` sectors of it. */
void mem_disk_init(struct mem_disk *d, uint8_t *data, uint64_t sectors);

/* Completes the `i`th of those held. */
void mem_disk_finish(struct mem_disk *d, unsigned int i);

#endif
