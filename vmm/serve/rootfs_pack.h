/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a squashfs image with squashfs-tools, which need no privileges: of a
 * folder of this host, or of a tree whose files' contents come one by one.
 *
 * Nothing in it is compressed: where guest kernels are interpreted unpacking
 * is what takes longest, and elsewhere what is not compressed is read faster.
 *
 * Thread rule: the process's main thread (child.h). Names and contents may be
 * hostile; the program gets them as a tar archive over a pipe, and they are
 * never names of this host.
 */
#ifndef VMM_SERVE_ROOTFS_PACK_H
#define VMM_SERVE_ROOTFS_PACK_H

#include <stddef.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/serve/interrupt.h"
#include "vmm/serve/rootfs_layer.h"
#include "vmm/serve/rootfs_tree.h"

/* Of all that is in a folder, and on its file system; root owns it all if we
 * are not root. */
CC_MUST_CHECK int rootfs_pack_dir(const char *dir, const char *path,
    const struct interrupt *interrupt, struct err *err);

struct rootfs_pack;

/* Begins the image `path` with all of the tree that has no contents. */
CC_MUST_CHECK int rootfs_pack_begin(const char *path,
    const struct rootfs_tree *tree, const struct interrupt *interrupt,
    struct rootfs_pack **ret_pack, struct err *err);

/*
 * Adds the files of one layer that are still in the tree: the same layers as
 * were merged into it, in the same order.
 */
CC_MUST_CHECK int rootfs_pack_layer(
    struct rootfs_pack *pack, struct rootfs_layer *layer, struct err *err);

/* Waits for the image to be whole; the pack is gone either way. */
CC_MUST_CHECK int rootfs_pack_end(struct rootfs_pack *pack, struct err *err);

/* Ends it; what there is of the image is the caller's to remove. */
void rootfs_pack_abandon(struct rootfs_pack *pack);

#endif
