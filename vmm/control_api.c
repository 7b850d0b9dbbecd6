/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control_api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/cc.h"
#include "vmm/control.h"

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

static int get_config(void *opaque, struct router_call *call)
{
    const struct control *c = opaque;

    return config_to_json(c->inst->config, &call->json, &call->err);
}

static int get_machine_config(void *opaque, struct router_call *call)
{
    const struct config *config =
        ((const struct control *)opaque)->inst->config;

    return control_api_reply(call,
        json_pack("{s:i, s:I, s:b, s:b}", "vcpu_count", (int)config->vcpus,
            "mem_size_mib", (json_int_t)(config->mem_bytes >> 20), "smt", 0,
            "track_dirty_pages", 0));
}

static const char *const vm_states[] = {"Paused", "Resumed", NULL};
static const struct schema_field vm_fields[] = {
    {.name = "state",
        .type = SCHEMA_ENUM,
        .required = true,
        .variants = vm_states},
    {.name = NULL},
};

static int patch_vm(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    int rc;

    if (strcmp(schema_string(call->body, "state"), "Paused") == 0)
        rc = instance_pause(c->inst, &call->err);
    else
        rc = instance_resume(c->inst, &call->err);
    return rc < 0 ? err_wrap(&call->err, rc, "Internal VMM error") : 0;
}

static const char *const actions[] = {
    "FlushMetrics", "InstanceStart", "SendCtrlAltDel", NULL};
static const struct schema_field action_fields[] = {
    {.name = "action_type",
        .type = SCHEMA_ENUM,
        .required = true,
        .variants = actions},
    {.name = NULL},
};

static int put_action(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    const char *action = schema_string(call->body, "action_type");
    int rc = 0;

    if (strcmp(action, "InstanceStart") == 0)
        return err_set(&call->err, EBUSY,
            "The requested operation is not supported after starting the "
            "microVM.");
    /* Nothing collects metrics yet, so all there are have been flushed. */
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

static const struct schema_field stop_fields[] = {
    {.name = "timeout_ms", .type = SCHEMA_UINT, .max = 3600000},
    {.name = NULL},
};
static const struct schema_field no_fields[] = {{.name = NULL}};

#define GET    HTTP_VERB_GET
#define PUT    HTTP_VERB_PUT
#define PATCH  HTTP_VERB_PATCH
#define DELETE HTTP_VERB_DELETE

/* In the order of the contract; ours at the end. */
static const struct router_route routes[] = {
    {GET, "/", ROUTER_ALWAYS, NULL, get_instance},
    {GET, "/version", ROUTER_ALWAYS, NULL, get_version},
    {GET, "/vm/config", ROUTER_ALWAYS, NULL, get_config},
    {PATCH, "/vm", ROUTER_AFTER, vm_fields, patch_vm},
    {PUT, "/actions", ROUTER_ALWAYS, action_fields, put_action},
    {GET, "/machine-config", ROUTER_ALWAYS, NULL, get_machine_config},
    {PUT, "/machine-config", ROUTER_BEFORE, NULL, not_supported},
    {PATCH, "/machine-config", ROUTER_BEFORE, NULL, not_supported},
    {PUT, "/boot-source", ROUTER_BEFORE, NULL, not_supported},
    {PUT, "/cpu-config", ROUTER_BEFORE, NULL, not_supported},
    {PUT, "/drives/*", ROUTER_BEFORE, NULL, not_supported},
    {PATCH, "/drives/*", ROUTER_AFTER, NULL, not_supported},
    {DELETE, "/drives/*", ROUTER_AFTER, NULL, not_supported},
    {PUT, "/pmem/*", ROUTER_BEFORE, NULL, not_supported},
    {PATCH, "/pmem/*", ROUTER_AFTER, NULL, not_supported},
    {DELETE, "/pmem/*", ROUTER_AFTER, NULL, not_supported},
    {PUT, "/network-interfaces/*", ROUTER_BEFORE, NULL, not_supported},
    {PATCH, "/network-interfaces/*", ROUTER_AFTER, NULL, not_supported},
    {DELETE, "/network-interfaces/*", ROUTER_AFTER, NULL, not_supported},
    {PUT, "/vsock", ROUTER_BEFORE, NULL, not_supported},
    {PUT, "/entropy", ROUTER_BEFORE, NULL, not_supported},
    {PUT, "/serial", ROUTER_BEFORE, NULL, not_supported},
    {GET, "/balloon", ROUTER_ALWAYS, NULL, not_supported},
    {PUT, "/balloon", ROUTER_BEFORE, NULL, not_supported},
    {PATCH, "/balloon", ROUTER_AFTER, NULL, not_supported},
    {GET, "/balloon/statistics", ROUTER_AFTER, NULL, not_supported},
    {PATCH, "/balloon/statistics", ROUTER_AFTER, NULL, not_supported},
    {PATCH, "/balloon/hinting/start", ROUTER_AFTER, NULL, not_supported},
    {GET, "/balloon/hinting/status", ROUTER_AFTER, NULL, not_supported},
    {PATCH, "/balloon/hinting/stop", ROUTER_AFTER, NULL, not_supported},
    {GET, "/hotplug/memory", ROUTER_AFTER, NULL, not_supported},
    {PUT, "/hotplug/memory", ROUTER_BEFORE, NULL, not_supported},
    {PATCH, "/hotplug/memory", ROUTER_AFTER, NULL, not_supported},
    {PUT, "/logger", ROUTER_BEFORE, NULL, not_supported},
    {PUT, "/metrics", ROUTER_BEFORE, NULL, not_supported},
    {GET, "/mmds", ROUTER_ALWAYS, NULL, not_supported},
    {PUT, "/mmds", ROUTER_ALWAYS, NULL, not_supported},
    {PATCH, "/mmds", ROUTER_ALWAYS, NULL, not_supported},
    {PUT, "/mmds/config", ROUTER_BEFORE, NULL, not_supported},
    {PUT, "/snapshot/create", ROUTER_AFTER, NULL, not_supported},
    {PUT, "/snapshot/load", ROUTER_BEFORE, NULL, not_supported},
    {GET, "/spore", ROUTER_ALWAYS, NULL, control_spore_get},
    {PUT, "/spore/stop", ROUTER_AFTER, stop_fields, control_spore_stop},
    {PUT, "/spore/kill", ROUTER_AFTER, no_fields, control_spore_kill},
    {GET, "/spore/vsock/*", ROUTER_AFTER, NULL, control_spore_vsock},
};

struct router control_api_router(struct control *control)
{
    return (struct router){.routes = routes,
        .count = ARRAY_SIZE(routes),
        .phase = ROUTER_AFTER,
        .opaque = control};
}
