/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a tar archive, compressed with gzip, zstd or xz or not at all, entry
 * by entry, and takes the digests of what it read: of the file and of what was
 * unpacked from it. libarchive does the parsing.
 *
 * Thread rule: one thread. Hostile: all of it. Sizes are bounded by a budget
 * that the layers of an image share.
 */
#ifndef VMM_SERVE_ROOTFS_LAYER_H
#define VMM_SERVE_ROOTFS_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/serve/digest.h"
#include "vmm/serve/interrupt.h"
#include "vmm/serve/rootfs_tree.h"

/* Bytes that all layers may unpack to, and all files may have. */
#define ROOTFS_LAYER_BYTES_MAX (UINT64_C(32) << 30)

struct rootfs_layer;

/* Valid until the next one. */
struct rootfs_entry {
    const char *path;
    const char *link; /* a hard link's other name; NULL: see `inode` */
    struct rootfs_inode inode;
};

/*
 * Begins at the start of the file, which is borrowed and read with pread.
 * `budget` is borrowed, and what is read is taken off it.
 */
CC_MUST_CHECK int rootfs_layer_open(int fd, const struct interrupt *interrupt,
    uint64_t *budget, struct rootfs_layer **ret_layer, struct err *err);
void rootfs_layer_close(struct rootfs_layer *layer);

/* 1, or 0 at the end. */
CC_MUST_CHECK int rootfs_layer_next(struct rootfs_layer *layer,
    struct rootfs_entry *ret_entry, struct err *err);

/* The contents of a regular file, bit by bit; 0 at the end. */
CC_MUST_CHECK ssize_t rootfs_layer_read(
    struct rootfs_layer *layer, void *buffer, size_t size, struct err *err);

/*
 * Reads what is left, so that the digests are of all: those of the file, and
 * of what it unpacks to.
 */
CC_MUST_CHECK int rootfs_layer_digests(struct rootfs_layer *layer,
    char ret_file[DIGEST_HEX_SIZE], char ret_unpacked[DIGEST_HEX_SIZE],
    struct err *err);

/* Adds all that the layer has to the tree, as one above those it has. */
CC_MUST_CHECK int rootfs_layer_merge(
    struct rootfs_layer *layer, struct rootfs_tree *tree, struct err *err);

#endif
