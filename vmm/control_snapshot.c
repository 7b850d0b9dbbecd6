/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots and resets over the control socket: below /spore.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/control.h"
#include "vmm/control_api.h"

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

static json_t *describe_save(const struct saver_result *result)
{
    char id[SNAPSHOT_ID_TEXT_SIZE];

    if (result->rc < 0)
        return json_pack("{s:s}", "fault_message", result->err.text);
    snapshot_id_to_text(&result->id, id);
    return json_pack("{s:s, s:I, s:I, s:I}", "id", id, "stopped_us",
        (json_int_t)(result->stopped_ns / 1000), "took_us",
        (json_int_t)(result->took_ns / 1000), "pages_written",
        (json_int_t)result->pages_written);
}

/* The reply that the client has been waiting for; it may be gone. */
static void on_saved(void *opaque, const struct saver_result *result)
{
    struct control *c = opaque;
    json_t *json = describe_save(result);
    char *body = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    char *text = NULL;
    int len = -1;

    if (body != NULL)
        len = asprintf(&text,
            "HTTP/1.1 %d \r\nServer: Firecracker API\r\nConnection: close\r\n"
            "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
            result->rc < 0 ? 400 : 200, strlen(body), body);
    if (len > 0)
        (void)send(c->save_fd, text, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
    fd_closep(&c->save_fd);
    if (len >= 0)
        free(text);
    free(body);
    json_decref(json);
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
    int rc;
    int fd;

    if (request.store != NULL && request.store[0] != '/')
        return err_set(&call->err, EINVAL, "store: an absolute path is needed");
    rc = http_conn_take(call->conn, &fd);
    if (rc < 0)
        return err_set(
            &call->err, -rc, "A snapshot is the last request of a connection.");
    rc = saver_start(
        &c->inst->saver, c->inst, &request, on_saved, c, &call->err);
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    c->save_fd = fd;
    http_conn_end(call->conn);
    return ROUTER_TAKEN;
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
