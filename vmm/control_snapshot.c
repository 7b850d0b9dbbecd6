/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots and resets over the control socket: below /spore.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/control.h"
#include "vmm/control_api.h"

/* In front of what a client of Firecracker is told. */
#define CREATE_ERROR "Create snapshot error: "

const struct schema_field control_save_fields[] = {
    {.name = "store", .type = SCHEMA_STRING},
    {.name = "name", .type = SCHEMA_STRING},
    {.name = "diff", .type = SCHEMA_BOOL},
    {.name = "sync", .type = SCHEMA_BOOL},
    {.name = "track", .type = SCHEMA_BOOL},
    {.name = "share", .type = SCHEMA_BOOL},
    {.name = NULL},
};

const struct schema_field control_reset_fields[] = {
    {.name = "level", .type = SCHEMA_UINT, .max = PAGE_STACK_LEVELS_MAX},
    {.name = NULL},
};

void control_save_ended(
    struct control *c, const struct saver_result *result, json_t *json)
{
    struct http_conn *conn = c->save_conn;
    char *body = NULL;

    c->save_conn = NULL;
    c->has_capture = false;
    if (result->rc < 0) {
        json_decref(json);
        json = json_pack("{s:s+}", "fault_message",
            c->save_is_plain ? CREATE_ERROR : "", result->err.text);
    }
    if (conn != NULL) {
        http_conn_watch(conn, NULL, NULL);
        body = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
        if (result->rc < 0)
            http_conn_reply(conn, 400, body);
        else
            http_conn_reply(conn, body == NULL ? 204 : 200, body);
    }
    free(body);
    json_decref(json);
}

static void on_saved(void *opaque, const struct saver_result *result)
{
    struct control *c = opaque;
    char id[SNAPSHOT_ID_TEXT_SIZE];
    json_t *json = NULL;

    if (result->rc >= 0 && !c->save_is_plain) {
        snapshot_id_to_text(&result->id, id);
        json = json_pack("{s:s, s:I, s:I, s:I}", "id", id, "stopped_us",
            (json_int_t)(result->stopped_ns / 1000), "took_us",
            (json_int_t)(result->took_ns / 1000), "pages_written",
            (json_int_t)result->pages_written);
    }
    control_save_ended(c, result, json);
}

/* The snapshot is made for the store, whether somebody waits for it or not. */
static void on_gone(void *opaque)
{
    struct control *c = opaque;

    c->save_conn = NULL;
}

/* Begins a save, whose result on_saved tells on the connection. */
static int begin_save(struct control *c, struct router_call *call,
    const struct saver_request *request, bool is_plain)
{
    int rc;

    rc =
        saver_start(&c->inst->saver, c->inst, request, on_saved, c, &call->err);
    if (rc < 0)
        return rc;
    c->save_conn = call->conn;
    c->save_is_plain = is_plain;
    http_conn_watch(call->conn, on_gone, c);
    http_conn_defer(call->conn);
    return ROUTER_TAKEN;
}

int control_spore_snapshot(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    const struct saver_request request = {
        .store = schema_string(call->body, "store"),
        .name = schema_string(call->body, "name"),
        .diff = schema_bool(call->body, "diff", false),
        .sync = schema_bool(call->body, "sync", true),
        .track = schema_bool(call->body, "track", false),
        .share = schema_bool(call->body, "share", false)};

    if (request.store != NULL && request.store[0] != '/')
        return err_set(&call->err, EINVAL, "store: an absolute path is needed");
    return begin_save(c, call, &request, false);
}

static const char *const snapshot_types[] = {"Diff", "Full", NULL};

const struct schema_field control_create_fields[] = {
    {.name = "snapshot_type",
        .type = SCHEMA_ENUM,
        .not_null = true,
        .variants = snapshot_types},
    {.name = "snapshot_path",
        .type = SCHEMA_STRING,
        .name_of = SCHEMA_PATH,
        .required = true},
    {.name = "mem_file_path", .type = SCHEMA_STRING, .name_of = SCHEMA_PATH},
    {.name = "sync_snapshot_files", .type = SCHEMA_BOOL},
    {.name = "version", .type = SCHEMA_STRING},
    SCHEMA_END("CreateSnapshotParams"),
};

int control_snapshot_create(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    const char *path = schema_string(call->body, "snapshot_path");
    const char *type = schema_string(call->body, "snapshot_type");
    struct saver_request request = {
        .diff = type != NULL && strcmp(type, "Diff") == 0,
        .sync = schema_bool(call->body, "sync_snapshot_files", true)};
    char *store = NULL;
    char *name = NULL;
    int rc = 0;

    request.track = request.diff;
    if (c->inst->phase != INSTANCE_PAUSED)
        rc = err_set(
            &call->err, EBUSY, "the microVM runs: pause it first (PATCH /vm)");
    if (rc == 0)
        rc = control_check_mem_path(
            schema_string(call->body, "mem_file_path"), path, &call->err);
    if (rc == 0)
        rc = control_split_snapshot(path, &store, &name, &call->err);
    request.store = store;
    request.name = name;
    if (rc == 0)
        rc = begin_save(c, call, &request, true);
    free(store);
    free(name);
    return rc < 0 ? err_wrap(&call->err, rc, "Create snapshot error") : rc;
}

int control_spore_push(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    uint32_t level;
    int rc = instance_push(c->inst, &level, &call->err);

    if (rc < 0)
        return rc;
    return control_api_reply(
        call, json_pack("{s:I}", "level", (json_int_t)level));
}

int control_spore_reset(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    int64_t top = instance_level(c->inst);
    uint64_t level =
        schema_uint(call->body, "level", top < 0 ? 0 : (uint64_t)top);

    return instance_reset(c->inst, (uint32_t)level, &call->err);
}
