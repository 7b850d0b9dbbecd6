/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/page_writer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/num.h"

/*
 * Pages that are classified and hashed together: what was read for the hash
 * is in the cache still when it is written, and a run is long enough for the
 * system call to cost nothing.
 */
#define BATCH_PAGES    64u
#define PROGRESS_PAGES 4096u

bool page_writer_page_is_zero(const void *page)
{
    const uint8_t *bytes = page;
    uint64_t any = 0;

    /* Most pages that are not zero show it at once. */
    memcpy(&any, bytes, sizeof(any));
    for (size_t i = 0; i < NUM_PAGE_SIZE && any == 0; i += 256) {
        uint64_t words[32];

        memcpy(words, bytes + i, sizeof(words));
        for (size_t k = 0; k < ARRAY_SIZE(words); k++)
            any |= words[k];
    }
    return any == 0;
}

void page_writer_init(struct page_writer *image, int fd, struct save *save,
    struct page_index_builder *index, struct page_hashes *hashes,
    struct dedupe *dedupe)
{
    assert(hashes->pages == index->pages);
    *image = (struct page_writer){.fd = fd,
        .save = save,
        .index = index,
        .hashes = hashes,
        .dedupe = dedupe};
}

static int write_run(struct page_writer *image, uint64_t page,
    const uint8_t *data, uint64_t count, struct err *err)
{
    size_t len = (size_t)(count * NUM_PAGE_SIZE);
    off_t offset = (off_t)(page * NUM_PAGE_SIZE);

    while (len > 0 && !image->is_filled) {
        ssize_t n = pwrite(image->fd, data, len, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "page image");
        data += n;
        len -= (size_t)n;
        offset += n;
    }
    page_index_builder_set_data(image->index, page, count, 0, page);
    image->pages_written += count;
    return 0;
}

/*
 * Pages that are not zero, all hashed: what the store has already, and what
 * is to be written.
 */
static int put_data(struct page_writer *image, uint64_t page,
    const uint8_t *data, uint64_t count, struct err *err)
{
    uint64_t pending = 0; /* pages before `i` that are to be written */

    for (uint64_t i = 0; image->dedupe != NULL && i < count;) {
        struct dedupe_find find = dedupe_lookup(image->dedupe, image->save,
            image->index, data + i * NUM_PAGE_SIZE,
            &image->hashes->by_page[page + i], count - i);
        int rc;

        if (find.count == 0) {
            i++;
            continue;
        }
        if (i > pending) {
            rc = write_run(image, page + pending,
                data + pending * NUM_PAGE_SIZE, i - pending, err);
            if (rc < 0)
                return rc;
        }
        page_index_builder_set_data(
            image->index, page + i, find.count, find.file, find.file_page);
        image->pages_shared += find.count;
        i += find.count;
        pending = i;
    }
    if (pending == count)
        return 0;
    return write_run(image, page + pending, data + pending * NUM_PAGE_SIZE,
        count - pending, err);
}

static void step_progress(struct page_writer *image, uint64_t count)
{
    uint64_t before = image->pages_done / PROGRESS_PAGES;

    image->pages_done += count;
    if (image->progress.step != NULL &&
        image->pages_done / PROGRESS_PAGES != before)
        image->progress.step(image->progress.arg, image->pages_done);
}

/* At most BATCH_PAGES. */
static int put_batch(struct page_writer *image, uint64_t page,
    const uint8_t *data, uint64_t count, struct err *err)
{
    uint64_t i = 0;

    while (i < count) {
        uint64_t first = i;
        int rc;

        while (i < count && page_writer_page_is_zero(data + i * NUM_PAGE_SIZE))
            i++;
        if (i > first) {
            page_index_builder_set_zero(image->index, page + first, i - first);
            image->pages_zero += i - first;
        }
        first = i;
        while (i < count && !page_writer_page_is_zero(data + i * NUM_PAGE_SIZE))
            i++;
        if (i == first)
            continue;
        hash_pages(data + first * NUM_PAGE_SIZE, i - first,
            &image->hashes->by_page[page + first]);
        rc = put_data(
            image, page + first, data + first * NUM_PAGE_SIZE, i - first, err);
        if (rc < 0)
            return rc;
    }
    step_progress(image, count);
    return 0;
}

int page_writer_put(struct page_writer *image, uint64_t page, const void *data,
    uint64_t count, struct err *err)
{
    const uint8_t *bytes = data;

    assert(num_range_within(page, count, image->index->pages));
    for (uint64_t done = 0; done < count;) {
        uint64_t n = num_min(count - done, BATCH_PAGES);
        int rc =
            put_batch(image, page + done, bytes + done * NUM_PAGE_SIZE, n, err);

        if (rc < 0)
            return rc;
        done += n;
    }
    return 0;
}

void page_writer_put_zero(
    struct page_writer *image, uint64_t page, uint64_t count)
{
    page_index_builder_set_zero(image->index, page, count);
    image->pages_zero += count;
    step_progress(image, count);
}

int page_writer_put_ram(struct page_writer *image, int mem_fd, const void *host,
    uint64_t page, uint64_t count, struct err *err)
{
    const uint8_t *bytes = host;
    uint64_t end = page + count;

    assert(num_range_within(page, count, image->index->pages));
    while (page < end) {
        off_t from = (off_t)(page * NUM_PAGE_SIZE);
        off_t data = lseek(mem_fd, from, SEEK_DATA);
        off_t hole;
        uint64_t first = end;
        uint64_t after = end;
        int rc;

        if (data < 0 && errno != ENXIO)
            return err_sys(err, errno, "guest memory");
        if (data >= 0) {
            first = num_min((uint64_t)data / NUM_PAGE_SIZE, end);
            hole = lseek(mem_fd, data, SEEK_HOLE);
            if (hole < 0)
                return err_sys(err, errno, "guest memory");
            after = num_min(num_div_up((uint64_t)hole, NUM_PAGE_SIZE), end);
        }
        if (first > page)
            page_writer_put_zero(image, page, first - page);
        if (first < after) {
            rc = page_writer_put(image, first, bytes + first * NUM_PAGE_SIZE,
                after - first, err);
            if (rc < 0)
                return rc;
        }
        page = num_max(after, first);
    }
    return 0;
}

/* Punches what is data in [page, page + count) of the image file. */
static int trim_range(
    struct page_writer *image, uint64_t page, uint64_t count, struct err *err)
{
    off_t end = (off_t)((page + count) * NUM_PAGE_SIZE);
    off_t at = lseek(image->fd, (off_t)(page * NUM_PAGE_SIZE), SEEK_DATA);

    if (at < 0)
        return errno == ENXIO ? 0 : err_sys(err, errno, "page image");
    if (at >= end)
        return 0;
    if (fallocate(image->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
            end - at) < 0)
        return err_sys(err, errno, "page image");
    return 0;
}

int page_writer_trim(
    struct page_writer *image, const struct page_index *index, struct err *err)
{
    for (size_t i = 0; i < index->extent_count; i++) {
        const struct page_extent *e = &index->extents[i];
        int rc;

        if (e->kind == PAGE_DATA && e->file == 0)
            continue;
        rc = trim_range(image, e->page, e->count, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}
