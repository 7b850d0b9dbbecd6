/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer of a page image: the bulk path of a save.
 *
 * Takes pages of RAM, leaves out those that are zero, hashes the others, finds
 * them in other snapshots of the store, writes what is new in large runs at
 * its own place (page n at n * 4096), and keeps the index and the hashes in
 * step. The bytes must not change while a call runs: the caller stops the
 * guest or copies. Guest-controlled: the bytes; they are never parsed. Thread
 * rule: one thread.
 */
#ifndef SNAPSHOT_PAGE_WRITER_H
#define SNAPSHOT_PAGE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/dedupe.h"
#include "snapshot/page_hashes.h"
#include "snapshot/page_index.h"
#include "snapshot/page_index_builder.h"
#include "snapshot/save.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* Whether all 4096 bytes are zero. */
bool page_writer_page_is_zero(const void *page);

struct page_writer_progress {
    /* Now and then: pages dealt with so far. NULL: not wanted. */
    void (*step)(void *arg, uint64_t pages_done);
    void *arg;
};

struct page_writer {
    int fd;                           /* of the image; borrowed */
    struct save *save;                /* what dedupe links into; borrowed */
    struct page_index_builder *index; /* borrowed; the image is its file 0 */
    struct page_hashes *hashes;       /* borrowed */
    struct dedupe *dedupe;            /* borrowed; NULL: write everything */
    bool is_filled;                   /* set: the file has the pages already */
    struct page_writer_progress progress;
    uint64_t pages_done;
    uint64_t pages_zero;
    uint64_t pages_written;
    uint64_t pages_shared; /* found in another snapshot */
};

/*
 * `index` and `hashes` may hold what a parent has; what is put here goes over
 * it. All must outlive the image.
 */
void page_writer_init(struct page_writer *image, int fd, struct save *save,
    struct page_index_builder *index, struct page_hashes *hashes,
    struct dedupe *dedupe);

/* `count` pages of RAM from `page` on, at `data` (page-aligned or not). */
CC_MUST_CHECK int page_writer_put(struct page_writer *image, uint64_t page,
    const void *data, uint64_t count, struct err *err);

/* Pages that the caller knows to be zero. */
void page_writer_put_zero(
    struct page_writer *image, uint64_t page, uint64_t count);

/*
 * The pages [page, page + count) of RAM that is a shared mapping at `host` of
 * the file `mem_fd`, byte 0 of both being page 0: holes of the file are zero
 * without being touched, which would give them memory.
 */
CC_MUST_CHECK int page_writer_put_ram(struct page_writer *image, int mem_fd,
    const void *host, uint64_t page, uint64_t count, struct err *err);

/*
 * After all pages were put, some more than once, and the index is made: gives
 * the room of those pages back that were written and then became zero or were
 * found elsewhere, since an image is zero wherever its index does not point
 * into it.
 */
CC_MUST_CHECK int page_writer_trim(
    struct page_writer *image, const struct page_index *index, struct err *err);

#endif
