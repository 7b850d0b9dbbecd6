/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs, for `spore top`: machines, as spore ps has them, servers, and the
 * clones that these serve with.
 *
 * Owns the rows. Blocking; one thread. Not trusted: what a machine says of
 * itself, whose guest may have taken it over: numbers are cut to what can be,
 * texts to what can be printed. A machine that says nothing holds this up for
 * two seconds at most.
 */
#ifndef VMM_SERVE_TOP_ROWS_H
#define VMM_SERVE_TOP_ROWS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define TOP_NAME_MAX 80u

enum top_kind { TOP_MACHINE, TOP_SERVER, TOP_CLONE };

struct top_row {
    enum top_kind kind;
    char name[TOP_NAME_MAX + 1]; /* its id; of a server, its template */
    char state[16];
    int64_t pid;
    uint64_t age_ms;
    uint64_t private_bytes;
    uint64_t cpu_us; /* that it has used */
    bool has_io;
    uint64_t io_bytes; /* that it has read and written */
    /* Of a server. */
    uint64_t running;
    uint64_t queued;
    uint64_t ready;
    /* Between this and the list before, or since it began. */
    double cpu_percent;
    double io_per_s;
};

struct top_rows {
    struct top_row *rows;
    size_t count;
    size_t room;
    uint64_t taken_ns; /* clock_now_ns */
};

enum top_order {
    TOP_BY_CPU,
    TOP_BY_MEMORY,
    TOP_BY_IO,
    TOP_BY_AGE,
    TOP_BY_NAME
};

/* All that runs; top_rows_fini afterwards, whatever comes of it. */
CC_MUST_CHECK int top_rows_gather(struct top_rows *ret_rows, struct err *err);
void top_rows_fini(struct top_rows *rows);

/* Adds a machine, or a server with its clones, of what they said. */
CC_MUST_CHECK int top_rows_add_machine(
    struct top_rows *rows, const char *id, const json_t *said);
CC_MUST_CHECK int top_rows_add_server(
    struct top_rows *rows, const json_t *said);

/* Sets what is per second; `before` may be NULL. */
void top_rows_compare(struct top_rows *rows, const struct top_rows *before);

/* Clones stay behind their server. */
void top_rows_sort(struct top_rows *rows, enum top_order order);

/* One of them as JSON; NULL without memory. */
json_t *top_rows_json(const struct top_rows *rows);

#endif
