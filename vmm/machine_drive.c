/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_drive.h"

#include <errno.h>
#include <stdlib.h>

#include "vmm/base/log.h"

#define QUEUE_SIZE 256u

static bool rate_is_set(const struct rate_config *limits)
{
    return limits->bytes.size != 0 || limits->ops.size != 0;
}

int machine_drive_new(const struct config_drive *config, struct uring *uring,
    const struct virtio_host *host, struct machine_drive **ret_drive,
    struct err *err)
{
    struct machine_drive *drive;
    struct blk_file_config file = {.path = config->path,
        .fd = -1,
        .uring = config->engine == CONFIG_IO_SYNC ? NULL : uring,
        .read_only = config->is_read_only};
    struct blk_config blk = {.id = config->id,
        .serial = config->id,
        .queue_size = QUEUE_SIZE,
        .queue_count = 1,
        .unsafe = !config->is_writeback};
    const char *warning = NULL;
    int rc;

    if (config->overlay != CONFIG_OVERLAY_NONE || config->queues > 1 ||
        rate_is_set(&config->limits))
        return err_set(err, ENOTSUP,
            "%s: overlays, queues and rate limits are not supported yet",
            config->path);
    drive = calloc(1, sizeof(*drive));
    if (drive == NULL)
        return err_sys(err, ENOMEM, "%s", config->path);
    rc = blk_file_open(&drive->file, &file, &warning, err);
    if (rc < 0) {
        free(drive);
        return rc;
    }
    if (warning != NULL)
        log_warn("drive", "%s: %s", config->path, warning);
    blk.backend = &drive->file.backend;
    rc = blk_init(&drive->blk, &blk, host, err);
    if (rc < 0) {
        blk_file_close(&drive->file);
        free(drive);
        return rc;
    }
    *ret_drive = drive;
    return 0;
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
    device_unlock(dev);
    blk_fini(&drive->blk);
    blk_file_close(&drive->file);
    free(drive);
}
