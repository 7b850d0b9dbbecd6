/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The working set of a snapshot: recorded when a restored machine has settled,
 * brought in ahead of the next one.
 *
 * Where it pays, as measured with a Linux guest of 128 MiB (3000 pages of 4300
 * that have data): from the disk, 60 ms of reading beside the guest instead of
 * in its way; from the page cache nothing, since mapping the pages ahead takes
 * as long (1.3 ms) as the guest's faults, of which each maps 16 (1.1 ms). So
 * it is a thread's work, and for sets that are not in the cache.
 *
 * Owns the thread and the set that it works on. Thread rule: one thread but for
 * that; it maps pages and looks at none. The file is a hint and hostile
 * (working_set.h): a bad one costs its prefetch.
 */
#ifndef SNAPSHOT_PREFETCH_H
#define SNAPSHOT_PREFETCH_H

#include <pthread.h>
#include <stdbool.h>

#include "snapshot/page_index.h"
#include "snapshot/working_set.h"
#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/gmem.h"

/*
 * A set of more than one page in so many of RAM is not recorded: bringing it
 * in would be reading the whole image.
 */
#define PREFETCH_SHARE_MIN 2u

/*
 * The same for one that nobody asked to be recorded: what the first machine
 * touches, every later one is given.
 */
#define PREFETCH_SHARE_UNASKED 8u

struct prefetch {
    struct gmem *mem;
    struct working_set set;
    pthread_t thread;
    bool is_running;
    bool is_stopped; /* atomic */
};

/*
 * Whether the set's pages are in the kernel's cache, as far as some of them
 * tell. Reads nothing.
 */
bool prefetch_is_cached(const struct page_index *index, const int *image_fds,
    const struct working_set *set);

/*
 * Brings the set, which is taken over, into memory that ram_map has laid out,
 * beside whatever else happens. prefetch_stop is due before `mem` ends.
 */
CC_MUST_CHECK int prefetch_start(struct prefetch *prefetch, struct gmem *mem,
    struct working_set *set, struct err *err);

/* Fine on one that is zeroed. */
void prefetch_stop(struct prefetch *prefetch);

/*
 * The pages of private memory that this process has mapped by now: those that
 * were touched and, where the kernel mapped neighbours with them, these.
 * *ret_touched is the caller's to bitmap_fini; `pagemap_fd` is of
 * prefetch_open_pagemap.
 */
CC_MUST_CHECK int prefetch_touched(const struct gmem *mem, int pagemap_fd,
    struct bitmap *ret_touched, struct err *err);

/* This process's page map, for prefetch_touched: a descriptor, or -errno. */
int prefetch_open_pagemap(struct err *err);

/*
 * Writes the set of these pages, a bit for each of RAM, into the directory of
 * a snapshot; `adds`: together with the set that is there. -EEXIST if there is
 * one and it is not to be added to; -E2BIG, see above.
 */
CC_MUST_CHECK int prefetch_record(
    int dir_fd, const struct bitmap *touched, bool adds, struct err *err);

#endif
