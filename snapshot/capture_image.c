/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/capture_image.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/page_writer.h"
#include "vmm/base/num.h"

/* What was read for the hash is in the cache still when it is written. */
#define BATCH_PAGES 64u

static int check_file(int fd, uint64_t pages, struct err *err)
{
    int flags = fcntl(fd, F_GETFL);
    struct stat st;

    if (flags < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "an image file");
    if (!S_ISREG(st.st_mode) || (flags & O_PATH) != 0 ||
        (flags & O_ACCMODE) == O_RDONLY)
        return err_set(err, EINVAL,
            "an image file must be a regular one that can be written to");
    if ((uint64_t)st.st_size != pages * NUM_PAGE_SIZE)
        return err_set(err, EINVAL,
            "an image file has %llu bytes where it must have %llu: the "
            "machine is another than it was, try again",
            (unsigned long long)st.st_size,
            (unsigned long long)(pages * NUM_PAGE_SIZE));
    return 0;
}

int capture_image_init(
    struct capture_image *image, int fd, uint64_t pages, struct err *err)
{
    int rc = check_file(fd, pages, err);

    if (rc < 0)
        return rc;
    *image = (struct capture_image){.fd = fd, .pages = pages};
    if (bitmap_init(&image->put, pages) < 0 ||
        bitmap_init(&image->data, pages) < 0 ||
        bitmap_init(&image->below, pages) < 0 ||
        page_hashes_init(&image->hashes, pages) < 0) {
        capture_image_fini(image);
        return err_sys(err, ENOMEM, "a save");
    }
    return 0;
}

void capture_image_fini(struct capture_image *image)
{
    bitmap_fini(&image->put);
    bitmap_fini(&image->data);
    bitmap_fini(&image->below);
    page_hashes_fini(&image->hashes);
    *image = (struct capture_image){.fd = -1};
}

static int write_run(
    int fd, uint64_t page, const uint8_t *data, uint64_t count, struct err *err)
{
    size_t len = (size_t)(count * NUM_PAGE_SIZE);
    off_t offset = (off_t)(page * NUM_PAGE_SIZE);

    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "page image");
        data += n;
        len -= (size_t)n;
        offset += n;
    }
    return 0;
}

/* Pages that are not zero. */
static int put_data(struct capture_image *image, uint64_t page,
    const uint8_t *data, uint64_t count, struct err *err)
{
    int rc;

    hash_pages(data, count, &image->hashes.by_page[page]);
    rc = write_run(image->fd, page, data, count, err);
    if (rc < 0)
        return rc;
    bitmap_set(&image->put, page, count);
    bitmap_set(&image->data, page, count);
    bitmap_clear(&image->below, page, count);
    return 0;
}

int capture_image_put(struct capture_image *image, uint64_t page,
    const void *data, uint64_t count, struct err *err)
{
    const uint8_t *bytes = data;
    uint64_t i = 0;

    assert(num_range_within(page, count, image->pages));
    while (i < count) {
        uint64_t first = i;
        int rc;

        while (i < count && page_writer_page_is_zero(bytes + i * NUM_PAGE_SIZE))
            i++;
        if (i > first)
            capture_image_put_zero(image, page + first, i - first);
        first = i;
        while (i < count && i - first < BATCH_PAGES &&
               !page_writer_page_is_zero(bytes + i * NUM_PAGE_SIZE))
            i++;
        if (i == first)
            continue;
        rc = put_data(
            image, page + first, bytes + first * NUM_PAGE_SIZE, i - first, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

void capture_image_put_zero(
    struct capture_image *image, uint64_t page, uint64_t count)
{
    bitmap_set(&image->put, page, count);
    bitmap_clear(&image->data, page, count);
    bitmap_clear(&image->below, page, count);
}

void capture_image_put_below(
    struct capture_image *image, uint64_t page, uint64_t count)
{
    bitmap_set(&image->put, page, count);
    bitmap_clear(&image->data, page, count);
    bitmap_set(&image->below, page, count);
}
