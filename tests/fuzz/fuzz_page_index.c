/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index of a snapshot, and hashes behind it: what is accepted covers all
 * pages, writes back as the same bytes, and goes through a builder unchanged.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/page_hashes.h"
#include "snapshot/page_index.h"
#include "snapshot/page_index_builder.h"
#include "vmm/base/num.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

static void require_encodes_as(
    const struct page_index *index, const uint8_t *data, size_t size)
{
    struct err err;
    uint8_t *again;
    size_t again_size;

    require(page_index_encode(index, &again, &again_size, &err) == 0);
    require(again_size == size && memcmp(again, data, size) == 0);
    free(again);
}

static void check_extents(const struct page_index *index)
{
    uint64_t page = 0;

    for (size_t i = 0; i < index->extent_count; i++) {
        const struct page_extent *e = &index->extents[i];

        require(e->page == page && e->count > 0);
        require(page_index_find(index, page) == e);
        page += e->count;
        require(page_index_find(index, page - 1) == e);
        if (e->kind == PAGE_BELOW)
            require(index->files[0].type == PAGE_IMAGE_DISK);
        if (e->kind == PAGE_DATA)
            require(e->file < index->file_count &&
                    num_range_within(
                        e->file_page, e->count, index->files[e->file].pages));
    }
    require(page == index->pages);
}

static void rebuild(
    const struct page_index *index, const uint8_t *data, size_t size)
{
    struct page_index_builder b;
    struct page_index again;
    struct err err;

    require(
        page_index_builder_init(&b, index->pages, &index->files[0], &err) == 0);
    require(page_index_builder_add_index(&b, index, &err) == 0);
    require(page_index_builder_finish(&b, &again, &err) == 0);
    require_encodes_as(&again, data, size);
    page_index_fini(&again);
}

static int no_difference(
    void *arg, const struct page_extent *a, const struct page_extent *b)
{
    (void)arg;
    (void)a;
    (void)b;
    abort();
}

/* The index is the first `size` bytes, or what its header makes of them. */
static size_t index_size(const uint8_t *data, size_t size)
{
    uint64_t extents;
    uint32_t files;

    if (size < 32)
        return size;
    memcpy(&files, data + 12, sizeof(files));
    memcpy(&extents, data + 24, sizeof(extents));
    if (extents > size || files > size)
        return size;
    extents = 32 * (1 + extents + files);
    return extents < size ? (size_t)extents : size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t own = index_size(data, size);
    struct page_hashes hashes;
    struct page_index index;
    struct err err;
    uint8_t *again;
    size_t again_size;

    if (page_index_decode(data, own, &index, &err) < 0) {
        require(strncmp(err.text, "index: ", 7) == 0);
        return 0;
    }
    require_encodes_as(&index, data, own);
    check_extents(&index);
    rebuild(&index, data, own);
    require(page_index_diff(&index, &index, no_difference, NULL) == 0);
    if (page_hashes_decode(data + own, size - own, &index, &hashes, &err) ==
        0) {
        require(page_hashes_encode(
                    &hashes, &index, &again, &again_size, &err) == 0);
        require(again_size == size - own &&
                memcmp(again, data + own, again_size) == 0);
        free(again);
        page_hashes_fini(&hashes);
    }
    page_index_fini(&index);
    return 0;
}
