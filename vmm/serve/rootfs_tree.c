/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/rootfs_tree.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "vmm/base/num.h"

/* As Linux: links that are followed on the way to one name. */
#define LINKS_MAX 40u

#define BUCKETS_FIRST 1024u

#define WHITEOUT       ".wh."
#define WHITEOUT_INNER ".wh..wh."     /* what a union file system notes */
#define WHITEOUT_ALL   ".wh..wh..opq" /* all that lower layers have here */

/* ---- nodes by name ------------------------------------------------------- */

static uint64_t hash_of(const struct rootfs_tree *tree,
    const struct rootfs_node *parent, const char *name, size_t size)
{
    return XXH3_64bits_withSeed(
        name, size, tree->seed ^ (uint64_t)(uintptr_t)parent);
}

static struct rootfs_node *find_child(const struct rootfs_tree *tree,
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

static struct rootfs_node *make_node(struct rootfs_tree *tree,
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

/*
 * Removes what lower layers have below `top`; `all` of it whichever layer it
 * is of, and `top` itself.
 */
static void prune(struct rootfs_tree *tree, struct rootfs_node *top, bool all)
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

/* A copy that the tree has. */
static struct rootfs_inode *take_inode(
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

/* Folders that no archive says anything of. */
static struct rootfs_inode *make_dir_inode(struct rootfs_tree *tree)
{
    const struct rootfs_inode dir = {.mode = S_IFDIR | 0755};

    return take_inode(tree, &dir);
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
    inode = tree->buckets == NULL ? NULL : make_dir_inode(tree);
    if (inode != NULL)
        tree->root = make_node(tree, NULL, "", 0, inode);
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

void rootfs_tree_begin_layer(struct rootfs_tree *tree)
{
    tree->layer++;
}

/* ---- paths --------------------------------------------------------------- */

/* Where a walk is, and what is left to walk: `rest` of it, and of links. */
struct walk {
    struct rootfs_node *at;
    char *rest; /* owned, with what links have put in front of it */
    uint32_t links;
    bool creates; /* folders that are missing; counts them as touched */
};

static bool is_dots(const char *name, size_t size)
{
    return size > 0 && size <= 2 && name[0] == '.' && name[size - 1] == '.';
}

/* What stands before the last name; *ret_name is that, without slashes. */
static int split(
    const char *path, char **ret_dir, char **ret_name, struct err *err)
{
    size_t end = strlen(path);
    size_t from;

    if (end > ROOTFS_TREE_PATH_MAX)
        return err_set(err, ENAMETOOLONG, "%.60s...: too long", path);
    while (end > 0 &&
           (path[end - 1] == '/' ||
               (path[end - 1] == '.' && (end == 1 || path[end - 2] == '/'))))
        end--;
    from = end;
    while (from > 0 && path[from - 1] != '/')
        from--;
    *ret_dir = strndup(path, from);
    *ret_name = strndup(path + from, end - from);
    if (*ret_dir != NULL && *ret_name != NULL)
        return 0;
    free(*ret_dir);
    free(*ret_name);
    return err_sys(err, ENOMEM, "%s", path);
}

/* Goes on at a link's target, which is in front of what was left. */
static int follow(struct walk *w, const struct rootfs_node *link,
    const char *left, struct err *err)
{
    const char *target = link->inode->target;
    size_t size = strlen(target);
    char *rest;

    if (++w->links > LINKS_MAX || size + strlen(left) > ROOTFS_TREE_PATH_MAX)
        return err_set(err, ELOOP, "%s: too many links on the way", link->name);
    rest = malloc(size + strlen(left) + 2);
    if (rest == NULL)
        return err_sys(err, ENOMEM, "%s", link->name);
    memcpy(rest, target, size);
    rest[size] = '/';
    memcpy(rest + size + 1, left, strlen(left) + 1);
    free(w->rest);
    w->rest = rest;
    /* A relative one begins where the link is: w->at already. */
    return 0;
}

static bool is_whiteout(const struct rootfs_tree *tree, const char *name)
{
    return tree->whiteouts && strncmp(name, WHITEOUT, strlen(WHITEOUT)) == 0;
}

static int enter_new(struct rootfs_tree *tree, struct walk *w, const char *name,
    size_t size, struct err *err)
{
    struct rootfs_inode *inode;
    struct rootfs_node *n;

    if (is_whiteout(tree, name))
        return err_set(err, EINVAL, "a link leads to a whiteout");
    inode = make_dir_inode(tree);
    n = inode == NULL ? NULL : make_node(tree, w->at, name, size, inode);
    if (n == NULL)
        return err_sys(err, ENOMEM, "%.*s", (int)size, name);
    w->at = n;
    return 0;
}

static int check_name(const char *name, size_t size, struct err *err)
{
    if (size == 2 && is_dots(name, size))
        return err_set(err, EINVAL, "a path has \"..\" in it");
    if (size > ROOTFS_TREE_NAME_MAX)
        return err_set(err, ENAMETOOLONG, "%.60s...: a name too long", name);
    return 0;
}

static bool is_dir(const struct rootfs_node *n)
{
    return S_ISDIR(n->inode->mode);
}

/* One name further, which ends at `left`. 1: a link leads elsewhere. */
static int step(const struct rootfs_tree *tree, struct rootfs_tree *grows,
    struct walk *w, size_t size, const char *left, struct err *err)
{
    const char *name = left - size;
    struct rootfs_node *n;

    if (size == 0 || (size == 1 && name[0] == '.'))
        return 0;
    if (is_dots(name, size)) {
        /* Only links get here. */
        if (w->at->parent != NULL)
            w->at = w->at->parent;
        return 0;
    }
    n = find_child(tree, w->at, name, size);
    if (n == NULL)
        return grows == NULL ? -ENOENT : enter_new(grows, w, name, size, err);
    if (S_ISLNK(n->inode->mode)) {
        if (n->inode->target[0] == '/')
            w->at = tree->root;
        return follow(w, n, left, err) < 0 ? -ELOOP : 1;
    }
    if (!is_dir(n))
        return err_set(
            err, ENOTDIR, "%s: a file where a folder must be", n->name);
    w->at = n;
    if (grows != NULL)
        n->layer = tree->layer;
    return 0;
}

/* Walks to the folder `dir`, which is made where it is missing if `grows`. */
static int walk(const struct rootfs_tree *tree, struct rootfs_tree *grows,
    const char *dir, struct rootfs_node **ret_node, struct err *err)
{
    struct walk w = {.at = tree->root, .rest = strdup(dir)};
    const char *at = w.rest;
    int rc = w.rest == NULL ? err_sys(err, ENOMEM, "%s", dir) : 0;

    while (rc == 0 && *at != '\0') {
        size_t size = strcspn(at, "/");

        /* What an archive says may not go up; what a link says may. */
        if (w.links == 0)
            rc = check_name(at, size, err);
        else if (size > ROOTFS_TREE_NAME_MAX)
            rc = err_set(err, ENAMETOOLONG, "%.60s...: a name too long", at);
        at += size;
        if (rc == 0)
            rc = step(tree, grows, &w, size, at, err);
        if (rc == 1) {
            at = w.rest;
            rc = 0;
        } else if (*at == '/') {
            at++;
        }
    }
    free(w.rest);
    if (rc == 0)
        *ret_node = w.at;
    return rc;
}

struct rootfs_node *rootfs_tree_find(
    const struct rootfs_tree *tree, const char *path)
{
    struct rootfs_node *n = NULL;
    char *dir;
    char *name;

    if (split(path, &dir, &name, NULL) < 0)
        return NULL;
    if (walk(tree, NULL, dir, &n, NULL) < 0)
        n = NULL;
    else if (name[0] != '\0' && check_name(name, strlen(name), NULL) == 0)
        n = find_child(tree, n, name, strlen(name));
    else if (name[0] != '\0')
        n = NULL;
    free(dir);
    free(name);
    return n;
}

/* ---- adding -------------------------------------------------------------- */

static void hide(
    struct rootfs_tree *tree, struct rootfs_node *dir, const char *name)
{
    struct rootfs_node *n = find_child(tree, dir, name, strlen(name));

    if (n != NULL)
        prune(tree, n, n->layer < tree->layer);
}

/* What is below such a name is a union file system's own, and left out. */
static bool is_below_whiteout(const struct rootfs_tree *tree, const char *dir)
{
    for (const char *part = dir; *part != '\0';) {
        if (is_whiteout(tree, part))
            return true;
        part += strcspn(part, "/");
        part += strspn(part, "/");
    }
    return false;
}

/* True if the name is no file's but says what is hidden. */
static bool do_whiteout(
    struct rootfs_tree *tree, struct rootfs_node *dir, const char *name)
{
    if (!is_whiteout(tree, name))
        return false;
    if (strcmp(name, WHITEOUT_ALL) == 0)
        prune(tree, dir, false);
    else if (strncmp(name, WHITEOUT_INNER, strlen(WHITEOUT_INNER)) != 0)
        hide(tree, dir, name + strlen(WHITEOUT));
    return true;
}

/* The folder's own entry, over what is known of it. */
static void take_dir(
    struct rootfs_tree *tree, struct rootfs_node *n, struct rootfs_inode *inode)
{
    n->inode->names = NULL;
    n->inode = inode;
    inode->names = n;
    n->layer = tree->layer;
}

/* Puts `inode` there in the place of whatever there is. */
static int place(struct rootfs_tree *tree, struct rootfs_node *dir,
    const char *name, struct rootfs_inode *inode, struct err *err)
{
    struct rootfs_node *old =
        name[0] == '\0' ? dir : find_child(tree, dir, name, strlen(name));
    struct rootfs_node *n;

    if (old != NULL && is_dir(old) && S_ISDIR(inode->mode)) {
        take_dir(tree, old, inode);
        return 0;
    }
    if (name[0] == '\0')
        return err_set(err, EINVAL, "the root is no folder");
    if (old != NULL)
        prune(tree, old, true);
    n = make_node(tree, dir, name, strlen(name), inode);
    return n == NULL ? err_sys(err, ENOMEM, "%s", name) : 0;
}

static int add(struct rootfs_tree *tree, const char *dir_path, const char *name,
    const struct rootfs_inode *inode, struct err *err)
{
    struct rootfs_node *dir = NULL;
    struct rootfs_inode *own;
    int rc = check_name(name, strlen(name), err);

    if (tree->inode_count >= ROOTFS_TREE_ENTRIES_MAX)
        return err_set(err, E2BIG, "more than %u files and folders",
            ROOTFS_TREE_ENTRIES_MAX);
    if (rc < 0)
        return rc;
    own = take_inode(tree, inode);
    if (own == NULL ||
        (S_ISREG(inode->mode) &&
            !append(&tree->files, &tree->file_count, &tree->file_room, own)))
        return err_sys(err, ENOMEM, "%s", name);
    if (is_below_whiteout(tree, dir_path))
        return 0;
    rc = walk(tree, tree, dir_path, &dir, err);
    if (rc < 0)
        return rc;
    if (do_whiteout(tree, dir, name))
        return 0;
    return place(tree, dir, name, own, err);
}

int rootfs_tree_add(struct rootfs_tree *tree, const char *path,
    const struct rootfs_inode *inode, struct err *err)
{
    char *dir;
    char *name;
    int rc = split(path, &dir, &name, err);

    if (rc < 0)
        return rc;
    rc = add(tree, dir, name, inode, err);
    free(dir);
    free(name);
    return rc;
}

static int link_to(struct rootfs_tree *tree, const char *dir_path,
    const char *name, const struct rootfs_node *there, struct err *err)
{
    struct rootfs_inode *inode = there->inode;
    struct rootfs_node *dir = NULL;
    int rc = check_name(name, strlen(name), err);

    if (tree->node_count >= ROOTFS_TREE_ENTRIES_MAX)
        return err_set(err, E2BIG, "more than %u files and folders",
            ROOTFS_TREE_ENTRIES_MAX);
    if (rc == 0 &&
        (is_whiteout(tree, name) || is_below_whiteout(tree, dir_path)))
        return 0;
    if (rc == 0)
        rc = walk(tree, tree, dir_path, &dir, err);
    if (rc < 0)
        return rc;
    /* Another name of the same file; by itself it is there already. */
    if (name[0] != '\0' && find_child(tree, dir, name, strlen(name)) == there)
        return 0;
    return place(tree, dir, name, inode, err);
}

int rootfs_tree_link(struct rootfs_tree *tree, const char *path,
    const char *target, struct err *err)
{
    const struct rootfs_node *there = rootfs_tree_find(tree, target);
    char *dir;
    char *name;
    int rc;

    if (there == NULL || is_dir(there))
        return err_set(
            err, EINVAL, "%.200s: a link to no file: %.100s", path, target);
    rc = split(path, &dir, &name, err);
    if (rc < 0)
        return rc;
    rc = link_to(tree, dir, name, there, err);
    free(dir);
    free(name);
    return rc;
}

/* ---- looking ------------------------------------------------------------- */

struct rootfs_node *rootfs_tree_next(const struct rootfs_node *n)
{
    if (n->first != NULL)
        return n->first;
    while (n->parent != NULL && n->next == NULL)
        n = n->parent;
    return n->parent == NULL ? NULL : n->next;
}

bool rootfs_tree_path(
    const struct rootfs_node *node, char *ret_path, size_t size)
{
    size_t at = size;

    if (size == 0)
        return false;
    ret_path[--at] = '\0';
    for (; node->parent != NULL; node = node->parent) {
        size_t len = strlen(node->name);

        if (at < len + (node->parent->parent != NULL ? 1 : 0))
            return false;
        at -= len;
        memcpy(ret_path + at, node->name, len);
        if (node->parent->parent != NULL)
            ret_path[--at] = '/';
    }
    memmove(ret_path, ret_path + at, size - at);
    return true;
}
