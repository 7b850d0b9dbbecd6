/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/save.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/dirfile.h"
#include "snapshot/verify.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"

#define FILE_MODE 0600

/* Makes and locks `.tmp-<id>`; under the store's lock. */
static int make_directory(struct save *save, struct err *err)
{
    char name[STORE_DIR_NAME_SIZE];
    int rc;

    store_dir_name(&save->id, true, name);
    if (mkdirat(save->store->dir_fd, name, 0700) < 0)
        return err_sys(err, errno, "%s/%s", save->store->path, name);
    rc = store_open_dir(save->store, &save->id, true, &save->dir_fd, err);
    if (rc == 0 && flock(save->dir_fd, LOCK_EX | LOCK_NB) < 0)
        rc = err_sys(err, errno, "%s/%s: cannot lock", save->store->path, name);
    if (rc < 0) {
        fd_closep(&save->dir_fd);
        (void)unlinkat(save->store->dir_fd, name, AT_REMOVEDIR);
    }
    return rc;
}

static int check_name_is_free(
    const struct store *store, const char *name, struct err *err)
{
    struct snapshot_id id;
    int rc = snapshot_name_check(name, err);

    if (rc == 0 && store_find(store, name, &id, NULL) == 0)
        rc = err_set(err, EEXIST,
            "there is a snapshot '%s' in %s already: remove it (spore snapshot "
            "rm) or take another name",
            name, store->path);
    return rc;
}

int save_begin(struct save *save, struct store *store, const char *name,
    bool sync, struct err *err)
{
    CC_CLEANUP(fd_closep) int lock_fd = -1;
    int rc;

    *save = (struct save){
        .store = store, .sync = sync, .dir_fd = -1, .is_trusted = true};
    rc = store_clean(store, err);
    if (rc >= 0 && name != NULL)
        rc = check_name_is_free(store, name, err);
    if (rc >= 0)
        rc = snapshot_id_random(&save->id, err);
    if (rc >= 0)
        rc = store_lock(store, &lock_fd, err);
    if (rc >= 0)
        rc = make_directory(save, err);
    if (rc >= 0 && name != NULL) {
        save->has_name = true;
        (void)snprintf(save->name, sizeof(save->name), "%s", name);
    }
    return rc;
}

static void close_all(struct save *save)
{
    for (size_t i = 0; i < save->image_count; i++)
        fd_closep(&save->image_fds[i]);
    save->image_count = 0;
    free(save->disk_images);
    save->disk_images = NULL;
    save->disk_image_count = 0;
    fd_closep(&save->dir_fd);
}

void save_abort(struct save *save)
{
    if (save->dir_fd < 0)
        return;
    /* Ours until the lock is gone with its descriptor; then a left-over. */
    (void)store_remove_tmp(save->store, &save->id, save->dir_fd);
    close_all(save);
}

int save_create_image(struct save *save, const struct page_image *image,
    int *ret_fd, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    char name[SNAPSHOT_FILE_MAX + 1];
    int copy;

    page_image_name(image, name);
    if (save->image_count == SAVE_FILES_MAX)
        return err_set(err, E2BIG, "%s: too many image files", name);
    fd = openat(save->dir_fd, name,
        O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
    if (fd < 0)
        return err_sys(err, errno, "%s", name);
    if (ftruncate(fd, (off_t)(image->pages * NUM_PAGE_SIZE)) < 0)
        return err_sys(err, errno, "%s", name);
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0)
        return err_sys(err, errno, "%s", name);
    save->images[save->image_count] = *image;
    save->image_fds[save->image_count++] = copy;
    *ret_fd = fd_steal(&fd);
    return 0;
}

/*
 * A lease on a file that is open for reading is granted only while nobody has
 * it open, or mapped, for writing. Nobody else can open it anew: the folder is
 * this user's, and whoever was given a descriptor has no path to it.
 */
static int check_no_writer(
    const struct save *save, const char *name, struct err *err)
{
    CC_CLEANUP(fd_closep)
    int fd = openat(save->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, errno, "%s", name);
    if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
        (void)fcntl(fd, F_SETLEASE, F_UNLCK);
        return 0;
    }
    if (errno == EAGAIN)
        return err_set(err, EBUSY,
            "%s: the machine keeps it open, and could still change what it "
            "saved",
            name);
    log_warn("snapshot",
        "%s: the file system does not tell who else can write to it: %s", name,
        strerror(errno));
    return 0;
}

int save_reclaim_image(
    struct save *save, const struct page_image *image, int *fd, struct err *err)
{
    char name[SNAPSHOT_FILE_MAX + 1];
    struct stat st;
    size_t i = 0;
    int rc;

    while (!page_image_same(&save->images[i], image)) {
        i++;
        assert(i < save->image_count);
    }
    page_image_name(image, name);
    fd_closep(fd);
    fd_closep(&save->image_fds[i]);
    rc = check_no_writer(save, name, err);
    if (rc < 0)
        return rc;
    *fd = openat(save->dir_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0 || fstat(*fd, &st) < 0)
        return err_sys(err, errno, "%s", name);
    if ((uint64_t)st.st_size != image->pages * NUM_PAGE_SIZE)
        return err_set(err, EBADMSG, "%s: the machine changed its size", name);
    save->image_fds[i] = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
    return save->image_fds[i] < 0 ? err_sys(err, errno, "%s", name) : 0;
}

/* A new file with these bytes, on the disk already if that was asked for. */
static int write_file(struct save *save, const char *name, const void *data,
    size_t size, struct err *err)
{
    CC_CLEANUP(fd_closep)
    int fd = openat(save->dir_fd, name,
        O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
    int rc;

    if (fd < 0)
        return err_sys(err, errno, "%s", name);
    rc = fd_write_full(fd, data, size);
    if (rc == 0 && save->sync && fsync(fd) < 0)
        rc = -errno;
    return rc < 0 ? err_sys(err, rc, "%s", name) : 0;
}

int save_write(struct save *save, const char *name, const void *data,
    size_t size, struct err *err)
{
    struct state_record *record;
    int rc;

    assert(snapshot_file_name_is_valid(name));
    if (save->record_count == SAVE_FILES_MAX)
        return err_set(err, E2BIG, "%s: too many files", name);
    rc = write_file(save, name, data, size, err);
    if (rc < 0)
        return rc;
    record = &save->records[save->record_count++];
    *record =
        (struct state_record){.size = size, .hash = hash_bytes(data, size)};
    (void)snprintf(record->name, sizeof(record->name), "%s", name);
    return 0;
}

static int write_pages(struct save *save, const char *index_name,
    const char *hashes_name, const struct page_index *index,
    const struct page_hashes *hashes, struct err *err)
{
    uint8_t *data;
    size_t size;
    int rc = page_index_encode(index, &data, &size, err);

    if (rc == 0) {
        rc = save_write(save, index_name, data, size, err);
        free(data);
    }
    if (rc == 0)
        rc = page_hashes_encode(hashes, index, &data, &size, err);
    if (rc == 0) {
        rc = save_write(save, hashes_name, data, size, err);
        free(data);
    }
    return rc;
}

/* Appends the files of an index to the images of disks. */
static int note_images(
    struct save *save, const struct page_index *index, struct err *err)
{
    size_t count = (size_t)save->disk_image_count + index->file_count;
    struct page_image *bigger =
        reallocarray(save->disk_images, count, sizeof(*bigger));

    if (bigger == NULL)
        return err_sys(err, ENOMEM, "snapshot");
    memcpy(bigger + save->disk_image_count, index->files,
        index->file_count * sizeof(*bigger));
    save->disk_images = bigger;
    save->disk_image_count = (uint32_t)count;
    return 0;
}

int save_write_disk(struct save *save, uint32_t drive,
    const struct page_index *map, const struct page_hashes *hashes,
    struct err *err)
{
    char map_name[SNAPSHOT_FILE_MAX + 1];
    char hashes_name[SNAPSHOT_FILE_MAX + 1];
    int rc;

    assert(drive < DISKS_MAX && map->files[0].type == PAGE_IMAGE_DISK);
    disks_map_name(drive, map_name);
    disks_hashes_name(drive, hashes_name);
    rc = write_pages(save, map_name, hashes_name, map, hashes, err);
    return rc == 0 ? note_images(save, map, err) : rc;
}

static int record_verified(
    struct save *save, const struct page_index *index, struct err *err)
{
    uint32_t count = index->file_count + save->disk_image_count;
    struct page_image *images = reallocarray(NULL, count, sizeof(*images));
    int rc;

    if (images == NULL)
        return err_sys(err, ENOMEM, "snapshot");
    memcpy(images, index->files, index->file_count * sizeof(*images));
    if (save->disk_image_count > 0)
        memcpy(images + index->file_count, save->disk_images,
            save->disk_image_count * sizeof(*images));
    rc = verify_record_in(save->dir_fd, images, count, err);
    free(images);
    return rc;
}

int save_write_memory(struct save *save, const struct page_index *index,
    const struct page_hashes *hashes, struct err *err)
{
    int rc = write_pages(
        save, PAGE_INDEX_FILE_NAME, PAGE_HASHES_FILE_NAME, index, hashes, err);

    return rc == 0 && save->is_trusted ? record_verified(save, index, err) : rc;
}

int save_write_manifest(
    struct save *save, const struct manifest *manifest, struct err *err)
{
    char *text;
    int rc = manifest_encode(manifest, &text, err);

    if (rc == 0) {
        rc = save_write(save, MANIFEST_FILE_NAME, text, strlen(text), err);
        free(text);
    }
    return rc;
}

/* Its own save may have been one without syncs. */
static int sync_linked(
    const struct save *save, const char *name, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    uint64_t size;
    int rc = dirfile_open(save->dir_fd, name, &size, &fd);

    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    return rc < 0 ? err_sys(err, rc, "%s", name) : 0;
}

int save_link_image(struct save *save, int from_dir_fd,
    const struct page_image *image, struct err *err)
{
    char name[SNAPSHOT_FILE_MAX + 1];
    int code;

    page_image_name(image, name);
    if (linkat(from_dir_fd, name, save->dir_fd, name, 0) == 0)
        return save->sync ? sync_linked(save, name, err) : 0;
    code = errno;
    if (code == EEXIST)
        return 0;
    if (code == EXDEV || code == EPERM || code == EMLINK)
        return err_sys(err, code,
            "%s cannot be shared by a hard link in %s: save without a parent, "
            "or into the store of the parent",
            name, save->store->path);
    return err_sys(err, code, "%s: cannot link", name);
}

static bool has_image(
    const struct page_index *index, const struct page_image *image)
{
    for (uint32_t i = 0; i < index->file_count; i++) {
        if (page_image_same(image, &index->files[i]))
            return true;
    }
    return false;
}

static bool is_of(const struct snap *snap, const struct page_image *image)
{
    bool is_there = has_image(&snap->index, image);

    for (uint32_t i = 0; !is_there && i < snap->disk_count; i++)
        is_there = has_image(&snap->disks[i].map, image);
    return is_there;
}

int save_link_images(struct save *save, const struct snap *parent,
    const struct page_index *index, struct err *err)
{
    save->is_trusted = save->is_trusted && verify_is_trusted(parent);
    for (uint32_t i = 1; i < index->file_count; i++) {
        int rc;

        if (!is_of(parent, &index->files[i]))
            continue;
        rc = save_link_image(save, parent->dir_fd, &index->files[i], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int write_state(
    struct save *save, struct state_writer *state, struct err *err)
{
    uint8_t *data = NULL;
    size_t size = 0;
    int rc = 0;

    assert(snapshot_id_equal(&state->id, &save->id));
    for (size_t i = 0; rc == 0 && i < save->record_count; i++)
        rc = state_writer_add_record(state, &save->records[i], err);
    if (rc == 0)
        rc = state_writer_seal(state, &data, &size, err);
    if (rc == 0) {
        rc = write_file(save, STATE_FILE_NAME, data, size, err);
        free(data);
    }
    return rc;
}

static int sync_files(const struct save *save, struct err *err)
{
    for (size_t i = 0; i < save->image_count; i++) {
        if (fsync(save->image_fds[i]) < 0)
            return err_sys(err, errno, "image file: cannot sync");
    }
    if (fsync(save->dir_fd) < 0)
        return err_sys(err, errno, "snapshot: cannot sync");
    return 0;
}

/* The one step that makes the snapshot exist; under the store's lock. */
static int appear(struct save *save, struct err *err)
{
    const struct store *store = save->store;
    char name[STORE_DIR_NAME_SIZE];
    char tmp_name[STORE_DIR_NAME_SIZE];
    int rc = 0;

    store_dir_name(&save->id, false, name);
    store_dir_name(&save->id, true, tmp_name);
    if (save->has_name)
        rc = store_set_name(store, save->name, &save->id, err);
    if (rc < 0)
        return rc;
    if (renameat(store->dir_fd, tmp_name, store->dir_fd, name) < 0) {
        rc = err_sys(err, errno, "%s/%s", store->path, name);
        if (save->has_name)
            (void)unlinkat(store->dir_fd, save->name, 0);
        return rc;
    }
    if (save->sync && fsync(store->dir_fd) < 0) {
        /*
         * What is on the disk is unknown: back, so that a failed save is one
         * that is not there.
         */
        rc = err_sys(err, errno, "%s: cannot sync", store->path);
        if (renameat(store->dir_fd, name, store->dir_fd, tmp_name) < 0)
            return rc;
        if (save->has_name)
            (void)unlinkat(store->dir_fd, save->name, 0);
    }
    return rc;
}

int save_commit(struct save *save, struct state_writer *state, struct err *err)
{
    CC_CLEANUP(fd_closep) int lock_fd = -1;
    int rc = write_state(save, state, err);

    if (rc == 0 && save->sync)
        rc = sync_files(save, err);
    if (rc == 0)
        rc = store_lock(save->store, &lock_fd, err);
    if (rc == 0)
        rc = appear(save, err);
    if (rc == 0)
        close_all(save);
    return rc;
}
