/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_drive_reset.h"

#include <errno.h>
#include <stdlib.h>

#include "virtio/blk_levels.h"

static int on_push(void *opaque, struct err *err)
{
    struct machine_drive *drive = opaque;
    struct device *dev = &drive->blk.virtio.base;
    int rc;

    device_lock(dev);
    rc = blk_levels_push(drive->levels, err);
    device_unlock(dev);
    return rc < 0 ? err_wrap(err, rc, "drive %s", drive->config->id) : 0;
}

static int on_reset(void *opaque, struct err *err)
{
    struct machine_drive *drive = opaque;
    struct device *dev = &drive->blk.virtio.base;
    int rc;

    device_lock(dev);
    rc = blk_levels_reset(drive->levels, drive->levels->count - 1, err);
    device_unlock(dev);
    return rc < 0 ? err_wrap(err, rc, "drive %s", drive->config->id) : 0;
}

static void on_pop(void *opaque)
{
    struct machine_drive *drive = opaque;
    struct device *dev = &drive->blk.virtio.base;

    device_lock(dev);
    blk_levels_pop(drive->levels);
    device_unlock(dev);
}

static const struct reset_disk_ops drive_ops = {
    .push = on_push, .reset = on_reset, .pop = on_pop};

static int make_levels(struct machine_drive *drive, struct err *err)
{
    int rc;

    if (drive->levels != NULL)
        return 0;
    drive->levels = calloc(1, sizeof(*drive->levels));
    if (drive->levels == NULL)
        return err_sys(err, ENOMEM, "disk levels");
    rc = blk_levels_init(drive->levels, machine_drive_overlay(drive), err);
    if (rc < 0) {
        free(drive->levels);
        drive->levels = NULL;
    }
    return rc;
}

static int check_pmems(const struct config *config, struct err *err)
{
    for (uint32_t i = 0; i < config->pmem_count; i++) {
        if (!config->pmems[i].is_read_only)
            return err_set(err, ENOTSUP,
                "pmem %s: the guest writes to %s itself, which does not go "
                "back with it: make it read-only",
                config->pmems[i].id, config->pmems[i].path);
    }
    return 0;
}

int machine_drive_reset_disks(struct machine *m,
    struct reset_disk ret_disks[RESET_DISKS_MAX], uint32_t *ret_count,
    struct err *err)
{
    uint32_t count = 0;
    int rc = check_pmems(m->config, err);

    for (uint32_t i = 0; rc == 0 && i < m->config->drive_count; i++) {
        const struct config_drive *config = &m->config->drives[i];

        if (config->is_read_only)
            continue;
        if (machine_drive_overlay(m->drives[i]) == NULL)
            return err_set(err, ENOTSUP,
                "drive %s: the guest writes to %s itself, which does not go "
                "back with it: give the drive an overlay, or make it "
                "read-only",
                config->id, config->path);
        rc = make_levels(m->drives[i], err);
        if (rc == 0)
            ret_disks[count++] =
                (struct reset_disk){.ops = &drive_ops, .opaque = m->drives[i]};
    }
    if (rc == 0)
        *ret_count = count;
    return rc;
}
