/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of things in a store: random 128-bit ids of snapshots and of page
 * images, the names that people give to snapshots, and the names of files.
 * What is parsed here is hostile. Thread rule: pure functions.
 */
#ifndef SNAPSHOT_ID_H
#define SNAPSHOT_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct snapshot_id {
    uint8_t b[16];
};

#define SNAPSHOT_ID_DIGITS    32
#define SNAPSHOT_ID_TEXT_SIZE (SNAPSHOT_ID_DIGITS + 1)
#define SNAPSHOT_NAME_MAX     64 /* bytes of a person's name for one */
#define SNAPSHOT_FILE_MAX     47 /* bytes of the name of a file in one */

/* From the kernel's random numbers: 0 or -errno. */
CC_MUST_CHECK int snapshot_id_random(
    struct snapshot_id *ret_id, struct err *err);

/* Lower-case hex, in the order of the bytes. */
void snapshot_id_to_text(
    const struct snapshot_id *id, char ret_text[SNAPSHOT_ID_TEXT_SIZE]);

/* Exactly 32 lower-case hex digits, or false. */
CC_MUST_CHECK bool snapshot_id_from_text(
    const char *text, struct snapshot_id *ret_id);

static inline bool snapshot_id_equal(
    const struct snapshot_id *a, const struct snapshot_id *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

static inline bool snapshot_id_is_zero(const struct snapshot_id *id)
{
    static const struct snapshot_id zero;

    return snapshot_id_equal(id, &zero);
}

/*
 * A person's name for a snapshot: 1 to SNAPSHOT_NAME_MAX letters, digits, '.',
 * '_' and '-', the first a letter or a digit, and no 32 hex digits, which
 * would be an id. 0, or -EINVAL with the rule in `err`.
 */
CC_MUST_CHECK int snapshot_name_check(const char *name, struct err *err);

/*
 * The name of a file in a snapshot's directory: 1 to SNAPSHOT_FILE_MAX of
 * [a-z0-9._-], not beginning with '.'.
 */
CC_MUST_CHECK bool snapshot_file_name_is_valid(const char *name);

#endif
