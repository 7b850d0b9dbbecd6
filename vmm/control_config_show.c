/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The description as the contract shows it: its keys in its order, null for
 * what is not there, and what is only ours under "spore". It can be read back
 * (config_load_json).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/control.h"
#include "vmm/control_api.h"
#include "vmm/control_config.h"

/*
 * The members of `from` that `keys` names, in that order, null for those it
 * lacks. Takes a reference of each; NULL without memory.
 */
static json_t *arrange(const json_t *from, const char *const *keys)
{
    json_t *to = json_object();

    for (; to != NULL && *keys != NULL; keys++) {
        json_t *value = json_object_get(from, *keys);

        value = value == NULL ? json_null() : json_incref(value);
        if (json_object_set_new(to, *keys, value) < 0) {
            json_decref(to);
            return NULL;
        }
    }
    return to;
}

/* What is only ours comes last. */
static json_t *with_spore(json_t *to, const json_t *from)
{
    json_t *spore = json_object_get(from, "spore");

    if (to != NULL && spore != NULL)
        (void)json_object_set(to, "spore", spore);
    return to;
}

/* A limiter has null for what it does not limit, and no burst is null, too. */
static json_t *arrange_limiter(const json_t *limiter)
{
    static const char *const buckets[] = {"bandwidth", "ops", NULL};
    static const char *const members[] = {
        "size", "one_time_burst", "refill_time", NULL};
    json_t *to = arrange(limiter, buckets);

    for (size_t i = 0; to != NULL && buckets[i] != NULL; i++) {
        json_t *bucket = json_object_get(to, buckets[i]);

        if (!json_is_object(bucket))
            continue;
        if (json_integer_value(json_object_get(bucket, "one_time_burst")) == 0)
            (void)json_object_del(bucket, "one_time_burst");
        (void)json_object_set_new(to, buckets[i], arrange(bucket, members));
    }
    return to;
}

static json_t *arrange_limits(json_t *to)
{
    static const char *const keys[] = {
        "rate_limiter", "rx_rate_limiter", "tx_rate_limiter"};

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        json_t *limiter = json_object_get(to, keys[i]);

        if (json_is_object(limiter))
            (void)json_object_set_new(to, keys[i], arrange_limiter(limiter));
    }
    return to;
}

static json_t *arrange_list(const json_t *list, const char *const *keys)
{
    json_t *to = json_array();
    size_t i;
    json_t *element;

    json_array_foreach(list, i, element)
    {
        /* A NULL of no memory is refused. */
        (void)json_array_append_new(
            to, arrange_limits(with_spore(arrange(element, keys), element)));
    }
    return to;
}

static void replace(json_t *root, const char *key, json_t *value)
{
    if (value != NULL)
        (void)json_object_set_new(root, key, value);
}

/* In place: each section, and then all of them. */
static json_t *arrange_all(const struct control *c, json_t *root)
{
    static const char *const sections[] = {"balloon", "drives", "boot-source",
        "cpu-config", "logger", "machine-config", "metrics", "mmds-config",
        "network-interfaces", "vsock", "entropy", "pmem", "memory-hotplug",
        NULL};
    static const char *const boot[] = {
        "kernel_image_path", "initrd_path", "boot_args", NULL};
    static const char *const drive[] = {"drive_id", "partuuid",
        "is_root_device", "cache_type", "is_read_only", "path_on_host",
        "rate_limiter", "io_engine", "socket", NULL};
    static const char *const net[] = {"iface_id", "host_dev_name", "guest_mac",
        "mtu", "rx_rate_limiter", "tx_rate_limiter", NULL};
    static const char *const pmem[] = {
        "id", "path_on_host", "root_device", "read_only", "rate_limiter", NULL};
    static const char *const entropy[] = {"rate_limiter", NULL};
    const json_t *section = json_object_get(root, "entropy");

    replace(root, "boot-source",
        arrange(json_object_get(root, "boot-source"), boot));
    replace(
        root, "drives", arrange_list(json_object_get(root, "drives"), drive));
    replace(root, "network-interfaces",
        arrange_list(json_object_get(root, "network-interfaces"), net));
    replace(root, "pmem", arrange_list(json_object_get(root, "pmem"), pmem));
    replace(root, "machine-config", control_machine_json(c));
    if (section != NULL)
        replace(root, "entropy", arrange_limits(arrange(section, entropy)));
    if (!config_has_vsock(c->inst->config))
        (void)json_object_del(root, "vsock");
    return with_spore(arrange(root, sections), root);
}

int control_config_get(void *opaque, struct router_call *call)
{
    const struct control *c = opaque;
    char *text = NULL;
    json_t *root;
    json_t *shown = NULL;
    int rc = config_to_json(c->inst->config, &text, &call->err);

    if (rc < 0)
        return rc;
    root = json_loads(text, 0, NULL);
    free(text);
    if (root != NULL)
        shown = arrange_all(c, root);
    json_decref(root);
    return control_api_reply(call, shown);
}
