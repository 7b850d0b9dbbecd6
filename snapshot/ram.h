/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAM out of a snapshot: its image files mapped copy-on-write where runs of
 * pages are long, read into place where they are short.
 *
 * The image files stay open for as long as nothing but the mappings needs
 * them: not at all. Thread rule: before anything of the machine runs. The
 * index was checked by snap_open; the bytes of pages are the guest's business.
 */
#ifndef SNAPSHOT_RAM_H
#define SNAPSHOT_RAM_H

#include <stdint.h>

#include "snapshot/page_index.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/gmem.h"

/*
 * Shorter runs are copied: a mapping costs what the copy of so many pages
 * does, and a process may only have so many (vm.max_map_count).
 */
#define RAM_RUN_MIN 16u

/*
 * Gives fresh private memory of index->pages pages the contents that the
 * index says; `image_fds` are those of its files. 0 or -errno.
 */
CC_MUST_CHECK int ram_map(struct gmem *mem, const struct page_index *index,
    const int *image_fds, struct err *err);

/*
 * The same as a mapping of its own that cannot be written to, for comparisons
 * and resets; release it with ram_unmap_view. `pages` as in the index.
 */
CC_MUST_CHECK int ram_map_view(const struct page_index *index,
    const int *image_fds, const uint8_t **ret_view, struct err *err);
void ram_unmap_view(const uint8_t *view, uint64_t pages);

#endif
