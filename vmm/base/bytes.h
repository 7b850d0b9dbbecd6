/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded cursors over bytes: the only way in which spore parses or builds a
 * binary format.
 *
 * A cursor that is asked for more than it has becomes `failed`, hands out
 * zeroes from then on, and stays so; a parser may read a whole struct and
 * test once. Thread rule: a cursor belongs to one thread. The bytes of a
 * reader may be hostile but must not change underneath it.
 */
#ifndef VMM_BASE_BYTES_H
#define VMM_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"

struct bytes_reader {
    const uint8_t *data;
    size_t size;
    size_t pos; /* <= size */
    bool failed;
};

struct bytes_writer {
    uint8_t *data;
    size_t size;
    size_t pos; /* <= size */
    bool failed;
};

void bytes_reader_init(struct bytes_reader *r, const void *data, size_t size);

/* A reader over [offset, offset + len) of `r`; false if that is outside. */
CC_MUST_CHECK bool bytes_reader_sub(const struct bytes_reader *r,
    uint64_t offset, uint64_t len, struct bytes_reader *ret_sub);

/* Moves to an absolute offset; beyond the end fails the cursor. */
void bytes_seek(struct bytes_reader *r, uint64_t offset);
void bytes_skip(struct bytes_reader *r, uint64_t len);

/* Copies `len` bytes out; on failure `dst` is all zero. */
void bytes_get(struct bytes_reader *r, void *dst, size_t len);
uint8_t bytes_get_u8(struct bytes_reader *r);
uint16_t bytes_get_u16(struct bytes_reader *r);
uint32_t bytes_get_u32(struct bytes_reader *r);
uint64_t bytes_get_u64(struct bytes_reader *r);

/* The next `len` bytes in place, NULL on failure. */
const uint8_t *bytes_take(struct bytes_reader *r, uint64_t len);

static inline size_t bytes_left(const struct bytes_reader *r)
{
    return r->failed ? 0 : r->size - r->pos;
}

void bytes_writer_init(struct bytes_writer *w, void *data, size_t size);
void bytes_put(struct bytes_writer *w, const void *src, size_t len);
void bytes_put_zero(struct bytes_writer *w, size_t len);
void bytes_put_u8(struct bytes_writer *w, uint8_t v);
void bytes_put_u16(struct bytes_writer *w, uint16_t v);
void bytes_put_u32(struct bytes_writer *w, uint32_t v);
void bytes_put_u64(struct bytes_writer *w, uint64_t v);

#endif
