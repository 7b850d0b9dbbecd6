/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the cgroup hierarchies of this host are: the one of version 2, and
 * those of version 1, each with the controllers that are bound to it.
 *
 * A controller is in one hierarchy only, and a host may have both versions at
 * a time. All of it is what /proc/self/cgroup and /proc/self/mountinfo say:
 * both are the kernel's, but hold names that others chose, and are parsed as
 * hostile. Thread rule: one thread.
 */
#ifndef JAIL_CGROUP_PLACES_H
#define JAIL_CGROUP_PLACES_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* The kernel has 14 controllers. */
#define CGROUP_HIERARCHY_MAX 24u

struct cgroup_hierarchy {
    bool is_v2;
    bool is_read_only; /* as mounted at `mount` */
    char *controllers; /* version 1: "cpu,cpuacct"; "" for version 2 */
    char *own;         /* where this process is, from the hierarchy's root */
    char *mount;       /* a folder where it is mounted; NULL: nowhere */
    char *mount_root;  /* which of its cgroups is at `mount` */
};

struct cgroup_places {
    size_t count;
    struct cgroup_hierarchy list[CGROUP_HIERARCHY_MAX];
};

/*
 * From the texts of the two files. -EINVAL if one is not as the kernel writes
 * it, -ENOMEM. Lines beyond the largest number of hierarchies are not looked
 * at. To be released with cgroup_places_fini.
 */
CC_MUST_CHECK int cgroup_places_parse(const char *own_text,
    const char *mounts_text, struct cgroup_places *ret_places, struct err *err);

/* The same of the calling process. */
CC_MUST_CHECK int cgroup_places_read(
    struct cgroup_places *ret_places, struct err *err);

void cgroup_places_fini(struct cgroup_places *places);

/*
 * The hierarchy of a controller by its name in version 1 ("memory", "blkio"),
 * or NULL if no hierarchy of version 1 has it.
 */
const struct cgroup_hierarchy *cgroup_places_find_v1(
    const struct cgroup_places *places, const char *controller);

/* The hierarchy of version 2, or NULL. */
const struct cgroup_hierarchy *cgroup_places_find_v2(
    const struct cgroup_places *places);

/*
 * How the cgroup `path` (absolute, from the hierarchy's root; NULL: where this
 * process is) is called below h->mount, "" for the mount itself; the result
 * lies within `path` or `h`. -ENOENT if the hierarchy is mounted nowhere, or
 * not with that part of it.
 */
CC_MUST_CHECK int cgroup_places_locate(const struct cgroup_hierarchy *h,
    const char *path, const char **ret_below, struct err *err);

/* Whether a comma-separated list has a name in it. */
CC_MUST_CHECK bool cgroup_list_has(
    const char *list, char separator, const char *name);

#endif
