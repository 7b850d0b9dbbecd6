/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Captures over the control socket: the machine's half of a save whose other
 * half is the client's (vmm/save_client.h), in three requests:
 *
 *   GET /spore/capture          which files are needed
 *   PUT /spore/capture          with them; answered when they are written
 *   PUT /spore/capture/commit   on the same connection: the snapshot is there
 *
 * Whatever ends the connection before the third gives the save up, and all
 * that it took counts as changed still.
 */
#include <errno.h>
#include <string.h>

#include "vmm/base/fd.h"
#include "vmm/control.h"
#include "vmm/control_api.h"

_Static_assert(
    SAVER_FILES_MAX <= HTTP_SERVER_FDS_MAX, "one request has all files");

const struct schema_field control_capture_fields[] = {
    {.name = "base", .type = SCHEMA_STRING},
    {.name = "sync", .type = SCHEMA_BOOL},
    {.name = "track", .type = SCHEMA_BOOL},
    {.name = NULL},
};

const struct schema_field control_commit_fields[] = {
    {.name = "id", .type = SCHEMA_STRING, .required = true},
    {.name = NULL},
};

static json_t *plan_json(const struct capture_plan *plan)
{
    char base[SNAPSHOT_ID_TEXT_SIZE];
    json_t *disks = json_array();

    for (uint32_t i = 1; i < plan->image_count; i++)
        (void)json_array_append_new(
            disks, json_pack("{s:i, s:I}", "drive", (int)plan->images[i].drive,
                       "pages", (json_int_t)plan->images[i].pages));
    snapshot_id_to_text(&plan->base, base);
    return json_pack("{s:s?, s:I, s:o}", "base",
        snapshot_id_is_zero(&plan->base) ? NULL : base, "pages",
        (json_int_t)plan->images[0].pages, "disks", disks);
}

int control_capture_plan(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct capture_plan plan;

    if (c->inst->saver.inst != NULL)
        return err_set(&call->err, EBUSY, "another save is going on");
    machine_save_plan(&c->inst->machine, &plan);
    return control_api_reply(call, plan_json(&plan));
}

static void on_done(void *opaque, const struct saver_result *result)
{
    control_save_ended(opaque, result, NULL);
}

/* The files are the client's again; on_done tells what becomes of them. */
static void on_captured(void *opaque, const struct saver_result *result)
{
    struct control *c = opaque;
    json_t *json;
    char *body;

    if (c->save_conn == NULL)
        return;
    json = json_pack("{s:I, s:I}", "stopped_us",
        (json_int_t)(result->stopped_ns / 1000), "took_us",
        (json_int_t)(result->took_ns / 1000));
    body = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    json_decref(json);
    c->has_capture = true;
    http_conn_reply(c->save_conn, body == NULL ? 204 : 200, body);
    free(body);
}

static void on_gone(void *opaque)
{
    struct control *c = opaque;

    c->save_conn = NULL;
    c->has_capture = false;
    saver_abort(&c->inst->saver);
}

int control_capture(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    const char *base = schema_string(call->body, "base");
    struct saver_capture capture = {
        .sync = schema_bool(call->body, "sync", true),
        .track = schema_bool(call->body, "track", false),
        .fd_count = call->request->fd_count};
    int rc;

    if (base != NULL && !snapshot_id_from_text(base, &capture.parent))
        return err_set(&call->err, EINVAL, "base: not the id of a snapshot");
    if (capture.fd_count < 2 || capture.fd_count > SAVER_FILES_MAX)
        return err_set(&call->err, EINVAL,
            "%u descriptors came with the request: a file for the capture and "
            "one for each image are needed",
            capture.fd_count);
    memcpy(capture.fds, call->request->fds,
        capture.fd_count * sizeof(capture.fds[0]));
    rc = saver_capture(&c->inst->saver, c->inst, &capture, on_captured, on_done,
        c, &call->err);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < capture.fd_count; i++)
        (void)http_conn_take_fd(call->conn, i);
    c->save_conn = call->conn;
    c->save_is_plain = false;
    c->has_capture = false;
    http_conn_watch(call->conn, on_gone, c);
    http_conn_defer(call->conn);
    return ROUTER_TAKEN;
}

int control_capture_commit(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct snapshot_id id;

    if (!c->has_capture || c->save_conn != call->conn)
        return err_set(&call->err, EINVAL,
            "nothing was captured on this connection that could be committed");
    if (!snapshot_id_from_text(schema_string(call->body, "id"), &id) ||
        snapshot_id_is_zero(&id))
        return err_set(&call->err, EINVAL, "id: not the id of a snapshot");
    c->has_capture = false;
    saver_commit(&c->inst->saver, &id);
    http_conn_defer(call->conn);
    return ROUTER_TAKEN;
}
