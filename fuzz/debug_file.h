/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an ELF file tells of its code: functions, lines, inlined calls and how
 * to unwind. By libdw without libdwfl, which would bring a dlopen at every
 * start into a static binary; so the separate debug file is found here, by the
 * build id under /usr/lib/debug.
 *
 * Owns the file's mapping. Thread rule: one thread. File-controlled: all of
 * it, as far as libdw looks at it; addresses are those in the file.
 */
#ifndef FUZZ_DEBUG_FILE_H
#define FUZZ_DEBUG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct debug_file;
struct Dwarf_CFI_s; /* libdw's */

/* What find gives at most: a function and what was inlined into it. */
#define DEBUG_FILE_PLACES 16u

#define DEBUG_FILE_ID_SIZE 129 /* of a build id in hex, with its NUL */

struct debug_file_place {
    const char *function; /* NULL: unknown; good as long as the file */
    uint64_t into;        /* bytes from its start, 0 for what is inlined */
    const char *source;   /* NULL: unknown */
    uint32_t line;        /* 0: unknown */
};

struct debug_file_line {
    uint64_t address;
    const char *source; /* good as long as the file */
    uint32_t line;      /* > 0 */
    bool is_stmt;       /* a place where a statement begins */
};

/*
 * -ENOENT and the like; -ENOEXEC if it is no ELF file of this machine;
 * -ESTALE if `build_id` (hex; NULL: any) is not the file's.
 */
CC_MUST_CHECK int debug_file_open(const char *path, const char *build_id,
    struct debug_file **ret_file, struct err *err);

/* The same for one that is in memory, which has to last as long. */
CC_MUST_CHECK int debug_file_open_bytes(const void *bytes, size_t size,
    struct debug_file **ret_file, struct err *err);

void debug_file_free(struct debug_file *file); /* NULL is fine */

/* Its build id in hex, "" if it has none. */
const char *debug_file_build_id(const struct debug_file *file);

/* Whether it has line numbers. */
bool debug_file_has_lines(const struct debug_file *file);

/*
 * What has to be added to the file's addresses if the page at `offset` of the
 * file lies at `start`; false if no segment is loaded from there.
 */
CC_MUST_CHECK bool debug_file_bias(const struct debug_file *file,
    uint64_t start, uint64_t offset, uint64_t *ret_bias);

/*
 * Where `address` is: what was inlined first, innermost first, and the
 * function last. The number of places, 0 if there is nothing to be said.
 */
size_t debug_file_find(struct debug_file *file, uint64_t address,
    struct debug_file_place ret_places[DEBUG_FILE_PLACES]);

/* The address of a function by its name; false if there is none. */
CC_MUST_CHECK bool debug_file_function(
    const struct debug_file *file, const char *name, uint64_t *ret_address);

/*
 * Every row of the line table but ends of sequences, in no order. `each` ends
 * it with a negative value, which is returned.
 */
CC_MUST_CHECK int debug_file_lines(struct debug_file *file,
    int (*each)(void *opaque, const struct debug_file_line *line),
    void *opaque);

/* Of .eh_frame (0) and .debug_frame (1), in this order; NULL if not there. */
struct Dwarf_CFI_s *debug_file_cfi(struct debug_file *file, unsigned int which);

#endif
