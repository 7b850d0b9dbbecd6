/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writing of a snapshot into a store, all or nothing.
 *
 *     save_begin           .tmp-<id>, locked
 *     save_create_image    an image file; a page_writer fills it, and tells a
 *                          page_index_builder and page_hashes
 *     save_write_disk      map and hashes of a drive, whose images are written
 *     save_link_images     for a diff: the images of its parents
 *     save_write_memory    index and hashes of RAM
 *     save_write_manifest  for people
 *     save_commit          `state`, fsync, rename: from here on it exists
 *     save_abort           at any time before: nothing is left
 *
 * Whatever kills the process in between leaves a `.tmp-` directory that the
 * next store_clean removes, and nothing else. Without `sync` a crash of the
 * host (not of the process) may leave a snapshot that snap_open refuses.
 * Thread rule: one thread at a time.
 */
#ifndef SNAPSHOT_SAVE_H
#define SNAPSHOT_SAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/id.h"
#include "snapshot/manifest.h"
#include "snapshot/page_hashes.h"
#include "snapshot/page_index.h"
#include "snapshot/snap.h"
#include "snapshot/state_file.h"
#include "snapshot/store.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define SAVE_FILES_MAX 64u

struct save {
    struct store *store;
    struct snapshot_id id;
    bool sync;
    bool has_name;
    char name[SNAPSHOT_NAME_MAX + 1];
    int dir_fd;      /* -1: not begun, or over */
    bool is_trusted; /* nothing unverified was linked in */
    struct state_record records[SAVE_FILES_MAX];
    size_t record_count;
    struct page_image images[SAVE_FILES_MAX];
    int image_fds[SAVE_FILES_MAX]; /* duplicates, for the fsync */
    size_t image_count;
    struct page_image *disk_images; /* that save_write_disk was told of */
    uint32_t disk_image_count;
};

/*
 * Makes the directory of a new snapshot with a random id; removes what dead
 * savers left. `name` is NULL or a name that is free: -EEXIST tells early
 * what save_commit would refuse.
 */
CC_MUST_CHECK int save_begin(struct save *save, struct store *store,
    const char *name, bool sync, struct err *err);

/* Removes all of it; nothing to do after a commit. */
void save_abort(struct save *save);

/*
 * A new image file of image->pages pages, all holes, open for reading and
 * writing; the caller closes *ret_fd. Its pages are not recorded in `state`:
 * their hashes are.
 */
CC_MUST_CHECK int save_create_image(struct save *save,
    const struct page_image *image, int *ret_fd, struct err *err);

/*
 * After another process has filled an image through a copy of *fd: takes it
 * back. -EBUSY if that process could still write to it, -EBADMSG if the file
 * has another size. *fd is another descriptor then, and the only way to
 * change the file. Where a file system has no leases (NFS) that cannot be
 * told, and is logged.
 */
CC_MUST_CHECK int save_reclaim_image(struct save *save,
    const struct page_image *image, int *fd, struct err *err);

/* A small file with its record. */
CC_MUST_CHECK int save_write(struct save *save, const char *name,
    const void *data, size_t size, struct err *err);

/*
 * Map and hashes of drive `drive`, as save_write; the drives ascend. When its
 * image files are there and written.
 */
CC_MUST_CHECK int save_write_disk(struct save *save, uint32_t drive,
    const struct page_index *map, const struct page_hashes *hashes,
    struct err *err);

/*
 * index and hashes, as save_write. To be called when all image files are
 * there and written, and after the disks: it records them as verified, unless
 * a parent was not.
 */
CC_MUST_CHECK int save_write_memory(struct save *save,
    const struct page_index *index, const struct page_hashes *hashes,
    struct err *err);

CC_MUST_CHECK int save_write_manifest(
    struct save *save, const struct manifest *manifest, struct err *err);

/*
 * Links an image file of another snapshot in here, if it is not yet: 0, or
 * -errno. -EXDEV, -EPERM and -EMLINK are file systems and files that cannot
 * be linked; the line says what to do instead.
 */
CC_MUST_CHECK int save_link_image(struct save *save, int from_dir_fd,
    const struct page_image *image, struct err *err);

/* All image files of a parent that `index` refers to, but for file 0. */
CC_MUST_CHECK int save_link_images(struct save *save, const struct snap *parent,
    const struct page_index *index, struct err *err);

/*
 * Adds the records to `state`, writes it, and makes the snapshot appear. On
 * failure nothing has appeared, and save_abort is still to be called.
 */
CC_MUST_CHECK int save_commit(
    struct save *save, struct state_writer *state, struct err *err);

#endif
