/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XXH3-128 (xxHash 0.8, seed 0): the checksum of everything in a snapshot.
 *
 * It finds damage and equal pages; it is no proof against an adversary who
 * chooses the bytes, so equal hashes are never taken for equal pages without
 * a comparison. The sixteen bytes are the canonical form (high half first,
 * big-endian), so that the hex text is what `xxhsum -H2` prints. Thread rule:
 * pure functions; a stream belongs to one thread.
 */
#ifndef SNAPSHOT_HASH_H
#define SNAPSHOT_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vmm/base/cc.h"

struct hash128 {
    uint8_t b[16];
};

#define HASH_TEXT_SIZE 33 /* 32 hex digits and a NUL */

struct hash128 hash_bytes(const void *data, size_t size);

/* Hashes `count` pages of 4 KiB that lie one behind the other. */
void hash_pages(const void *data, size_t count, struct hash128 *ret_hashes);

static inline bool hash_equal(const struct hash128 *a, const struct hash128 *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

void hash_to_text(const struct hash128 *hash, char ret_text[HASH_TEXT_SIZE]);

/* The hash of bytes that come in pieces. */
struct hash_stream {
    void *state; /* XXH3_state_t */
};

/* 0 or -ENOMEM. */
CC_MUST_CHECK int hash_stream_init(struct hash_stream *stream);
void hash_stream_fini(struct hash_stream *stream);
void hash_stream_add(struct hash_stream *stream, const void *data, size_t size);
struct hash128 hash_stream_end(const struct hash_stream *stream);

#endif
