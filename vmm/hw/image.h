/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel or initrd image: bytes at offsets, from a file or from memory.
 *
 * Owns the descriptor that it opened and a copy of the file's first bytes.
 * Headers are parsed from that copy and the rest goes from the file straight
 * into guest memory, so that what is checked is read once: others may change
 * the file meanwhile. A payload of a few KiB costs one read. Thread rule: an
 * image belongs to one thread. File-controlled: every byte, and the size.
 */
#ifndef VMM_HW_IMAGE_H
#define VMM_HW_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/core/gmem.h"

enum image_kind {
    IMAGE_PATH,  /* a file, opened here by its name */
    IMAGE_FD,    /* an open file, borrowed; the name is for messages */
    IMAGE_BYTES, /* memory, borrowed; the name is for messages */
};

/* Where an image comes from; what the kind does not name is ignored. */
struct image_source {
    enum image_kind kind;
    const char *name; /* never NULL */
    int fd;
    const void *data;
    size_t size;
};

#define IMAGE_HEAD 4096u

struct image {
    const char *name;    /* borrowed from the source */
    int fd;              /* -1: all of it is at `data` */
    int owned_fd;        /* what image_close closes; -1: nothing */
    const uint8_t *data; /* NULL for a file */
    uint64_t size;       /* bytes, when it was opened */
    size_t head_len;     /* of `head`: a file's first bytes */
    uint8_t head[IMAGE_HEAD];
};

/*
 * Opens; the source's name and bytes must outlive the image. Fails with the
 * errno of open and read, and -EINVAL for what is no regular file.
 */
CC_MUST_CHECK int image_open(const struct image_source *source,
    struct image *ret_image, struct err *err);

/* For CC_CLEANUP: an image that was never opened must be IMAGE_CLOSED. */
void image_close(struct image *image);
#define IMAGE_CLOSED ((struct image){.fd = -1, .owned_fd = -1})

/*
 * Copies `len` bytes at `offset` out. `what` names them in the error, which
 * is -ENODATA when the image ends before.
 */
CC_MUST_CHECK int image_read(const struct image *image, uint64_t offset,
    void *dst, size_t len, const char *what, struct err *err);

/* As image_read, into guest memory; -EFAULT if that range is not RAM. */
CC_MUST_CHECK int image_load(const struct image *image, uint64_t offset,
    struct gmem *mem, gpa_t to, uint64_t len, const char *what,
    struct err *err);

#endif
