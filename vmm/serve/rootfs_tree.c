/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/rootfs_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/num.h"
#include "vmm/serve/rootfs_nodes.h"

/* As Linux: links that are followed on the way to one name. */
#define LINKS_MAX 40u

#define WHITEOUT       ".wh."
#define WHITEOUT_INNER ".wh..wh."     /* what a union file system notes */
#define WHITEOUT_ALL   ".wh..wh..opq" /* all that lower layers have here */

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

static int too_many(struct err *err)
{
    return err_set(
        err, E2BIG, "more than %u files and folders", ROOTFS_TREE_ENTRIES_MAX);
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
    if (tree->inode_count >= ROOTFS_TREE_ENTRIES_MAX)
        return too_many(err);
    inode = rootfs_nodes_make_dir(tree);
    n = inode == NULL ? NULL : rootfs_nodes_add(tree, w->at, name, size, inode);
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
    n = rootfs_nodes_find(tree, w->at, name, size);
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
        n = rootfs_nodes_find(tree, n, name, strlen(name));
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
    struct rootfs_node *n = rootfs_nodes_find(tree, dir, name, strlen(name));

    if (n != NULL)
        rootfs_nodes_prune(tree, n, n->layer < tree->layer);
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
        rootfs_nodes_prune(tree, dir, false);
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
        name[0] == '\0' ? dir
                        : rootfs_nodes_find(tree, dir, name, strlen(name));
    struct rootfs_node *n;

    if (old != NULL && is_dir(old) && S_ISDIR(inode->mode)) {
        take_dir(tree, old, inode);
        return 0;
    }
    if (name[0] == '\0')
        return err_set(err, EINVAL, "the root is no folder");
    if (old != NULL)
        rootfs_nodes_prune(tree, old, true);
    n = rootfs_nodes_add(tree, dir, name, strlen(name), inode);
    return n == NULL ? err_sys(err, ENOMEM, "%s", name) : 0;
}

/* Takes what an inode has besides itself off what the tree may have. */
static int count_text(
    struct rootfs_tree *tree, const struct rootfs_inode *inode, struct err *err)
{
    uint64_t bytes = inode->target == NULL ? 0 : strlen(inode->target);

    for (uint32_t i = 0; i < inode->xattr_count; i++)
        bytes += inode->xattrs[i].size + strlen(inode->xattrs[i].name);
    if (!num_range_within(tree->text_bytes, bytes, ROOTFS_TREE_TEXT_MAX))
        return err_set(err, E2BIG,
            "links and extended attributes of more than %llu MiB",
            (unsigned long long)(ROOTFS_TREE_TEXT_MAX / NUM_MIB));
    tree->text_bytes += bytes;
    return 0;
}

static int add(struct rootfs_tree *tree, const char *dir_path, const char *name,
    const struct rootfs_inode *inode, struct err *err)
{
    struct rootfs_node *dir = NULL;
    struct rootfs_inode *own;
    int rc = check_name(name, strlen(name), err);

    if (tree->inode_count >= ROOTFS_TREE_ENTRIES_MAX)
        return too_many(err);
    if (rc == 0)
        rc = count_text(tree, inode, err);
    if (rc < 0)
        return rc;
    own = rootfs_nodes_take_inode(tree, inode);
    if (own == NULL ||
        (S_ISREG(inode->mode) && !rootfs_nodes_note_file(tree, own)))
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
        return too_many(err);
    if (rc == 0 &&
        (is_whiteout(tree, name) || is_below_whiteout(tree, dir_path)))
        return 0;
    if (rc == 0)
        rc = walk(tree, tree, dir_path, &dir, err);
    if (rc < 0)
        return rc;
    /* Another name of the same file; by itself it is there already. */
    if (name[0] != '\0' &&
        rootfs_nodes_find(tree, dir, name, strlen(name)) == there)
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
