/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file that keeps an overlay: header, map, clusters.
 *
 *   0          header, 4096 bytes
 *   4096       map: for each map block two slots of 4096 bytes
 *   data       the clusters, each at data + its number * 4096; sparse
 *
 * All fields are little-endian. A map block has the states of 16256 clusters,
 * two bits each, under a sequence number and a CRC-32. Block writes alternate
 * between its two slots, the one with the higher number counts: a write that
 * a crash cuts short leaves the other. Both being unreadable is damage, since
 * one is there from the file's making on.
 *
 * The map is kept, and not asked of the file's holes: a cluster of zeroes and
 * one that is as the base are holes both, and a hole appears and goes away
 * with the data, not with the flush that makes it count.
 *
 * Thread rule: pure functions. The bytes decoded are hostile.
 */
#ifndef VIRTIO_BLK_OVERLAY_FORMAT_H
#define VIRTIO_BLK_OVERLAY_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/blk_map.h"
#include "vmm/base/cc.h"

#define BLK_OVERLAY_BLOCK 4096u /* header, and a slot of the map */

/* Sectors of the largest disk: the file stays far below 2^63 bytes. */
#define BLK_OVERLAY_SECTORS_MAX (UINT64_C(1) << 46)

/* What the base was when the overlay was made; it must not have changed. */
struct blk_overlay_identity {
    uint64_t bytes;
    uint64_t mtime_s; /* last written to; 0 for a block device */
    uint32_t mtime_ns;
    uint32_t sample; /* CRC-32 of its first and last 64 KiB */
};

struct blk_overlay_header {
    uint64_t capacity; /* sectors of the disk */
    struct blk_overlay_identity base;
};

static inline uint64_t blk_overlay_clusters(uint64_t sectors)
{
    return (sectors + 7) / 8;
}

/* Map blocks of a disk, and where its slots and its clusters are. */
uint64_t blk_overlay_map_blocks(uint64_t clusters);
uint64_t blk_overlay_slot_offset(uint64_t block, uint64_t sequence);
uint64_t blk_overlay_data_offset(uint64_t clusters);

void blk_overlay_header_encode(
    const struct blk_overlay_header *h, uint8_t ret_block[BLK_OVERLAY_BLOCK]);

/*
 * NULL, or a constant text that says what is wrong with it: no header of an
 * overlay, an unknown version, damage.
 */
CC_MUST_CHECK const char *blk_overlay_header_decode(
    const uint8_t block[BLK_OVERLAY_BLOCK],
    struct blk_overlay_header *ret_header);

/* Map block `index` as it is now. */
void blk_overlay_map_encode(const struct blk_map *m, uint64_t index,
    uint64_t sequence, uint8_t ret_block[BLK_OVERLAY_BLOCK]);

/*
 * Takes map block `index` from whichever of its two slots counts into a map
 * that has only BASE there. False, nothing changed, if neither is whole.
 */
CC_MUST_CHECK bool blk_overlay_map_decode(
    const uint8_t slots[2 * BLK_OVERLAY_BLOCK], uint64_t index,
    struct blk_map *m, uint64_t *ret_sequence);

#endif
