/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that a store has already: a table from hashes to places in the image
 * files of its snapshots.
 *
 * The table is bounded: newest snapshots first, until it is full. A place is
 * only used after its bytes were compared, so neither a damaged image nor two
 * pages of equal hash can put wrong bytes into a snapshot; and only once its
 * file is linked into the snapshot being saved, so that it stays. Thread
 * rule: one thread.
 */
#ifndef SNAPSHOT_DEDUPE_H
#define SNAPSHOT_DEDUPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/hash.h"
#include "snapshot/page_index.h"
#include "snapshot/page_index_builder.h"
#include "snapshot/save.h"
#include "snapshot/store.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define DEDUPE_BYTES_DEFAULT                                                   \
    ((size_t)64 << 20) /* of table: 16 GiB of pages                            \
                        */
#define DEDUPE_FILES_MAX 128u
/*
 * Every run of shared pages is a mapping of its own at the restore; below
 * this many pages the copy is cheaper than that.
 */
#define DEDUPE_RUN_MIN_DEFAULT 16u

struct dedupe_slot;

struct dedupe_file {
    struct page_image image;
    int fd;         /* of the image */
    int dir_fd;     /* of a snapshot that has it; a duplicate */
    bool is_linked; /* into the snapshot being saved */
    bool is_unusable;
};

struct dedupe {
    struct dedupe_slot *slots; /* a power of two of them, half of them used */
    size_t slot_count;
    size_t used;
    struct dedupe_file files[DEDUPE_FILES_MAX];
    uint32_t file_count;
    uint32_t run_min;      /* pages; shorter finds are not used */
    uint8_t *buffer;       /* for the comparison */
    const void *next_data; /* what follows the last find, */
    uint32_t next_file;    /* and where that would go on */
    uint64_t next_page;
};

/*
 * Fills the table from the store. Snapshots that cannot be read are left out
 * with a line in the log: they are no reason not to save.
 */
CC_MUST_CHECK int dedupe_init(struct dedupe *dedupe, const struct store *store,
    size_t bytes, uint32_t run_min, struct err *err);
void dedupe_fini(struct dedupe *dedupe);

struct dedupe_find {
    uint64_t count; /* pages from the first one on; 0: none */
    uint64_t file_page;
    uint32_t file; /* of the index that is being built */
};

/*
 * How many of the `count` pages at `data`, with these hashes, lie one behind
 * the other in an image file: compared, linked into `save`, its file entered
 * in `index`. Whatever goes wrong is "not found".
 */
struct dedupe_find dedupe_lookup(struct dedupe *dedupe, struct save *save,
    struct page_index_builder *index, const void *data,
    const struct hash128 *hashes, uint64_t count);

#endif
