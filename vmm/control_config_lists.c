/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices of which there can be several: drives, networks and persistent
 * memories. One of an id that is there already takes the other's place.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config_text.h"
#include "vmm/control.h"
#include "vmm/control_api.h"
#include "vmm/control_config.h"

#define NOT_SUPPORTED "The requested operation is not supported: "
#define NO_PCI        "PCI is not enabled"

/* Machines of ours have no PCI: what comes after the start has no place. */
static bool is_late(const struct control *c, struct err *err)
{
    if (control_api_phase(c) == ROUTER_BEFORE)
        return false;
    (void)err_set(err, EOPNOTSUPP, NO_PCI);
    return true;
}

/* ---- drives -------------------------------------------------------------- */

static const char *const cache_types[] = {"Unsafe", "Writeback", NULL};
static const char *const engines[] = {"Async", "Sync", NULL};

const struct schema_field control_drive_put_fields[] = {
    {.name = "drive_id", .type = SCHEMA_STRING, .required = true},
    {.name = "partuuid", .type = SCHEMA_STRING},
    {.name = "is_root_device", .type = SCHEMA_BOOL, .required = true},
    {.name = "cache_type",
        .type = SCHEMA_ENUM,
        .not_null = true,
        .variants = cache_types},
    {.name = "is_read_only", .type = SCHEMA_BOOL},
    {.name = "path_on_host", .type = SCHEMA_STRING},
    {.name = "rate_limiter",
        .type = SCHEMA_OBJECT,
        .object = control_limiter_fields},
    {.name = "io_engine", .type = SCHEMA_ENUM, .variants = engines},
    {.name = "socket", .type = SCHEMA_STRING},
    SCHEMA_END("BlockDeviceConfig"),
};

/* Whether another one than drives[`except`] is the root. */
static bool has_root_drive(const struct config *config, uint32_t except)
{
    for (uint32_t i = 0; i < config->drive_count; i++) {
        if (i != except && config->drives[i].is_root)
            return true;
    }
    return false;
}

static bool has_root_pmem(const struct config *config, uint32_t except)
{
    for (uint32_t i = 0; i < config->pmem_count; i++) {
        if (i != except && config->pmems[i].is_root)
            return true;
    }
    return false;
}

static uint32_t find_drive(const struct config *config, const char *id)
{
    uint32_t i = 0;

    while (i < config->drive_count && strcmp(config->drives[i].id, id) != 0)
        i++;
    return i;
}

/* In the place of the one of its id, and in front if it is the root. */
static int put_drive(
    struct config *config, struct config_drive *drive, struct err *err)
{
    uint32_t at = find_drive(config, drive->id);
    struct config_drive old;

    if (at == config->drive_count)
        return config_add_drive(config, drive, err);
    config_drive_fini(&config->drives[at]);
    config->drives[at] = *drive;
    *drive = (struct config_drive){0};
    if (at != 0 && config->drives[at].is_root) {
        old = config->drives[0];
        config->drives[0] = config->drives[at];
        config->drives[at] = old;
    }
    return 0;
}

static int read_drive(
    struct config_drive *drive, const json_t *body, struct err *err)
{
    const char *uuid = schema_string(body, "partuuid");
    const char *engine = schema_string(body, "io_engine");
    const char *cache = schema_string(body, "cache_type");
    int rc =
        config_set_string(&drive->id, schema_string(body, "drive_id"), err);

    if (rc == 0)
        rc = config_set_string(
            &drive->path, schema_string(body, "path_on_host"), err);
    drive->is_root = schema_bool(body, "is_root_device", false);
    /* Elsewhere it has no meaning, there as here. */
    if (rc == 0 && uuid != NULL && drive->is_root)
        rc = config_set_string(&drive->partuuid, uuid, err);
    drive->is_read_only = schema_bool(body, "is_read_only", false);
    if (cache != NULL)
        drive->is_writeback = strcmp(cache, "Writeback") == 0;
    if (engine != NULL)
        drive->engine =
            strcmp(engine, "Sync") == 0 ? CONFIG_IO_SYNC : CONFIG_IO_ASYNC;
    drive->limits = control_get_limits(body, "rate_limiter").limits;
    return rc;
}

static int take_drive(
    struct config *config, const json_t *body, struct err *err)
{
    const char *path = schema_string(body, "path_on_host");
    struct config_drive drive = config_drive_default();
    bool is_root = schema_bool(body, "is_root_device", false);
    uint32_t at = find_drive(config, schema_string(body, "drive_id"));
    int rc;

    if (is_root && has_root_pmem(config, UINT32_MAX))
        return err_set(err, EINVAL,
            "Attempt to add block as a root device while the root device "
            "defined as a pmem device");
    if (is_root && has_root_drive(config, at))
        return err_set(err, EINVAL, "A root block device already exists!");
    if (schema_string(body, "socket") != NULL)
        return err_set(err, ENOTSUP, NOT_SUPPORTED "socket (vhost-user)");
    if (path == NULL)
        return err_set(err, EINVAL,
            "Unable to create the virtio block device: Invalid block config.");
    rc = control_config_probe(path, schema_bool(body, "is_read_only", false));
    if (rc < 0)
        return err_set(err, rc,
            "Unable to create the virtio block device: Virtio backend error: "
            "Error manipulating the backing file: %s (os error %d) %s",
            strerrordesc_np(-rc), -rc, path);
    rc = read_drive(&drive, body, err);
    if (rc == 0)
        rc = put_drive(config, &drive, err);
    config_drive_fini(&drive);
    return rc;
}

int control_drive_put(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct config copy;
    int rc;

    if (is_late(c, &call->err))
        return -EOPNOTSUPP;
    rc = control_config_begin(c, &copy, &call->err);
    if (rc < 0)
        return rc;
    rc = take_drive(&copy, call->body, &call->err);
    if (rc < 0)
        control_config_abort(&copy);
    else
        rc = control_config_commit(c, &copy, RUN_GIVEN_DISK, &call->err);
    return rc < 0 ? err_wrap(&call->err, rc, "Drive config error") : 0;
}

/* ---- networks ------------------------------------------------------------ */

/* What a MAC address may be there: six pairs of digits of either case. */
static bool is_mac(const char *text)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    size_t i;

    for (i = 0; text[i] != '\0' && i < 17; i++) {
        if (i % 3 == 2 ? text[i] != ':' : strchr(digits, text[i]) == NULL)
            return false;
    }
    return i == 17 && text[i] == '\0';
}

const struct schema_field control_net_put_fields[] = {
    {.name = "iface_id", .type = SCHEMA_STRING, .required = true},
    {.name = "host_dev_name", .type = SCHEMA_STRING, .required = true},
    {.name = "guest_mac",
        .type = SCHEMA_CUSTOM,
        .name_of = "The provided MAC address is invalid.",
        .is_good = is_mac},
    {.name = "mtu", .type = SCHEMA_UINT, .max = UINT16_MAX},
    {.name = "rx_rate_limiter",
        .type = SCHEMA_OBJECT,
        .object = control_limiter_fields},
    {.name = "tx_rate_limiter",
        .type = SCHEMA_OBJECT,
        .object = control_limiter_fields},
    SCHEMA_END("NetworkInterfaceConfig"),
};

static int check_net(const struct config *config, const struct config_net *net,
    const char *mac, struct err *err)
{
    for (uint32_t i = 0; i < config->net_count; i++) {
        const struct config_net *other = &config->nets[i];

        if (net->has_mac && other->has_mac &&
            memcmp(net->mac, other->mac, sizeof(net->mac)) == 0 &&
            strcmp(net->id, other->id) != 0)
            return err_set(
                err, EINVAL, "The MAC address is already in use: %s", mac);
    }
    if (net->mtu != 0 && net->mtu < 68)
        return err_set(err, EINVAL,
            "Could not create the network device: MTU %u is out of range [68, "
            "65535]",
            net->mtu);
    return 0;
}

static int put_net(
    struct config *config, struct config_net *net, struct err *err)
{
    for (uint32_t i = 0; i < config->net_count; i++) {
        if (strcmp(config->nets[i].id, net->id) != 0)
            continue;
        config_net_fini(&config->nets[i]);
        config->nets[i] = *net;
        *net = config_net_default();
        return 0;
    }
    return config_add_net(config, net, err);
}

static int read_net(struct config_net *net, const json_t *body, struct err *err)
{
    const char *mac = schema_string(body, "guest_mac");
    bool has_mtu = json_object_get(body, "mtu") != NULL;
    int rc = config_set_string(&net->id, schema_string(body, "iface_id"), err);

    if (rc == 0)
        rc = config_set_string(
            &net->target, schema_string(body, "host_dev_name"), err);
    if (rc == 0 && mac != NULL) {
        net->has_mac = true;
        rc = config_parse_mac(mac, net->mac, err);
    }
    net->mtu = (uint16_t)schema_uint(body, "mtu", 0);
    if (rc == 0 && has_mtu && net->mtu == 0)
        rc = err_set(err, EINVAL,
            "Could not create the network device: MTU 0 is out of range [68, "
            "65535]");
    net->rx = control_get_limits(body, "rx_rate_limiter").limits;
    net->tx = control_get_limits(body, "tx_rate_limiter").limits;
    return rc;
}

int control_net_put(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct config_net net = config_net_default();
    struct config copy;
    int rc;

    if (is_late(c, &call->err))
        return -EOPNOTSUPP;
    rc = control_config_begin(c, &copy, &call->err);
    if (rc < 0)
        return rc;
    rc = read_net(&net, call->body, &call->err);
    if (rc == 0)
        rc = check_net(
            &copy, &net, schema_string(call->body, "guest_mac"), &call->err);
    if (rc == 0)
        rc = put_net(&copy, &net, &call->err);
    config_net_fini(&net);
    if (rc < 0)
        control_config_abort(&copy);
    else
        rc = control_config_commit(c, &copy, RUN_GIVEN_NET, &call->err);
    return rc < 0 ? err_wrap(&call->err, rc, "Network config error") : 0;
}

/* ---- persistent memories ------------------------------------------------- */

const struct schema_field control_pmem_put_fields[] = {
    {.name = "id", .type = SCHEMA_STRING, .required = true},
    {.name = "path_on_host", .type = SCHEMA_STRING, .required = true},
    {.name = "root_device", .type = SCHEMA_BOOL, .not_null = true},
    {.name = "read_only", .type = SCHEMA_BOOL, .not_null = true},
    {.name = "rate_limiter",
        .type = SCHEMA_OBJECT,
        .object = control_limiter_fields},
    SCHEMA_END("PmemConfig"),
};
const struct schema_field control_pmem_patch_fields[] = {
    {.name = "id", .type = SCHEMA_STRING, .required = true},
    {.name = "rate_limiter",
        .type = SCHEMA_OBJECT,
        .object = control_limiter_fields},
    SCHEMA_END("PmemDeviceUpdateConfig"),
};

static uint32_t find_pmem(const struct config *config, const char *id)
{
    uint32_t i = 0;

    while (i < config->pmem_count && strcmp(config->pmems[i].id, id) != 0)
        i++;
    return i;
}

static int take_pmem(struct config *config, const json_t *body, struct err *err)
{
    const char *id = schema_string(body, "id");
    struct config_pmem pmem = {
        .is_root = schema_bool(body, "root_device", false),
        .is_read_only = schema_bool(body, "read_only", false),
        .limits = control_get_limits(body, "rate_limiter").limits};
    uint32_t at = find_pmem(config, id);
    int rc;

    if (pmem.is_root && has_root_drive(config, UINT32_MAX))
        return err_set(err, EINVAL,
            "Attempt to add pmem as a root device while the root device "
            "defined as a block device");
    if (pmem.is_root && has_root_pmem(config, at))
        return err_set(err, EINVAL, "A root pmem device already exist");
    rc = config_set_string(&pmem.id, id, err);
    if (rc == 0)
        rc = config_set_string(
            &pmem.path, schema_string(body, "path_on_host"), err);
    if (rc == 0 && at < config->pmem_count) {
        config_pmem_fini(&config->pmems[at]);
        config->pmems[at] = pmem;
        return 0;
    }
    if (rc == 0)
        rc = config_add_pmem(config, &pmem, err);
    config_pmem_fini(&pmem);
    return rc;
}

int control_pmem_put(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct config copy;
    int rc;

    if (is_late(c, &call->err))
        return -EOPNOTSUPP;
    rc = control_config_begin(c, &copy, &call->err);
    if (rc < 0)
        return rc;
    rc = take_pmem(&copy, call->body, &call->err);
    if (rc < 0)
        control_config_abort(&copy);
    else
        rc = control_config_commit(c, &copy, RUN_GIVEN_PMEM, &call->err);
    return rc < 0 ? err_wrap(&call->err, rc, "Pmem config error") : 0;
}
