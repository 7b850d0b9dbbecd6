/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/page_source.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "snapshot/verify.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

int page_source_init(
    struct page_source *source, const struct snap *snap, struct err *err)
{
    *source = (struct page_source){.snap = snap};
    return snap_read_hashes(snap, &source->hashes, err);
}

void page_source_fini(struct page_source *source)
{
    page_hashes_fini(&source->hashes);
    *source = (struct page_source){0};
}

int page_source_get(const struct page_source *source, uint64_t page,
    void *ret_bytes, enum page_kind *ret_kind, struct err *err)
{
    const struct page_index *index = &source->snap->index;
    const struct page_extent *extent = page_index_find(index, page);
    char name[SNAPSHOT_FILE_MAX + 1];
    uint8_t bytes[NUM_PAGE_SIZE];
    uint64_t at;
    ssize_t n;

    if (extent->kind == PAGE_ZERO) {
        *ret_kind = PAGE_ZERO;
        return 0;
    }
    at = (extent->file_page + (page - extent->page)) * NUM_PAGE_SIZE;
    n = fd_pread_full(
        source->snap->image_fds[extent->file], bytes, sizeof(bytes), at);
    if (n == (ssize_t)sizeof(bytes) &&
        verify_page(index, &source->hashes, page, bytes)) {
        memcpy(ret_bytes, bytes, sizeof(bytes));
        *ret_kind = PAGE_DATA;
        return 0;
    }
    page_image_name(&index->files[extent->file], name);
    if (n < 0)
        return err_sys(err, (int)n, "%s: page %llu of the memory", name,
            (unsigned long long)page);
    return err_set(err, EBADMSG,
        "%s: page %llu of the memory, at offset %#llx, is not what was saved",
        name, (unsigned long long)page, (unsigned long long)at);
}
