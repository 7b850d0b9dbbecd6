/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/core/state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* On a little-endian host the wire form of a field is its memory image. */
static size_t field_bytes(const struct state_field *f)
{
    return (size_t)f->width * f->count;
}

size_t state_wire_size(const struct state_desc *desc, uint32_t version)
{
    size_t bytes = 0;

    for (size_t i = 0; i < desc->field_count; i++) {
        if (desc->fields[i].since <= version)
            bytes += field_bytes(&desc->fields[i]);
    }
    return bytes;
}

/*
 * What is contiguous in memory moves in one piece: whole arrays do, columns
 * of an array of structs go element by element.
 */
static uint32_t field_pieces(const struct state_field *f)
{
    return f->stride == f->width ? 1 : f->count;
}

static size_t piece_bytes(const struct state_field *f)
{
    return f->stride == f->width ? field_bytes(f) : f->width;
}

static size_t piece_offset(const struct state_field *f, uint32_t piece)
{
    return f->offset + (size_t)piece * f->stride;
}

static void check_field(
    const struct state_desc *desc, const struct state_field *f)
{
    assert(f->stride >= f->width && f->count > 0);
    assert(f->offset + (size_t)(f->count - 1) * f->stride + f->width <=
           desc->size);
    (void)desc;
    (void)f;
}

void state_save(
    const struct state_desc *desc, const void *state, struct bytes_writer *w)
{
    for (size_t i = 0; i < desc->field_count; i++) {
        const struct state_field *f = &desc->fields[i];

        check_field(desc, f);
        for (uint32_t p = 0; p < field_pieces(f); p++)
            bytes_put(
                w, (const uint8_t *)state + piece_offset(f, p), piece_bytes(f));
    }
}

int state_load(const struct state_desc *desc, uint32_t version,
    struct bytes_reader *r, void *ret_state)
{
    if (version == 0 || version > desc->version)
        return -ENOTSUP;
    if (bytes_left(r) < state_wire_size(desc, version))
        return -ENODATA;
    memset(ret_state, 0, desc->size);
    for (size_t i = 0; i < desc->field_count; i++) {
        const struct state_field *f = &desc->fields[i];

        if (f->since > version)
            continue;
        check_field(desc, f);
        for (uint32_t p = 0; p < field_pieces(f); p++)
            bytes_get(
                r, (uint8_t *)ret_state + piece_offset(f, p), piece_bytes(f));
    }
    return 0;
}

const struct state_field *state_differs(
    const struct state_desc *desc, const void *a, const void *b)
{
    for (size_t i = 0; i < desc->field_count; i++) {
        const struct state_field *f = &desc->fields[i];

        check_field(desc, f);
        for (uint32_t p = 0; p < field_pieces(f); p++) {
            size_t at = piece_offset(f, p);

            if (memcmp((const uint8_t *)a + at, (const uint8_t *)b + at,
                    piece_bytes(f)) != 0)
                return f;
        }
    }
    return NULL;
}

uint64_t state_field_get(
    const struct state_field *field, const void *state, uint32_t i)
{
    uint64_t v = 0;

    assert(i < field->count && field->width <= sizeof(v));
    memcpy(&v, (const uint8_t *)state + piece_offset(field, i), field->width);
    return v;
}
