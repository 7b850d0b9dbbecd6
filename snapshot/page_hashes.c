/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/page_hashes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/base/bytes.h"

#define MAGIC      "SPOREHSH"
#define MAGIC_SIZE 8u

int page_hashes_init(struct page_hashes *hashes, uint64_t pages)
{
    void *map = mmap(NULL, (size_t)(pages + 1) * sizeof(struct hash128),
        PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
        0);

    if (map == MAP_FAILED)
        return -ENOMEM;
    *hashes = (struct page_hashes){.by_page = map, .pages = pages};
    return 0;
}

void page_hashes_fini(struct page_hashes *hashes)
{
    if (hashes->by_page != NULL)
        (void)munmap(hashes->by_page,
            (size_t)(hashes->pages + 1) * sizeof(struct hash128));
    *hashes = (struct page_hashes){0};
}

size_t page_hashes_size(const struct page_index *index)
{
    return PAGE_HASHES_HEADER +
           page_index_data_pages(index) * sizeof(struct hash128);
}

int page_hashes_encode(const struct page_hashes *hashes,
    const struct page_index *index, uint8_t **ret_data, size_t *ret_size,
    struct err *err)
{
    size_t size = page_hashes_size(index);
    uint8_t *data = malloc(size);
    struct bytes_writer w;

    if (data == NULL)
        return err_sys(err, ENOMEM, "%s", PAGE_HASHES_FILE_NAME);
    bytes_writer_init(&w, data, size);
    bytes_put(&w, MAGIC, MAGIC_SIZE);
    bytes_put_u32(&w, PAGE_HASHES_VERSION);
    bytes_put_u32(&w, 0);
    bytes_put_u64(&w, page_index_data_pages(index));
    for (size_t i = 0; i < index->extent_count; i++) {
        const struct page_extent *extent = &index->extents[i];

        if (extent->kind == PAGE_DATA)
            bytes_put(&w, &hashes->by_page[extent->page],
                extent->count * sizeof(struct hash128));
    }
    *ret_data = data;
    *ret_size = size;
    return 0;
}

int page_hashes_decode(const void *data, size_t size,
    const struct page_index *index, struct page_hashes *ret_hashes,
    struct err *err)
{
    uint64_t count = page_index_data_pages(index);
    struct page_hashes hashes;
    struct bytes_reader r;
    uint8_t magic[MAGIC_SIZE];
    uint32_t version;

    bytes_reader_init(&r, data, size);
    bytes_get(&r, magic, sizeof(magic));
    version = bytes_get_u32(&r);
    if (r.failed || memcmp(magic, MAGIC, MAGIC_SIZE) != 0)
        return err_set(
            err, EBADMSG, "%s: not page hashes", PAGE_HASHES_FILE_NAME);
    if (version == 0 || version > PAGE_HASHES_VERSION)
        return err_set(err, ENOTSUP,
            "%s: format %u; this version of spore reads up to %u",
            PAGE_HASHES_FILE_NAME, version, PAGE_HASHES_VERSION);
    if (bytes_get_u32(&r) != 0 || bytes_get_u64(&r) != count || r.failed ||
        bytes_left(&r) != count * sizeof(struct hash128))
        return err_set(err, EBADMSG,
            "%s: not one hash for each of the %llu pages of the index",
            PAGE_HASHES_FILE_NAME, (unsigned long long)count);
    if (page_hashes_init(&hashes, index->pages) < 0)
        return err_sys(err, ENOMEM, "%s", PAGE_HASHES_FILE_NAME);
    for (size_t i = 0; i < index->extent_count; i++) {
        const struct page_extent *extent = &index->extents[i];

        if (extent->kind == PAGE_DATA)
            bytes_get(&r, &hashes.by_page[extent->page],
                extent->count * sizeof(struct hash128));
    }
    *ret_hashes = hashes;
    return 0;
}
