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
    return strcmp(name, PAGE_HASHES_FILE_NAME) == 0 ||
           strncmp(name, DISKS_HASHES_PREFIX, strlen(DISKS_HASHES_PREFIX)) == 0;
}

static bool is_index(const char *name)
{
    return strcmp(name, PAGE_INDEX_FILE_NAME) == 0 ||
           strncmp(name, DISKS_MAP_PREFIX, strlen(DISKS_MAP_PREFIX)) == 0;
}

static size_t size_max(const char *name)
{
    if (is_index(name))
        return PAGE_INDEX_SIZE_MAX;
    if (is_read_on_demand(name))
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

static int read_index(const struct snap *snap, const char *name,
    enum page_image_type type, struct page_index *index, struct err *err)
{
    uint8_t *data;
    size_t size;
    int rc = snap_read_file(snap, name, &data, &size, err);

    if (rc < 0)
        return rc;
    rc = page_index_decode(data, size, index, err);
    free(data);
    if (rc == 0 && index->files[0].type != type)
        rc = err_set(err, EBADMSG, "index: damaged: of something else");
    if (rc < 0 && type == PAGE_IMAGE_DISK)
        return err_wrap(err, rc, "%s", name);
    return rc;
}

/* The maps of disks: those that `state` has a record of. */
static int read_maps(struct snap *snap, struct err *err)
{
    for (uint32_t i = 0; i < DISKS_MAX; i++) {
        struct snap_disk *disk = &snap->disks[snap->disk_count];
        char name[SNAPSHOT_FILE_MAX + 1];
        int rc;

        disks_map_name(i, name);
        if (state_file_find_record(&snap->state, name) == NULL)
            continue;
        disk->drive = i;
        snap->disk_count++;
        rc = read_index(snap, name, PAGE_IMAGE_DISK, &disk->map, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The other files of `state`: read once to know that they are whole. */
static int check_files(const struct snap *snap, struct err *err)
{
    for (size_t i = 0; i < snap->state.record_count; i++) {
        const char *name = snap->state.records[i].name;
        uint8_t *data;
        size_t size;
        int rc;

        if (is_read_on_demand(name) || is_index(name))
            continue;
        rc = snap_read_file(snap, name, &data, &size, err);
        if (rc < 0)
            return rc;
        free(data);
    }
    return 0;
}

static int open_image(const struct snap *snap, const struct page_image *image,
    int *ret_fd, struct err *err)
{
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
    *ret_fd = fd;
    return 0;
}

static int open_images(const struct snap *snap, const struct page_index *index,
    int **ret_fds, struct err *err)
{
    int *fds = reallocarray(NULL, index->file_count, sizeof(*fds));
    int rc = 0;

    if (fds == NULL)
        return err_sys(err, ENOMEM, "snapshot");
    for (uint32_t i = 0; i < index->file_count; i++)
        fds[i] = -1;
    /* The snapshot's from here on, closed with it. */
    *ret_fds = fds;
    for (uint32_t i = 0; rc == 0 && i < index->file_count; i++)
        rc = open_image(snap, &index->files[i], &fds[i], err);
    return rc;
}

static int open_all_images(struct snap *snap, struct err *err)
{
    int rc = open_images(snap, &snap->index, &snap->image_fds, err);

    for (uint32_t i = 0; rc == 0 && i < snap->disk_count; i++)
        rc = open_images(
            snap, &snap->disks[i].map, &snap->disks[i].image_fds, err);
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
        rc = read_index(
            &snap, PAGE_INDEX_FILE_NAME, PAGE_IMAGE_MEM, &snap.index, err);
    if (rc == 0)
        rc = read_maps(&snap, err);
    if (rc == 0)
        rc = check_files(&snap, err);
    if (rc == 0)
        rc = open_all_images(&snap, err);
    if (rc < 0) {
        snap_close(&snap);
        snapshot_id_to_text(id, text);
        return err_wrap(err, rc, "snapshot %.12s", text);
    }
    *ret_snap = snap;
    return 0;
}

static void close_images(struct page_index *index, int *fds)
{
    for (uint32_t i = 0; fds != NULL && i < index->file_count; i++)
        fd_closep(&fds[i]);
    free(fds);
    page_index_fini(index);
}

void snap_close(struct snap *snap)
{
    close_images(&snap->index, snap->image_fds);
    for (uint32_t i = 0; i < snap->disk_count; i++)
        close_images(&snap->disks[i].map, snap->disks[i].image_fds);
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

static int read_hashes(const struct snap *snap, const char *name,
    const struct page_index *index, struct page_hashes *ret_hashes,
    struct err *err)
{
    uint8_t *data;
    size_t size;
    int rc = snap_read_file(snap, name, &data, &size, err);

    if (rc < 0)
        return rc;
    rc = page_hashes_decode(data, size, index, ret_hashes, err);
    free(data);
    return rc;
}

int snap_read_hashes(
    const struct snap *snap, struct page_hashes *ret_hashes, struct err *err)
{
    return read_hashes(
        snap, PAGE_HASHES_FILE_NAME, &snap->index, ret_hashes, err);
}

const struct snap_disk *snap_find_disk(const struct snap *snap, uint32_t drive)
{
    for (uint32_t i = 0; i < snap->disk_count; i++) {
        if (snap->disks[i].drive == drive)
            return &snap->disks[i];
    }
    return NULL;
}

int snap_read_disk_hashes(const struct snap *snap, const struct snap_disk *disk,
    struct page_hashes *ret_hashes, struct err *err)
{
    char name[SNAPSHOT_FILE_MAX + 1];
    int rc;

    disks_hashes_name(disk->drive, name);
    rc = read_hashes(snap, name, &disk->map, ret_hashes, err);
    return rc < 0 ? err_wrap(err, rc, "disk %u", disk->drive) : 0;
}

int snap_read_working_set(const struct snap *snap, struct working_set *ret_set)
{
    return working_set_load(snap->dir_fd, snap->index.pages, ret_set);
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
