/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/cc.h"
#include "vmm/base/num.h"
#include "vmm/control.h"
#include "vmm/control_api.h"
#include "vmm/control_config.h"

#define INTERNAL       "Internal VMM error: "
#define BALLOON_UPDATE "Balloon update error: "
#define NOT_FOUND      "Failed perform action on device: Device not found"
#define UPDATE(what)   "Unable to patch the " what " device: "
#define VERIFY         " Please verify the request arguments."
#define NO_STATS       "Balloon: Received stats query when stats are disabled."
#define STATS_CHANGE                                                           \
    "Balloon: Statistics cannot be enabled/disabled after activation."
#define TOO_MUCH   "Balloon: Requested memory should be less than "
#define NOT_ACTIVE "Balloon: Device not activated yet."
#define NO_HINTING "Balloon: Attempting to use hinting when not enabled"

#define PAGES_PER_MIB (NUM_MIB / NUM_PAGE_SIZE)

/* ---- rate limits -------------------------------------------------------- */

const struct schema_field control_bucket_fields[] = {
    {.name = "size", .type = SCHEMA_UINT, .required = true, .max = UINT64_MAX},
    {.name = "one_time_burst", .type = SCHEMA_UINT, .max = UINT64_MAX},
    {.name = "refill_time",
        .type = SCHEMA_UINT,
        .required = true,
        .max = UINT64_MAX},
    {.name = NULL, .name_of = "TokenBucketConfig", .is_open = true},
};
const struct schema_field control_limiter_fields[] = {
    {.name = "bandwidth",
        .type = SCHEMA_OBJECT,
        .object = control_bucket_fields},
    {.name = "ops", .type = SCHEMA_OBJECT, .object = control_bucket_fields},
    SCHEMA_END("RateLimiterConfig"),
};

struct rate_bucket_config control_get_bucket(const json_t *bucket)
{
    struct rate_bucket_config b = {.size = schema_uint(bucket, "size", 0),
        .refill_ms = schema_uint(bucket, "refill_time", 0),
        .burst = schema_uint(bucket, "one_time_burst", 0)};

    /* So slow a refill is no limit in the contract either. */
    return b.refill_ms > RATE_REFILL_MS_MAX ? (struct rate_bucket_config){0}
                                            : b;
}

static bool get_bucket(const json_t *limiter, const char *name,
    struct rate_bucket_config *ret_bucket)
{
    const json_t *bucket = json_object_get(limiter, name);

    if (!json_is_object(bucket))
        return false;
    *ret_bucket = control_get_bucket(bucket);
    return true;
}

/* Buckets that are not there keep their limits. */
struct rate_change control_get_limits(const json_t *body, const char *name)
{
    const json_t *limiter = json_object_get(body, name);
    struct rate_change change = {.has_bytes = false};

    change.has_bytes = get_bucket(limiter, "bandwidth", &change.limits.bytes);
    change.has_ops = get_bucket(limiter, "ops", &change.limits.ops);
    return change;
}

/* ---- drives ------------------------------------------------------------- */

const struct schema_field control_drive_fields[] = {
    {.name = "drive_id", .type = SCHEMA_STRING, .required = true},
    {.name = "path_on_host", .type = SCHEMA_STRING},
    {.name = "rate_limiter",
        .type = SCHEMA_OBJECT,
        .object = control_limiter_fields},
    SCHEMA_END("BlockDeviceUpdateConfig"),
};

static struct machine_drive *find_drive(struct machine *m, const char *id)
{
    for (uint32_t i = 0; i < CONFIG_DRIVES_MAX; i++) {
        if (m->drives[i] != NULL && strcmp(m->drives[i]->config->id, id) == 0)
            return m->drives[i];
    }
    return NULL;
}

int control_drive_patch(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct machine_drive *drive = find_drive(&c->inst->machine, call->id);
    struct rate_change limits = control_get_limits(call->body, "rate_limiter");
    const char *path = schema_string(call->body, "path_on_host");
    uint32_t fds = call->request->fd_count;
    int rc = 0;

    if (fds > 1)
        return err_set(&call->err, EINVAL,
            "Drive config error: one descriptor is the file, not %u", fds);
    if (fds == 1 && path == NULL)
        return err_set(&call->err, EINVAL,
            "Drive config error: path_on_host: what is the file called?");
    if (drive == NULL)
        return err_set(&call->err, ENODEV,
            "Drive config error: " UPDATE("block") NOT_FOUND VERIFY);
    if (path != NULL && fds == 0 && c->inst->outside != NULL)
        rc = err_set(&call->err, EPERM,
            "a machine in a jail opens no file: pass %s as a descriptor", path);
    else if (path != NULL)
        rc = machine_drive_replace(
            drive, path, fds == 1 ? call->request->fds[0] : -1, &call->err);
    if (rc == 0 && (limits.has_bytes || limits.has_ops))
        rc = machine_drive_set_rate(drive, &limits, &call->err);
    return rc < 0 ? err_wrap(&call->err, rc, "Drive config error") : 0;
}

/* ---- persistent memory -------------------------------------------------- */

int control_pmem_patch(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct machine *m = &c->inst->machine;
    struct rate_change limits = control_get_limits(call->body, "rate_limiter");
    struct machine_pmem *pmem = NULL;
    struct rate_config next;
    int rc;

    /* Without limits nothing is asked of it, there as here. */
    if (json_object_get(call->body, "rate_limiter") == NULL)
        return 0;
    for (uint32_t i = 0; i < CONFIG_PMEMS_MAX; i++) {
        if (m->pmems[i] != NULL &&
            strcmp(m->pmems[i]->config->id, call->id) == 0)
            pmem = m->pmems[i];
    }
    if (pmem == NULL)
        return err_set(&call->err, ENODEV,
            "Pmem config error: " UPDATE("pmem") NOT_FOUND VERIFY);
    device_lock(&pmem->pmem.virtio.base);
    next = pmem->pmem.rate.config;
    if (limits.has_bytes)
        next.bytes = limits.limits.bytes;
    if (limits.has_ops)
        next.ops = limits.limits.ops;
    rc = pmem_set_rate(&pmem->pmem, &next, &call->err);
    device_unlock(&pmem->pmem.virtio.base);
    return rc < 0 ? err_wrap(&call->err, rc, "Pmem config error") : 0;
}

/* ---- network ------------------------------------------------------------ */

const struct schema_field control_net_fields[] = {
    {.name = "iface_id", .type = SCHEMA_STRING, .required = true},
    {.name = "rx_rate_limiter",
        .type = SCHEMA_OBJECT,
        .object = control_limiter_fields},
    {.name = "tx_rate_limiter",
        .type = SCHEMA_OBJECT,
        .object = control_limiter_fields},
    SCHEMA_END("NetworkInterfaceUpdateConfig"),
};

static struct machine_net *find_net(struct machine *m, const char *id)
{
    for (uint32_t i = 0; i < CONFIG_NETS_MAX; i++) {
        if (m->nets[i] != NULL && strcmp(m->nets[i]->config->id, id) == 0)
            return m->nets[i];
    }
    return NULL;
}

int control_net_patch(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct machine_net *net = find_net(&c->inst->machine, call->id);
    struct rate_change rx = control_get_limits(call->body, "rx_rate_limiter");
    struct rate_change tx = control_get_limits(call->body, "tx_rate_limiter");
    struct device *dev;
    int rc;

    if (net == NULL)
        return err_set(&call->err, ENODEV,
            "Network config error: Unable to update the net "
            "device: " NOT_FOUND);
    dev = &net->net.virtio.base;
    device_lock(dev);
    rc = net_limit_set(&net->rx, &rx, &call->err);
    if (rc == 0)
        rc = net_limit_set(&net->tx, &tx, &call->err);
    device_unlock(dev);
    return rc < 0 ? err_wrap(&call->err, rc, "Network config error") : 0;
}

/* ---- balloon ------------------------------------------------------------ */

const struct schema_field control_balloon_fields[] = {
    {.name = "amount_mib",
        .type = SCHEMA_UINT,
        .required = true,
        .max = UINT32_MAX},
    SCHEMA_END("BalloonUpdateConfig"),
};
const struct schema_field control_balloon_stats_fields[] = {
    {.name = "stats_polling_interval_s",
        .type = SCHEMA_UINT,
        .required = true,
        .max = UINT16_MAX},
    SCHEMA_END("BalloonUpdateStatsConfig"),
};
const struct schema_field control_balloon_hint_fields[] = {
    {.name = "acknowledge_on_stop", .type = SCHEMA_BOOL, .not_null = true},
    SCHEMA_END("StartHintingCmd"),
};

static struct balloon *get_balloon(
    const struct control *c, const char *prefix, struct err *err)
{
    struct balloon *balloon = c->inst->machine.balloon;

    if (balloon == NULL)
        (void)err_set(err, ENODEV, "%s" NOT_FOUND, prefix);
    return balloon;
}

int control_balloon_get(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    const struct config_balloon *config = &c->inst->config->balloon;
    struct balloon *b;
    uint64_t target;
    uint64_t interval_ms;

    if (control_api_phase(c) == ROUTER_BEFORE)
        return control_config_balloon_get(c, call);
    b = get_balloon(c, INTERNAL, &call->err);
    if (b == NULL)
        return -ENODEV;
    device_lock(&b->virtio.base);
    target = b->state.target;
    interval_ms = b->interval_ms;
    device_unlock(&b->virtio.base);
    return control_api_reply(
        call, json_pack("{s:I, s:b, s:I, s:b, s:b}", "amount_mib",
                  (json_int_t)(target / PAGES_PER_MIB), "deflate_on_oom",
                  (int)config->deflate_on_oom, "stats_polling_interval_s",
                  (json_int_t)(interval_ms / 1000), "free_page_hinting",
                  (int)config->page_hinting, "free_page_reporting",
                  (int)config->page_reporting));
}

int control_balloon_patch(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct balloon *b = get_balloon(c, BALLOON_UPDATE, &call->err);
    int rc;

    if (b == NULL)
        return -ENODEV;
    device_lock(&b->virtio.base);
    rc = balloon_set_target(
        b, schema_uint(call->body, "amount_mib", 0) * PAGES_PER_MIB, NULL);
    device_unlock(&b->virtio.base);
    return rc < 0 ? err_set(&call->err, rc, BALLOON_UPDATE TOO_MUCH "%lluMiB",
                        (unsigned long long)schema_uint(
                            call->body, "amount_mib", 0))
                  : 0;
}

static json_t *stats_json(
    uint64_t target, uint64_t actual, const struct balloon_guest_stats *guest)
{
    static const char *const names[BALLOON_TAGS] = {"swap_in", "swap_out",
        "major_faults", "minor_faults", "free_memory", "total_memory",
        "available_memory", "disk_caches", "hugetlb_allocations",
        "hugetlb_failures", "oom_kill", "alloc_stall", "async_scan",
        "direct_scan", "async_reclaim", "direct_reclaim"};
    json_t *json = json_pack("{s:I, s:I, s:I, s:I}", "target_pages",
        (json_int_t)target, "actual_pages", (json_int_t)actual, "target_mib",
        (json_int_t)(target / PAGES_PER_MIB), "actual_mib",
        (json_int_t)(actual / PAGES_PER_MIB));

    for (uint32_t i = 0; json != NULL && i < BALLOON_TAGS; i++) {
        if ((guest->present >> i & 1) != 0)
            (void)json_object_set_new(
                json, names[i], json_integer((json_int_t)guest->values[i]));
    }
    return json;
}

int control_balloon_stats_get(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct balloon *b = get_balloon(c, INTERNAL, &call->err);
    struct balloon_guest_stats guest;
    uint64_t target;
    uint64_t actual;
    bool enabled;

    if (b == NULL)
        return -ENODEV;
    device_lock(&b->virtio.base);
    guest = b->guest;
    target = b->state.target;
    actual = b->state.actual;
    enabled = b->interval_ms != 0;
    /* Those of now are there at the next request. */
    if (enabled)
        (void)balloon_poll_stats(b);
    device_unlock(&b->virtio.base);
    if (!enabled)
        return err_set(&call->err, EOPNOTSUPP, INTERNAL NO_STATS);
    return control_api_reply(call, stats_json(target, actual, &guest));
}

int control_balloon_stats_patch(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct balloon *b = get_balloon(c, BALLOON_UPDATE, &call->err);
    uint64_t interval_s =
        schema_uint(call->body, "stats_polling_interval_s", 0);
    bool enabled;
    int rc = 0;

    if (b == NULL)
        return -ENODEV;
    device_lock(&b->virtio.base);
    enabled = b->interval_ms != 0;
    if (enabled && interval_s != 0)
        rc = balloon_set_interval(b, interval_s * 1000, &call->err);
    device_unlock(&b->virtio.base);
    if (enabled != (interval_s != 0))
        return err_set(&call->err, EINVAL, BALLOON_UPDATE STATS_CHANGE);
    return rc < 0 ? err_wrap(&call->err, rc, "Balloon update error") : 0;
}

static int no_hinting(struct router_call *call)
{
    return err_set(&call->err, EOPNOTSUPP, BALLOON_UPDATE NO_HINTING);
}

int control_balloon_hint_start(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct balloon *b = get_balloon(c, BALLOON_UPDATE, &call->err);
    bool ack = schema_bool(call->body, "acknowledge_on_stop", true);
    int rc;

    if (b == NULL)
        return -ENODEV;
    if (!c->inst->config->balloon.page_hinting)
        return no_hinting(call);
    device_lock(&b->virtio.base);
    rc = balloon_start_hinting(b, ack, NULL);
    device_unlock(&b->virtio.base);
    return rc < 0 ? err_set(&call->err, rc, BALLOON_UPDATE NOT_ACTIVE) : 0;
}

int control_balloon_hint_stop(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct balloon *b = get_balloon(c, BALLOON_UPDATE, &call->err);

    if (b == NULL)
        return -ENODEV;
    if (!c->inst->config->balloon.page_hinting)
        return no_hinting(call);
    device_lock(&b->virtio.base);
    balloon_stop_hinting(b);
    device_unlock(&b->virtio.base);
    return 0;
}

int control_balloon_hint_status(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct balloon *b = get_balloon(c, BALLOON_UPDATE, &call->err);
    uint32_t host_cmd;
    uint32_t guest_cmd;

    if (b == NULL)
        return -ENODEV;
    if (!c->inst->config->balloon.page_hinting)
        return no_hinting(call);
    device_lock(&b->virtio.base);
    host_cmd = b->state.host_cmd;
    guest_cmd = b->state.guest_cmd;
    device_unlock(&b->virtio.base);
    return control_api_reply(
        call, json_pack("{s:I, s:I}", "host_cmd", (json_int_t)host_cmd,
                  "guest_cmd", (json_int_t)guest_cmd));
}
