/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request's body may hold: a table of fields, checked in one place.
 *
 * The complaints are worded and placed as serde words and places them
 * ("missing field `state` at line 1 column 2"), because clients of Firecracker
 * compare them. So is what is let pass: a list in the place of an object has
 * the fields in their order.
 *
 * Thread rule: pure functions. The body is the client's: its depth, its keys
 * and its values are checked here and nowhere else, so a handler may rely on
 * types, ranges, on required fields being there and on strings without NULs.
 */
#ifndef VMM_API_SCHEMA_H
#define VMM_API_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/api/json_reader.h"
#include "vmm/base/cc.h"

#define SCHEMA_TEXT_MAX JSON_READER_TEXT_MAX

/* Fields of one table. */
#define SCHEMA_FIELDS_MAX 64u

enum schema_type {
    SCHEMA_STRING,
    SCHEMA_BOOL,
    SCHEMA_UINT,    /* 0 to `max`; beyond 63 bits it is INT64_MAX */
    SCHEMA_ENUM,    /* a string out of `variants` */
    SCHEMA_CUSTOM,  /* a string that `is_good`, or the complaint `name_of` */
    SCHEMA_OBJECT,  /* fields as `object` has them */
    SCHEMA_LIST,    /* of objects, or of strings without `object` */
    SCHEMA_STRINGS, /* an object whose values are strings */
    SCHEMA_ANY,
};

struct schema_field {
    const char *name; /* NULL ends a table */
    enum schema_type type;
    bool required;
    bool not_null;                     /* null does not count as missing */
    uint64_t max;                      /* SCHEMA_UINT */
    const char *const *variants;       /* SCHEMA_ENUM; ended by NULL */
    const struct schema_field *object; /* of OBJECT and LIST; NULL: anything */
    bool
        is_open; /* fields that `object` lacks may be; the end's: of the body */
    /*
     * What serde calls the type: of the field, or at a table's end, of the
     * whole. NULL for a UINT: by its `max`, for a STRING: "a string", for the
     * whole: "an object".
     */
    const char *name_of;
    bool (*is_good)(const char *text); /* SCHEMA_CUSTOM */
    const char *expected; /* SCHEMA_CUSTOM: its type's name, or "a string" */
    /* The same with a complaint of its own; of a LIST: its strings. */
    bool (*check)(const char *text, char ret_complaint[SCHEMA_TEXT_MAX]);
};

/* name_of strings that are paths. */
#define SCHEMA_PATH "path string"

/* The end of a table of what the contract calls `name`. */
#define SCHEMA_END(of)                                                         \
    {                                                                          \
        .name = NULL, .name_of = (of)                                          \
    }

/*
 * Parses a body that must be one object with the fields of `fields` (NULL:
 * any JSON). The result belongs to the caller; NULL with a complaint if it is
 * not that. A field that is null is left out.
 */
CC_MUST_CHECK json_t *schema_parse(const char *body, size_t len,
    const struct schema_field *fields, char ret_text[SCHEMA_TEXT_MAX]);

/* Values of a body that schema_parse let through. */
const char *schema_string(const json_t *body, const char *name);
uint64_t schema_uint(const json_t *body, const char *name, uint64_t missing);
bool schema_bool(const json_t *body, const char *name, bool missing);

#endif
