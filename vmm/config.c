/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/num.h"

#define MEM_DEFAULT (128 * NUM_MIB)
#define CID_DEFAULT 3u

void config_init(struct config *config)
{
    *config = (struct config){
        .mem_bytes = MEM_DEFAULT,
        .vcpus = 1,
        .discovery = CONFIG_DISCOVERY_ACPI,
        .has_agent = true,
        .guest_cid = CID_DEFAULT,
        .mmds = {.address = CONFIG_MMDS_ADDRESS},
    };
}

void config_fini(struct config *config)
{
    config_clear_drives(config);
    config_clear_pmems(config);
    config_clear_nets(config);
    free(config->kernel);
    free(config->initrd);
    free(config->boot_args);
    free(config->vsock_path);
    free(config->cpu_template);
    free(config->cpu_modifiers);
    *config = (struct config){0};
}

static bool copy_modifiers(
    const struct cpu_modifiers *from, struct cpu_modifiers **ret_copy)
{
    if (from == NULL)
        return true;
    *ret_copy = malloc(sizeof(**ret_copy));
    if (*ret_copy == NULL)
        return false;
    **ret_copy = *from;
    return true;
}

/* A copy that is NULL where the original is; false without memory. */
static bool copy_string(const char *from, char **ret_copy)
{
    char *copy = NULL;

    if (from != NULL) {
        copy = strdup(from);
        if (copy == NULL)
            return false;
    }
    *ret_copy = copy;
    return true;
}

int config_set_string(char **at, const char *value, struct err *err)
{
    char *copy = strdup(value);

    if (copy == NULL)
        return err_sys(err, ENOMEM, "description");
    free(*at);
    *at = copy;
    return 0;
}

bool config_has_generation(const struct config *config)
{
    /* It is found through ACPI, and in no other way. */
    return config->discovery == CONFIG_DISCOVERY_ACPI;
}

bool config_has_vsock(const struct config *config)
{
    return config->has_agent || config->has_vsock || config->vsock_path != NULL;
}

static int copy_lists(
    const struct config *from, struct config *copy, struct err *err)
{
    int rc = 0;

    /* A root drive is in front already. */
    for (uint32_t i = 0; rc == 0 && i < from->drive_count; i++)
        rc = config_add_drive(copy, &from->drives[i], err);
    for (uint32_t i = 0; rc == 0 && i < from->pmem_count; i++)
        rc = config_add_pmem(copy, &from->pmems[i], err);
    for (uint32_t i = 0; rc == 0 && i < from->net_count; i++)
        rc = config_add_net(copy, &from->nets[i], err);
    return rc;
}

int config_copy(
    const struct config *from, struct config *ret_config, struct err *err)
{
    struct config copy = *from;
    bool good;
    int rc;

    copy.kernel = NULL;
    copy.initrd = NULL;
    copy.boot_args = NULL;
    copy.vsock_path = NULL;
    copy.cpu_template = NULL;
    copy.cpu_modifiers = NULL;
    copy.drive_count = 0;
    copy.pmem_count = 0;
    copy.net_count = 0;
    good = copy_string(from->kernel, &copy.kernel) &&
           copy_string(from->initrd, &copy.initrd) &&
           copy_string(from->boot_args, &copy.boot_args) &&
           copy_string(from->vsock_path, &copy.vsock_path) &&
           copy_string(from->cpu_template, &copy.cpu_template) &&
           copy_modifiers(from->cpu_modifiers, &copy.cpu_modifiers);
    rc = good ? copy_lists(from, &copy, err)
              : err_sys(err, ENOMEM, "description");
    if (rc < 0) {
        config_fini(&copy);
        return rc;
    }
    *ret_config = copy;
    return 0;
}

struct config_drive config_drive_default(void)
{
    /* Unlike Firecracker's: flushes are dropped only when asked for. */
    return (struct config_drive){.is_writeback = true, .queues = 1};
}

void config_drive_fini(struct config_drive *drive)
{
    free(drive->id);
    free(drive->path);
    free(drive->partuuid);
    free(drive->overlay_path);
    *drive = (struct config_drive){0};
}

void config_clear_drives(struct config *config)
{
    for (uint32_t i = 0; i < config->drive_count; i++)
        config_drive_fini(&config->drives[i]);
    config->drive_count = 0;
}

static void move_to_front(struct config_drive *drives, uint32_t index)
{
    struct config_drive moved = drives[index];

    memmove(&drives[1], &drives[0], index * sizeof(drives[0]));
    drives[0] = moved;
}

int config_add_drive(
    struct config *config, const struct config_drive *drive, struct err *err)
{
    struct config_drive *added;

    assert(drive->id != NULL && drive->path != NULL);
    if (config->drive_count >= CONFIG_DRIVES_MAX)
        return err_set(err, EINVAL, "more than %u drives", CONFIG_DRIVES_MAX);
    added = &config->drives[config->drive_count];
    *added = *drive;
    added->id = NULL;
    added->path = NULL;
    added->partuuid = NULL;
    added->overlay_path = NULL;
    if (!copy_string(drive->id, &added->id) ||
        !copy_string(drive->path, &added->path) ||
        !copy_string(drive->partuuid, &added->partuuid) ||
        !copy_string(drive->overlay_path, &added->overlay_path)) {
        config_drive_fini(added);
        return err_sys(err, ENOMEM, "drive");
    }
    if (drive->is_root)
        move_to_front(config->drives, config->drive_count);
    config->drive_count++;
    return 0;
}

void config_pmem_fini(struct config_pmem *pmem)
{
    free(pmem->id);
    free(pmem->path);
    *pmem = (struct config_pmem){0};
}

void config_clear_pmems(struct config *config)
{
    for (uint32_t i = 0; i < config->pmem_count; i++)
        config_pmem_fini(&config->pmems[i]);
    config->pmem_count = 0;
}

int config_add_pmem(
    struct config *config, const struct config_pmem *pmem, struct err *err)
{
    struct config_pmem *added;

    assert(pmem->id != NULL && pmem->path != NULL);
    if (config->pmem_count >= CONFIG_PMEMS_MAX)
        return err_set(
            err, EINVAL, "more than %u persistent memories", CONFIG_PMEMS_MAX);
    added = &config->pmems[config->pmem_count];
    *added = *pmem;
    added->id = NULL;
    added->path = NULL;
    if (!copy_string(pmem->id, &added->id) ||
        !copy_string(pmem->path, &added->path)) {
        config_pmem_fini(added);
        return err_sys(err, ENOMEM, "persistent memory");
    }
    config->pmem_count++;
    return 0;
}

bool config_has_root(const struct config *config)
{
    for (uint32_t i = 0; i < config->drive_count; i++) {
        if (config->drives[i].is_root)
            return true;
    }
    for (uint32_t i = 0; i < config->pmem_count; i++) {
        if (config->pmems[i].is_root)
            return true;
    }
    return false;
}

bool config_has_writable_file(const struct config *config)
{
    for (uint32_t i = 0; i < config->drive_count; i++) {
        if (!config->drives[i].is_read_only)
            return true;
    }
    for (uint32_t i = 0; i < config->pmem_count; i++) {
        if (!config->pmems[i].is_read_only)
            return true;
    }
    return false;
}

struct config_net config_net_default(void)
{
    return (struct config_net){.backend = CONFIG_NET_TAP, .fd = -1};
}

void config_net_fini(struct config_net *net)
{
    free(net->id);
    free(net->target);
    *net = (struct config_net){.fd = -1};
}

void config_clear_nets(struct config *config)
{
    for (uint32_t i = 0; i < config->net_count; i++)
        config_net_fini(&config->nets[i]);
    config->net_count = 0;
}

int config_add_net(
    struct config *config, const struct config_net *net, struct err *err)
{
    struct config_net *added;

    assert(net->id != NULL);
    if (config->net_count >= CONFIG_NETS_MAX)
        return err_set(
            err, EINVAL, "more than %u network interfaces", CONFIG_NETS_MAX);
    added = &config->nets[config->net_count];
    *added = *net;
    added->id = NULL;
    added->target = NULL;
    if (!copy_string(net->id, &added->id) ||
        !copy_string(net->target, &added->target)) {
        config_net_fini(added);
        return err_sys(err, ENOMEM, "network interface");
    }
    config->net_count++;
    return 0;
}

bool config_has_mmds(const struct config *config)
{
    for (uint32_t i = 0; i < config->net_count; i++) {
        if (config->nets[i].has_mmds)
            return true;
    }
    return false;
}

bool config_is_link_local(uint32_t address)
{
    uint32_t block = address >> 8 & 255;

    return address >> 16 == 0xa9fe && block != 0 && block != 255;
}

const struct config_net *config_addressed_net(const struct config *config)
{
    for (uint32_t i = 0; i < config->net_count; i++) {
        if (config->nets[i].prefix != 0)
            return &config->nets[i];
    }
    return NULL;
}
