/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file `index` of a snapshot: where each page of guest RAM (or of a disk)
 * is. A sorted array of extents covers all pages without a gap: each says
 * either that its pages are zero or in which image file, from which page on;
 * of a disk also that they are as the disk below it has them, which is the
 * file that the overlay lies over and no part of the snapshot.
 * The index of a diff is complete too: what did not change points into the
 * image files of its parents.
 *
 * A page is 4096 bytes; page n of RAM is byte n * 4096 of the file behind
 * struct gmem. File 0 is the snapshot's own image: as long as the RAM, page n
 * at page n (identity), zero wherever the index does not point into it.
 * What page_index_decode is given is hostile. Thread rule: an index is
 * constant once made.
 */
#ifndef SNAPSHOT_PAGE_INDEX_H
#define SNAPSHOT_PAGE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/id.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define PAGE_INDEX_FILE_NAME "index"
#define PAGE_INDEX_VERSION   1u
#define PAGE_INDEX_PAGES_MAX (UINT64_C(1) << 28) /* 1 TiB */
#define PAGE_INDEX_FILES_MAX 4096u
#define PAGE_INDEX_SIZE_MAX  ((size_t)1 << 30) /* bytes of the file */

enum page_image_type { PAGE_IMAGE_MEM = 1, PAGE_IMAGE_DISK = 2 };

/* An image file: `mem-<id>.img` or `disk-<id>.img`. */
struct page_image {
    enum page_image_type type;
    struct snapshot_id id;
    uint64_t pages; /* its size */
};

bool page_image_same(const struct page_image *a, const struct page_image *b);

/* Its name in the directory of each snapshot that refers to it. */
void page_image_name(
    const struct page_image *image, char ret_name[SNAPSHOT_FILE_MAX + 1]);

/* BELOW only where file 0 is a PAGE_IMAGE_DISK. */
enum page_kind { PAGE_ZERO = 0, PAGE_DATA = 1, PAGE_BELOW = 2 };

struct page_extent {
    uint64_t page;      /* first, of RAM */
    uint64_t count;     /* not 0 */
    uint64_t file_page; /* PAGE_DATA: first, in the file; else 0 */
    uint32_t file;      /* PAGE_DATA: number in the table of files; else 0 */
    enum page_kind kind;
};

struct page_index {
    uint64_t pages; /* of RAM */
    struct page_extent *extents;
    size_t extent_count;
    struct page_image *files; /* [0] is the snapshot's own */
    uint32_t file_count;
};

void page_index_fini(struct page_index *index);

/* The extent that holds the page, which must be below index->pages. */
const struct page_extent *page_index_find(
    const struct page_index *index, uint64_t page);

/* Pages that are PAGE_DATA; those of them in file `file`. */
uint64_t page_index_data_pages(const struct page_index *index);
uint64_t page_index_file_pages(const struct page_index *index, uint32_t file);

/* The bytes of the file; the caller frees *ret_data. 0 or -ENOMEM, -EFBIG. */
CC_MUST_CHECK int page_index_encode(const struct page_index *index,
    uint8_t **ret_data, size_t *ret_size, struct err *err);

/*
 * Sorted, disjoint, nothing left out, no two neighbours that could be one,
 * every file number and page range within the table, or -EBADMSG; -ENOTSUP
 * for a version of the future, -ENOMEM. No memory beyond what `size` gives
 * reason for.
 */
CC_MUST_CHECK int page_index_decode(const void *data, size_t size,
    struct page_index *ret_index, struct err *err);

/*
 * Calls `differs` for each run of pages whose source is not the same in both,
 * in ascending order; zero, or below, in both is the same. The extents handed
 * out are cut to the run. Both must have as many pages. A result other than 0
 * ends the walk and is returned.
 */
typedef int page_index_diff_fn(
    void *arg, const struct page_extent *a, const struct page_extent *b);
int page_index_diff(const struct page_index *a, const struct page_index *b,
    page_index_diff_fn *differs, void *arg);

/* Whether `b` goes on where `a` ends, so that the two could be one. */
bool page_extent_continues(
    const struct page_extent *a, const struct page_extent *b);

#endif
