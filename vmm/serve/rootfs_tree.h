/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names of a root file system that is put together from layers: each layer
 * adds, replaces and hides what those below it have. It has everything but
 * the contents of files.
 *
 * Owns all nodes and inodes. Thread rule: one thread. Hostile: paths, links
 * and metadata, which come from archives. A path with ".." is refused; links
 * on the way are followed inside the tree, as a system that has it as its root
 * would; names, depths and counts are bounded.
 */
#ifndef VMM_SERVE_ROOTFS_TREE_H
#define VMM_SERVE_ROOTFS_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define ROOTFS_TREE_ENTRIES_MAX 1000000u /* of all layers together */
#define ROOTFS_TREE_PATH_MAX    4095u
#define ROOTFS_TREE_NAME_MAX    255u
#define ROOTFS_TREE_TEXT_MAX    (UINT64_C(256) << 20) /* links, attributes */
#define ROOTFS_TREE_XATTRS_MAX  32u
#define ROOTFS_TREE_XATTR_MAX   65536u /* bytes of values, of one file */

struct rootfs_xattr {
    char *name;
    void *value;
    size_t size;
};

struct rootfs_node;

/* A file, whatever its names are. */
struct rootfs_inode {
    mode_t mode; /* type and permissions */
    uint32_t uid;
    uint32_t gid;
    int64_t mtime_s;
    uint64_t size; /* of a regular file */
    uint32_t major;
    uint32_t minor;
    char *target; /* of a symbolic link */
    struct rootfs_xattr *xattrs;
    uint32_t xattr_count;
    struct rootfs_node *names; /* NULL: it was hidden or replaced */
};

struct rootfs_node {
    struct rootfs_node *parent; /* NULL: the root */
    struct rootfs_node *first;  /* child */
    struct rootfs_node *next;   /* sibling */
    struct rootfs_node *prev;
    struct rootfs_node *next_name; /* of the same inode */
    struct rootfs_node *next_hash;
    struct rootfs_inode *inode;
    uint32_t layer; /* the latest that has it, or something in it */
    uint64_t hash;
    char name[]; /* the root's is empty */
};

struct rootfs_tree {
    struct rootfs_node *root;
    uint32_t layer; /* being read, from 1 */
    bool whiteouts; /* names that begin with ".wh." hide */
    /* Of every regular file that any layer has contents for, in that order. */
    struct rootfs_inode **files;
    size_t file_count;
    size_t file_room;
    struct rootfs_inode **inodes; /* all */
    size_t inode_count;
    size_t inode_room;
    struct rootfs_node **buckets;
    size_t bucket_count; /* a power of two */
    size_t node_count;
    uint64_t bytes;      /* of those files, together */
    uint64_t text_bytes; /* of targets and extended attributes */
    uint64_t seed; /* of the hashes, so that nobody can aim at one bucket */
};

CC_MUST_CHECK int rootfs_tree_init(
    struct rootfs_tree *tree, bool whiteouts, struct err *err);
void rootfs_tree_fini(struct rootfs_tree *tree);

/* What is added from here on is in a layer above. */
void rootfs_tree_begin_layer(struct rootfs_tree *tree);

/*
 * Adds what an archive has at `path`: a whiteout hides, a folder over a folder
 * keeps what is in it, anything else replaces. `inode` is copied, with what
 * it points to. A regular file's is among `files` in any case.
 */
CC_MUST_CHECK int rootfs_tree_add(struct rootfs_tree *tree, const char *path,
    const struct rootfs_inode *inode, struct err *err);

/* A further name for what is at `target`, which is no folder. */
CC_MUST_CHECK int rootfs_tree_link(struct rootfs_tree *tree, const char *path,
    const char *target, struct err *err);

/* What is there, links followed but for the last; NULL: nothing. */
struct rootfs_node *rootfs_tree_find(
    const struct rootfs_tree *tree, const char *path);

/* The next node of a walk from the root on, folders first; NULL: the end. */
struct rootfs_node *rootfs_tree_next(const struct rootfs_node *node);

/* Its path without a slash in front; false if `size` does not hold it. */
CC_MUST_CHECK bool rootfs_tree_path(
    const struct rootfs_node *node, char *ret_path, size_t size);

#endif
