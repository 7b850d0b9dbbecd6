/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_drive_restore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/blk_overlay_clusters.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/config_paths.h"
#include "vmm/machine_drive_save.h"

/* Copied at a time into an overlay's file. */
#define COPY_CLUSTERS UINT64_C(256)

/* ---- the description ----------------------------------------------------- */

static int restore_path(struct config_drive *drive,
    const struct disk_record *record, struct err *err)
{
    /* What had no path then has none by which it could be found now. */
    int rc = config_paths_is_descriptor(drive->path)
                 ? 0
                 : config_set_string(&drive->path, record->path, err);

    if (rc < 0)
        return rc;
    if (drive->overlay != CONFIG_OVERLAY_FILE)
        return 0;
    log_info("drive",
        "%s: what is written goes into memory: %s is the saved machine's",
        drive->id, drive->overlay_path);
    drive->overlay = CONFIG_OVERLAY_MEMORY;
    free(drive->overlay_path);
    drive->overlay_path = NULL;
    return 0;
}

static int check_count(
    const struct disks *disks, const struct config *config, struct err *err)
{
    if (disks->count == config->drive_count)
        return 0;
    return err_set(err, EBADMSG,
        "section %s: of %u disks, and the machine has %u", DISKS_SECTION,
        disks->count, config->drive_count);
}

int machine_drive_restore_config(
    const struct snap *snap, struct config *config, struct err *err)
{
    const struct state_section *section =
        state_file_find(&snap->state, DISKS_SECTION);
    struct disks disks;
    int rc;

    if (section == NULL)
        return 0;
    rc = disks_decode(section, &disks, err);
    if (rc < 0)
        return rc;
    rc = check_count(&disks, config, err);
    for (uint32_t i = 0; rc == 0 && i < disks.count; i++)
        rc = restore_path(&config->drives[i], &disks.records[i], err);
    disks_fini(&disks);
    return rc;
}

/* ---- the file ------------------------------------------------------------ */

static int check_file(const struct machine_drive *drive,
    const struct disk_record *was, struct err *err)
{
    const char *id = drive->config->id;
    const char *path = drive->config->path;
    const char *cure = was->kind == DISK_FILE && !drive->config->is_read_only
                           ? " (a drive with an overlay is saved whole)"
                           : "";
    struct disk_record is;
    int rc = machine_drive_note_file(drive, &is, err);

    if (rc < 0)
        return err_wrap(err, rc, "drive %s", id);
    free(is.path);
    if (is.bytes != was->bytes)
        return err_set(err, ESTALE,
            "drive %s: %s has %llu bytes and had %llu when the machine was "
            "saved: bring it back as it was, or --allow-changed-disks%s",
            id, path, (unsigned long long)is.bytes,
            (unsigned long long)was->bytes, cure);
    /* Whoever named another file knows that it is one. */
    if (drive->config->is_other)
        return 0;
    if (is.mtime_s != was->mtime_s || is.mtime_ns != was->mtime_ns)
        return err_set(err, ESTALE,
            "drive %s: %s was written to since the machine was saved: bring "
            "it back as it was (touch -d @%llu.%09u if it is), or "
            "--allow-changed-disks%s",
            id, path, (unsigned long long)was->mtime_s, was->mtime_ns, cure);
    return 0;
}

/* ---- what was written ---------------------------------------------------- */

static int put_under(
    struct machine_drive *drive, const struct snap_disk *disk, struct err *err)
{
    const struct page_index *map = &disk->map;
    struct blk_below_run *runs = calloc(map->extent_count, sizeof(*runs));

    if (runs == NULL)
        return err_sys(err, ENOMEM, "disk of a snapshot");
    for (size_t i = 0; i < map->extent_count; i++) {
        const struct page_extent *e = &map->extents[i];

        runs[i] = (struct blk_below_run){
            .first = e->page, .count = e->count, .state = BLK_CLUSTER_BASE};
        if (e->kind == PAGE_ZERO)
            runs[i].state = BLK_CLUSTER_ZERO;
        if (e->kind != PAGE_DATA)
            continue;
        runs[i].state = BLK_CLUSTER_DATA;
        runs[i].file = e->file;
        runs[i].at = e->file_page;
    }
    return blk_overlay_file_set_below(&drive->disk->overlay, runs,
        map->extent_count, disk->image_fds, map->file_count, err);
}

static int copy_extent(struct blk_overlay *o, const struct snap_disk *disk,
    const struct page_extent *e, uint8_t *buffer, struct err *err)
{
    if (e->kind == PAGE_ZERO)
        return blk_overlay_put(o, e->page, e->count, BLK_CLUSTER_ZERO, NULL);
    for (uint64_t done = 0; e->kind == PAGE_DATA && done < e->count;) {
        uint64_t n = num_min(e->count - done, COPY_CLUSTERS);
        ssize_t got = fd_pread_full(disk->image_fds[e->file], buffer,
            n * BLK_CLUSTER, (e->file_page + done) * BLK_CLUSTER);
        int rc = got < 0 ? (int)got : 0;

        if (rc == 0 && got != (ssize_t)(n * BLK_CLUSTER))
            return err_set(err, EBADMSG, "disk image: damaged: cut short");
        if (rc == 0)
            rc =
                blk_overlay_put(o, e->page + done, n, BLK_CLUSTER_DATA, buffer);
        if (rc < 0)
            return err_sys(err, rc, "a copy of what the snapshot has");
        done += n;
    }
    return 0;
}

static int copy_into(
    struct machine_drive *drive, const struct snap_disk *disk, struct err *err)
{
    struct blk_overlay *o = machine_drive_overlay(drive);
    enum blk_cluster_state state;
    uint64_t first;
    uint64_t count;
    uint8_t *buffer;
    int rc = 0;

    if (blk_map_next_used(&o->map, 0, &first, &count, &state))
        return err_set(err, EEXIST,
            "%s: holds a disk already, and what the snapshot has would go over "
            "it: name a new file",
            drive->options.overlay_path);
    buffer = malloc(COPY_CLUSTERS * BLK_CLUSTER);
    if (buffer == NULL)
        return err_sys(err, ENOMEM, "disk of a snapshot");
    for (size_t i = 0; rc == 0 && i < disk->map.extent_count; i++)
        rc = copy_extent(o, disk, &disk->map.extents[i], buffer, err);
    free(buffer);
    if (rc < 0)
        return rc;
    rc = blk_overlay_sync(o);
    return rc < 0 ? err_sys(err, rc, "%s", drive->options.overlay_path) : 0;
}

static int restore_overlay(
    struct machine_drive *drive, const struct snap_disk *disk, struct err *err)
{
    const struct blk_overlay *o = machine_drive_overlay(drive);

    if (o == NULL)
        return err_set(err, EINVAL,
            "the snapshot has what was written over %s: it needs an overlay",
            drive->config->path);
    if (disk->map.pages != o->map.clusters)
        return err_set(err, EINVAL,
            "%s has %llu clusters, and the snapshot's disk %llu",
            drive->config->path, (unsigned long long)o->map.clusters,
            (unsigned long long)disk->map.pages);
    if (drive->options.overlay == BLK_OVERLAY_FILE)
        return copy_into(drive, disk, err);
    return put_under(drive, disk, err);
}

int machine_drive_restore(struct machine_drive *drive,
    const struct disk_record *record, const struct snap_disk *disk,
    const struct snapshot_id *id, bool allow_changed, struct err *err)
{
    struct device *dev = &drive->blk.virtio.base;
    int rc = allow_changed ? 0 : check_file(drive, record, err);

    if (rc < 0)
        return rc;
    if ((record->kind == DISK_OVERLAY) != (disk != NULL))
        return err_set(err, EBADMSG,
            "drive %s: section %s and the files of the snapshot do not fit",
            drive->config->id, DISKS_SECTION);
    if (disk == NULL)
        return 0;
    device_lock(dev);
    rc = restore_overlay(drive, disk, err);
    if (rc == 0)
        drive->saved = *id;
    device_unlock(dev);
    return rc < 0 ? err_wrap(err, rc, "drive %s", drive->config->id) : 0;
}

int machine_drive_restore_all(
    struct machine *m, struct snap *snap, bool allow_changed, struct err *err)
{
    const struct state_section *section =
        state_file_take(&snap->state, DISKS_SECTION);
    struct disks disks;
    int rc;

    if (section == NULL)
        return 0;
    rc = disks_decode(section, &disks, err);
    if (rc < 0)
        return rc;
    rc = check_count(&disks, m->config, err);
    for (uint32_t i = 0; rc == 0 && i < disks.count; i++)
        rc = machine_drive_restore(m->drives[i], &disks.records[i],
            snap_find_disk(snap, i), &snap->id, allow_changed, err);
    disks_fini(&disks);
    return rc;
}
