/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the index of a snapshot that is being saved.
 *
 * Takes ranges in any order, later ones over earlier ones; ascending order is
 * the cheap one, and n ranges cost O(n log n) at worst. At first all pages are
 * zero, or below where the own image is a disk's. Thread rule: one thread.
 */
#ifndef SNAPSHOT_PAGE_INDEX_BUILDER_H
#define SNAPSHOT_PAGE_INDEX_BUILDER_H

#include <stddef.h>
#include <stdint.h>

#include "snapshot/page_index.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define PAGE_INDEX_LAYERS_MAX 64

struct page_index_builder {
    uint64_t pages;
    struct page_image *files;
    uint32_t file_count;
    struct page_extent *extents; /* layers, oldest first */
    size_t extent_count;
    size_t extent_room;
    size_t layers[PAGE_INDEX_LAYERS_MAX]; /* where each begins in `extents` */
    size_t layer_count;
    int error; /* the first failure; page_index_builder_finish reports it */
};

/* `own` is the image that this snapshot writes; own->pages is `pages`. */
CC_MUST_CHECK int page_index_builder_init(struct page_index_builder *b,
    uint64_t pages, const struct page_image *own, struct err *err);
void page_index_builder_fini(struct page_index_builder *b);

/* The number of an image in the table, added if it is new; -E2BIG, -ENOMEM. */
CC_MUST_CHECK int page_index_builder_add_file(struct page_index_builder *b,
    const struct page_image *image, uint32_t *ret_file);

/* All of a parent's extents, over what there is; as many pages as here. */
CC_MUST_CHECK int page_index_builder_add_index(struct page_index_builder *b,
    const struct page_index *base, struct err *err);

/* Ranges are asserted to be within RAM and the file. */
void page_index_builder_set_data(struct page_index_builder *b, uint64_t page,
    uint64_t count, uint32_t file, uint64_t file_page);
void page_index_builder_set_zero(
    struct page_index_builder *b, uint64_t page, uint64_t count);
/* Only of a disk. */
void page_index_builder_set_below(
    struct page_index_builder *b, uint64_t page, uint64_t count);

/*
 * The index of all that was set; files that nothing points to are left out,
 * but for file 0. The builder is empty afterwards.
 */
CC_MUST_CHECK int page_index_builder_finish(struct page_index_builder *b,
    struct page_index *ret_index, struct err *err);

#endif
