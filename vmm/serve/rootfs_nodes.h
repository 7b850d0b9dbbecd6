/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nodes and inodes of a tree (rootfs_tree.h): made, found by name, taken
 * away. Part of rootfs_tree.c, in a file of its own.
 *
 * Thread rule: one thread. Names have been checked, and counts are the
 * caller's to bound.
 */
#ifndef VMM_SERVE_ROOTFS_NODES_H
#define VMM_SERVE_ROOTFS_NODES_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/cc.h"
#include "vmm/serve/rootfs_tree.h"

/* The child of this name, of `size` bytes; NULL if there is none. */
struct rootfs_node *rootfs_nodes_find(const struct rootfs_tree *tree,
    const struct rootfs_node *parent, const char *name, size_t size);

/* A further child, which has another name of `inode`; NULL without memory. */
struct rootfs_node *rootfs_nodes_add(struct rootfs_tree *tree,
    struct rootfs_node *parent, const char *name, size_t size,
    struct rootfs_inode *inode);

/*
 * Removes what lower layers have below `top`; `all` of it whichever layer it
 * is of, and `top` itself, which is not the root then.
 */
void rootfs_nodes_prune(
    struct rootfs_tree *tree, struct rootfs_node *top, bool all);

/* A copy that the tree has; NULL without memory. */
struct rootfs_inode *rootfs_nodes_take_inode(
    struct rootfs_tree *tree, const struct rootfs_inode *from);

/* That of a folder that no archive says anything of. */
struct rootfs_inode *rootfs_nodes_make_dir(struct rootfs_tree *tree);

/* Puts it behind the tree's files; false without memory. */
CC_MUST_CHECK bool rootfs_nodes_note_file(
    struct rootfs_tree *tree, struct rootfs_inode *inode);

#endif
