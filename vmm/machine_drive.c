/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_drive.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/blk_overlay_clusters.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"

#define QUEUE_SIZE 256u

static struct blk_backend *backend_of(struct machine_drive_disk *disk)
{
    return disk->has_overlay ? &disk->overlay.overlay.backend
                             : &disk->file.backend;
}

/* What a snapshot calls the file: later there may be no way to ask. */
static int name_disk(
    struct machine_drive_disk *disk, const char *path, int fd, struct err *err)
{
    char found[PATH_MAX];
    bool is_found = fd < 0 && fd_link(disk->has_overlay ? disk->overlay.base.fd
                                                        : disk->file.fd,
                                  found, sizeof(found)) == 0;

    disk->path = strdup(is_found ? found : path);
    return disk->path == NULL ? err_sys(err, ENOMEM, "%s", path) : 0;
}

static void close_disk(struct machine_drive_disk *disk)
{
    if (disk->has_overlay)
        blk_overlay_file_close(&disk->overlay);
    else
        blk_file_close(&disk->file);
    free(disk->path);
    free(disk);
}

/* A copy of `fd`, or of the descriptor that the path is one of; or -1. */
static int copy_fd(
    const char *path, int fd, bool must_write, int *ret_fd, struct err *err)
{
    char own[sizeof(FD_PATH) + 11];

    if (fd < 0)
        return fd_from_path(path, must_write, ret_fd, err);
    (void)snprintf(own, sizeof(own), FD_PATH "%d", fd);
    return fd_from_path(own, must_write, ret_fd, err);
}

static int open_disk(const struct machine_drive *drive, const char *path,
    int fd, struct machine_drive_disk **ret_disk, struct err *err)
{
    const struct machine_drive_options *options = &drive->options;
    struct blk_file_config file = {.path = path,
        .fd = -1,
        .uring = drive->uring,
        .read_only = drive->config->is_read_only,
        .direct = options->direct};
    struct blk_overlay_file_config overlay = {.base_path = path,
        .base_fd = -1,
        .kind = options->overlay,
        .path = options->overlay_path,
        .uring = drive->uring,
        .direct = options->direct,
        .limit = options->overlay_limit};
    struct machine_drive_disk *disk = calloc(1, sizeof(*disk));
    const char *warning = NULL;
    int rc;

    if (disk == NULL)
        return err_sys(err, ENOMEM, "%s", path);
    rc = copy_fd(path, fd,
        !drive->config->is_read_only && !options->has_overlay, &file.fd, err);
    if (rc < 0) {
        free(disk);
        return rc;
    }
    overlay.base_fd = file.fd;
    disk->has_overlay = options->has_overlay;
    if (options->has_overlay)
        rc = blk_overlay_file_open(&disk->overlay, &overlay, &warning, err);
    else
        rc = blk_file_open(&disk->file, &file, &warning, err);
    if (rc < 0) {
        free(disk);
        return rc;
    }
    rc = name_disk(disk, path, fd, err);
    if (rc < 0) {
        close_disk(disk);
        return rc;
    }
    if (warning != NULL)
        log_warn("drive", "%s: %s", path, warning);
    *ret_disk = disk;
    return 0;
}

/* An overlay that stays keeps its map, whether the guest has flushed or not. */
static void save_disk(struct machine_drive *drive)
{
    struct blk_overlay *o = machine_drive_overlay(drive);
    int rc = o == NULL ? 0 : blk_overlay_sync(o);

    if (rc < 0)
        log_err("drive", "%s: what was written last may be lost: %s",
            drive->options.overlay_path, strerror(-rc));
}

int machine_drive_open(const struct config_drive *config,
    const struct machine_drive_options *options, struct uring *uring,
    const struct virtio_host *host, struct machine_drive **ret_drive,
    struct err *err)
{
    struct machine_drive *drive;
    struct blk_config blk = {.id = config->id,
        .serial = config->id,
        .queue_size = QUEUE_SIZE,
        .queue_count = (uint16_t)num_max(options->queues, 1),
        .rate = options->rate,
        .unsafe = !config->is_writeback};
    int rc;

    if (options->has_overlay && config->is_read_only)
        return err_set(err, EINVAL,
            "%s: a read-only drive has no use for an overlay", config->path);
    if (blk.queue_count > VIRTIO_QUEUES_MAX)
        return err_set(err, EINVAL, "%s: a drive has at most %d queues",
            config->path, VIRTIO_QUEUES_MAX);
    drive = calloc(1, sizeof(*drive));
    if (drive == NULL)
        return err_sys(err, ENOMEM, "%s", config->path);
    drive->config = config;
    drive->options = *options;
    drive->uring = config->engine == CONFIG_IO_SYNC ? NULL : uring;
    rc = open_disk(drive, config->path, -1, &drive->disk, err);
    if (rc < 0) {
        free(drive);
        return rc;
    }
    blk.backend = backend_of(drive->disk);
    rc = blk_init(&drive->blk, &blk, host, err);
    if (rc < 0) {
        close_disk(drive->disk);
        free(drive);
        return rc;
    }
    *ret_drive = drive;
    return 0;
}

int machine_drive_new(const struct config_drive *config, struct uring *uring,
    const struct virtio_host *host, struct machine_drive **ret_drive,
    struct err *err)
{
    const struct machine_drive_options options = {
        .has_overlay = config->overlay != CONFIG_OVERLAY_NONE,
        .overlay = config->overlay == CONFIG_OVERLAY_FILE ? BLK_OVERLAY_FILE
                                                          : BLK_OVERLAY_MEMORY,
        .overlay_path = config->overlay_path,
        .overlay_limit = config->max_growth,
        .queues = (uint16_t)config->queues,
        .rate = config->limits};

    return machine_drive_open(config, &options, uring, host, ret_drive, err);
}

int machine_drive_replace(
    struct machine_drive *drive, const char *path, int fd, struct err *err)
{
    struct device *dev = &drive->blk.virtio.base;
    struct machine_drive_disk *old = drive->disk;
    struct machine_drive_disk *disk;
    struct blk_backend *backend;
    int rc;

    if (drive->levels != NULL)
        return err_set(err, EBUSY,
            "%s: the machine is put back to levels of this disk (spore push): "
            "it cannot be another one",
            drive->config->path);
    if (drive->options.has_overlay &&
        drive->options.overlay == BLK_OVERLAY_FILE)
        return err_set(err, EINVAL,
            "%s: its overlay %s belongs to the image it was made over",
            drive->config->path, drive->options.overlay_path);
    /* It may be the same file, which must not find itself in use. */
    if (!old->has_overlay)
        fd_unlock(old->file.fd);
    rc = open_disk(drive, path, fd, &disk, err);
    if (rc == 0) {
        device_lock(dev);
        if (drive->is_pinned)
            rc = err_set(err, EBUSY,
                "%s: the machine is being saved: try again later",
                drive->config->path);
        else
            rc = blk_set_backend(&drive->blk, backend_of(disk), &backend, err);
        if (rc == 0) {
            drive->disk = disk;
            drive->saved = (struct snapshot_id){0};
        }
        device_unlock(dev);
        if (rc < 0)
            close_disk(disk);
    }
    if (rc < 0) {
        if (!old->has_overlay &&
            fd_lock(old->file.fd, !drive->config->is_read_only) < 0)
            log_warn(
                "drive", "%s: the lock on it is lost", drive->config->path);
        return rc;
    }
    close_disk(old);
    return 0;
}

int machine_drive_set_rate(struct machine_drive *drive,
    const struct rate_change *change, struct err *err)
{
    struct device *dev = &drive->blk.virtio.base;
    int rc;

    device_lock(dev);
    rc = blk_set_rate(&drive->blk, change, err);
    device_unlock(dev);
    return rc;
}

int machine_drive_fd(const struct machine_drive *drive)
{
    return drive->disk->has_overlay ? drive->disk->overlay.base.fd
                                    : drive->disk->file.fd;
}

struct blk_overlay *machine_drive_overlay(struct machine_drive *drive)
{
    return drive->disk->has_overlay ? &drive->disk->overlay.overlay : NULL;
}

void machine_drive_free(struct machine_drive *drive)
{
    struct device *dev;

    if (drive == NULL)
        return;
    /* A reset waits for what is in flight; the guest is gone. */
    dev = &drive->blk.virtio.base;
    device_lock(dev);
    dev->ops->reset(dev);
    save_disk(drive);
    device_unlock(dev);
    if (drive->levels != NULL)
        blk_levels_fini(drive->levels);
    free(drive->levels);
    blk_fini(&drive->blk);
    close_disk(drive->disk);
    free(drive);
}
