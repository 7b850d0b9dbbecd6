/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/ram.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

/* A range of RAM that one mapping of one file gives. */
struct span {
    uint64_t page;
    uint64_t count; /* 0: none yet */
    uint64_t file_page;
    uint32_t file;
    size_t end; /* the first extent behind it */
};

struct layout {
    uint8_t *base; /* private and zero so far */
    const struct page_index *index;
    const int *fds;
    size_t *patches; /* extents that the mappings do not give */
    size_t patch_count;
};

static uint8_t *at_page(const struct layout *l, uint64_t page)
{
    return l->base + (page << NUM_PAGE_SHIFT);
}

static bool is_continued_by(
    const struct span *span, const struct page_extent *e)
{
    return span->count > 0 && span->file == e->file &&
           e->file_page >= span->file_page &&
           e->file_page - span->file_page == e->page - span->page;
}

/*
 * Whether zero pages within a span are zero in its file. The snapshot's own
 * image is wherever the index does not point into it; in a parent's a page
 * may have become zero since.
 */
static bool is_zero_in_file(const struct layout *l, const struct span *span,
    const struct page_extent *e)
{
    uint64_t file_page = span->file_page + (e->page - span->page);
    off_t from = (off_t)(file_page << NUM_PAGE_SHIFT);
    off_t data;

    if (span->file == 0)
        return true;
    data = lseek(l->fds[span->file], from, SEEK_DATA);
    return data < 0 ? errno == ENXIO
                    : data >= from + (off_t)(e->count << NUM_PAGE_SHIFT);
}

static int map_span(const struct layout *l, const struct span *span)
{
    uint64_t bytes = span->count << NUM_PAGE_SHIFT;
    void *p;

    if (span->count == 0)
        return 0;
    p = mmap(at_page(l, span->page), bytes, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, l->fds[span->file],
        (off_t)(span->file_page << NUM_PAGE_SHIFT));
    if (p == MAP_FAILED)
        return -errno;
    (void)madvise(p, bytes, MADV_DONTDUMP);
    return 0;
}

/* Takes extent `i` into the span, and with it what lies between. */
static void extend(struct layout *l, struct span *span, size_t i)
{
    const struct page_extent *e = &l->index->extents[i];

    for (size_t k = span->end; k < i; k++) {
        const struct page_extent *gap = &l->index->extents[k];

        if (gap->kind == PAGE_ZERO && !is_zero_in_file(l, span, gap))
            l->patches[l->patch_count++] = k;
    }
    span->count = e->page + e->count - span->page;
    span->end = i + 1;
}

/*
 * Spans are as long as they can be: they run on over zero pages and over
 * short runs from elsewhere, which are put right afterwards.
 */
static int map_spans(struct layout *l)
{
    struct span span = {0};

    for (size_t i = 0; i < l->index->extent_count; i++) {
        const struct page_extent *e = &l->index->extents[i];
        int rc;

        if (e->kind == PAGE_ZERO)
            continue;
        if (is_continued_by(&span, e)) {
            extend(l, &span, i);
            continue;
        }
        if (e->count < RAM_RUN_MIN) {
            l->patches[l->patch_count++] = i;
            continue;
        }
        rc = map_span(l, &span);
        if (rc < 0)
            return rc;
        span = (struct span){.page = e->page,
            .count = e->count,
            .file_page = e->file_page,
            .file = e->file,
            .end = i + 1};
    }
    return map_span(l, &span);
}

static int patch(const struct layout *l, const struct page_extent *e)
{
    uint64_t bytes = e->count << NUM_PAGE_SHIFT;
    uint8_t *to = at_page(l, e->page);
    ssize_t n;

    if (e->kind == PAGE_ZERO) {
        if (e->count >= RAM_RUN_MIN &&
            mmap(to, bytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
                0) != MAP_FAILED) {
            (void)madvise(to, bytes, MADV_DONTDUMP);
            return 0;
        }
        memset(to, 0, bytes);
        return 0;
    }
    n = fd_pread_full(
        l->fds[e->file], to, bytes, e->file_page << NUM_PAGE_SHIFT);
    if (n < 0)
        return (int)n;
    return (uint64_t)n == bytes ? 0 : -ENODATA;
}

static int lay_out(uint8_t *base, const struct page_index *index,
    const int *image_fds, struct err *err)
{
    struct layout l = {.base = base,
        .index = index,
        .fds = image_fds,
        .patches = malloc((index->extent_count + 1) * sizeof(l.patches[0]))};
    int rc;

    if (l.patches == NULL)
        return err_sys(err, ENOMEM, "the memory of a snapshot");
    rc = map_spans(&l);
    for (size_t i = 0; i < l.patch_count && rc == 0; i++)
        rc = patch(&l, &index->extents[l.patches[i]]);
    free(l.patches);
    return rc < 0 ? err_sys(err, rc, "cannot map the memory of a snapshot") : 0;
}

int ram_map(struct gmem *mem, const struct page_index *index,
    const int *image_fds, struct err *err)
{
    struct iovec all = gmem_pages_iovec(mem, 0, gmem_page_count(mem));

    assert(mem->fd < 0 && index->pages == gmem_page_count(mem));
    return lay_out(all.iov_base, index, image_fds, err);
}

int ram_map_view(const struct page_index *index, const int *image_fds,
    const uint8_t **ret_view, struct err *err)
{
    uint64_t bytes = index->pages << NUM_PAGE_SHIFT;
    void *view = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int rc;

    if (view == MAP_FAILED)
        return err_sys(err, errno, "cannot map the memory of a snapshot");
    rc = lay_out(view, index, image_fds, err);
    if (rc == 0 && mprotect(view, bytes, PROT_READ) < 0)
        rc = err_sys(err, errno, "cannot protect the memory of a snapshot");
    if (rc < 0) {
        (void)munmap(view, bytes);
        return rc;
    }
    *ret_view = view;
    return 0;
}

void ram_unmap_view(const uint8_t *view, uint64_t pages)
{
    if (view != NULL)
        (void)munmap((void *)(uintptr_t)view, pages << NUM_PAGE_SHIFT);
}
