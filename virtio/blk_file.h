/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that is a file or a block device of the host, raw.
 *
 * Owns the descriptors and a lock on the image: a writer shuts out every
 * other user of the same image, readers share it. I/O goes through the loop's
 * io_uring, or through plain system calls where there is none.
 *
 * Thread rule: as virtio/blk.h has it; open and close: no other thread knows
 * the backend. The file's length can change underneath us: what is missing
 * reads as zeroes. Nothing is guest-controlled but ranges that are checked.
 */
#ifndef VIRTIO_BLK_FILE_H
#define VIRTIO_BLK_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/blk.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/uring.h"

struct blk_file_config {
    const char *path;    /* opened if `fd` is -1; names the disk in errors */
    int fd;              /* already open, taken over, even on failure; or -1 */
    struct uring *uring; /* borrowed; NULL: plain system calls */
    bool read_only;
    bool direct; /* bypass the host's page cache where alignment allows */
};

struct blk_file {
    struct blk_backend backend;
    int fd;             /* -1 when closed */
    int direct_fd;      /* the same file with O_DIRECT, or -1 */
    uint32_t alignment; /* of address, offset and length for it */
    struct uring *uring;
    struct uring_client client;
    int slot; /* of fd in the ring, -1: not registered (yet) */
    int direct_slot;
    bool tried; /* to register them */
};

/*
 * Opens a disk. Errors name the file: -EBUSY if another user has it locked,
 * -EINVAL if it is neither a regular file nor a block device. *ret_warning
 * is set to a constant text, or NULL, about a disk that can be used but
 * deserves a word (a file that does not end on a whole sector: the rest is
 * cut off).
 */
CC_MUST_CHECK int blk_file_open(struct blk_file *f,
    const struct blk_file_config *config, const char **ret_warning,
    struct err *err);

/* Nothing may be in flight. The lock is gone when this returns. */
void blk_file_close(struct blk_file *f);

/* Whether requests go through io_uring; known after the first one. */
bool blk_file_uses_uring(const struct blk_file *f);

#endif
