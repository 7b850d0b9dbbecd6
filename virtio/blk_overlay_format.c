/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk_overlay_format.h"

#include <assert.h>
#include <string.h>
#include <zlib.h>

#include "vmm/base/bytes.h"
#include "vmm/base/le.h"
#include "vmm/base/num.h"

#define MAGIC        UINT64_C(0x59414c5245564f53) /* "SOVERLAY" */
#define VERSION      1u
#define CRC_OFFSET   (BLK_OVERLAY_BLOCK - 4u)
#define MAP_HEADER   32u /* sequence, index, CRC, reserved */
#define MAP_CRC      16u /* offset of it */
#define PER_BYTE     4u
#define ENTRY_MASK   UINT64_C(3)
#define ENTRY_BITS   2u
#define HEADER_BYTES 56u

_Static_assert(
    (BLK_OVERLAY_BLOCK - MAP_HEADER) * PER_BYTE == BLK_MAP_BLOCK_CLUSTERS,
    "entries of a block");

uint64_t blk_overlay_map_blocks(uint64_t clusters)
{
    return num_div_up(clusters, BLK_MAP_BLOCK_CLUSTERS);
}

uint64_t blk_overlay_slot_offset(uint64_t block, uint64_t sequence)
{
    return BLK_OVERLAY_BLOCK * (1 + 2 * block + (sequence & 1));
}

uint64_t blk_overlay_data_offset(uint64_t clusters)
{
    return BLK_OVERLAY_BLOCK * (1 + 2 * blk_overlay_map_blocks(clusters));
}

static uint32_t crc_of(const uint8_t *data, size_t len, uint32_t crc)
{
    return (uint32_t)crc32(crc, data, (uInt)len);
}

void blk_overlay_header_encode(
    const struct blk_overlay_header *h, uint8_t ret_block[BLK_OVERLAY_BLOCK])
{
    struct bytes_writer w;

    bytes_writer_init(&w, ret_block, BLK_OVERLAY_BLOCK);
    bytes_put_u64(&w, MAGIC);
    bytes_put_u32(&w, VERSION);
    bytes_put_u32(&w, (uint32_t)BLK_CLUSTER);
    bytes_put_u64(&w, h->capacity);
    bytes_put_u64(&w, h->base.bytes);
    bytes_put_u64(&w, h->base.mtime_s);
    bytes_put_u32(&w, h->base.mtime_ns);
    bytes_put_u32(&w, h->base.sample);
    bytes_put_u64(&w, 0);
    assert(w.pos == HEADER_BYTES);
    bytes_put_zero(&w, CRC_OFFSET - w.pos);
    bytes_put_u32(&w, crc_of(ret_block, CRC_OFFSET, 0));
    assert(!w.failed);
}

const char *blk_overlay_header_decode(const uint8_t block[BLK_OVERLAY_BLOCK],
    struct blk_overlay_header *ret_header)
{
    struct blk_overlay_header h;
    struct bytes_reader r;
    uint64_t reserved;
    uint32_t cluster;

    bytes_reader_init(&r, block, BLK_OVERLAY_BLOCK);
    if (bytes_get_u64(&r) != MAGIC)
        return "not an overlay";
    if (bytes_get_u32(&r) != VERSION)
        return "an overlay of another version of spore";
    cluster = bytes_get_u32(&r);
    h.capacity = bytes_get_u64(&r);
    h.base.bytes = bytes_get_u64(&r);
    h.base.mtime_s = bytes_get_u64(&r);
    h.base.mtime_ns = bytes_get_u32(&r);
    h.base.sample = bytes_get_u32(&r);
    reserved = bytes_get_u64(&r);
    bytes_seek(&r, CRC_OFFSET);
    if (bytes_get_u32(&r) != crc_of(block, CRC_OFFSET, 0))
        return "the overlay's header is damaged";
    if (cluster != BLK_CLUSTER || reserved != 0 || h.capacity == 0 ||
        h.capacity > BLK_OVERLAY_SECTORS_MAX ||
        h.capacity != h.base.bytes / 512)
        return "the overlay's header makes no sense";
    *ret_header = h;
    return NULL;
}

static uint32_t map_crc(const uint8_t *block)
{
    static const uint8_t none[4];
    uint32_t crc = crc_of(block, MAP_CRC, 0);

    crc = crc_of(none, sizeof(none), crc);
    return crc_of(block + MAP_CRC + sizeof(none),
        BLK_OVERLAY_BLOCK - MAP_CRC - sizeof(none), crc);
}

/* Clusters that map block `index` speaks of. */
static uint64_t clusters_in(const struct blk_map *m, uint64_t index)
{
    return num_min(
        BLK_MAP_BLOCK_CLUSTERS, m->clusters - index * BLK_MAP_BLOCK_CLUSTERS);
}

/* The 32 low bits of `v`, each on every other bit. */
static uint64_t spread(uint64_t v)
{
    v &= UINT32_MAX;
    v = (v | v << 16) & UINT64_C(0x0000ffff0000ffff);
    v = (v | v << 8) & UINT64_C(0x00ff00ff00ff00ff);
    v = (v | v << 4) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    v = (v | v << 2) & UINT64_C(0x3333333333333333);
    return (v | v << 1) & UINT64_C(0x5555555555555555);
}

void blk_overlay_map_encode(const struct blk_map *m, uint64_t index,
    uint64_t sequence, uint8_t ret_block[BLK_OVERLAY_BLOCK])
{
    /* A block begins with a word of the bitmaps, and is 254 of them. */
    uint64_t first = index * BLK_MAP_BLOCK_CLUSTERS / 64;
    uint64_t words = num_div_up(clusters_in(m, index), 64);
    struct bytes_writer w;

    _Static_assert(BLK_MAP_BLOCK_CLUSTERS % 64 == 0, "whole words");
    _Static_assert(BLK_CLUSTER_DATA == 1 && BLK_CLUSTER_ZERO == 2, "bits");
    bytes_writer_init(&w, ret_block, BLK_OVERLAY_BLOCK);
    bytes_put_u64(&w, sequence);
    bytes_put_u64(&w, index);
    bytes_put_zero(&w, MAP_HEADER - w.pos);
    for (uint64_t i = first; i < first + words; i++) {
        uint64_t data = m->data.words[i];
        uint64_t zero = m->zero.words[i];

        bytes_put_u64(&w, spread(data) | spread(zero) << 1);
        bytes_put_u64(&w, spread(data >> 32) | spread(zero >> 32) << 1);
    }
    bytes_put_zero(&w, BLK_OVERLAY_BLOCK - w.pos);
    assert(!w.failed);
    bytes_writer_init(&w, ret_block + MAP_CRC, sizeof(uint32_t));
    bytes_put_u32(&w, map_crc(ret_block));
}

/* The entries of a block, 32 at a time. */
#define WORD_ENTRIES 32u

static uint64_t word_at(const uint8_t *block, uint64_t i)
{
    le64 word;

    memcpy(&word, block + MAP_HEADER + i * sizeof(word), sizeof(word));
    return le64_get(word);
}

/* No state 3, and nothing about clusters that there are not. */
static bool are_states(const uint8_t *block, uint64_t count)
{
    for (uint64_t i = 0; i < BLK_MAP_BLOCK_CLUSTERS / WORD_ENTRIES; i++) {
        uint64_t word = word_at(block, i);
        uint64_t left = count - num_min(count, i * WORD_ENTRIES);

        if ((word & (word >> 1) & UINT64_C(0x5555555555555555)) != 0)
            return false;
        if (left < WORD_ENTRIES && word >> left * ENTRY_BITS != 0)
            return false;
    }
    return true;
}

/* Whether a slot is whole and is what belongs there. */
static bool is_valid(const uint8_t *block, unsigned int slot, uint64_t index,
    uint64_t count, uint64_t *ret_sequence)
{
    struct bytes_reader r;
    uint64_t sequence;

    bytes_reader_init(&r, block, BLK_OVERLAY_BLOCK);
    sequence = bytes_get_u64(&r);
    if ((sequence & 1) != slot || sequence == UINT64_MAX ||
        bytes_get_u64(&r) != index || bytes_get_u32(&r) != map_crc(block) ||
        !are_states(block, count))
        return false;
    *ret_sequence = sequence;
    return true;
}

bool blk_overlay_map_decode(const uint8_t slots[2 * BLK_OVERLAY_BLOCK],
    uint64_t index, struct blk_map *m, uint64_t *ret_sequence)
{
    uint64_t first = index * BLK_MAP_BLOCK_CLUSTERS;
    uint64_t count = clusters_in(m, index);
    const uint8_t *odd = slots + BLK_OVERLAY_BLOCK;
    uint64_t even_sequence = 0;
    uint64_t odd_sequence = 0;
    bool has_even = is_valid(slots, 0, index, count, &even_sequence);
    bool has_odd = is_valid(odd, 1, index, count, &odd_sequence);
    const uint8_t *block = slots;

    if (!has_even && !has_odd)
        return false;
    if (!has_even || (has_odd && odd_sequence > even_sequence))
        block = odd;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t word =
            word_at(block, i / WORD_ENTRIES) >> i % WORD_ENTRIES * ENTRY_BITS;

        if (word == 0)
            i |= WORD_ENTRIES - 1;
        else if ((word & ENTRY_MASK) != BLK_CLUSTER_BASE)
            blk_map_set(
                m, first + i, 1, (enum blk_cluster_state)(word & ENTRY_MASK));
    }
    *ret_sequence = block == odd ? odd_sequence : even_sequence;
    return true;
}
