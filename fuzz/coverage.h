/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which lines of source have run: from the line tables of files to a list of
 * addresses to watch, and from addresses that were reached to reports.
 *
 * Owns its rows and names. Thread rule: one thread. File-controlled: line
 * tables and the sources that are shown.
 */
#ifndef FUZZ_COVERAGE_H
#define FUZZ_COVERAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "fuzz/debug_file.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* Rows of line tables, of all files together. */
#define COVERAGE_ROWS_MAX (1u << 21)

struct coverage_row {
    uint64_t address;
    uint32_t source; /* index in names */
    uint32_t line;
    bool is_hit;
};

struct coverage {
    struct coverage_row *rows; /* by address */
    size_t count;
    size_t room;
    char **names; /* paths of sources as the compiler had them */
    size_t name_count;
};

/* What a report is made of: each line once, by source and number. */
struct coverage_line {
    uint32_t source;
    uint32_t line;
    bool is_hit;
};

void coverage_fini(struct coverage *c); /* a zeroed one is let be */

/*
 * Adds the beginnings of statements of a file whose addresses lie `bias`
 * higher. -ENODATA if it has no lines, -E2BIG for too many.
 */
CC_MUST_CHECK int coverage_add(struct coverage *c, struct debug_file *file,
    uint64_t bias, struct err *err);

/* Every address once, ascending: malloc'ed; NULL without memory or any. */
uint64_t *coverage_addresses(const struct coverage *c, size_t *ret_count);

/* An address was reached. */
void coverage_hit(struct coverage *c, uint64_t address);

/* By source, then by line; malloc'ed, NULL without memory or any. */
struct coverage_line *coverage_lines(
    const struct coverage *c, size_t *ret_count);

/* A tracefile as lcov's geninfo(1) describes it. */
CC_MUST_CHECK int coverage_write_lcov(
    const struct coverage *c, const char *path, struct err *err);

/*
 * index.html and one page for each source in an existing folder; sources that
 * cannot be read are listed without their text.
 */
CC_MUST_CHECK int coverage_write_html(
    const struct coverage *c, const char *dir, struct err *err);

/* Lines in all, and of them those that ran. */
CC_MUST_CHECK int coverage_count(const struct coverage *c, size_t *ret_lines,
    size_t *ret_hit, struct err *err);

#endif
