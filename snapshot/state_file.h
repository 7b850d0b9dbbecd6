/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file `state` of a snapshot: named, versioned sections, the size and the
 * hash of every other file that must not change, and a hash over itself. It
 * is the root of trust; docs/snapshot-format.md has it byte by byte.
 *
 * Reading: the whole file is in private memory and is checked wholly before
 * anything of it is handed out. The bodies of sections are bytes of a file:
 * hostile, whatever their hash says. Thread rule: one thread at a time.
 */
#ifndef SNAPSHOT_STATE_FILE_H
#define SNAPSHOT_STATE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/hash.h"
#include "snapshot/id.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/state.h"

#define STATE_FILE_NAME         "state"
#define STATE_FILE_VERSION      1u
#define STATE_FILE_SIZE_MAX     ((size_t)64 << 20)
#define STATE_FILE_SECTIONS_MAX 4096u
#define STATE_FILE_RECORDS_MAX  256u
#define STATE_SECTION_NAME_MAX  47 /* bytes of [a-z0-9._-] */

/* A loader that does not know the section must refuse the snapshot. */
#define STATE_SECTION_REQUIRED (UINT32_C(1) << 0)

struct state_section {
    char name[STATE_SECTION_NAME_MAX + 1];
    uint32_t version; /* of the body, from 1 */
    uint32_t flags;   /* STATE_SECTION_* */
    const uint8_t *data;
    size_t size;
    bool is_taken; /* state_file_take handed it out */
};

/* A file that belongs to the snapshot: what it must be. */
struct state_record {
    char name[SNAPSHOT_FILE_MAX + 1];
    uint64_t size;
    struct hash128 hash; /* of all its bytes */
};

/* ---- writing ---- */

struct state_writer {
    struct snapshot_id id;
    struct state_section *sections; /* their bodies are owned */
    size_t section_count;
    struct state_record *records;
    size_t record_count;
};

void state_writer_init(struct state_writer *w, const struct snapshot_id *id);
void state_writer_fini(struct state_writer *w);

/*
 * Appends a section with a copy of the bytes. 0, -EINVAL (a bad name, version
 * 0), -EEXIST, -E2BIG (too many, or together too large) or -ENOMEM.
 */
CC_MUST_CHECK int state_writer_add(struct state_writer *w, const char *name,
    uint32_t version, uint32_t flags, const void *data, size_t size,
    struct err *err);

/* A required section with what the table says of `state`, of its version. */
CC_MUST_CHECK int state_writer_add_table(struct state_writer *w,
    const char *name, const struct state_desc *desc, const void *state,
    struct err *err);

/* Records a file; struct save does so for what is written through it. */
CC_MUST_CHECK int state_writer_add_record(
    struct state_writer *w, const struct state_record *record, struct err *err);

/* The whole file; the caller frees *ret_data. */
CC_MUST_CHECK int state_writer_seal(const struct state_writer *w,
    uint8_t **ret_data, size_t *ret_size, struct err *err);

/* ---- reading ---- */

struct state_file {
    uint8_t *data; /* owned: the whole file */
    size_t size;
    struct snapshot_id id;
    struct state_section *sections;
    size_t section_count;
    struct state_record *records;
    size_t record_count;
};

/*
 * Checks all of it. Takes over `data` (from malloc), also when it fails.
 * 0, -EBADMSG (not such a file, or damaged), -ENOTSUP (a format of the
 * future, named in `err`) or -ENOMEM.
 */
CC_MUST_CHECK int state_file_decode(
    uint8_t *data, size_t size, struct state_file *ret_file, struct err *err);
void state_file_fini(struct state_file *file);

/*
 * The section of this name, or NULL; it counts as consumed from then on.
 * state_file_find only looks.
 */
const struct state_section *state_file_take(
    struct state_file *file, const char *name);
const struct state_section *state_file_find(
    const struct state_file *file, const char *name);

/*
 * As state_file_take; a missing section is -ENOENT, a version above
 * `version_max` -ENOTSUP, each with a line for people.
 */
CC_MUST_CHECK int state_file_require(struct state_file *file, const char *name,
    uint32_t version_max, const struct state_section **ret_section,
    struct err *err);

/*
 * As state_file_require for a section of state_writer_add_table: *ret_state
 * (desc->size bytes) is set on success only; its meaning is not checked. Bytes
 * left over are -EBADMSG.
 */
CC_MUST_CHECK int state_file_load_table(struct state_file *file,
    const char *name, const struct state_desc *desc, void *ret_state,
    struct err *err);

/*
 * To be called when the loader has taken what it knows: -ENOTSUP names the
 * first REQUIRED section that nobody took. Optional ones are skipped.
 */
CC_MUST_CHECK int state_file_check_all_taken(
    const struct state_file *file, struct err *err);

/* The record of a file, or NULL. */
const struct state_record *state_file_find_record(
    const struct state_file *file, const char *name);

#endif
