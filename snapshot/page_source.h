/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of a snapshot, one at a time, each compared with its hash before
 * anybody has it.
 *
 * Borrows the open snapshot, owns the hashes. Thread rule: constant once made,
 * any number of threads. The bytes of the image files are hostile until they
 * have been compared: they are read into private memory first, since a file
 * can change between two looks at a mapping of it.
 */
#ifndef SNAPSHOT_PAGE_SOURCE_H
#define SNAPSHOT_PAGE_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "snapshot/page_hashes.h"
#include "snapshot/snap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct page_source {
    const struct snap *snap;
    struct page_hashes hashes;
};

CC_MUST_CHECK int page_source_init(
    struct page_source *source, const struct snap *snap, struct err *err);
void page_source_fini(struct page_source *source);

static inline uint64_t page_source_pages(const struct page_source *source)
{
    return source->snap->index.pages;
}

/*
 * Page `page`, which is below page_source_pages, to `ret_bytes` of a page,
 * which is filled only by 0 with PAGE_DATA. PAGE_ZERO: it is of zeroes.
 * -EBADMSG: the image does not hold what was saved; or another -errno. The
 * text names file, page and offset.
 */
CC_MUST_CHECK int page_source_get(const struct page_source *source,
    uint64_t page, void *ret_bytes, enum page_kind *ret_kind, struct err *err);

#endif
