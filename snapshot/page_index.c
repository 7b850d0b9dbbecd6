/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/page_index.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/num.h"

#define MAGIC       "SPOREIDX"
#define MAGIC_SIZE  8u
#define HEADER_SIZE 32u
#define FILE_SIZE   32u /* of an entry in the table of files */
#define EXTENT_SIZE 32u

bool page_image_same(const struct page_image *a, const struct page_image *b)
{
    return a->type == b->type && snapshot_id_equal(&a->id, &b->id);
}

void page_image_name(
    const struct page_image *image, char ret_name[SNAPSHOT_FILE_MAX + 1])
{
    char text[SNAPSHOT_ID_TEXT_SIZE];

    snapshot_id_to_text(&image->id, text);
    (void)snprintf(ret_name, SNAPSHOT_FILE_MAX + 1, "%s-%s.img",
        image->type == PAGE_IMAGE_DISK ? "disk" : "mem", text);
}

bool page_extent_continues(
    const struct page_extent *a, const struct page_extent *b)
{
    return a->page + a->count == b->page && a->kind == b->kind &&
           (a->kind != PAGE_DATA ||
               (a->file == b->file && a->file_page + a->count == b->file_page));
}

void page_index_fini(struct page_index *index)
{
    free(index->extents);
    free(index->files);
    *index = (struct page_index){0};
}

const struct page_extent *page_index_find(
    const struct page_index *index, uint64_t page)
{
    size_t low = 0;
    size_t high = index->extent_count;

    assert(page < index->pages);
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (index->extents[middle].page <= page)
            low = middle;
        else
            high = middle;
    }
    return &index->extents[low];
}

uint64_t page_index_data_pages(const struct page_index *index)
{
    uint64_t pages = 0;

    for (size_t i = 0; i < index->extent_count; i++) {
        if (index->extents[i].kind == PAGE_DATA)
            pages += index->extents[i].count;
    }
    return pages;
}

uint64_t page_index_file_pages(const struct page_index *index, uint32_t file)
{
    uint64_t pages = 0;

    for (size_t i = 0; i < index->extent_count; i++) {
        if (index->extents[i].kind == PAGE_DATA &&
            index->extents[i].file == file)
            pages += index->extents[i].count;
    }
    return pages;
}

int page_index_encode(const struct page_index *index, uint8_t **ret_data,
    size_t *ret_size, struct err *err)
{
    size_t size = HEADER_SIZE + (size_t)index->file_count * FILE_SIZE +
                  index->extent_count * EXTENT_SIZE;
    struct bytes_writer w;
    uint8_t *data;

    if (index->extent_count > PAGE_INDEX_SIZE_MAX / EXTENT_SIZE ||
        size > PAGE_INDEX_SIZE_MAX)
        return err_set(err, EFBIG, "%s: more than %zu bytes",
            PAGE_INDEX_FILE_NAME, PAGE_INDEX_SIZE_MAX);
    data = malloc(size);
    if (data == NULL)
        return err_sys(err, ENOMEM, "%s", PAGE_INDEX_FILE_NAME);
    bytes_writer_init(&w, data, size);
    bytes_put(&w, MAGIC, MAGIC_SIZE);
    bytes_put_u32(&w, PAGE_INDEX_VERSION);
    bytes_put_u32(&w, index->file_count);
    bytes_put_u64(&w, index->pages);
    bytes_put_u64(&w, index->extent_count);
    for (uint32_t i = 0; i < index->file_count; i++) {
        bytes_put(&w, index->files[i].id.b, sizeof(index->files[i].id.b));
        bytes_put_u32(&w, index->files[i].type);
        bytes_put_u32(&w, 0);
        bytes_put_u64(&w, index->files[i].pages);
    }
    for (size_t i = 0; i < index->extent_count; i++) {
        const struct page_extent *extent = &index->extents[i];

        bytes_put_u64(&w, extent->page);
        bytes_put_u64(&w, extent->count);
        bytes_put_u64(&w, extent->file_page);
        bytes_put_u32(&w, extent->file);
        bytes_put_u32(&w, extent->kind);
    }
    assert(!w.failed && w.pos == size);
    *ret_data = data;
    *ret_size = size;
    return 0;
}

/* ---- decoding ---- */

static int damaged(struct err *err, const char *what)
{
    return err_set(err, EBADMSG, "%s: damaged: %s", PAGE_INDEX_FILE_NAME, what);
}

static int compare_images(const void *a, const void *b)
{
    const struct page_image *x = a;
    const struct page_image *y = b;

    if (x->type != y->type)
        return x->type < y->type ? -1 : 1;
    return memcmp(x->id.b, y->id.b, sizeof(x->id.b));
}

static int check_files_unique(const struct page_index *index, struct err *err)
{
    size_t bytes = index->file_count * sizeof(struct page_image);
    struct page_image *sorted = malloc(bytes);
    bool is_unique = true;

    if (sorted == NULL)
        return err_sys(err, ENOMEM, "%s", PAGE_INDEX_FILE_NAME);
    memcpy(sorted, index->files, bytes);
    qsort(sorted, index->file_count, sizeof(*sorted), compare_images);
    for (uint32_t i = 1; i < index->file_count; i++)
        is_unique = is_unique && !page_image_same(&sorted[i - 1], &sorted[i]);
    free(sorted);
    return is_unique ? 0 : damaged(err, "one image file twice");
}

static int read_files(
    struct page_index *index, struct bytes_reader *r, struct err *err)
{
    for (uint32_t i = 0; i < index->file_count; i++) {
        struct page_image *file = &index->files[i];
        uint32_t type;
        uint32_t zero;

        bytes_get(r, file->id.b, sizeof(file->id.b));
        type = bytes_get_u32(r);
        zero = bytes_get_u32(r);
        file->pages = bytes_get_u64(r);
        if (r->failed || zero != 0 || snapshot_id_is_zero(&file->id) ||
            (type != PAGE_IMAGE_MEM && type != PAGE_IMAGE_DISK) ||
            file->pages == 0 || file->pages > PAGE_INDEX_PAGES_MAX)
            return damaged(err, "the table of image files");
        file->type = (enum page_image_type)type;
    }
    if (index->files[0].pages != index->pages)
        return damaged(err, "its own image is not as long as the memory");
    return check_files_unique(index, err);
}

static bool extent_is_valid(const struct page_index *index,
    const struct page_extent *extent, uint32_t kind)
{
    bool is_disk = index->files[0].type == PAGE_IMAGE_DISK;

    if (kind == PAGE_ZERO || (kind == PAGE_BELOW && is_disk))
        return extent->file == 0 && extent->file_page == 0;
    return kind == PAGE_DATA && extent->file < index->file_count &&
           num_range_within(extent->file_page, extent->count,
               index->files[extent->file].pages) &&
           (extent->file != 0 || extent->file_page == extent->page);
}

/* An extent as the file has it: read whole, since there may be a million. */
struct extent_wire {
    uint64_t page;
    uint64_t count;
    uint64_t file_page;
    uint32_t file;
    uint32_t kind;
};

static int read_extents(
    struct page_index *index, struct bytes_reader *r, struct err *err)
{
    uint64_t page = 0; /* the first one that is not covered yet */

    for (size_t i = 0; i < index->extent_count; i++) {
        struct page_extent *extent = &index->extents[i];
        struct extent_wire wire;
        uint32_t kind;

        bytes_get(r, &wire, sizeof(wire));
        extent->page = wire.page;
        extent->count = wire.count;
        extent->file_page = wire.file_page;
        extent->file = wire.file;
        kind = wire.kind;
        if (r->failed || extent->page != page || extent->count == 0 ||
            !num_range_within(page, extent->count, index->pages) ||
            !extent_is_valid(index, extent, kind))
            return damaged(err, "an extent");
        extent->kind = (enum page_kind)kind;
        if (i > 0 && page_extent_continues(&index->extents[i - 1], extent))
            return damaged(err, "extents that are one");
        page += extent->count;
    }
    return page == index->pages ? 0 : damaged(err, "pages are missing");
}

/* A file that nothing points to would have to be there for nothing. */
static int check_files_used(const struct page_index *index, struct err *err)
{
    bool *is_used = calloc(index->file_count, sizeof(*is_used));
    uint32_t used = 1;

    if (is_used == NULL)
        return err_sys(err, ENOMEM, "%s", PAGE_INDEX_FILE_NAME);
    is_used[0] = true;
    for (size_t i = 0; i < index->extent_count; i++) {
        uint32_t file = index->extents[i].file;

        used += is_used[file] ? 0 : 1;
        is_used[file] = true;
    }
    free(is_used);
    return used == index->file_count
               ? 0
               : damaged(err, "an image file that is not used");
}

static int decode(
    struct page_index *index, struct bytes_reader *r, struct err *err)
{
    uint8_t magic[MAGIC_SIZE];
    uint32_t version;
    uint64_t extents;
    int rc;

    bytes_get(r, magic, sizeof(magic));
    version = bytes_get_u32(r);
    if (r->failed || memcmp(magic, MAGIC, MAGIC_SIZE) != 0)
        return err_set(
            err, EBADMSG, "%s: not an index of pages", PAGE_INDEX_FILE_NAME);
    if (version == 0 || version > PAGE_INDEX_VERSION)
        return err_set(err, ENOTSUP,
            "%s: format %u; this version of spore reads up to %u: use a newer "
            "one",
            PAGE_INDEX_FILE_NAME, version, PAGE_INDEX_VERSION);
    index->file_count = bytes_get_u32(r);
    index->pages = bytes_get_u64(r);
    extents = bytes_get_u64(r);
    if (r->failed || index->file_count == 0 ||
        index->file_count > PAGE_INDEX_FILES_MAX || index->pages == 0 ||
        index->pages > PAGE_INDEX_PAGES_MAX || extents == 0 ||
        extents > index->pages || extents > bytes_left(r) / EXTENT_SIZE ||
        bytes_left(r) !=
            index->file_count * (uint64_t)FILE_SIZE + extents * EXTENT_SIZE)
        return damaged(err, "the header");
    index->extent_count = extents;
    index->files = calloc(index->file_count, sizeof(*index->files));
    index->extents = calloc(index->extent_count, sizeof(*index->extents));
    if (index->files == NULL || index->extents == NULL)
        return err_sys(err, ENOMEM, "%s", PAGE_INDEX_FILE_NAME);
    rc = read_files(index, r, err);
    if (rc == 0)
        rc = read_extents(index, r, err);
    if (rc == 0)
        rc = check_files_used(index, err);
    return rc;
}

int page_index_decode(const void *data, size_t size,
    struct page_index *ret_index, struct err *err)
{
    struct page_index index = {0};
    struct bytes_reader r;
    int rc;

    bytes_reader_init(&r, data, size);
    rc = decode(&index, &r, err);
    if (rc < 0) {
        page_index_fini(&index);
        return rc;
    }
    *ret_index = index;
    return 0;
}

/* ---- comparison ---- */

static bool same_source(const struct page_index *a, const struct page_extent *x,
    const struct page_index *b, const struct page_extent *y)
{
    if (x->kind != y->kind)
        return false;
    return x->kind != PAGE_DATA ||
           (x->file_page == y->file_page &&
               page_image_same(&a->files[x->file], &b->files[y->file]));
}

/* `extent` without its first `skip` pages, at most `count` of them. */
static struct page_extent cut(
    const struct page_extent *extent, uint64_t skip, uint64_t count)
{
    struct page_extent part = *extent;

    part.page += skip;
    part.count = count;
    if (part.kind == PAGE_DATA)
        part.file_page += skip;
    return part;
}

int page_index_diff(const struct page_index *a, const struct page_index *b,
    page_index_diff_fn *differs, void *arg)
{
    size_t i = 0;
    size_t j = 0;
    uint64_t page = 0;

    assert(a->pages == b->pages);
    while (page < a->pages) {
        const struct page_extent *x = &a->extents[i];
        const struct page_extent *y = &b->extents[j];
        uint64_t end = num_min(x->page + x->count, y->page + y->count);
        struct page_extent x_part = cut(x, page - x->page, end - page);
        struct page_extent y_part = cut(y, page - y->page, end - page);

        if (!same_source(a, &x_part, b, &y_part)) {
            int rc = differs(arg, &x_part, &y_part);

            if (rc != 0)
                return rc;
        }
        page = end;
        i += x->page + x->count == end;
        j += y->page + y->count == end;
    }
    return 0;
}
