/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/rootfs_nodes.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <xxhash.h>

#define BUCKETS_FIRST 1024u

/* ---- nodes by name ------------------------------------------------------- */

static uint64_t hash_of(const struct rootfs_tree *tree,
    const struct rootfs_node *parent, const char *name, size_t size)
{
    return XXH3_64bits_withSeed(
        name, size, tree->seed ^ (uint64_t)(uintptr_t)parent);
}

struct rootfs_node *rootfs_nodes_find(const struct rootfs_tree *tree,
    const struct rootfs_node *parent, const char *name, size_t size)
{
    uint64_t hash = hash_of(tree, parent, name, size);
    struct rootfs_node *n = tree->buckets[hash & (tree->bucket_count - 1)];

    for (; n != NULL; n = n->next_hash) {
        if (n->hash == hash && n->parent == parent &&
            strncmp(n->name, name, size) == 0 && n->name[size] == '\0')
            return n;
    }
    return NULL;
}

static void put_into_bucket(struct rootfs_tree *tree, struct rootfs_node *n)
{
    struct rootfs_node **bucket =
        &tree->buckets[n->hash & (tree->bucket_count - 1)];

    n->next_hash = *bucket;
    *bucket = n;
}

/* Few nodes share a bucket; a table that cannot grow is only slower. */
static void grow_buckets(struct rootfs_tree *tree)
{
    struct rootfs_node **old = tree->buckets;
    size_t count = tree->bucket_count;
    struct rootfs_node **buckets;

    if (tree->node_count < count)
        return;
    buckets = calloc(count * 2, sizeof(*buckets));
    if (buckets == NULL)
        return;
    tree->buckets = buckets;
    tree->bucket_count = count * 2;
    for (size_t i = 0; i < count; i++) {
        struct rootfs_node *next;

        for (struct rootfs_node *n = old[i]; n != NULL; n = next) {
            next = n->next_hash;
            put_into_bucket(tree, n);
        }
    }
    free(old);
}

struct rootfs_node *rootfs_nodes_add(struct rootfs_tree *tree,
    struct rootfs_node *parent, const char *name, size_t size,
    struct rootfs_inode *inode)
{
    struct rootfs_node *n = calloc(1, sizeof(*n) + size + 1);

    if (n == NULL)
        return NULL;
    memcpy(n->name, name, size);
    n->parent = parent;
    n->layer = tree->layer;
    n->inode = inode;
    n->next_name = inode->names;
    inode->names = n;
    if (parent == NULL)
        return n;
    n->next = parent->first;
    if (n->next != NULL)
        n->next->prev = n;
    parent->first = n;
    n->hash = hash_of(tree, parent, name, size);
    grow_buckets(tree);
    put_into_bucket(tree, n);
    tree->node_count++;
    return n;
}

/* One without children. */
static void remove_node(struct rootfs_tree *tree, struct rootfs_node *n)
{
    struct rootfs_node **at =
        &tree->buckets[n->hash & (tree->bucket_count - 1)];

    assert(n->first == NULL && n->parent != NULL);
    while (*at != n)
        at = &(*at)->next_hash;
    *at = n->next_hash;
    at = &n->inode->names;
    while (*at != n)
        at = &(*at)->next_name;
    *at = n->next_name;
    if (n->prev != NULL)
        n->prev->next = n->next;
    else
        n->parent->first = n->next;
    if (n->next != NULL)
        n->next->prev = n->prev;
    tree->node_count--;
    free(n);
}

static struct rootfs_node *deepest(struct rootfs_node *n)
{
    while (n->first != NULL)
        n = n->first;
    return n;
}

void rootfs_nodes_prune(
    struct rootfs_tree *tree, struct rootfs_node *top, bool all)
{
    struct rootfs_node *n = deepest(top);

    /* What is in a folder comes before that, so none has to be kept in mind. */
    while (n != top) {
        struct rootfs_node *next =
            n->next != NULL ? deepest(n->next) : n->parent;

        if (n->first == NULL && (all || n->layer < tree->layer))
            remove_node(tree, n);
        n = next;
    }
    if (all)
        remove_node(tree, top);
}

/* ---- inodes -------------------------------------------------------------- */

static void free_inode(struct rootfs_inode *inode)
{
    for (uint32_t i = 0; i < inode->xattr_count; i++) {
        free(inode->xattrs[i].name);
        free(inode->xattrs[i].value);
    }
    free(inode->xattrs);
    free(inode->target);
    free(inode);
}

static bool append(struct rootfs_inode ***list, size_t *count, size_t *room,
    struct rootfs_inode *inode)
{
    if (*count == *room) {
        size_t more = *room == 0 ? 256 : *room * 2;
        struct rootfs_inode **grown = reallocarray(*list, more, sizeof(*grown));

        if (grown == NULL)
            return false;
        *list = grown;
        *room = more;
    }
    (*list)[(*count)++] = inode;
    return true;
}

static bool copy_xattrs(
    const struct rootfs_inode *from, struct rootfs_inode *to)
{
    if (from->xattr_count == 0)
        return true;
    to->xattrs = calloc(from->xattr_count, sizeof(*to->xattrs));
    if (to->xattrs == NULL)
        return false;
    for (; to->xattr_count < from->xattr_count; to->xattr_count++) {
        const struct rootfs_xattr *x = &from->xattrs[to->xattr_count];
        struct rootfs_xattr *y = &to->xattrs[to->xattr_count];

        y->name = strdup(x->name);
        y->value = malloc(x->size + 1);
        y->size = x->size;
        if (y->name == NULL || y->value == NULL) {
            free(y->name);
            free(y->value);
            return false;
        }
        memcpy(y->value, x->value, x->size);
    }
    return true;
}

struct rootfs_inode *rootfs_nodes_take_inode(
    struct rootfs_tree *tree, const struct rootfs_inode *from)
{
    struct rootfs_inode *inode = calloc(1, sizeof(*inode));

    if (inode == NULL)
        return NULL;
    *inode = *from;
    inode->target = NULL;
    inode->xattrs = NULL;
    inode->xattr_count = 0;
    inode->names = NULL;
    if (from->target != NULL)
        inode->target = strdup(from->target);
    if ((from->target != NULL && inode->target == NULL) ||
        !copy_xattrs(from, inode) ||
        !append(&tree->inodes, &tree->inode_count, &tree->inode_room, inode)) {
        free_inode(inode);
        return NULL;
    }
    return inode;
}

struct rootfs_inode *rootfs_nodes_make_dir(struct rootfs_tree *tree)
{
    const struct rootfs_inode dir = {.mode = S_IFDIR | 0755};

    return rootfs_nodes_take_inode(tree, &dir);
}

bool rootfs_nodes_note_file(
    struct rootfs_tree *tree, struct rootfs_inode *inode)
{
    return append(&tree->files, &tree->file_count, &tree->file_room, inode);
}

int rootfs_tree_init(struct rootfs_tree *tree, bool whiteouts, struct err *err)
{
    struct rootfs_inode *inode;

    *tree = (struct rootfs_tree){.whiteouts = whiteouts};
    if (getrandom(&tree->seed, sizeof(tree->seed), 0) !=
        (ssize_t)sizeof(tree->seed))
        return err_sys(err, errno, "random numbers");
    tree->buckets = calloc(BUCKETS_FIRST, sizeof(*tree->buckets));
    tree->bucket_count = BUCKETS_FIRST;
    inode = tree->buckets == NULL ? NULL : rootfs_nodes_make_dir(tree);
    if (inode != NULL)
        tree->root = rootfs_nodes_add(tree, NULL, "", 0, inode);
    if (tree->root == NULL) {
        rootfs_tree_fini(tree);
        return err_sys(err, ENOMEM, "root file system");
    }
    return 0;
}

void rootfs_tree_fini(struct rootfs_tree *tree)
{
    for (size_t i = 0; i < tree->bucket_count && tree->buckets != NULL; i++) {
        struct rootfs_node *next;

        for (struct rootfs_node *n = tree->buckets[i]; n != NULL; n = next) {
            next = n->next_hash;
            free(n);
        }
    }
    for (size_t i = 0; i < tree->inode_count; i++)
        free_inode(tree->inodes[i]);
    free(tree->root);
    free(tree->buckets);
    free(tree->inodes);
    free(tree->files);
    *tree = (struct rootfs_tree){0};
}
