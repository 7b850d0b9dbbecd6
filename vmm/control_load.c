/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a machine comes to be over a control socket that is there before it:
 * /snapshot/load, and InstanceStart of /actions.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/control.h"
#include "vmm/control_api.h"
#include "vmm/run_options.h"

#define LOAD_ERROR "Load snapshot error"

static const char *const backend_types[] = {"File", "Uffd", NULL};
static const char *const huge_pages[] = {
    "Snapshot", "None", "Transparent", "2M", NULL};
static const char *const clocks[] = {"follow", "freeze", NULL};
static const char *const verifies[] = {"all", "lazy", "trust", NULL};

static const struct schema_field backend_fields[] = {
    {.name = "backend_path",
        .type = SCHEMA_STRING,
        .name_of = SCHEMA_PATH,
        .required = true},
    {.name = "backend_type",
        .type = SCHEMA_ENUM,
        .required = true,
        .variants = backend_types},
    SCHEMA_END("MemBackendConfig"),
};
static const struct schema_field net_fields[] = {
    {.name = "iface_id", .type = SCHEMA_STRING, .required = true},
    {.name = "host_dev_name", .type = SCHEMA_STRING, .required = true},
    SCHEMA_END("NetworkOverride"),
};
static const struct schema_field vsock_fields[] = {
    {.name = "uds_path", .type = SCHEMA_STRING, .required = true},
    SCHEMA_END("VsockOverride"),
};
static const struct schema_field spore_fields[] = {
    {.name = "clock", .type = SCHEMA_ENUM, .variants = clocks},
    {.name = "verify", .type = SCHEMA_ENUM, .variants = verifies},
    {.name = "allow_changed_disks", .type = SCHEMA_BOOL},
    {.name = "allow_duplicate", .type = SCHEMA_BOOL},
    {.name = "devices", .type = SCHEMA_OBJECT},
    {.name = NULL},
};

const struct schema_field control_load_fields[] = {
    {.name = "snapshot_path",
        .type = SCHEMA_STRING,
        .name_of = SCHEMA_PATH,
        .required = true},
    {.name = "mem_file_path", .type = SCHEMA_STRING, .name_of = SCHEMA_PATH},
    {.name = "mem_backend", .type = SCHEMA_OBJECT, .object = backend_fields},
    {.name = "enable_diff_snapshots", .type = SCHEMA_BOOL, .not_null = true},
    {.name = "track_dirty_pages", .type = SCHEMA_BOOL, .not_null = true},
    {.name = "resume_vm", .type = SCHEMA_BOOL, .not_null = true},
    {.name = "network_overrides",
        .type = SCHEMA_LIST,
        .object = net_fields,
        .is_open = true},
    {.name = "vsock_override",
        .type = SCHEMA_OBJECT,
        .object = vsock_fields,
        .is_open = true},
    {.name = "clock_realtime", .type = SCHEMA_BOOL, .not_null = true},
    {.name = "huge_pages",
        .type = SCHEMA_ENUM,
        .not_null = true,
        .variants = huge_pages},
    {.name = "spore", .type = SCHEMA_OBJECT, .object = spore_fields},
    SCHEMA_END("LoadSnapshotConfig"),
};

/* ---- where a snapshot is ------------------------------------------------- */

/* The length of a path without slashes at its end. */
static size_t path_len(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    return len;
}

int control_split_snapshot(
    const char *path, char **ret_store, char **ret_name, struct err *err)
{
    size_t len = path_len(path);
    size_t at = len;
    size_t store_len;
    char *store;
    char *name;

    while (at > 0 && path[at - 1] != '/')
        at--;
    if (at == len)
        return err_set(err, EINVAL,
            "snapshot_path: it must be STORE/NAME, a folder of snapshots and "
            "one in it");
    for (store_len = at; store_len > 1 && path[store_len - 1] == '/';)
        store_len--;
    store = at == 0 ? strdup(".") : strndup(path, store_len);
    name = strndup(path + at, len - at);
    if (store == NULL || name == NULL) {
        free(store);
        free(name);
        return err_sys(err, ENOMEM, "snapshot_path");
    }
    *ret_store = store;
    *ret_name = name;
    return 0;
}

int control_check_mem_path(
    const char *path, const char *snapshot_path, struct err *err)
{
    size_t len = path_len(snapshot_path);
    const char *name;

    if (path == NULL)
        return 0;
    if (strncmp(path, snapshot_path, len) == 0 && path[len] == '/') {
        name = path + len + strspn(path + len, "/");
        if (*name != '\0' && strchr(name, '/') == NULL)
            return 0;
    }
    return err_set(err, EINVAL,
        "mem_file_path: the memory is in a file of the snapshot's own folder: "
        "leave it out, or say %.*s/mem",
        (int)len, snapshot_path);
}

/* ---- what is behind devices ---------------------------------------------- */

void control_load_fini(struct control_load *load)
{
    free(load->store);
    free(load->name);
    free(load->page_server);
    config_fini(&load->config);
    *load = (struct control_load){0};
}

static int take_networks(
    struct control_load *load, const json_t *list, struct err *err)
{
    size_t i;
    json_t *element;
    int rc = 0;

    json_array_foreach(list, i, element)
    {
        struct config_net net = config_net_default();

        rc =
            config_set_string(&net.id, schema_string(element, "iface_id"), err);
        if (rc == 0)
            rc = config_set_string(
                &net.target, schema_string(element, "host_dev_name"), err);
        if (rc == 0)
            rc = config_add_net(&load->config, &net, err);
        config_net_fini(&net);
        if (rc < 0)
            break;
    }
    return rc;
}

/* Parts of a machine description, for devices that the snapshot has. */
static int take_devices(
    struct control_load *load, const json_t *devices, struct err *err)
{
    static const struct {
        const char *key;
        uint32_t given;
    } keys[] = {
        {"drives", RUN_GIVEN_DISK},
        {"pmem", RUN_GIVEN_PMEM},
        {"network-interfaces", RUN_GIVEN_NET},
        {"balloon", RUN_GIVEN_BALLOON},
        {"vsock", RUN_GIVEN_VSOCK},
    };
    const char *key;
    json_t *value;
    char *text;
    int rc;

    if (devices == NULL || json_is_null(devices))
        return 0;
    json_object_foreach((json_t *)(uintptr_t)devices, key, value)
    {
        uint32_t given = 0;

        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
            if (strcmp(key, keys[i].key) == 0)
                given = keys[i].given;
        }
        if (given == 0)
            return err_set(err, EINVAL,
                "spore.devices: '%.64s': only drives, pmem, "
                "network-interfaces, balloon and vsock can be others",
                key);
        if (!json_is_null(value))
            load->given |= given;
    }
    text = json_dumps(devices, JSON_COMPACT);
    if (text == NULL)
        return err_sys(err, ENOMEM, "spore.devices");
    rc = config_load_json(
        &load->config, text, strlen(text), "spore.devices", err);
    free(text);
    return rc;
}

static int take_memory(struct control_load *load, const json_t *body,
    const char *path, struct err *err)
{
    const json_t *backend = json_object_get(body, "mem_backend");
    const char *mem = schema_string(body, "mem_file_path");
    const char *huge = schema_string(body, "huge_pages");

    if (huge != NULL && strcmp(huge, "Snapshot") != 0 &&
        strcmp(huge, "None") != 0)
        return err_set(
            err, ENOTSUP, "huge_pages: '%s' is not served yet", huge);
    if (json_is_object(backend)) {
        mem = schema_string(backend, "backend_path");
        if (strcmp(schema_string(backend, "backend_type"), "Uffd") == 0)
            return config_set_string(&load->page_server, mem, err);
    }
    return control_check_mem_path(mem, path, err);
}

static void take_flags(struct control_load *load, const json_t *body)
{
    const json_t *spore = json_object_get(body, "spore");
    const char *clock = schema_string(spore, "clock");
    const char *verify = schema_string(spore, "verify");

    load->tracks = schema_bool(body, "track_dirty_pages", false) ||
                   schema_bool(body, "enable_diff_snapshots", false);
    load->resumes = schema_bool(body, "resume_vm", false);
    load->freezes = clock != NULL ? strcmp(clock, "freeze") == 0
                                  : !schema_bool(body, "clock_realtime", false);
    load->verify = RUN_VERIFY_AUTO;
    if (verify != NULL)
        load->verify = strcmp(verify, "all") == 0    ? RUN_VERIFY_ALL
                       : strcmp(verify, "lazy") == 0 ? RUN_VERIFY_LAZY
                                                     : RUN_VERIFY_TRUST;
    load->allows_changed_disks =
        schema_bool(spore, "allow_changed_disks", false);
    load->allows_duplicate = schema_bool(spore, "allow_duplicate", false);
}

static int take_body(
    struct control_load *load, const json_t *body, struct err *err)
{
    const json_t *vsock = json_object_get(body, "vsock_override");
    const char *path = schema_string(body, "snapshot_path");
    int rc = take_memory(load, body, path, err);

    take_flags(load, body);
    if (rc == 0 && load->page_server != NULL && load->verify != RUN_VERIFY_AUTO)
        rc = err_set(err, EINVAL,
            "spore.verify: the page server checks what it sends: leave it out");
    if (rc == 0)
        rc = control_split_snapshot(path, &load->store, &load->name, err);
    if (rc == 0)
        rc = take_devices(load,
            json_object_get(json_object_get(body, "spore"), "devices"), err);
    if (rc == 0)
        rc = take_networks(
            load, json_object_get(body, "network_overrides"), err);
    if (rc == 0 && json_is_object(vsock)) {
        load->given |= RUN_GIVEN_VSOCK;
        rc = config_set_string(
            &load->config.vsock_path, schema_string(vsock, "uds_path"), err);
    }
    if (rc == 0 && (load->given & RUN_GIVEN_VSOCK) != 0 &&
        load->config.vsock_path == NULL)
        rc = err_set(err, EINVAL, "spore.devices: vsock.uds_path: missing");
    load->keeps_vsock = (load->given & RUN_GIVEN_VSOCK) == 0;
    return rc == 0 ? config_check(&load->config, err) : rc;
}

/* ---- the requests -------------------------------------------------------- */

static int not_here(struct router_call *call)
{
    return err_set(&call->err, EBUSY,
        "the machine of this socket is being made: wait for its start");
}

int control_snapshot_load(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct control_load load = {0};
    uint64_t begin_ns = clock_now_ns();
    int rc;

    call->is_deprecated =
        json_object_get(call->body, "mem_file_path") != NULL ||
        schema_bool(call->body, "enable_diff_snapshots", false);
    if (json_object_get(call->body, "mem_file_path") != NULL &&
        json_object_get(call->body, "mem_backend") != NULL)
        return err_set(&call->err, EINVAL,
            "An error occurred when deserializing the json body of a request: "
            "too many fields: either `mem_backend` or `mem_file_path` "
            "exclusively is required.");
    if (c->host == NULL)
        return not_here(call);
    config_init(&load.config);
    rc = take_body(&load, call->body, &call->err);
    if (rc == 0)
        rc = c->host->load(c->host->opaque, &load, &call->err);
    if (rc == 0)
        c->metrics.latency_us[METRICS_LOAD] =
            (clock_now_ns() - begin_ns) / 1000;
    control_load_fini(&load);
    c->router.phase = control_api_phase(c);
    return rc < 0 ? err_wrap(&call->err, rc, LOAD_ERROR) : 0;
}

int control_boot(struct control *c, struct router_call *call)
{
    int rc;

    if (c->host == NULL)
        return not_here(call);
    rc = c->host->boot(c->host->opaque, &call->err);
    c->router.phase = control_api_phase(c);
    return rc < 0 ? err_wrap(&call->err, rc, "Start microvm error") : 0;
}
