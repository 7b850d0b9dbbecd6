/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/snap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "snapshot/dirfile.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"

/* Records of files that are not read at every opening. */
static bool is_read_on_demand(const char *name)
{
    return strcmp(name, PAGE_HASHES_FILE_NAME) == 0;
}

static size_t size_max(const char *name)
{
    if (strcmp(name, PAGE_INDEX_FILE_NAME) == 0)
        return PAGE_INDEX_SIZE_MAX;
    if (strcmp(name, PAGE_HASHES_FILE_NAME) == 0)
        return PAGE_HASHES_HEADER +
               PAGE_INDEX_PAGES_MAX * sizeof(struct hash128);
    if (strcmp(name, MANIFEST_FILE_NAME) == 0)
        return MANIFEST_SIZE_MAX;
    return SNAP_FILE_MAX;
}

int snap_read_file(const struct snap *snap, const char *name,
    uint8_t **ret_data, size_t *ret_size, struct err *err)
{
    const struct state_record *record =
        state_file_find_record(&snap->state, name);
    struct hash128 hash;
    uint8_t *data;
    size_t size;
    int rc;

    if (record == NULL)
        return err_set(err, ENOENT, "the snapshot has no file %s", name);
    if (record->size > size_max(name))
        return err_set(err, EBADMSG, "%s: damaged: too large", name);
    /* What is larger than it was is not even read. */
    rc = dirfile_read(snap->dir_fd, name, record->size, &data, &size, err);
    if (rc == -EFBIG)
        return err_set(
            err, EBADMSG, "%s: damaged: its size does not fit", name);
    if (rc < 0)
        return rc;
    hash = hash_bytes(data, size);
    if (size != record->size || !hash_equal(&hash, &record->hash)) {
        free(data);
        return err_set(err, EBADMSG, "%s: damaged: its %s does not fit", name,
            size != record->size ? "size" : "checksum");
    }
    *ret_data = data;
    *ret_size = size;
    return 0;
}

static int read_state(struct snap *snap, struct err *err)
{
    uint8_t *data;
    size_t size;
    int rc = dirfile_read(
        snap->dir_fd, STATE_FILE_NAME, STATE_FILE_SIZE_MAX, &data, &size, err);

    if (rc == 0)
        rc = state_file_decode(data, size, &snap->state, err);
    if (rc < 0)
        return rc;
    if (!snapshot_id_equal(&snap->state.id, &snap->id))
        return err_set(
            err, EBADMSG, "%s: it is of another snapshot", STATE_FILE_NAME);
    return 0;
}

static int read_index(struct snap *snap, struct err *err)
{
    uint8_t *data;
    size_t size;
    int rc = snap_read_file(snap, PAGE_INDEX_FILE_NAME, &data, &size, err);

    if (rc < 0)
        return rc;
    rc = page_index_decode(data, size, &snap->index, err);
    free(data);
    return rc;
}

/* The other files of `state`: read once to know that they are whole. */
static int check_files(const struct snap *snap, struct err *err)
{
    for (size_t i = 0; i < snap->state.record_count; i++) {
        const char *name = snap->state.records[i].name;
        uint8_t *data;
        size_t size;
        int rc;

        if (is_read_on_demand(name) || strcmp(name, PAGE_INDEX_FILE_NAME) == 0)
            continue;
        rc = snap_read_file(snap, name, &data, &size, err);
        if (rc < 0)
            return rc;
        free(data);
    }
    return 0;
}

static int open_image(const struct snap *snap, uint32_t file, struct err *err)
{
    const struct page_image *image = &snap->index.files[file];
    char name[SNAPSHOT_FILE_MAX + 1];
    uint64_t size;
    int fd;
    int rc;

    page_image_name(image, name);
    rc = dirfile_open(snap->dir_fd, name, &size, &fd);
    if (rc == -EMFILE)
        return err_set(err, EMFILE,
            "%u image files are more than this process may open: raise ulimit "
            "-n, or make one of them with spore snapshot flatten",
            snap->index.file_count);
    if (rc < 0)
        return err_sys(err, rc, "%s", name);
    if (size != image->pages * NUM_PAGE_SIZE) {
        (void)close(fd);
        return err_set(err, EBADMSG,
            "%s: damaged: %llu bytes where there must be %llu", name,
            (unsigned long long)size,
            (unsigned long long)(image->pages * NUM_PAGE_SIZE));
    }
    snap->image_fds[file] = fd;
    return 0;
}

static int open_images(struct snap *snap, struct err *err)
{
    int rc = 0;

    snap->image_fds =
        reallocarray(NULL, snap->index.file_count, sizeof(*snap->image_fds));
    if (snap->image_fds == NULL)
        return err_sys(err, ENOMEM, "snapshot");
    for (uint32_t i = 0; i < snap->index.file_count; i++)
        snap->image_fds[i] = -1;
    for (uint32_t i = 0; rc == 0 && i < snap->index.file_count; i++)
        rc = open_image(snap, i, err);
    return rc;
}

int snap_open(const struct store *store, const struct snapshot_id *id,
    struct snap *ret_snap, struct err *err)
{
    struct snap snap = {.dir_fd = -1, .id = *id};
    char text[SNAPSHOT_ID_TEXT_SIZE];
    int rc = store_open_dir(store, id, false, &snap.dir_fd, err);

    if (rc < 0)
        return rc;
    rc = read_state(&snap, err);
    if (rc == 0)
        rc = read_index(&snap, err);
    if (rc == 0)
        rc = check_files(&snap, err);
    if (rc == 0)
        rc = open_images(&snap, err);
    if (rc < 0) {
        snap_close(&snap);
        snapshot_id_to_text(id, text);
        return err_wrap(err, rc, "snapshot %.12s", text);
    }
    *ret_snap = snap;
    return 0;
}

void snap_close(struct snap *snap)
{
    for (uint32_t i = 0; snap->image_fds != NULL && i < snap->index.file_count;
         i++)
        fd_closep(&snap->image_fds[i]);
    free(snap->image_fds);
    page_index_fini(&snap->index);
    state_file_fini(&snap->state);
    fd_closep(&snap->dir_fd);
    *snap = (struct snap){.dir_fd = -1};
}

int snap_read_manifest(
    const struct snap *snap, struct manifest *ret_manifest, struct err *err)
{
    struct manifest manifest;
    uint8_t *data;
    size_t size;
    int rc = snap_read_file(snap, MANIFEST_FILE_NAME, &data, &size, err);

    if (rc < 0)
        return rc;
    rc = manifest_decode((const char *)data, size, &manifest, err);
    free(data);
    if (rc < 0)
        return rc;
    if (!snapshot_id_equal(&manifest.id, &snap->id))
        return err_set(
            err, EBADMSG, "%s: it is of another snapshot", MANIFEST_FILE_NAME);
    *ret_manifest = manifest;
    return 0;
}

int snap_read_hashes(
    const struct snap *snap, struct page_hashes *ret_hashes, struct err *err)
{
    uint8_t *data;
    size_t size;
    int rc = snap_read_file(snap, PAGE_HASHES_FILE_NAME, &data, &size, err);

    if (rc < 0)
        return rc;
    rc = page_hashes_decode(data, size, &snap->index, ret_hashes, err);
    free(data);
    return rc;
}

int snap_read_working_set(const struct snap *snap, struct working_set *ret_set)
{
    struct err err;
    uint8_t *data;
    size_t size;
    int rc = dirfile_read(snap->dir_fd, WORKING_SET_FILE_NAME,
        WORKING_SET_SIZE_MAX, &data, &size, &err);

    if (rc == -ENOENT)
        return rc;
    if (rc == 0) {
        rc = working_set_decode(data, size, snap->index.pages, ret_set, &err);
        free(data);
    }
    if (rc < 0) {
        log_warn("snapshot", "%s: not used", err.text);
        return -ENOENT;
    }
    return 0;
}

int snap_write_working_set(
    const struct snap *snap, const struct working_set *set, struct err *err)
{
    uint8_t *data;
    size_t size;
    int rc = working_set_encode(set, &data, &size, err);

    if (rc < 0)
        return rc;
    rc = dirfile_replace(snap->dir_fd, WORKING_SET_FILE_NAME, data, size, err);
    free(data);
    return rc;
}

int snap_mark_used(const struct snap *snap, struct err *err)
{
    CC_CLEANUP(fd_closep)
    int fd = openat(snap->dir_fd, SNAP_USED_FILE_NAME,
        O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd >= 0)
        return 0;
    if (errno == EEXIST)
        return err_set(err, EEXIST, "the snapshot has been restored before");
    return err_sys(err, errno, SNAP_USED_FILE_NAME);
}
