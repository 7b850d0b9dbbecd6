/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store: a directory of snapshots. `<id>/` is a whole snapshot, `.tmp-<id>/`
 * one that is being written or removed, and a symbolic link `<name>` to
 * `<id>` is the name that a person gave it.
 *
 * Whoever works in a `.tmp-` directory holds a flock on it, so that what the
 * dead left behind is recognised and removed (store_clean; saves, rm and ls
 * do that too). Names and the coming and going of directories are changed
 * under a flock of the store itself, held for a few system calls. A snapshot
 * never changes once it has its name `<id>`, except for its hints
 * (`working-set`, `verified`), which are replaced whole, and a mark (`used`).
 *
 * What is found in a store is hostile: directories and regular files only,
 * opened relative to their directory without following links. Thread rule:
 * any number of processes; a struct store may be shared by threads.
 */
#ifndef SNAPSHOT_STORE_H
#define SNAPSHOT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/id.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define STORE_TMP_PREFIX ".tmp-"

struct store {
    int dir_fd;
    char *path; /* for messages */
};

/*
 * $XDG_DATA_HOME/spore/snapshots, else ~/.local/share/spore/snapshots. The
 * caller frees *ret_path. -EINVAL without a home.
 */
CC_MUST_CHECK int store_default_path(char **ret_path, struct err *err);

/*
 * Opens the directory; `path` NULL is the default one. With `create` it and
 * its parents are made where they are missing (0700), else -ENOENT.
 */
CC_MUST_CHECK int store_open(
    struct store *store, const char *path, bool create, struct err *err);
void store_close(struct store *store);

/*
 * What a person calls a snapshot: its name, its id, or the first four digits
 * or more of an id that no other one begins with. -ENOENT, -ENOTUNIQ, or
 * -errno; it is not checked that the snapshot can be loaded.
 */
CC_MUST_CHECK int store_find(const struct store *store, const char *ref,
    struct snapshot_id *ret_id, struct err *err);

struct store_entry {
    struct snapshot_id id;
    char name[SNAPSHOT_NAME_MAX + 1]; /* empty: none */
};

/* All snapshots, by id; the caller frees *ret_entries. */
CC_MUST_CHECK int store_list(const struct store *store,
    struct store_entry **ret_entries, size_t *ret_count, struct err *err);

/*
 * Removes a snapshot and its names. Others that share image files with it
 * keep them, and so do guests that run from it. -ENOENT if there is none.
 */
CC_MUST_CHECK int store_remove(
    struct store *store, const struct snapshot_id *id, struct err *err);

/*
 * Removes what dead savers and removers left: the number of directories, or
 * -errno. Left-overs that cannot be removed are logged, and are no error.
 */
int store_clean(struct store *store, struct err *err);

/* ---- for the other files of snapshot/ ---- */

/* The store's lock, released by closing *ret_fd. */
CC_MUST_CHECK int store_lock(
    const struct store *store, int *ret_fd, struct err *err);

/* A snapshot's directory, or `.tmp-<id>` with `tmp`; -ENOENT and so on. */
CC_MUST_CHECK int store_open_dir(const struct store *store,
    const struct snapshot_id *id, bool tmp, int *ret_fd, struct err *err);

/* The names of directories in a store. */
#define STORE_DIR_NAME_SIZE (sizeof(STORE_TMP_PREFIX) + SNAPSHOT_ID_DIGITS)
void store_dir_name(
    const struct snapshot_id *id, bool tmp, char ret_name[STORE_DIR_NAME_SIZE]);

/*
 * Removes `.tmp-<id>` and what is in it, whose lock the caller holds through
 * dir_fd. 0 or -errno: then it is a left-over once the lock is gone.
 */
int store_remove_tmp(
    const struct store *store, const struct snapshot_id *id, int dir_fd);

/* Gives `name` to `id`, which is about to appear; under the lock. -EEXIST. */
CC_MUST_CHECK int store_set_name(const struct store *store, const char *name,
    const struct snapshot_id *id, struct err *err);

#endif
