/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a tar archive to a descriptor: ustar headers, and pax records in front
 * of those that do not hold all (POSIX.1-2017, pax, "Extended Format").
 *
 * (libarchive's writer cannot be linked without every format that it knows.)
 *
 * Owns its buffer, not the descriptor. Thread rule: one thread. Names may be
 * any bytes but NUL.
 */
#ifndef VMM_SERVE_TAR_WRITER_H
#define VMM_SERVE_TAR_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/serve/rootfs_tree.h"

#define TAR_WRITER_BUFFER 65536u

struct tar_writer {
    int fd;       /* borrowed; blocking */
    uint64_t pad; /* bytes behind the contents of the file being written */
    size_t used;
    uint8_t buffer[TAR_WRITER_BUFFER];
};

void tar_writer_init(struct tar_writer *w, int fd);

/*
 * Begins a file: its `inode`, with `link` another name of what was written
 * already. 0 or -errno, as all of these.
 */
CC_MUST_CHECK int tar_writer_header(struct tar_writer *w, const char *path,
    const struct rootfs_inode *inode, const char *link);

/* A part of its contents; all together inode->size bytes. */
CC_MUST_CHECK int tar_writer_data(
    struct tar_writer *w, const void *data, size_t size);

/* The contents are complete. */
CC_MUST_CHECK int tar_writer_end_file(struct tar_writer *w);

/* The archive is. */
CC_MUST_CHECK int tar_writer_finish(struct tar_writer *w);

#endif
