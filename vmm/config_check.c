/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a description must satisfy as a whole, whoever made it.
 */
#include "vmm/config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/num.h"
#include "vmm/core/gmem.h"
#include "vmm/hw/cpuid_template.h"
#include "vmm/hw/layout.h"

/* Bytes without the NUL: PATH_MAX, and the guest's command-line page. */
#define PATH_BYTES_MAX 4095u
#define ARGS_BYTES_MAX (LAYOUT_CMDLINE_MAX - 1)

/* VIRTIO 1.2, 5.10.4: 0 to 2 and 2^32 - 1 are reserved. */
#define CID_MIN 3u
#define CID_MAX (UINT32_MAX - 1)

/* VIRTIO 1.2, 5.1.4.1. */
#define MTU_MIN 68u

/* Firecracker's field has 16 bits. */
#define STATS_INTERVAL_MAX_S UINT16_MAX

/* The guest, passt's gateway and its resolver. */
#define USER_PREFIX_MAX 29u

_Static_assert(
    CONFIG_VCPUS_MAX <= LAYOUT_VCPUS_MAX, "the layout has room for every vCPU");

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
    if (config->has_huge_pages && config->mem_bytes % GMEM_HUGE_SIZE != 0)
        return err_set(err, EINVAL,
            "machine-config.mem_size_mib: not a multiple of 2, as huge_pages "
            "of 2M needs");
    if (config->guest_cid < CID_MIN || config->guest_cid > CID_MAX)
        return err_set(err, ERANGE,
            "vsock.guest_cid: %u is not within %u to %u", config->guest_cid,
            CID_MIN, CID_MAX);
    if (config->cpu_template != NULL) {
        int rc = cpuid_template_check(config->cpu_template, err);

        if (rc < 0)
            return err_wrap(err, rc, "spore.cpu_template");
    }
    if (config->discovery != CONFIG_DISCOVERY_ACPI &&
        config->discovery != CONFIG_DISCOVERY_CMDLINE)
        return err_set(err, EINVAL, "spore.discovery: no such way");
    return 0;
}

/* Words of one element of a list, for the errors about it. */
struct element {
    const char *list; /* "drives" */
    const char *id_key;
    uint32_t index;
};

static int check_id(const struct element *e, const char *id, struct err *err)
{
    size_t len = strnlen(id, CONFIG_ID_MAX + 1);

    if (len == 0 || len > CONFIG_ID_MAX)
        return err_set(err, EINVAL, "%s[%u].%s: not 1 to %u characters long",
            e->list, e->index, e->id_key, CONFIG_ID_MAX);
    for (size_t i = 0; i < len; i++) {
        char c = id[i];

        if ((c < '0' || c > '9') && (c < 'A' || c > 'Z') &&
            (c < 'a' || c > 'z') && c != '_')
            return err_set(err, EINVAL,
                "%s[%u].%s: only letters, digits and '_' are allowed", e->list,
                e->index, e->id_key);
    }
    return 0;
}

static int check_limits(const struct element *e, const char *key,
    const struct rate_config *limits, struct err *err)
{
    int rc = rate_check(limits, err);

    return rc < 0 ? err_wrap(err, rc, "%s[%u].%s", e->list, e->index, key) : 0;
}

/* What makes a word of the kernel's command line. */
static bool is_partuuid(const char *text)
{
    size_t len = strnlen(text, CONFIG_PARTUUID_MAX + 1);

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if ((c < '0' || c > '9') && (c < 'A' || c > 'Z') &&
            (c < 'a' || c > 'z') && c != '-')
            return false;
    }
    return len > 0 && len <= CONFIG_PARTUUID_MAX;
}

static int check_drive_files(
    const struct config_drive *drive, uint32_t index, struct err *err)
{
    char key[48];
    int rc;

    (void)snprintf(key, sizeof(key), "drives[%u].path_on_host", index);
    rc = check_path(key, drive->path, err);
    if (rc < 0)
        return rc;
    if (drive->partuuid != NULL && !drive->is_root)
        return err_set(err, EINVAL,
            "drives[%u].partuuid: only a root drive has one", index);
    if (drive->partuuid != NULL && !is_partuuid(drive->partuuid))
        return err_set(err, EINVAL,
            "drives[%u].partuuid: not 1 to %u letters, digits and '-'", index,
            CONFIG_PARTUUID_MAX);
    switch (drive->overlay) {
    case CONFIG_OVERLAY_NONE:
    case CONFIG_OVERLAY_MEMORY:
        break;
    case CONFIG_OVERLAY_FILE:
        (void)snprintf(key, sizeof(key), "drives[%u].spore.overlay", index);
        if (drive->overlay_path == NULL)
            return err_set(err, EINVAL, "%s: missing", key);
        rc = check_path(key, drive->overlay_path, err);
        break;
    default:
        return err_set(
            err, EINVAL, "drives[%u].spore.overlay: no such kind", index);
    }
    if (rc == 0 && drive->max_growth != 0 &&
        drive->overlay == CONFIG_OVERLAY_NONE)
        rc = err_set(err, EINVAL,
            "drives[%u].spore.max_growth: the drive has no overlay: its file "
            "cannot outgrow its size",
            index);
    if (rc == 0 && drive->overlay != CONFIG_OVERLAY_NONE && drive->is_read_only)
        rc = err_set(err, EINVAL,
            "drives[%u].spore.overlay: the drive is read-only: drop one",
            index);
    return rc;
}

static int check_drive(
    const struct config *config, uint32_t index, struct err *err)
{
    const struct config_drive *drive = &config->drives[index];
    const struct element e = {"drives", "drive_id", index};
    int rc = check_id(&e, drive->id, err);

    if (rc == 0)
        rc = check_drive_files(drive, index, err);
    if (rc == 0 && drive->engine != CONFIG_IO_AUTO &&
        drive->engine != CONFIG_IO_SYNC && drive->engine != CONFIG_IO_ASYNC)
        rc =
            err_set(err, EINVAL, "drives[%u].io_engine: no such engine", index);
    if (rc == 0 && (drive->queues < 1 || drive->queues > CONFIG_QUEUES_MAX))
        rc = err_set(err, ERANGE,
            "drives[%u].spore.num_queues: %u is not within 1 to %u", index,
            drive->queues, CONFIG_QUEUES_MAX);
    if (rc == 0)
        rc = check_limits(&e, "rate_limiter", &drive->limits, err);
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

/* The other device that has this identifier or is the root as well. */
static int check_pmem_apart(
    const struct config *config, uint32_t index, struct err *err)
{
    const struct config_pmem *pmem = &config->pmems[index];

    for (uint32_t i = 0; i < config->drive_count; i++) {
        if (strcmp(config->drives[i].id, pmem->id) == 0)
            return err_set(err, EINVAL, "pmem[%u].id: '%s' is drives[%u] too",
                index, pmem->id, i);
        if (config->drives[i].is_root && pmem->is_root)
            return err_set(err, EINVAL,
                "pmem[%u].root_device: drives[%u] is the root", index, i);
    }
    for (uint32_t i = 0; i < index; i++) {
        if (strcmp(config->pmems[i].id, pmem->id) == 0)
            return err_set(err, EINVAL, "pmem[%u].id: '%s' is pmem[%u] too",
                index, pmem->id, i);
        if (config->pmems[i].is_root && pmem->is_root)
            return err_set(err, EINVAL,
                "pmem[%u].root_device: pmem[%u] is the root", index, i);
    }
    return 0;
}

static int check_pmem(
    const struct config *config, uint32_t index, struct err *err)
{
    const struct config_pmem *pmem = &config->pmems[index];
    const struct element e = {"pmem", "id", index};
    int rc = check_id(&e, pmem->id, err);
    char key[48];

    (void)snprintf(key, sizeof(key), "pmem[%u].path_on_host", index);
    if (rc == 0)
        rc = check_path(key, pmem->path, err);
    if (rc == 0)
        rc = check_limits(&e, "rate_limiter", &pmem->limits, err);
    if (rc == 0)
        rc = check_pmem_apart(config, index, err);
    if (rc == 0 && pmem->is_root && config->boot_args != NULL &&
        args_set_root(config->boot_args))
        rc = err_set(err, EINVAL,
            "pmem[%u].root_device: boot_args set root= themselves: drop one",
            index);
    return rc;
}

/* What the kernel takes as a name for an interface. */
static int check_ifname(const char *key, const char *name, struct err *err)
{
    size_t len = strnlen(name, CONFIG_IFNAME_MAX + 1);

    if (len == 0 || len > CONFIG_IFNAME_MAX)
        return err_set(
            err, EINVAL, "%s: not 1 to %u bytes long", key, CONFIG_IFNAME_MAX);
    if (strpbrk(name, "/: ") != NULL)
        return err_set(
            err, EINVAL, "%s: an interface has no '/', ':' or ' '", key);
    return check_text(key, name, CONFIG_IFNAME_MAX, err);
}

static int check_net_target(
    const struct config_net *net, uint32_t index, struct err *err)
{
    const char *name = "spore.path";
    char key[64];

    switch (net->backend) {
    case CONFIG_NET_TAP:
        name = "host_dev_name";
        break;
    case CONFIG_NET_STREAM:
        break;
    case CONFIG_NET_SWITCH:
        name = "spore.switch";
        break;
    case CONFIG_NET_FD:
        if (net->fd <= 2)
            return err_set(err, EINVAL,
                "network-interfaces[%u].spore.fd: missing, or one of 0 to 2",
                index);
        return 0;
    case CONFIG_NET_USER:
        return 0;
    default:
        return err_set(err, EINVAL,
            "network-interfaces[%u].spore.backend: no such backend", index);
    }
    (void)snprintf(key, sizeof(key), "network-interfaces[%u].%s", index, name);
    if (net->target == NULL)
        return err_set(err, EINVAL, "%s: missing", key);
    return net->backend == CONFIG_NET_TAP ? check_ifname(key, net->target, err)
                                          : check_path(key, net->target, err);
}

static int check_net_address(
    const struct config_net *net, uint32_t index, struct err *err)
{
    if (net->prefix > 32)
        return err_set(err, ERANGE,
            "network-interfaces[%u].spore.address: a prefix of %u bits", index,
            net->prefix);
    if (net->prefix > USER_PREFIX_MAX && net->backend == CONFIG_NET_USER)
        return err_set(err, EINVAL,
            "network-interfaces[%u].spore.address: a network of %u bits has no "
            "room for the gateway and the resolver: at most %u",
            index, net->prefix, USER_PREFIX_MAX);
    if (net->gateway != 0 && net->prefix == 0)
        return err_set(err, EINVAL,
            "network-interfaces[%u].spore.gateway: there is no address", index);
    if (net->forward_count > CONFIG_FORWARDS_MAX)
        return err_set(err, EINVAL,
            "network-interfaces[%u].spore: more than %u ports", index,
            CONFIG_FORWARDS_MAX);
    if (net->forward_count > 0 && net->backend != CONFIG_NET_USER)
        return err_set(err, EINVAL,
            "network-interfaces[%u].spore: only the backend \"user\" forwards "
            "ports",
            index);
    return 0;
}

static int check_net(
    const struct config *config, uint32_t index, struct err *err)
{
    const struct config_net *net = &config->nets[index];
    const struct element e = {"network-interfaces", "iface_id", index};
    int rc = check_id(&e, net->id, err);

    if (rc == 0)
        rc = check_net_target(net, index, err);
    if (rc == 0 && net->mtu != 0 && net->mtu < MTU_MIN)
        rc = err_set(err, ERANGE,
            "network-interfaces[%u].mtu: %u is not within %u to 65535", index,
            net->mtu, MTU_MIN);
    if (rc == 0)
        rc = check_net_address(net, index, err);
    if (rc == 0)
        rc = check_limits(&e, "rx_rate_limiter", &net->rx, err);
    if (rc == 0)
        rc = check_limits(&e, "tx_rate_limiter", &net->tx, err);
    for (uint32_t i = 0; rc == 0 && i < index; i++) {
        if (strcmp(config->nets[i].id, net->id) == 0)
            rc = err_set(err, EINVAL,
                "network-interfaces[%u].iface_id: '%s' is "
                "network-interfaces[%u] too",
                index, net->id, i);
        else if (config->nets[i].prefix != 0 && net->prefix != 0)
            rc = err_set(err, EINVAL,
                "network-interfaces[%u].spore.address: "
                "network-interfaces[%u] has one, and the kernel sets up one",
                index, i);
    }
    return rc;
}

static int check_mmds(const struct config *config, struct err *err)
{
    if (!config_has_mmds(config) || config_is_link_local(config->mmds.address))
        return 0;
    return err_set(err, EINVAL,
        "mmds-config.ipv4_address: it must be within 169.254.1.0 to "
        "169.254.254.255");
}

static int check_balloon(const struct config *config, struct err *err)
{
    const struct config_balloon *b = &config->balloon;

    if (!config->has_balloon)
        return 0;
    if (b->target_mib > config->mem_bytes / NUM_MIB)
        return err_set(err, ERANGE,
            "balloon.amount_mib: %llu is more than the guest's memory",
            (unsigned long long)b->target_mib);
    if (b->stats_interval_s > STATS_INTERVAL_MAX_S)
        return err_set(err, ERANGE,
            "balloon.stats_polling_interval_s: %u is not within 0 to %u",
            b->stats_interval_s, STATS_INTERVAL_MAX_S);
    return 0;
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
    if (rc == 0 && config->pmem_count > CONFIG_PMEMS_MAX)
        rc = err_set(err, EINVAL, "pmem: more than %u", CONFIG_PMEMS_MAX);
    for (uint32_t i = 0; rc == 0 && i < config->pmem_count; i++)
        rc = check_pmem(config, i, err);
    if (rc == 0 && config->net_count > CONFIG_NETS_MAX)
        rc = err_set(
            err, EINVAL, "network-interfaces: more than %u", CONFIG_NETS_MAX);
    for (uint32_t i = 0; rc == 0 && i < config->net_count; i++)
        rc = check_net(config, i, err);
    if (rc == 0)
        rc = check_mmds(config, err);
    if (rc == 0)
        rc = check_balloon(config, err);
    if (rc == 0 && config->has_entropy) {
        rc = rate_check(&config->entropy, err);
        if (rc < 0)
            rc = err_wrap(err, rc, "entropy.rate_limiter");
    }
    return rc;
}
