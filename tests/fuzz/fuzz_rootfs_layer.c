/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Archives as the layers of a root file system: the input is one archive, or
 * two with the length of the first in front (two bytes, little-endian). The
 * tree that comes of them holds together, and no name in it leads out.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/serve/rootfs_layer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What one input may unpack to. */
#define BUDGET (UINT64_C(1) << 20)

static void require(int holds)
{
    if (!holds)
        abort();
}

static int merge(struct rootfs_tree *tree, const uint8_t *data, size_t size,
    uint64_t *budget)
{
    static const struct interrupt never = {.fd = -1};
    CC_CLEANUP(fd_closep) int fd = memfd_create("layer", MFD_CLOEXEC);
    char unpacked[DIGEST_HEX_SIZE];
    char file[DIGEST_HEX_SIZE];
    struct rootfs_layer *layer;
    struct err err;
    int rc;

    require(fd >= 0 && fd_write_full(fd, data, size) == 0);
    rc = rootfs_layer_open(fd, &never, budget, &layer, &err);
    if (rc == 0) {
        rc = rootfs_layer_merge(layer, tree, &err);
        if (rc == 0 && rootfs_layer_digests(layer, file, unpacked, &err) == 0)
            require(digest_is_hex(file) && digest_is_hex(unpacked));
        rootfs_layer_close(layer);
    }
    if (rc < 0)
        require(err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
    return rc;
}

static void check_name(const struct rootfs_node *n)
{
    size_t size = strlen(n->name);

    require(size > 0 && size <= ROOTFS_TREE_NAME_MAX);
    require(strchr(n->name, '/') == NULL);
    require(strcmp(n->name, ".") != 0 && strcmp(n->name, "..") != 0);
    require(strncmp(n->name, ".wh.", 4) != 0);
    require(S_ISDIR(n->parent->inode->mode));
}

static void check(const struct rootfs_tree *tree)
{
    size_t count = 0;

    require(S_ISDIR(tree->root->inode->mode));
    for (const struct rootfs_node *n = rootfs_tree_next(tree->root); n != NULL;
         n = rootfs_tree_next(n)) {
        const struct rootfs_node *name = n->inode->names;

        count++;
        check_name(n);
        while (name != NULL && name != n)
            name = name->next_name;
        require(name == n);
        require(n->first == NULL || S_ISDIR(n->inode->mode));
    }
    require(count == tree->node_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t budget = BUDGET;
    struct rootfs_tree tree;
    struct err err;
    size_t first = 0;

    if (size < 2)
        return 0;
    first = (size_t)data[0] | (size_t)data[1] << 8;
    data += 2;
    size -= 2;
    if (first > size)
        first = size;
    require(rootfs_tree_init(&tree, true, &err) == 0);
    if (merge(&tree, data, first, &budget) == 0)
        (void)!merge(&tree, data + first, size - first, &budget);
    check(&tree);
    rootfs_tree_fini(&tree);
    return 0;
}
