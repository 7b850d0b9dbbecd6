/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config_json_devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/num.h"
#include "vmm/config_text.h"

static int read_size(struct config_reader *r, const json_t *value)
{
    r->has_size = true;
    return config_reader_number(r, value, 0, UINT64_MAX, &r->bucket->size);
}

static int read_refill(struct config_reader *r, const json_t *value)
{
    r->has_refill = true;
    return config_reader_number(
        r, value, 0, RATE_REFILL_MS_MAX, &r->bucket->refill_ms);
}

static int read_burst(struct config_reader *r, const json_t *value)
{
    return config_reader_number(r, value, 0, UINT64_MAX, &r->bucket->burst);
}

static int read_bucket(struct config_reader *r, const json_t *value,
    struct rate_bucket_config *bucket)
{
    static const struct config_key keys[] = {
        {"size", read_size},
        {"refill_time", read_refill},
        {"one_time_burst", read_burst},
    };
    int rc;

    *bucket = (struct rate_bucket_config){0};
    r->bucket = bucket;
    r->has_size = false;
    r->has_refill = false;
    rc = config_reader_object(r, value, keys, ARRAY_SIZE(keys));
    if (rc < 0)
        return rc;
    if (!r->has_size)
        return config_reader_missing(r, "size");
    return r->has_refill ? 0 : config_reader_missing(r, "refill_time");
}

static int read_bandwidth(struct config_reader *r, const json_t *value)
{
    return read_bucket(r, value, &r->limits->bytes);
}

static int read_ops(struct config_reader *r, const json_t *value)
{
    return read_bucket(r, value, &r->limits->ops);
}

int config_json_read_limits(
    struct config_reader *r, const json_t *value, struct rate_config *limits)
{
    static const struct config_key keys[] = {
        {"bandwidth", read_bandwidth},
        {"ops", read_ops},
    };

    r->limits = limits;
    return config_reader_object(r, value, keys, ARRAY_SIZE(keys));
}

static int read_drive_id(struct config_reader *r, const json_t *value)
{
    return config_reader_string(r, value, &r->drive.id);
}

static int read_drive_path(struct config_reader *r, const json_t *value)
{
    return config_reader_string(r, value, &r->drive.path);
}

static int read_partuuid(struct config_reader *r, const json_t *value)
{
    return config_reader_string(r, value, &r->drive.partuuid);
}

static int read_drive_root(struct config_reader *r, const json_t *value)
{
    r->has_root_key = true;
    return config_reader_bool(r, value, &r->drive.is_root);
}

static int read_drive_read_only(struct config_reader *r, const json_t *value)
{
    return config_reader_bool(r, value, &r->drive.is_read_only);
}

static int read_drive_cache(struct config_reader *r, const json_t *value)
{
    static const char *const choices[] = {"Unsafe", "Writeback"};
    unsigned int choice = 0;
    int rc =
        config_reader_choice(r, value, choices, ARRAY_SIZE(choices), &choice);

    r->drive.is_writeback = choice == 1;
    return rc;
}

static int read_drive_engine(struct config_reader *r, const json_t *value)
{
    static const char *const choices[] = {"Sync", "Async"};
    unsigned int choice = 0;
    int rc =
        config_reader_choice(r, value, choices, ARRAY_SIZE(choices), &choice);

    r->drive.engine = choice == 0 ? CONFIG_IO_SYNC : CONFIG_IO_ASYNC;
    return rc;
}

static int read_drive_limits(struct config_reader *r, const json_t *value)
{
    return config_json_read_limits(r, value, &r->drive.limits);
}

/* "memory", or the path of a file; a file of that name is "./memory". */
static int read_overlay(struct config_reader *r, const json_t *value)
{
    int rc = config_reader_string(r, value, &r->drive.overlay_path);

    if (rc < 0)
        return rc;
    r->drive.overlay = CONFIG_OVERLAY_FILE;
    if (strcmp(r->drive.overlay_path, "memory") == 0) {
        r->drive.overlay = CONFIG_OVERLAY_MEMORY;
        free(r->drive.overlay_path);
        r->drive.overlay_path = NULL;
    }
    return 0;
}

static int read_queues(struct config_reader *r, const json_t *value)
{
    uint64_t count = 0;
    int rc = config_reader_number(r, value, 1, CONFIG_QUEUES_MAX, &count);

    if (rc == 0)
        r->drive.queues = (uint32_t)count;
    return rc;
}

static int read_max_growth(struct config_reader *r, const json_t *value)
{
    return config_reader_number(
        r, value, NUM_PAGE_SIZE, INT64_MAX, &r->drive.max_growth);
}

static int read_drive_spore(struct config_reader *r, const json_t *value)
{
    static const struct config_key keys[] = {
        {"overlay", read_overlay},
        {"num_queues", read_queues},
        {"max_growth", read_max_growth},
    };

    return config_reader_object(r, value, keys, ARRAY_SIZE(keys));
}

static int read_drive_members(struct config_reader *r, const json_t *value)
{
    static const struct config_key keys[] = {
        {"drive_id", read_drive_id},
        {"path_on_host", read_drive_path},
        {"is_root_device", read_drive_root},
        {"is_read_only", read_drive_read_only},
        {"partuuid", read_partuuid},
        {"cache_type", read_drive_cache},
        {"io_engine", read_drive_engine},
        {"rate_limiter", read_drive_limits},
        {"socket", config_reader_no_string},
        {"spore", read_drive_spore},
    };
    int rc = config_reader_object(r, value, keys, ARRAY_SIZE(keys));

    if (rc < 0)
        return rc;
    if (r->drive.id == NULL)
        return config_reader_missing(r, "drive_id");
    if (r->drive.path == NULL)
        return config_reader_missing(r, "path_on_host");
    if (!r->has_root_key)
        return config_reader_missing(r, "is_root_device");
    rc = config_add_drive(&r->config, &r->drive, r->err);
    return rc < 0 ? err_wrap(r->err, rc, "drives") : 0;
}

static int read_drive(struct config_reader *r, const json_t *value)
{
    int rc;

    r->drive = config_drive_default();
    r->has_root_key = false;
    rc = read_drive_members(r, value);
    config_drive_fini(&r->drive);
    return rc;
}

int config_json_read_drives(struct config_reader *r, const json_t *value)
{
    if (json_is_array(value))
        config_clear_drives(&r->config);
    return config_reader_list(r, value, read_drive);
}

static int read_pmem_id(struct config_reader *r, const json_t *value)
{
    return config_reader_string(r, value, &r->pmem.id);
}

static int read_pmem_path(struct config_reader *r, const json_t *value)
{
    return config_reader_string(r, value, &r->pmem.path);
}

static int read_pmem_root(struct config_reader *r, const json_t *value)
{
    return config_reader_bool(r, value, &r->pmem.is_root);
}

static int read_pmem_read_only(struct config_reader *r, const json_t *value)
{
    return config_reader_bool(r, value, &r->pmem.is_read_only);
}

static int read_pmem_limits(struct config_reader *r, const json_t *value)
{
    return config_json_read_limits(r, value, &r->pmem.limits);
}

static int read_pmem_members(struct config_reader *r, const json_t *value)
{
    static const struct config_key keys[] = {
        {"id", read_pmem_id},
        {"path_on_host", read_pmem_path},
        {"root_device", read_pmem_root},
        {"read_only", read_pmem_read_only},
        {"rate_limiter", read_pmem_limits},
    };
    int rc = config_reader_object(r, value, keys, ARRAY_SIZE(keys));

    if (rc < 0)
        return rc;
    if (r->pmem.id == NULL)
        return config_reader_missing(r, "id");
    if (r->pmem.path == NULL)
        return config_reader_missing(r, "path_on_host");
    rc = config_add_pmem(&r->config, &r->pmem, r->err);
    return rc < 0 ? err_wrap(r->err, rc, "pmem") : 0;
}

static int read_pmem(struct config_reader *r, const json_t *value)
{
    int rc;

    r->pmem = (struct config_pmem){0};
    rc = read_pmem_members(r, value);
    config_pmem_fini(&r->pmem);
    return rc;
}

int config_json_read_pmems(struct config_reader *r, const json_t *value)
{
    if (json_is_array(value))
        config_clear_pmems(&r->config);
    return config_reader_list(r, value, read_pmem);
}

static int read_iface_id(struct config_reader *r, const json_t *value)
{
    return config_reader_string(r, value, &r->net.id);
}

static int read_target(struct config_reader *r, const json_t *value)
{
    return config_reader_string(r, value, &r->net.target);
}

/* What config_text says of a string, with the key in front. */
static int put_path_before(struct config_reader *r, int rc)
{
    return rc < 0 ? err_wrap(r->err, rc, "%s", r->path) : 0;
}

static int read_mac(struct config_reader *r, const json_t *value)
{
    if (!json_is_string(value))
        return config_reader_must_be(r, "a string");
    r->net.has_mac = true;
    return put_path_before(
        r, config_parse_mac(json_string_value(value), r->net.mac, r->err));
}

static int read_mtu(struct config_reader *r, const json_t *value)
{
    uint64_t mtu = 0;
    int rc = config_reader_number(r, value, 68, UINT16_MAX, &mtu);

    if (rc == 0)
        r->net.mtu = (uint16_t)mtu;
    return rc;
}

static int read_rx_limits(struct config_reader *r, const json_t *value)
{
    return config_json_read_limits(r, value, &r->net.rx);
}

static int read_tx_limits(struct config_reader *r, const json_t *value)
{
    return config_json_read_limits(r, value, &r->net.tx);
}

/* In the order of enum config_net_backend. */
static int read_backend(struct config_reader *r, const json_t *value)
{
    static const char *const choices[] = {
        "tap", "fd", "user", "stream", "switch"};
    unsigned int choice = 0;
    int rc =
        config_reader_choice(r, value, choices, ARRAY_SIZE(choices), &choice);

    r->net.backend = (enum config_net_backend)choice;
    return rc;
}

static int read_fd(struct config_reader *r, const json_t *value)
{
    uint64_t fd = 0;
    int rc = config_reader_number(r, value, 3, INT32_MAX, &fd);

    if (rc == 0)
        r->net.fd = (int)fd;
    return rc;
}

static int read_address(struct config_reader *r, const json_t *value)
{
    if (!json_is_string(value))
        return config_reader_must_be(r, "a string");
    return put_path_before(r, config_parse_cidr(json_string_value(value),
                                  &r->net.address, &r->net.prefix, r->err));
}

static int read_gateway(struct config_reader *r, const json_t *value)
{
    if (!json_is_string(value))
        return config_reader_must_be(r, "a string");
    return put_path_before(r,
        config_parse_ipv4(json_string_value(value), &r->net.gateway, r->err));
}

static int read_forward(
    struct config_reader *r, const json_t *value, bool is_udp)
{
    struct config_forward *f = &r->net.forwards[r->net.forward_count];

    if (!json_is_string(value))
        return config_reader_must_be(r, "a string");
    if (r->net.forward_count == CONFIG_FORWARDS_MAX)
        return config_reader_fail(
            r, EINVAL, "more than %u ports", CONFIG_FORWARDS_MAX);
    f->is_udp = is_udp;
    r->net.forward_count++;
    return put_path_before(
        r, config_parse_forward(json_string_value(value), f, r->err));
}

static int read_tcp_port(struct config_reader *r, const json_t *value)
{
    return read_forward(r, value, false);
}

static int read_udp_port(struct config_reader *r, const json_t *value)
{
    return read_forward(r, value, true);
}

static int read_tcp(struct config_reader *r, const json_t *value)
{
    return config_reader_list(r, value, read_tcp_port);
}

static int read_udp(struct config_reader *r, const json_t *value)
{
    return config_reader_list(r, value, read_udp_port);
}

static int read_net_spore(struct config_reader *r, const json_t *value)
{
    static const struct config_key keys[] = {
        {"backend", read_backend},
        {"fd", read_fd},
        {"path", read_target},
        {"switch", read_target},
        {"address", read_address},
        {"gateway", read_gateway},
        {"tcp", read_tcp},
        {"udp", read_udp},
    };

    return config_reader_object(r, value, keys, ARRAY_SIZE(keys));
}

/* Each backend has one key for what it is connected to, and no other one. */
static int check_target_keys(struct config_reader *r, const json_t *value)
{
    static const struct {
        enum config_net_backend backend;
        const char *key;
    } targets[] = {
        {CONFIG_NET_FD, "fd"},
        {CONFIG_NET_STREAM, "path"},
        {CONFIG_NET_SWITCH, "switch"},
    };
    const json_t *spore = json_object_get(value, "spore");
    bool is_tap = r->net.backend == CONFIG_NET_TAP;
    bool has_tap = json_is_string(json_object_get(value, "host_dev_name"));

    if (is_tap && !has_tap)
        return config_reader_missing(r, "host_dev_name");
    if (!is_tap && has_tap)
        return config_reader_fail(
            r, EINVAL, "host_dev_name is for the backend \"tap\" only");
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        const json_t *given = json_object_get(spore, targets[i].key);
        bool has_key = given != NULL && !json_is_null(given);

        if (has_key && targets[i].backend != r->net.backend)
            return config_reader_fail(r, EINVAL,
                "spore.%s is for the backend \"%s\" only", targets[i].key,
                targets[i].backend == CONFIG_NET_STREAM ? "stream"
                                                        : targets[i].key);
    }
    return 0;
}

static int read_net_members(struct config_reader *r, const json_t *value)
{
    static const struct config_key keys[] = {
        {"iface_id", read_iface_id},
        {"host_dev_name", read_target},
        {"guest_mac", read_mac},
        {"mtu", read_mtu},
        {"rx_rate_limiter", read_rx_limits},
        {"tx_rate_limiter", read_tx_limits},
        {"spore", read_net_spore},
    };
    int rc = config_reader_object(r, value, keys, ARRAY_SIZE(keys));

    if (rc < 0)
        return rc;
    if (r->net.id == NULL)
        return config_reader_missing(r, "iface_id");
    rc = check_target_keys(r, value);
    if (rc < 0)
        return rc;
    rc = config_add_net(&r->config, &r->net, r->err);
    return rc < 0 ? err_wrap(r->err, rc, "network-interfaces") : 0;
}

static int read_net(struct config_reader *r, const json_t *value)
{
    int rc;

    r->net = config_net_default();
    rc = read_net_members(r, value);
    config_net_fini(&r->net);
    return rc;
}

int config_json_read_nets(struct config_reader *r, const json_t *value)
{
    if (json_is_array(value))
        config_clear_nets(&r->config);
    return config_reader_list(r, value, read_net);
}

static int read_entropy_limits(struct config_reader *r, const json_t *value)
{
    return config_json_read_limits(r, value, &r->config.entropy);
}

int config_json_read_entropy(struct config_reader *r, const json_t *value)
{
    static const struct config_key keys[] = {
        {"rate_limiter", read_entropy_limits},
    };

    r->config.has_entropy = true;
    r->config.entropy = (struct rate_config){0};
    return config_reader_object(r, value, keys, ARRAY_SIZE(keys));
}

static int read_amount(struct config_reader *r, const json_t *value)
{
    r->has_amount = true;
    return config_reader_number(
        r, value, 0, UINT32_MAX, &r->config.balloon.target_mib);
}

static int read_deflate(struct config_reader *r, const json_t *value)
{
    r->has_deflate = true;
    return config_reader_bool(r, value, &r->config.balloon.deflate_on_oom);
}

static int read_stats_interval(struct config_reader *r, const json_t *value)
{
    uint64_t seconds = 0;
    int rc = config_reader_number(r, value, 0, UINT16_MAX, &seconds);

    if (rc == 0)
        r->config.balloon.stats_interval_s = (uint32_t)seconds;
    return rc;
}

static int read_hinting(struct config_reader *r, const json_t *value)
{
    return config_reader_bool(r, value, &r->config.balloon.page_hinting);
}

static int read_reporting(struct config_reader *r, const json_t *value)
{
    return config_reader_bool(r, value, &r->config.balloon.page_reporting);
}

int config_json_read_balloon(struct config_reader *r, const json_t *value)
{
    static const struct config_key keys[] = {
        {"amount_mib", read_amount},
        {"deflate_on_oom", read_deflate},
        {"stats_polling_interval_s", read_stats_interval},
        {"free_page_hinting", read_hinting},
        {"free_page_reporting", read_reporting},
    };
    int rc;

    r->config.has_balloon = true;
    r->config.balloon = (struct config_balloon){0};
    rc = config_reader_object(r, value, keys, ARRAY_SIZE(keys));
    if (rc < 0)
        return rc;
    if (!r->has_amount)
        return config_reader_missing(r, "amount_mib");
    return r->has_deflate ? 0 : config_reader_missing(r, "deflate_on_oom");
}
