/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file `working-set` of a snapshot: the pages that the first restores
 * touched, as sorted runs. A hint: it has its own checksum, is not in `state`,
 * may be replaced at any time, and a bad one is ignored with one log line.
 * What working_set_decode is given is hostile. Thread rule: pure functions, but
 * for the two on a file, which any thread may call.
 */
#ifndef SNAPSHOT_WORKING_SET_H
#define SNAPSHOT_WORKING_SET_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define WORKING_SET_FILE_NAME "working-set"
#define WORKING_SET_VERSION   1u
#define WORKING_SET_RUNS_MAX  (UINT32_C(1) << 20)
#define WORKING_SET_SIZE_MAX  (24u + 8u * (size_t)WORKING_SET_RUNS_MAX + 16u)

struct working_set_run {
    uint32_t page; /* first, of RAM */
    uint32_t count;
};

struct working_set {
    struct working_set_run *runs; /* ascending, with gaps between them */
    size_t run_count;
    uint64_t pages; /* of RAM, which all runs lie in */
};

void working_set_fini(struct working_set *set);

/*
 * The set bits of `touched`, a bit for each page of RAM. Runs with fewer than
 * `gap_max` untouched pages between them become one.
 */
CC_MUST_CHECK int working_set_from_bitmap(const struct bitmap *touched,
    uint64_t gap_max, struct working_set *ret_set, struct err *err);

/* The caller frees *ret_data. */
CC_MUST_CHECK int working_set_encode(const struct working_set *set,
    uint8_t **ret_data, size_t *ret_size, struct err *err);

/* `pages`: of the RAM that it is for. -EBADMSG, -ENOTSUP or -ENOMEM. */
CC_MUST_CHECK int working_set_decode(const void *data, size_t size,
    uint64_t pages, struct working_set *ret_set, struct err *err);

/*
 * The file in a snapshot's folder: -ENOENT if none was recorded; one that is
 * damaged is logged, and is -ENOENT too.
 */
CC_MUST_CHECK int working_set_load(
    int dir_fd, uint64_t pages, struct working_set *ret_set);

/* Replaces the file whole. */
CC_MUST_CHECK int working_set_store(
    int dir_fd, const struct working_set *set, struct err *err);

#endif
