/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control_api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/cc.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/control.h"
#include "vmm/control_config.h"

#define NOT_SUPPORTED "The requested operation is not supported: "

int control_api_reply(struct router_call *call, json_t *json)
{
    call->json = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return call->json != NULL
               ? 0
               : err_sys(&call->err, ENOMEM, "Internal VMM error");
}

static int get_instance(void *opaque, struct router_call *call)
{
    const struct control *c = opaque;

    return control_api_reply(
        call, json_pack("{s:s, s:s, s:s, s:s}", "id", c->id, "state",
                  instance_phase_name(c->inst->phase), "vmm_version",
                  CONTROL_API_VERSION, "app_name", "Firecracker"));
}

static int get_version(void *opaque, struct router_call *call)
{
    (void)opaque;
    return control_api_reply(
        call, json_pack("{s:s}", "firecracker_version", CONTROL_API_VERSION));
}

static const char *const vm_states[] = {"Paused", "Resumed", NULL};
static const struct schema_field vm_fields[] = {
    {.name = "state",
        .type = SCHEMA_ENUM,
        .required = true,
        .variants = vm_states},
    SCHEMA_END("Vm"),
};

static int patch_vm(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    bool pauses = strcmp(schema_string(call->body, "state"), "Paused") == 0;
    uint64_t begin_ns = clock_now_ns();
    int rc = pauses ? instance_pause(c->inst, &call->err)
                    : instance_resume(c->inst, &call->err);

    if (rc == 0)
        c->metrics.latency_us[pauses ? METRICS_PAUSE : METRICS_RESUME] =
            (clock_now_ns() - begin_ns) / 1000;
    return rc < 0 ? err_wrap(&call->err, rc, "Internal VMM error") : 0;
}

static const char *const actions[] = {
    "FlushMetrics", "InstanceStart", "SendCtrlAltDel", NULL};
static const struct schema_field action_fields[] = {
    {.name = "action_type",
        .type = SCHEMA_ENUM,
        .required = true,
        .variants = actions},
    SCHEMA_END("ActionBody"),
};

enum router_phase control_api_phase(const struct control *control)
{
    return control->inst->phase == INSTANCE_NEW ? ROUTER_BEFORE : ROUTER_AFTER;
}

static int put_action(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    const char *action = schema_string(call->body, "action_type");
    bool is_before = control_api_phase(c) == ROUTER_BEFORE;
    int rc = 0;

    if (strcmp(action, "InstanceStart") == 0 && is_before)
        return control_boot(c, call);
    if ((strcmp(action, "InstanceStart") == 0) != is_before)
        return err_set(&call->err, EBUSY,
            "The requested operation is not supported %s starting the "
            "microVM.",
            is_before ? "before" : "after");
    if (strcmp(action, "FlushMetrics") == 0)
        rc = metrics_write(&c->metrics, &call->err);
    if (strcmp(action, "SendCtrlAltDel") == 0)
        rc = instance_power_button(c->inst, &call->err);
    return rc < 0 ? err_wrap(&call->err, rc, "Internal VMM error") : 0;
}

/* What has its place in the contract and is not there yet. */
static int not_supported(void *opaque, struct router_call *call)
{
    (void)opaque;
    return err_set(&call->err, EOPNOTSUPP, NOT_SUPPORTED "%s %s",
        http_verb_name(call->request->verb), call->request->path);
}

/* Devices come and go over PCI there, which our machines do not have. */
static int no_pci(void *opaque, struct router_call *call)
{
    (void)opaque;
    return err_set(&call->err, EOPNOTSUPP, "PCI is not enabled");
}

/*
 * Paths that begin as one of the contract's and go on in another way are
 * refused in words of their own.
 */
static void explain(
    const struct http_request *request, char ret_text[ROUTER_EXPLAIN_MAX])
{
    static const struct {
        enum http_verb verb;
        const char *start;
        const char *fmt;
    } texts[] = {
        {HTTP_VERB_GET, "/balloon/hinting/",
            "Unrecognized GET request path `/hinting/%s`."},
        {HTTP_VERB_GET, "/balloon/hinting",
            "Unrecognized GET request path `/hinting/%s`."},
        {HTTP_VERB_GET, "/balloon/", "Unrecognized GET request path `%s`."},
        {HTTP_VERB_PATCH, "/balloon/hinting/",
            "Unrecognized PATCH request path `/hinting/%s`."},
        {HTTP_VERB_PATCH, "/balloon/hinting",
            "Unrecognized PATCH request path `/hinting/%s`."},
        {HTTP_VERB_PUT, "/mmds/", "Unrecognized PUT request path `%s`."},
        {HTTP_VERB_PUT, "/snapshot/",
            "Invalid request method and/or path: PUT /snapshot/%s."},
    };
    const char *path = request->path;

    if (request->verb == HTTP_VERB_PUT &&
        (strcmp(path, "/snapshot") == 0 || strcmp(path, "/snapshot/") == 0)) {
        (void)strcpy(ret_text, "Missing snapshot operation type.");
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        size_t len = strlen(texts[i].start);

        if (request->verb != texts[i].verb ||
            strncmp(path, texts[i].start, len) != 0)
            continue;
        path += len;
        (void)snprintf(ret_text, ROUTER_EXPLAIN_MAX, "%.*s%.*s%s",
            (int)(strstr(texts[i].fmt, "%s") - texts[i].fmt), texts[i].fmt,
            (int)strcspn(path, "/"), path, strstr(texts[i].fmt, "%s") + 2);
        return;
    }
}

static const struct schema_field stop_fields[] = {
    {.name = "timeout_ms", .type = SCHEMA_UINT, .max = 3600000},
    {.name = NULL},
};
static const struct schema_field no_fields[] = {{.name = NULL}};

#define ROUTE(verb_, path_, phases_, fields_, handle_)                         \
    {                                                                          \
        .verb = HTTP_VERB_##verb_, .path = (path_),                            \
        .phases = ROUTER_##phases_, .fields = (fields_), .handle = (handle_)   \
    }
#define ROUTE_EMPTY(verb_, path_, phases_, fields_, handle_)                   \
    {                                                                          \
        .verb = HTTP_VERB_##verb_, .path = (path_),                            \
        .phases = ROUTER_##phases_, .fields = (fields_), .handle = (handle_),  \
        .may_be_empty = true                                                   \
    }

/* In the order of the contract; ours at the end. */
static const struct router_route routes[] = {
    ROUTE(GET, "/", ALWAYS, NULL, get_instance),
    ROUTE(GET, "/version", ALWAYS, NULL, get_version),
    ROUTE(GET, "/vm/config", ALWAYS, NULL, control_config_get),
    ROUTE(PATCH, "/vm", AFTER, vm_fields, patch_vm),
    ROUTE(PUT, "/actions", ALWAYS, action_fields, put_action),
    ROUTE(GET, "/machine-config", ALWAYS, NULL, control_machine_get),
    ROUTE(PUT, "/machine-config", BEFORE, control_machine_fields,
        control_machine_put),
    ROUTE(PATCH, "/machine-config", BEFORE, control_machine_patch_fields,
        control_machine_patch),
    ROUTE(PUT, "/boot-source", BEFORE, control_boot_fields, control_boot_put),
    ROUTE(PUT, "/cpu-config", BEFORE, control_cpu_fields, control_cpu_put),
    ROUTE(
        PUT, "/drives/*", ALWAYS, control_drive_put_fields, control_drive_put),
    ROUTE(PATCH, "/drives/*", AFTER, control_drive_fields, control_drive_patch),
    ROUTE(DELETE, "/drives/*", AFTER, NULL, no_pci),
    ROUTE(PUT, "/pmem/*", ALWAYS, control_pmem_put_fields, control_pmem_put),
    ROUTE(
        PATCH, "/pmem/*", AFTER, control_pmem_patch_fields, control_pmem_patch),
    ROUTE(DELETE, "/pmem/*", AFTER, NULL, no_pci),
    ROUTE(PUT, "/network-interfaces/*", ALWAYS, control_net_put_fields,
        control_net_put),
    ROUTE(PATCH, "/network-interfaces/*", AFTER, control_net_fields,
        control_net_patch),
    ROUTE(DELETE, "/network-interfaces/*", AFTER, NULL, no_pci),
    ROUTE(PUT, "/vsock", BEFORE, control_vsock_fields, control_vsock_put),
    ROUTE(PUT, "/entropy", BEFORE, control_entropy_fields, control_entropy_put),
    ROUTE(PUT, "/serial", BEFORE, control_serial_fields, control_serial_put),
    ROUTE(GET, "/balloon", ALWAYS, NULL, control_balloon_get),
    ROUTE(PUT, "/balloon", BEFORE, control_balloon_put_fields,
        control_balloon_put),
    ROUTE(PATCH, "/balloon", AFTER, control_balloon_fields,
        control_balloon_patch),
    ROUTE(GET, "/balloon/statistics", AFTER, NULL, control_balloon_stats_get),
    ROUTE(PATCH, "/balloon/statistics", AFTER, control_balloon_stats_fields,
        control_balloon_stats_patch),
    ROUTE_EMPTY(PATCH, "/balloon/hinting/start", AFTER,
        control_balloon_hint_fields, control_balloon_hint_start),
    ROUTE(GET, "/balloon/hinting/status", AFTER, NULL,
        control_balloon_hint_status),
    ROUTE_EMPTY(
        PATCH, "/balloon/hinting/stop", AFTER, NULL, control_balloon_hint_stop),
    ROUTE(GET, "/hotplug/memory", AFTER, NULL, not_supported),
    ROUTE(
        PUT, "/hotplug/memory", BEFORE, control_hotplug_fields, not_supported),
    ROUTE(PATCH, "/hotplug/memory", AFTER, control_hotplug_patch_fields,
        not_supported),
    ROUTE(PUT, "/logger", BEFORE, control_logger_fields, control_logger_put),
    ROUTE(PUT, "/metrics", BEFORE, control_metrics_fields, control_metrics_put),
    ROUTE(GET, "/mmds", ALWAYS, NULL, control_mmds_get),
    ROUTE(PUT, "/mmds", ALWAYS, NULL, control_mmds_put),
    ROUTE(PATCH, "/mmds", ALWAYS, NULL, control_mmds_patch),
    ROUTE(PUT, "/mmds/config", BEFORE, control_mmds_fields,
        control_mmds_config_put),
    ROUTE(PUT, "/snapshot/create", AFTER, control_create_fields,
        control_snapshot_create),
    ROUTE(PUT, "/snapshot/load", BEFORE, control_load_fields,
        control_snapshot_load),
    ROUTE(GET, "/spore", ALWAYS, NULL, control_spore_get),
    ROUTE(PUT, "/spore/stop", ALWAYS, stop_fields, control_spore_stop),
    ROUTE(PUT, "/spore/kill", ALWAYS, no_fields, control_spore_kill),
    ROUTE_EMPTY(PUT, "/spore/snapshot", AFTER, control_save_fields,
        control_spore_snapshot),
    ROUTE(GET, "/spore/capture", AFTER, NULL, control_capture_plan),
    ROUTE_EMPTY(
        PUT, "/spore/capture", AFTER, control_capture_fields, control_capture),
    ROUTE(PUT, "/spore/capture/commit", AFTER, control_commit_fields,
        control_capture_commit),
    ROUTE_EMPTY(PUT, "/spore/push", AFTER, no_fields, control_spore_push),
    ROUTE_EMPTY(
        PUT, "/spore/reset", AFTER, control_reset_fields, control_spore_reset),
    ROUTE(GET, "/spore/vsock/*", AFTER, NULL, control_spore_vsock),
};

static void tally(void *opaque, const struct router_route *route,
    const struct router_call *call, int rc)
{
    struct metrics *metrics = &((struct control *)opaque)->metrics;

    metrics_tally(metrics, route, rc);
    metrics->deprecated += call->is_deprecated;
    log_info("api", "The API server received a %s request on \"%s\".%s%s",
        http_verb_name(route->verb), call->request->path,
        rc < 0 ? " It was refused. " : "",
        rc < 0 && call->err.text[0] != '\0' ? call->err.text : "");
}

struct router control_api_router(struct control *control)
{
    return (struct router){.routes = routes,
        .count = ARRAY_SIZE(routes),
        .phase = control_api_phase(control),
        .explain = explain,
        .tally = tally,
        .opaque = control};
}
