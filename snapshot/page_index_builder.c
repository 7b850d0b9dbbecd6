/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A builder holds layers of extents, each sorted and disjoint, the newest one
 * last and open for ranges that go on upwards. A range that does not begins a
 * new layer; layers of similar size are merged first, so that their number
 * stays logarithmic and every extent is moved a logarithmic number of times.
 */
#include "snapshot/page_index_builder.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/num.h"

int page_index_builder_init(struct page_index_builder *b, uint64_t pages,
    const struct page_image *own, struct err *err)
{
    struct page_image *files;

    assert(pages > 0 && pages <= PAGE_INDEX_PAGES_MAX && own->pages == pages);
    files = malloc(sizeof(*files));
    if (files == NULL)
        return err_sys(err, ENOMEM, "index of pages");
    files[0] = *own;
    *b = (struct page_index_builder){
        .pages = pages, .files = files, .file_count = 1};
    return 0;
}

void page_index_builder_fini(struct page_index_builder *b)
{
    free(b->extents);
    free(b->files);
    *b = (struct page_index_builder){0};
}

int page_index_builder_add_file(struct page_index_builder *b,
    const struct page_image *image, uint32_t *ret_file)
{
    struct page_image *bigger;

    for (uint32_t i = 0; i < b->file_count; i++) {
        if (page_image_same(&b->files[i], image)) {
            if (b->files[i].pages != image->pages)
                return -EBADMSG;
            *ret_file = i;
            return 0;
        }
    }
    if (b->file_count == PAGE_INDEX_FILES_MAX)
        return -E2BIG;
    bigger = reallocarray(b->files, b->file_count + 1, sizeof(*bigger));
    if (bigger == NULL)
        return -ENOMEM;
    b->files = bigger;
    b->files[b->file_count] = *image;
    *ret_file = b->file_count++;
    return 0;
}

/* Room for `more` extents behind those there are. */
static bool reserve(struct page_index_builder *b, size_t more)
{
    size_t room = b->extent_room == 0 ? 64 : b->extent_room;
    struct page_extent *bigger;

    if (more <= b->extent_room - b->extent_count)
        return true;
    while (room - b->extent_count < more)
        room *= 2;
    bigger = reallocarray(b->extents, room, sizeof(*bigger));
    if (bigger == NULL) {
        b->error = -ENOMEM;
        return false;
    }
    b->extents = bigger;
    b->extent_room = room;
    return true;
}

struct output {
    struct page_extent *extents;
    size_t count;
};

static void emit(struct output *out, struct page_extent extent)
{
    struct page_extent *last =
        out->count == 0 ? NULL : &out->extents[out->count - 1];

    if (last != NULL && page_extent_continues(last, &extent))
        last->count += extent.count;
    else
        out->extents[out->count++] = extent;
}

/* What of `extent` lies in [from, to). */
static void emit_part(struct output *out, const struct page_extent *extent,
    uint64_t from, uint64_t to)
{
    struct page_extent part = *extent;
    uint64_t start = num_max(extent->page, from);
    uint64_t end = num_min(extent->page + extent->count, to);

    if (start >= end)
        return;
    if (part.kind == PAGE_DATA)
        part.file_page += start - part.page;
    part.page = start;
    part.count = end - start;
    emit(out, part);
}

/* `above` over `below`: at most below_count + 2 * above_count extents. */
static void merge(struct output *out, const struct page_extent *below,
    size_t below_count, const struct page_extent *above, size_t above_count)
{
    uint64_t page = 0; /* what is below this is done */
    size_t i = 0;

    for (size_t j = 0; j <= above_count; j++) {
        uint64_t gap_end = j == above_count ? UINT64_MAX : above[j].page;

        while (i < below_count && below[i].page < gap_end) {
            emit_part(out, &below[i], page, gap_end);
            if (below[i].page + below[i].count > gap_end)
                break;
            i++;
        }
        if (j == above_count)
            break;
        emit(out, above[j]);
        page = above[j].page + above[j].count;
    }
}

static size_t layer_size(const struct page_index_builder *b, size_t layer)
{
    size_t end =
        layer + 1 == b->layer_count ? b->extent_count : b->layers[layer + 1];

    return end - b->layers[layer];
}

static bool merge_top_layers(struct page_index_builder *b)
{
    size_t above_count = layer_size(b, b->layer_count - 1);
    size_t below_count = layer_size(b, b->layer_count - 2);
    size_t start = b->layers[b->layer_count - 2];
    struct output out = {0};

    out.extents =
        reallocarray(NULL, below_count + 2 * above_count, sizeof(*out.extents));
    if (out.extents == NULL || !reserve(b, above_count)) {
        free(out.extents);
        b->error = -ENOMEM;
        return false;
    }
    merge(&out, b->extents + start, below_count,
        b->extents + start + below_count, above_count);
    memcpy(b->extents + start, out.extents, out.count * sizeof(*out.extents));
    free(out.extents);
    b->extent_count = start + out.count;
    b->layer_count--;
    return true;
}

static bool begin_layer(struct page_index_builder *b)
{
    while (b->layer_count >= 2 && layer_size(b, b->layer_count - 2) <=
                                      2 * layer_size(b, b->layer_count - 1)) {
        if (!merge_top_layers(b))
            return false;
    }
    assert(b->layer_count < PAGE_INDEX_LAYERS_MAX);
    b->layers[b->layer_count++] = b->extent_count;
    return true;
}

static void set(struct page_index_builder *b, struct page_extent extent)
{
    struct page_extent *last;

    if (b->error < 0 || extent.count == 0)
        return;
    last = b->extent_count == 0 ? NULL : &b->extents[b->extent_count - 1];
    if (last == NULL || last->page + last->count > extent.page) {
        if (!begin_layer(b))
            return;
    } else if (page_extent_continues(last, &extent)) {
        last->count += extent.count;
        return;
    }
    if (!reserve(b, 1))
        return;
    b->extents[b->extent_count++] = extent;
}

void page_index_builder_set_data(struct page_index_builder *b, uint64_t page,
    uint64_t count, uint32_t file, uint64_t file_page)
{
    assert(num_range_within(page, count, b->pages));
    assert(file < b->file_count &&
           num_range_within(file_page, count, b->files[file].pages));
    assert(file != 0 || file_page == page);
    set(b, (struct page_extent){.page = page,
               .count = count,
               .file_page = file_page,
               .file = file,
               .kind = PAGE_DATA});
}

void page_index_builder_set_zero(
    struct page_index_builder *b, uint64_t page, uint64_t count)
{
    assert(num_range_within(page, count, b->pages));
    set(b,
        (struct page_extent){.page = page, .count = count, .kind = PAGE_ZERO});
}

void page_index_builder_set_below(
    struct page_index_builder *b, uint64_t page, uint64_t count)
{
    assert(num_range_within(page, count, b->pages));
    assert(b->files[0].type == PAGE_IMAGE_DISK);
    set(b,
        (struct page_extent){.page = page, .count = count, .kind = PAGE_BELOW});
}

int page_index_builder_add_index(struct page_index_builder *b,
    const struct page_index *base, struct err *err)
{
    uint32_t *numbers = reallocarray(NULL, base->file_count, sizeof(*numbers));
    int rc = numbers == NULL ? -ENOMEM : 0;

    assert(base->pages == b->pages);
    for (uint32_t i = 0; rc == 0 && i < base->file_count; i++)
        rc = page_index_builder_add_file(b, &base->files[i], &numbers[i]);
    for (size_t i = 0; rc == 0 && i < base->extent_count; i++) {
        struct page_extent extent = base->extents[i];

        if (extent.kind == PAGE_DATA) {
            extent.file = numbers[extent.file];
            if (extent.file == 0 && extent.file_page != extent.page)
                rc = -EBADMSG;
        }
        if (extent.kind == PAGE_BELOW && b->files[0].type != PAGE_IMAGE_DISK)
            rc = -EBADMSG;
        if (rc == 0)
            set(b, extent);
    }
    free(numbers);
    if (rc == 0)
        rc = b->error;
    return rc < 0 ? err_sys(err, rc, "index of pages") : 0;
}

/* Numbers the files that are pointed to, in their order, from 0. */
static void drop_unused_files(struct page_index *index, uint32_t *numbers)
{
    uint32_t count = 0;

    memset(numbers, 0, index->file_count * sizeof(*numbers));
    numbers[0] = 1;
    for (size_t i = 0; i < index->extent_count; i++)
        numbers[index->extents[i].file] = 1;
    for (uint32_t i = 0; i < index->file_count; i++) {
        if (numbers[i] == 0)
            continue;
        index->files[count] = index->files[i];
        numbers[i] = count++;
    }
    for (size_t i = 0; i < index->extent_count; i++)
        index->extents[i].file = numbers[index->extents[i].file];
    index->file_count = count;
}

static int finish(struct page_index_builder *b, struct page_index *ret_index)
{
    const struct page_extent all = {.count = b->pages,
        .kind = b->files[0].type == PAGE_IMAGE_DISK ? PAGE_BELOW : PAGE_ZERO};
    struct output out = {0};
    uint32_t *numbers;

    while (b->error == 0 && b->layer_count >= 2)
        (void)merge_top_layers(b);
    if (b->error < 0)
        return b->error;
    numbers = reallocarray(NULL, b->file_count, sizeof(*numbers));
    out.extents =
        reallocarray(NULL, 1 + 2 * b->extent_count, sizeof(*out.extents));
    if (numbers == NULL || out.extents == NULL) {
        free(numbers);
        free(out.extents);
        return -ENOMEM;
    }
    merge(&out, &all, 1, b->extents, b->extent_count);
    *ret_index = (struct page_index){.pages = b->pages,
        .extents = out.extents,
        .extent_count = out.count,
        .files = b->files,
        .file_count = b->file_count};
    b->files = NULL;
    drop_unused_files(ret_index, numbers);
    free(numbers);
    return 0;
}

int page_index_builder_finish(
    struct page_index_builder *b, struct page_index *ret_index, struct err *err)
{
    int rc = finish(b, ret_index);

    page_index_builder_fini(b);
    return rc < 0 ? err_sys(err, rc, "index of pages") : 0;
}
