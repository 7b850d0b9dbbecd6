/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/image.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/fd.h"

static int open_file(struct image *image, struct err *err)
{
    struct stat st;
    ssize_t n;

    if (fstat(image->fd, &st) < 0)
        return err_sys(err, errno, "%s", image->name);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "%s: not a regular file", image->name);
    image->size = (uint64_t)st.st_size;
    n = fd_pread_full(
        image->fd, image->head, num_min(sizeof(image->head), image->size), 0);
    if (n < 0)
        return err_sys(err, (int)n, "%s", image->name);
    image->head_len = (size_t)n;
    return 0;
}

int image_open(
    const struct image_source *source, struct image *ret_image, struct err *err)
{
    struct image *image = ret_image;
    int rc;

    assert(source->name != NULL);
    image->name = source->name;
    image->fd = -1;
    image->owned_fd = -1;
    image->data = NULL;
    image->head_len = 0;
    switch (source->kind) {
    case IMAGE_BYTES:
        assert(source->data != NULL || source->size == 0);
        image->data = source->data;
        image->size = source->size;
        return 0;
    case IMAGE_PATH:
        /* Not to hang on a FIFO: what is no regular file is refused below. */
        image->fd = open(source->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (image->fd < 0)
            return err_sys(err, errno, "%s", source->name);
        image->owned_fd = image->fd;
        break;
    case IMAGE_FD:
        image->fd = source->fd;
        break;
    }
    rc = open_file(image, err);
    if (rc < 0)
        image_close(image);
    return rc;
}

void image_close(struct image *image)
{
    fd_closep(&image->owned_fd);
    image->fd = -1;
    image->data = NULL;
    image->size = 0;
    image->head_len = 0;
}

static int ends_early(
    const struct image *image, const char *what, struct err *err)
{
    return err_set(
        err, ENODATA, "%s: the file ends within its %s", image->name, what);
}

/* The range if it is in memory, NULL if only the file has it. */
static const uint8_t *in_memory(
    const struct image *image, uint64_t offset, uint64_t len)
{
    if (image->fd < 0)
        return image->data + offset;
    if (num_range_within(offset, len, image->head_len))
        return image->head + offset;
    return NULL;
}

int image_read(const struct image *image, uint64_t offset, void *dst,
    size_t len, const char *what, struct err *err)
{
    const uint8_t *p;
    ssize_t n;

    if (!num_range_within(offset, len, image->size))
        return ends_early(image, what, err);
    if (len == 0)
        return 0;
    p = in_memory(image, offset, len);
    if (p != NULL) {
        memcpy(dst, p, len);
        return 0;
    }
    n = fd_pread_full(image->fd, dst, len, offset);
    if (n < 0)
        return err_sys(
            err, (int)n, "%s: cannot read its %s", image->name, what);
    return (size_t)n == len ? 0 : ends_early(image, what, err);
}

int image_load(const struct image *image, uint64_t offset, struct gmem *mem,
    gpa_t to, uint64_t len, const char *what, struct err *err)
{
    const uint8_t *p;
    int rc;

    if (!num_range_within(offset, len, image->size))
        return ends_early(image, what, err);
    if (len == 0)
        return 0;
    p = in_memory(image, offset, len);
    rc = p != NULL ? gmem_write(mem, to, p, len)
                   : gmem_read_file(mem, to, image->fd, offset, len);
    if (rc == -ENODATA)
        return ends_early(image, what, err);
    if (rc < 0)
        return err_sys(err, rc, "%s: cannot load its %s at 0x%llx", image->name,
            what, (unsigned long long)to.v);
    return 0;
}
