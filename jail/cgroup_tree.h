/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folder of one cgroup in one hierarchy, and those above it that had to be
 * made for it.
 *
 * Several processes may make and remove cgroups below the same parent at the
 * same time. Folders above that we make carry a mark, an extended attribute;
 * whoever leaves last removes what has the mark. Who finds that a folder went
 * away between finding it and using it begins again. The folder itself has the
 * mark too, and is locked for as long as its maker lives: a marked one that
 * nobody has locked was left behind. Who wants the same name removes it and
 * makes it anew; and where it was not left on purpose, which the mark says,
 * others that come by remove it. What others made is never removed.
 *
 * Owns its descriptors. Thread rule: one thread.
 */
#ifndef JAIL_CGROUP_TREE_H
#define JAIL_CGROUP_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* Of a path below the mount, and of a name. */
#define CGROUP_PATH_MAX 1024u
#define CGROUP_NAME_MAX 128u

struct cgroup_tree {
    int root;    /* the mount */
    int fd;      /* the cgroup's own folder */
    size_t made; /* where in `above` folders without a mark are ours */
    char above[CGROUP_PATH_MAX]; /* of the folder above, from the mount */
    char name[CGROUP_NAME_MAX];
};

#define CGROUP_TREE_NONE ((struct cgroup_tree){.root = -1, .fd = -1})

/*
 * Called for each folder on the way down, from the mount on, before one in it
 * is opened or made; `path` is the folder's. 0 or -errno with the error set.
 */
typedef int (*cgroup_tree_visit)(
    void *opaque, int fd, const char *path, struct err *err);

/* Whether a name may be given to a cgroup: [A-Za-z0-9_.-]+, no '.' ahead. */
CC_MUST_CHECK bool cgroup_name_is_valid(const char *name);

/*
 * Makes `name` below `above` (a path below `root`, "" for the root itself),
 * and what is missing of that. Takes `root` on success only. -EEXIST if there
 * is one of that name which is in use.
 */
CC_MUST_CHECK int cgroup_tree_make(int root, const char *above,
    const char *name, cgroup_tree_visit visit, void *opaque,
    struct cgroup_tree *ret_tree, struct err *err);

/*
 * Removes the folder, which must be empty, and the marked ones above that
 * nobody uses: 0, or -errno of the folder itself. Releases nothing.
 */
CC_MUST_CHECK int cgroup_tree_remove(struct cgroup_tree *tree);

/* The folder is to stay when its maker ends, until its name is used again. */
void cgroup_tree_leave(const struct cgroup_tree *tree);

/*
 * Removes folders beside this one whose makers were killed, if nothing is in
 * them: how many. Looks at the first 256 only, so that one with very many
 * machines in it makes nobody slow.
 */
size_t cgroup_tree_sweep(const struct cgroup_tree *tree);

/* Closes the descriptors; the folder stays. */
void cgroup_tree_close(struct cgroup_tree *tree);

#endif
