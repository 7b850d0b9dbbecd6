/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/prefetch.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/base/thread.h"

/* Untouched pages between two runs that are read with them. */
#define GAP_MAX 8u

#define CHUNK_PAGES UINT64_C(256) /* between two looks whether to stop */
#define SAMPLES_MAX 16u

#define PAGEMAP         "/proc/self/pagemap"
#define PAGEMAP_ENTRIES 4096u               /* read at once */
#define PAGEMAP_PRESENT (UINT64_C(3) << 62) /* or swapped out */

/* ---- bringing it in ------------------------------------------------------ */

static void *bring_in(void *arg)
{
    struct prefetch *p = arg;

    /* All are asked for before the first is waited for. */
    for (int wait = 0; wait < 2; wait++) {
        for (size_t i = 0; i < p->set.run_count; i++) {
            const struct working_set_run *run = &p->set.runs[i];

            for (uint64_t done = 0; done < run->count; done += CHUNK_PAGES) {
                uint64_t count = num_min(run->count - done, CHUNK_PAGES);

                if (__atomic_load_n(&p->is_stopped, __ATOMIC_RELAXED))
                    return NULL;
                if (wait)
                    gmem_prefault(p->mem, run->page + done, count, false);
                else
                    gmem_read_ahead(p->mem, run->page + done, count);
            }
        }
    }
    return NULL;
}

int prefetch_start(struct prefetch *prefetch, struct gmem *mem,
    struct working_set *set, struct err *err)
{
    const struct thread_config config = {.run = bring_in, .opaque = prefetch};
    int rc;

    assert(set->pages == gmem_page_count(mem));
    *prefetch = (struct prefetch){.mem = mem, .set = *set};
    *set = (struct working_set){0};
    rc = thread_start(&prefetch->thread, &config);
    prefetch->is_running = rc == 0;
    return rc == 0 ? 0 : err_sys(err, rc, "prefetch");
}

void prefetch_stop(struct prefetch *prefetch)
{
    if (prefetch->is_running) {
        __atomic_store_n(&prefetch->is_stopped, true, __ATOMIC_RELAXED);
        (void)pthread_join(prefetch->thread, NULL);
    }
    working_set_fini(&prefetch->set);
    *prefetch = (struct prefetch){0};
}

/* One byte of a page, if that takes no reading. */
static bool is_cached(
    const struct page_index *index, const int *image_fds, uint64_t page)
{
    const struct page_extent *e = page_index_find(index, page);
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};

    return e->kind == PAGE_ZERO ||
           preadv2(image_fds[e->file], &iov, 1,
               (off_t)((e->file_page + (page - e->page)) << NUM_PAGE_SHIFT),
               RWF_NOWAIT) == 1;
}

bool prefetch_is_cached(const struct page_index *index, const int *image_fds,
    const struct working_set *set)
{
    size_t step = set->run_count / SAMPLES_MAX + 1;

    for (size_t i = 0; i < set->run_count; i += step) {
        const struct working_set_run *run = &set->runs[i];

        if (!is_cached(index, image_fds, run->page + run->count / 2))
            return false;
    }
    return true;
}

/* ---- recording it -------------------------------------------------------- */

static int read_pagemap(
    const struct gmem *mem, int fd, uint64_t *entries, struct bitmap *touched)
{
    const struct iovec all = gmem_pages_iovec(mem, 0, gmem_page_count(mem));
    uint64_t first = (uint64_t)(uintptr_t)all.iov_base >> NUM_PAGE_SHIFT;

    for (uint64_t page = 0; page < touched->bits;) {
        uint64_t count = num_min(touched->bits - page, PAGEMAP_ENTRIES);
        ssize_t n = fd_pread_full(fd, entries, count * sizeof(entries[0]),
            (first + page) * sizeof(entries[0]));

        if (n != (ssize_t)(count * sizeof(entries[0])))
            return n < 0 ? (int)n : -EIO;
        for (uint64_t i = 0; i < count; i++) {
            if ((entries[i] & PAGEMAP_PRESENT) != 0)
                bitmap_set(touched, page + i, 1);
        }
        page += count;
    }
    return 0;
}

int prefetch_open_pagemap(struct err *err)
{
    int fd = open(PAGEMAP, O_RDONLY | O_CLOEXEC);

    return fd < 0 ? err_sys(err, errno, "%s", PAGEMAP) : fd;
}

int prefetch_touched(const struct gmem *mem, int pagemap_fd,
    struct bitmap *ret_touched, struct err *err)
{
    uint64_t *entries = malloc(PAGEMAP_ENTRIES * sizeof(entries[0]));
    struct bitmap touched = {0};
    int rc =
        entries == NULL ? -ENOMEM : bitmap_init(&touched, gmem_page_count(mem));

    if (rc == 0)
        rc = read_pagemap(mem, pagemap_fd, entries, &touched);
    free(entries);
    if (rc < 0) {
        bitmap_fini(&touched);
        return err_sys(err, rc, "%s", PAGEMAP);
    }
    *ret_touched = touched;
    return 0;
}

/* The set that is there together with the pages; the caller frees it. */
static int add_recorded(const struct working_set *recorded,
    const struct bitmap *touched, struct bitmap *ret_all, struct err *err)
{
    struct bitmap all;
    size_t first;
    size_t count;

    if (bitmap_init(&all, touched->bits) < 0)
        return err_sys(err, ENOMEM, "%s", WORKING_SET_FILE_NAME);
    for (size_t from = 0; bitmap_next_run(touched, from, &first, &count);
         from = first + count)
        bitmap_set(&all, first, count);
    for (size_t i = 0; i < recorded->run_count; i++)
        bitmap_set(&all, recorded->runs[i].page, recorded->runs[i].count);
    *ret_all = all;
    return 0;
}

static int write_set(
    int dir_fd, const struct bitmap *touched, uint64_t share, struct err *err)
{
    struct working_set set;
    uint64_t pages = 0;
    int rc = working_set_from_bitmap(touched, GAP_MAX, &set, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < set.run_count; i++)
        pages += set.runs[i].count;
    if (pages > set.pages / share)
        rc = err_set(err, E2BIG, "%s: it would be %llu of %llu pages",
            WORKING_SET_FILE_NAME, (unsigned long long)pages,
            (unsigned long long)set.pages);
    if (rc == 0)
        rc = working_set_store(dir_fd, &set, err);
    working_set_fini(&set);
    return rc;
}

int prefetch_record(
    int dir_fd, const struct bitmap *touched, bool adds, struct err *err)
{
    struct working_set recorded;
    struct bitmap all;
    int rc;

    if (working_set_load(dir_fd, touched->bits, &recorded) < 0)
        return write_set(dir_fd, touched,
            adds ? PREFETCH_SHARE_MIN : PREFETCH_SHARE_UNASKED, err);
    if (!adds) {
        working_set_fini(&recorded);
        return err_set(
            err, EEXIST, "%s: recorded already", WORKING_SET_FILE_NAME);
    }
    rc = add_recorded(&recorded, touched, &all, err);
    working_set_fini(&recorded);
    if (rc < 0)
        return rc;
    rc = write_set(dir_fd, &all, PREFETCH_SHARE_MIN, err);
    bitmap_fini(&all);
    return rc;
}
