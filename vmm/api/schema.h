/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request's body may hold: a table of fields, checked in one place.
 *
 * The complaints are worded as serde words them ("missing field `state` at
 * line 1 column 2"), because clients of Firecracker compare them.
 *
 * Thread rule: pure functions. The body is the client's: its depth, its keys
 * and its values are checked here and nowhere else, so a handler may rely on
 * types, ranges and on required fields being there.
 */
#ifndef VMM_API_SCHEMA_H
#define VMM_API_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"

#define SCHEMA_TEXT_MAX 512u

/* Deeper than any body of the contract. */
#define SCHEMA_DEPTH_MAX 32u

enum schema_type {
    SCHEMA_STRING,
    SCHEMA_BOOL,
    SCHEMA_UINT,   /* 0 to `max` */
    SCHEMA_ENUM,   /* a string out of `variants` */
    SCHEMA_OBJECT, /* fields as `object` has them */
    SCHEMA_LIST,   /* of objects whose fields are no objects or lists */
};

struct schema_field {
    const char *name; /* NULL ends a table */
    enum schema_type type;
    bool required;
    uint64_t max;                      /* SCHEMA_UINT */
    const char *const *variants;       /* SCHEMA_ENUM; ended by NULL */
    const struct schema_field *object; /* of the last two; NULL: anything */
    bool is_open;                      /* fields that `object` lacks may be */
};

/*
 * Parses a body that must be one object with the fields of `fields` (NULL:
 * any JSON object). The result belongs to the caller; NULL with a complaint
 * if it is not that. A field that is null counts as missing.
 */
CC_MUST_CHECK json_t *schema_parse(const char *body, size_t len,
    const struct schema_field *fields, char ret_text[SCHEMA_TEXT_MAX]);

/* Values of a body that schema_parse let through. */
const char *schema_string(const json_t *body, const char *name);
uint64_t schema_uint(const json_t *body, const char *name, uint64_t missing);
bool schema_bool(const json_t *body, const char *name, bool missing);

#endif
