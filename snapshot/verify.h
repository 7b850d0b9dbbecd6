/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the pages of a snapshot are still what was saved.
 *
 * verify_pages reads every page of RAM (or of a disk) and compares it with its
 * hash, and that its own image is zero where it must be. The file `verified`
 * remembers for each image file how it was then (device, inode, size, time of
 * the last change): as long as that holds, the default is to trust the pages.
 * The record is this host's own; it is in no hash, and one that is damaged
 * only means to verify again. Thread rule: one thread.
 */
#ifndef SNAPSHOT_VERIFY_H
#define SNAPSHOT_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/page_hashes.h"
#include "snapshot/page_index.h"
#include "snapshot/snap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define VERIFIED_FILE_NAME "verified"

struct verify_progress {
    void (*step)(void *arg, uint64_t pages_done, uint64_t pages); /* or NULL */
    void *arg;
};

/*
 * 0; -EBADMSG names the first page that is not what it was, its file and its
 * offset there; or -errno. `progress` may be NULL; image_fds are those of the
 * index's files.
 */
CC_MUST_CHECK int verify_pages(const struct page_index *index,
    const int *image_fds, const struct page_hashes *hashes,
    const struct verify_progress *progress, struct err *err);

/* One page against its hash or zero: for the lazy verification. */
CC_MUST_CHECK bool verify_page(const struct page_index *index,
    const struct page_hashes *hashes, uint64_t page, const void *data);

/* verify_pages of each disk. */
CC_MUST_CHECK int verify_disks(const struct snap *snap,
    const struct verify_progress *progress, struct err *err);

/* verify_pages of the RAM and verify_disks, then the record. */
CC_MUST_CHECK int verify_snap(const struct snap *snap,
    const struct verify_progress *progress, struct err *err);

/* Whether the record holds for every image file. Costs an fstat for each. */
CC_MUST_CHECK bool verify_is_trusted(const struct snap *snap);

/* Writes the record for the image files as they are now. */
CC_MUST_CHECK int verify_record(const struct snap *snap, struct err *err);

/*
 * The same in the directory of a snapshot that is being saved: its image
 * files, in the order of the record (those of RAM, then of each disk).
 */
CC_MUST_CHECK int verify_record_in(int dir_fd, const struct page_image *images,
    uint32_t count, struct err *err);

#endif
