/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/num.h"
#include "vmm/core/gmem.h"
#include "vmm/hw/layout.h"

#define MEM_DEFAULT (128 * NUM_MIB)

/* Bytes without the NUL: PATH_MAX, and the guest's command-line page. */
#define PATH_BYTES_MAX 4095u
#define ARGS_BYTES_MAX (LAYOUT_CMDLINE_MAX - 1)

/* VIRTIO 1.2, 5.10.4: 0 to 2 and 2^32 - 1 are reserved. */
#define CID_MIN 3u
#define CID_MAX (UINT32_MAX - 1)

_Static_assert(
    CONFIG_VCPUS_MAX <= LAYOUT_VCPUS_MAX, "the layout has room for every vCPU");

void config_init(struct config *config)
{
    *config = (struct config){
        .mem_bytes = MEM_DEFAULT,
        .vcpus = 1,
        .discovery = CONFIG_DISCOVERY_ACPI,
        .has_agent = true,
        .guest_cid = CID_MIN,
    };
}

static void drive_fini(struct config_drive *drive)
{
    free(drive->id);
    free(drive->path);
    *drive = (struct config_drive){0};
}

void config_clear_drives(struct config *config)
{
    for (uint32_t i = 0; i < config->drive_count; i++)
        drive_fini(&config->drives[i]);
    config->drive_count = 0;
}

void config_fini(struct config *config)
{
    config_clear_drives(config);
    free(config->kernel);
    free(config->initrd);
    free(config->boot_args);
    free(config->vsock_path);
    *config = (struct config){0};
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
    added->id = strdup(drive->id);
    added->path = strdup(drive->path);
    if (added->id == NULL || added->path == NULL) {
        drive_fini(added);
        return err_sys(err, ENOMEM, "drive");
    }
    if (drive->is_root)
        move_to_front(config->drives, config->drive_count);
    config->drive_count++;
    return 0;
}

static bool unit_scale(char unit, uint64_t *ret_scale)
{
    switch (unit) {
    case 'k':
    case 'K':
        *ret_scale = NUM_KIB;
        return true;
    case '\0':
    case 'm':
    case 'M':
        *ret_scale = NUM_MIB;
        return true;
    case 'g':
    case 'G':
        *ret_scale = NUM_GIB;
        return true;
    default:
        return false;
    }
}

int config_parse_size(const char *text, uint64_t *ret_bytes, struct err *err)
{
    const char *p = text;
    uint64_t value = 0;
    uint64_t scale;

    for (; *p >= '0' && *p <= '9'; p++) {
        if (!num_mul(value, 10, &value) ||
            !num_add(value, (uint64_t)(*p - '0'), &value))
            return err_set(err, ERANGE, "'%.32s' is too large a size", text);
    }
    if (p == text || !unit_scale(*p, &scale) || (*p != '\0' && p[1] != '\0'))
        return err_set(err, EINVAL,
            "'%.32s' is not a size: write MiB, or a unit as in 512K, 128M, 2G",
            text);
    if (!num_mul(value, scale, &value))
        return err_set(err, ERANGE, "'%.32s' is too large a size", text);
    if (value % NUM_PAGE_SIZE != 0)
        return err_set(err, EINVAL,
            "'%.32s' is not a multiple of 4K, the size of a page", text);
    *ret_bytes = value;
    return 0;
}

/* What the kernel, a log and a terminal can all take as one line. */
static int check_text(
    const char *key, const char *text, size_t max, struct err *err)
{
    size_t len = strnlen(text, max + 1);

    if (len > max)
        return err_set(err, EINVAL, "%s: longer than %zu bytes", key, max);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return err_set(
                err, EINVAL, "%s: control character at byte %zu", key, i);
    }
    return 0;
}

static int check_path(const char *key, const char *path, struct err *err)
{
    if (path[0] == '\0')
        return err_set(err, EINVAL, "%s: empty", key);
    return check_text(key, path, PATH_BYTES_MAX, err);
}

/*
 * Whether the kernel's own part of a command line sets `root=`. Words are
 * split as the kernel splits them: double quotes keep spaces in a word, and a
 * lone "--" hands what follows to init.
 */
static bool args_set_root(const char *args)
{
    const char *p = args;

    for (;;) {
        const char *word;
        bool quoted = false;

        while (*p == ' ')
            p++;
        if (*p == '\0')
            return false;
        word = p;
        for (; *p != '\0' && (quoted || *p != ' '); p++) {
            if (*p == '"')
                quoted = !quoted;
        }
        if (p - word == 2 && memcmp(word, "--", 2) == 0)
            return false;
        if (*word == '"')
            word++;
        if (strncmp(word, "root=", 5) == 0)
            return true;
    }
}

static int check_boot_source(const struct config *config, struct err *err)
{
    int rc = 0;

    if (config->kernel != NULL)
        rc = check_path("boot-source.kernel_image_path", config->kernel, err);
    if (rc == 0 && config->initrd != NULL)
        rc = check_path("boot-source.initrd_path", config->initrd, err);
    if (rc == 0 && config->vsock_path != NULL)
        rc = check_path("vsock.uds_path", config->vsock_path, err);
    if (rc == 0 && config->boot_args != NULL)
        rc = check_text(
            "boot-source.boot_args", config->boot_args, ARGS_BYTES_MAX, err);
    return rc;
}

static int check_machine(const struct config *config, struct err *err)
{
    if (config->vcpus < 1 || config->vcpus > CONFIG_VCPUS_MAX)
        return err_set(err, ERANGE,
            "machine-config.vcpu_count: %u is not within 1 to %u",
            config->vcpus, CONFIG_VCPUS_MAX);
    if (config->mem_bytes < GMEM_SIZE_MIN || config->mem_bytes > GMEM_SIZE_MAX)
        return err_set(err, ERANGE,
            "machine-config.mem_size_mib: not within %llu to %llu",
            (unsigned long long)(GMEM_SIZE_MIN / NUM_MIB),
            (unsigned long long)(GMEM_SIZE_MAX / NUM_MIB));
    if (config->mem_bytes % NUM_PAGE_SIZE != 0)
        return err_set(
            err, EINVAL, "spore.mem_bytes: not a multiple of the page size");
    if (config->guest_cid < CID_MIN || config->guest_cid > CID_MAX)
        return err_set(err, ERANGE,
            "vsock.guest_cid: %u is not within %u to %u", config->guest_cid,
            CID_MIN, CID_MAX);
    if (config->discovery != CONFIG_DISCOVERY_ACPI &&
        config->discovery != CONFIG_DISCOVERY_CMDLINE)
        return err_set(err, EINVAL, "spore.discovery: no such way");
    return 0;
}

static int check_id(uint32_t index, const char *id, struct err *err)
{
    size_t len = strnlen(id, CONFIG_ID_MAX + 1);

    if (len == 0 || len > CONFIG_ID_MAX)
        return err_set(err, EINVAL,
            "drives[%u].drive_id: not 1 to %u characters long", index,
            CONFIG_ID_MAX);
    for (size_t i = 0; i < len; i++) {
        char c = id[i];

        if ((c < '0' || c > '9') && (c < 'A' || c > 'Z') &&
            (c < 'a' || c > 'z') && c != '_')
            return err_set(err, EINVAL,
                "drives[%u].drive_id: only letters, digits and '_' are allowed",
                index);
    }
    return 0;
}

static int check_drive(
    const struct config *config, uint32_t index, struct err *err)
{
    const struct config_drive *drive = &config->drives[index];
    char key[32];
    int rc = check_id(index, drive->id, err);

    (void)snprintf(key, sizeof(key), "drives[%u].path_on_host", index);
    if (rc == 0)
        rc = check_path(key, drive->path, err);
    if (rc == 0 && drive->engine != CONFIG_IO_AUTO &&
        drive->engine != CONFIG_IO_SYNC && drive->engine != CONFIG_IO_ASYNC)
        rc =
            err_set(err, EINVAL, "drives[%u].io_engine: no such engine", index);
    for (uint32_t i = 0; rc == 0 && i < index; i++) {
        if (strcmp(config->drives[i].id, drive->id) == 0)
            rc = err_set(err, EINVAL,
                "drives[%u].drive_id: '%s' is drives[%u] too", index, drive->id,
                i);
        else if (config->drives[i].is_root && drive->is_root)
            rc = err_set(err, EINVAL,
                "drives[%u].is_root_device: drives[%u] is the root", index, i);
    }
    if (rc == 0 && drive->is_root && config->boot_args != NULL &&
        args_set_root(config->boot_args))
        rc = err_set(err, EINVAL,
            "drives[%u].is_root_device: boot_args set root= themselves: drop "
            "one",
            index);
    return rc;
}

int config_check(const struct config *config, struct err *err)
{
    int rc = check_boot_source(config, err);

    if (rc == 0)
        rc = check_machine(config, err);
    if (rc == 0 && config->drive_count > CONFIG_DRIVES_MAX)
        rc = err_set(
            err, EINVAL, "drives: more than %u drives", CONFIG_DRIVES_MAX);
    for (uint32_t i = 0; rc == 0 && i < config->drive_count; i++)
        rc = check_drive(config, i, err);
    return rc;
}
