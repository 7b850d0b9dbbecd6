/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file `hashes` of a snapshot: the XXH3-128 of each page that the index
 * calls DATA, in the order of the index. In memory it is an array by RAM
 * page, of which only the parts that are set take memory.
 *
 * The bytes given to page_hashes_decode are hostile. Thread rule: one writer.
 */
#ifndef SNAPSHOT_PAGE_HASHES_H
#define SNAPSHOT_PAGE_HASHES_H

#include <stddef.h>
#include <stdint.h>

#include "snapshot/hash.h"
#include "snapshot/page_index.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define PAGE_HASHES_FILE_NAME "hashes"
#define PAGE_HASHES_VERSION   1u
#define PAGE_HASHES_HEADER    24u /* bytes before the first hash */

struct page_hashes {
    struct hash128 *by_page; /* a mapping; meaningful for DATA pages */
    uint64_t pages;
};

/* 0, or -ENOMEM. */
CC_MUST_CHECK int page_hashes_init(struct page_hashes *hashes, uint64_t pages);
void page_hashes_fini(struct page_hashes *hashes);

/* Bytes of the file for this index. */
size_t page_hashes_size(const struct page_index *index);

/* The caller frees *ret_data. 0 or -ENOMEM. */
CC_MUST_CHECK int page_hashes_encode(const struct page_hashes *hashes,
    const struct page_index *index, uint8_t **ret_data, size_t *ret_size,
    struct err *err);

/* Exactly one hash for each DATA page, or -EBADMSG; -ENOTSUP, -ENOMEM. */
CC_MUST_CHECK int page_hashes_decode(const void *data, size_t size,
    const struct page_index *index, struct page_hashes *ret_hashes,
    struct err *err);

#endif
