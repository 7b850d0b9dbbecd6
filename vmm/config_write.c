/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine description to JSON, as config_json.c reads it.
 */
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/num.h"
#include "vmm/config.h"
#include "vmm/config_text.h"
#include "vmm/hw/cpuid_template.h"

static void json_freep(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}

/* What is put together, and whether memory or UTF-8 failed on the way. */
struct writer {
    json_error_t error;
    bool failed;
};

/* The value, or NULL for a member that is left out. */
static json_t *must(struct writer *w, json_t *value)
{
    w->failed = w->failed || value == NULL;
    return value;
}

static json_t *text_or_none(struct writer *w, const char *text)
{
    return text == NULL ? NULL : must(w, json_pack_ex(&w->error, 0, "s", text));
}

static json_t *number(struct writer *w, uint64_t n)
{
    return must(w, json_integer((json_int_t)n));
}

static json_t *pack_bucket(
    struct writer *w, const struct rate_bucket_config *bucket)
{
    if (bucket->size == 0 && bucket->refill_ms == 0 && bucket->burst == 0)
        return NULL;
    return must(w, json_pack_ex(&w->error, 0, "{s:o, s:o, s:o}", "size",
                       number(w, bucket->size), "refill_time",
                       number(w, bucket->refill_ms), "one_time_burst",
                       number(w, bucket->burst)));
}

/* NULL where there is no limit. */
static json_t *pack_limits(struct writer *w, const struct rate_config *limits)
{
    json_t *bytes = pack_bucket(w, &limits->bytes);
    json_t *ops = pack_bucket(w, &limits->ops);

    if (bytes == NULL && ops == NULL)
        return NULL;
    return must(w, json_pack_ex(&w->error, 0, "{s:o*, s:o*}", "bandwidth",
                       bytes, "ops", ops));
}

static json_t *pack_drive_spore(
    struct writer *w, const struct config_drive *drive)
{
    const char *overlay = drive->overlay_path;
    json_t *queues = NULL;
    json_t *growth = NULL;

    if (drive->overlay == CONFIG_OVERLAY_NONE && drive->queues == 1)
        return NULL;
    if (drive->overlay == CONFIG_OVERLAY_MEMORY)
        overlay = "memory";
    if (drive->queues != 1)
        queues = number(w, drive->queues);
    if (drive->max_growth != 0)
        growth = number(w, drive->max_growth);
    return must(
        w, json_pack_ex(&w->error, 0, "{s:o*, s:o*, s:o*}", "overlay",
               drive->overlay == CONFIG_OVERLAY_NONE ? NULL
                                                     : text_or_none(w, overlay),
               "num_queues", queues, "max_growth", growth));
}

static json_t *pack_drive(struct writer *w, const struct config_drive *drive)
{
    const char *engine = NULL;

    if (drive->engine == CONFIG_IO_SYNC)
        engine = "Sync";
    else if (drive->engine == CONFIG_IO_ASYNC)
        engine = "Async";
    return must(
        w, json_pack_ex(&w->error, 0,
               "{s:s, s:s, s:b, s:b, s:s*, s:s, s:s*, s:o*, s:o*}", "drive_id",
               drive->id, "path_on_host", drive->path, "is_root_device",
               (int)drive->is_root, "is_read_only", (int)drive->is_read_only,
               "partuuid", drive->partuuid, "cache_type",
               drive->is_writeback ? "Writeback" : "Unsafe", "io_engine",
               engine, "rate_limiter", pack_limits(w, &drive->limits), "spore",
               pack_drive_spore(w, drive)));
}

/* NULL if there is none. */
static json_t *pack_forwards(
    struct writer *w, const struct config_net *net, bool is_udp)
{
    json_t *list = NULL;

    for (uint32_t i = 0; i < net->forward_count; i++) {
        char text[CONFIG_TEXT_MAX];

        if (net->forwards[i].is_udp != is_udp)
            continue;
        if (list == NULL)
            list = must(w, json_array());
        config_format_forward(&net->forwards[i], text);
        if (json_array_append_new(list, json_string(text)) < 0)
            w->failed = true;
    }
    return list;
}

static json_t *pack_net_spore(struct writer *w, const struct config_net *net)
{
    static const char *const backends[] = {
        NULL, "fd", "user", "stream", "switch"};
    char address[2 * CONFIG_TEXT_MAX];
    char gateway[CONFIG_TEXT_MAX];
    const char *backend;
    json_t *spore;

    assert((unsigned int)net->backend < ARRAY_SIZE(backends));
    backend = backends[net->backend];
    config_format_ipv4(net->address, gateway);
    (void)snprintf(
        address, sizeof(address), "%s/%u", gateway, (unsigned int)net->prefix);
    config_format_ipv4(net->gateway, gateway);
    spore = must(w,
        json_pack_ex(&w->error, 0,
            "{s:s*, s:o*, s:s*, s:s*, s:s*, s:s*, s:o*, s:o*}", "backend",
            backend, "fd",
            net->backend == CONFIG_NET_FD ? number(w, (uint64_t)net->fd) : NULL,
            "path", net->backend == CONFIG_NET_STREAM ? net->target : NULL,
            "switch", net->backend == CONFIG_NET_SWITCH ? net->target : NULL,
            "address", net->prefix != 0 ? address : NULL, "gateway",
            net->gateway != 0 ? gateway : NULL, "tcp",
            pack_forwards(w, net, false), "udp", pack_forwards(w, net, true)));
    if (json_object_size(spore) != 0)
        return spore;
    json_decref(spore);
    return NULL;
}

static json_t *pack_net(struct writer *w, const struct config_net *net)
{
    char mac[CONFIG_TEXT_MAX];

    config_format_mac(net->mac, mac);
    return must(w,
        json_pack_ex(&w->error, 0, "{s:s, s:s*, s:s*, s:o*, s:o*, s:o*, s:o*}",
            "iface_id", net->id, "host_dev_name",
            net->backend == CONFIG_NET_TAP ? net->target : NULL, "guest_mac",
            net->has_mac ? mac : NULL, "mtu",
            net->mtu != 0 ? number(w, net->mtu) : NULL, "rx_rate_limiter",
            pack_limits(w, &net->rx), "tx_rate_limiter",
            pack_limits(w, &net->tx), "spore", pack_net_spore(w, net)));
}

static json_t *pack_balloon(struct writer *w, const struct config *config)
{
    const struct config_balloon *b = &config->balloon;

    if (!config->has_balloon)
        return NULL;
    return must(w,
        json_pack_ex(&w->error, 0, "{s:o, s:b, s:o, s:b, s:b}", "amount_mib",
            number(w, b->target_mib), "deflate_on_oom", (int)b->deflate_on_oom,
            "stats_polling_interval_s", number(w, b->stats_interval_s),
            "free_page_hinting", (int)b->page_hinting, "free_page_reporting",
            (int)b->page_reporting));
}

static json_t *pack_entropy(struct writer *w, const struct config *config)
{
    if (!config->has_entropy)
        return NULL;
    return must(w, json_pack_ex(&w->error, 0, "{s:o*}", "rate_limiter",
                       pack_limits(w, &config->entropy)));
}

static json_t *pack_drives(struct writer *w, const struct config *config)
{
    json_t *list = must(w, json_array());

    for (uint32_t i = 0; !w->failed && i < config->drive_count; i++) {
        if (json_array_append_new(list, pack_drive(w, &config->drives[i])) < 0)
            w->failed = true;
    }
    return list;
}

static json_t *pack_pmem(struct writer *w, const struct config_pmem *pmem)
{
    return must(
        w, json_pack_ex(&w->error, 0, "{s:s, s:s, s:b, s:b, s:o*}", "id",
               pmem->id, "path_on_host", pmem->path, "root_device",
               (int)pmem->is_root, "read_only", (int)pmem->is_read_only,
               "rate_limiter", pack_limits(w, &pmem->limits)));
}

static json_t *pack_pmems(struct writer *w, const struct config *config)
{
    json_t *list;

    if (config->pmem_count == 0)
        return NULL;
    list = must(w, json_array());
    for (uint32_t i = 0; !w->failed && i < config->pmem_count; i++) {
        if (json_array_append_new(list, pack_pmem(w, &config->pmems[i])) < 0)
            w->failed = true;
    }
    return list;
}

static json_t *pack_nets(struct writer *w, const struct config *config)
{
    json_t *list;

    if (config->net_count == 0)
        return NULL;
    list = must(w, json_array());
    for (uint32_t i = 0; !w->failed && i < config->net_count; i++) {
        if (json_array_append_new(list, pack_net(w, &config->nets[i])) < 0)
            w->failed = true;
    }
    return list;
}

/* The service, if an interface has it. */
static json_t *pack_mmds(struct writer *w, const struct config *config)
{
    json_t *list;
    char address[CONFIG_TEXT_MAX];

    if (!config_has_mmds(config))
        return NULL;
    list = must(w, json_array());
    for (uint32_t i = 0; !w->failed && i < config->net_count; i++) {
        if (config->nets[i].has_mmds &&
            json_array_append_new(list, text_or_none(w, config->nets[i].id)) <
                0)
            w->failed = true;
    }
    config_format_ipv4(config->mmds.address, address);
    return must(w, json_pack_ex(&w->error, 0, "{s:s, s:o, s:s, s:b}", "version",
                       config->mmds.is_v2 ? "V2" : "V1", "network_interfaces",
                       list, "ipv4_address", address, "imds_compat",
                       (int)config->mmds.imds_compat));
}

/* A level by its name, what is to be hidden as a list; NULL for neither. */
static json_t *pack_cpu_template(struct writer *w, const char *text)
{
    json_t *list;

    if (text == NULL)
        return NULL;
    if (cpuid_template_is_level(text))
        return text_or_none(w, text);
    list = must(w, json_array());
    while (!w->failed && *text != '\0') {
        size_t len = strcspn(text, ",");

        if (json_array_append_new(list, json_stringn(text, len)) < 0)
            w->failed = true;
        text += len;
        text += *text == ',';
    }
    return list;
}

static json_t *pack_spore(struct writer *w, const struct config *config)
{
    uint64_t whole = num_align_up(config->mem_bytes, NUM_MIB);
    json_t *exact = NULL;
    json_t *vconsole = NULL;
    json_t *vsock = NULL;

    if (whole != config->mem_bytes)
        exact = number(w, config->mem_bytes);
    if (config->has_vconsole)
        vconsole = must(w, json_true());
    if (config->has_vsock)
        vsock = must(w, json_true());
    return must(
        w, json_pack_ex(&w->error, 0, "{s:b, s:b, s:s, s:o*, s:o*, s:o*, s:o*}",
               "agent", (int)config->has_agent, "exit_port",
               (int)config->has_exit_port, "discovery",
               config->discovery == CONFIG_DISCOVERY_ACPI ? "acpi" : "cmdline",
               "mem_bytes", exact, "virtio_console", vconsole, "vsock", vsock,
               "cpu_template", pack_cpu_template(w, config->cpu_template)));
}

static json_t *pack_config(struct writer *w, const struct config *config)
{
    uint64_t mib = num_div_up(config->mem_bytes, NUM_MIB);

    /* "o" takes over its object even when packing fails. */
    return must(w,
        json_pack_ex(&w->error, 0,
            "{s:{s:s*, s:s*, s:s*}, s:o, s:o*, s:o*, s:o*, s:{s:I, s:I, s:s*}, "
            "s:{s:I, s:s*}, s:o*, s:o*, s:o}",
            "boot-source", "kernel_image_path", config->kernel, "boot_args",
            config->boot_args, "initrd_path", config->initrd, "drives",
            pack_drives(w, config), "pmem", pack_pmems(w, config),
            "network-interfaces", pack_nets(w, config), "mmds-config",
            pack_mmds(w, config), "machine-config", "vcpu_count",
            (json_int_t)config->vcpus, "mem_size_mib", (json_int_t)mib,
            "huge_pages", config->has_huge_pages ? "2M" : NULL, "vsock",
            "guest_cid", (json_int_t)config->guest_cid, "uds_path",
            config->vsock_path, "entropy", pack_entropy(w, config), "balloon",
            pack_balloon(w, config), "spore", pack_spore(w, config)));
}

int config_to_json(
    const struct config *config, char **ret_json, struct err *err)
{
    CC_CLEANUP(json_freep) json_t *root = NULL;
    struct writer w = {0};
    char *text;
    int rc = config_check(config, err);

    if (rc < 0)
        return rc;
    root = pack_config(&w, config);
    if (w.failed && w.error.text[0] != '\0')
        return err_set(err, EILSEQ,
            "the description cannot be written as JSON: %s", w.error.text);
    if (w.failed)
        return err_sys(err, ENOMEM, "description");
    text = json_dumps(root, JSON_INDENT(2));
    if (text == NULL)
        return err_sys(err, ENOMEM, "description");
    *ret_json = text;
    return 0;
}
