/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State tables: one constant table per device describes its plain-old-data
 * state, and gives save, load, comparison and a readable dump.
 *
 * The state struct has fixed-width fields and no pointers; structs within it
 * are listed member by member, an array of structs column by column. On the
 * wire each field is little-endian, in table order, without padding. A field
 * has the version of the state that brought it (`since`): loading an older
 * version leaves newer fields at zero. Loaded bytes are hostile: state_load
 * only checks their length; the device's post_load checks what they mean.
 * Thread rule: pure functions.
 */
#ifndef VMM_CORE_STATE_H
#define VMM_CORE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"

struct state_field {
    const char *name;
    uint32_t offset; /* in the struct */
    uint16_t width;  /* bytes of one element: 1, 2, 4 or 8 */
    uint16_t since;  /* first version that has it, from 1 */
    uint32_t count;  /* elements: 1, or the length of the array */
    uint32_t stride; /* bytes from one element to the next, >= width */
};

struct state_desc {
    const char *name; /* names the section of a snapshot */
    uint32_t version; /* written by state_save; from 1 */
    uint32_t size;    /* sizeof the struct */
    const struct state_field *fields;
    size_t field_count;
};

/* A table entry for member `m` of struct type `t`, scalar or array. */
#define STATE_SCALAR(t, m, since_version)                                      \
    {                                                                          \
        .name = #m, .offset = (uint32_t)offsetof(t, m),                        \
        .width = (uint16_t)sizeof(((t *)0)->m), .since = (since_version),      \
        .count = 1, .stride = (uint32_t)sizeof(((t *)0)->m)                    \
    }
#define STATE_ARRAY(t, m, since_version)                                       \
    {                                                                          \
        .name = #m, .offset = (uint32_t)offsetof(t, m),                        \
        .width = (uint16_t)sizeof(((t *)0)->m[0]), .since = (since_version),   \
        .count = (uint32_t)ARRAY_SIZE(((t *)0)->m),                            \
        .stride = (uint32_t)sizeof(((t *)0)->m[0])                             \
    }
/* Member `e` of every element of `m`, an array of structs within `t`. */
#define STATE_COLUMN(t, m, e, since_version)                                   \
    {                                                                          \
        .name = #m "." #e, .offset = (uint32_t)offsetof(t, m[0].e),            \
        .width = (uint16_t)sizeof(((t *)0)->m[0].e), .since = (since_version), \
        .count = (uint32_t)ARRAY_SIZE(((t *)0)->m),                            \
        .stride = (uint32_t)sizeof(((t *)0)->m[0])                             \
    }
#define STATE_DESC(t, section, ver, table)                                     \
    {                                                                          \
        .name = (section), .version = (ver), .size = (uint32_t)sizeof(t),      \
        .fields = (table), .field_count = ARRAY_SIZE(table)                    \
    }

/* Bytes that version `version` of the state takes on the wire. */
size_t state_wire_size(const struct state_desc *desc, uint32_t version);

/* Appends the current version; the writer fails if it does not fit. */
void state_save(
    const struct state_desc *desc, const void *state, struct bytes_writer *w);

/*
 * Fills `ret_state` (desc->size bytes) from `version` of the wire form. 0,
 * -ENOTSUP for a version from the future or 0, -ENODATA if bytes are missing;
 * then *ret_state is untouched.
 */
CC_MUST_CHECK int state_load(const struct state_desc *desc, uint32_t version,
    struct bytes_reader *r, void *ret_state);

/* The first field that differs, or NULL if the two states are equal. */
const struct state_field *state_differs(
    const struct state_desc *desc, const void *a, const void *b);

/* Element `i` of a field, widened. */
uint64_t state_field_get(
    const struct state_field *field, const void *state, uint32_t i);

#endif
