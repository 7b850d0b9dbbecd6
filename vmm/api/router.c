/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/api/router.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/cc.h"

#define BEFORE_TEXT                                                            \
    "The requested operation is not supported before starting the microVM."
#define AFTER_TEXT                                                             \
    "The requested operation is not supported after starting the microVM."
#define ID_TEXT                                                                \
    "API Resource IDs can only contain alphanumeric characters and "           \
    "underscores."

static void reply_status(struct http_conn *conn, int status, const char *text)
{
    json_t *fault = json_pack("{s:s%}", "fault_message", text, strlen(text));
    char *json = fault == NULL ? NULL : json_dumps(fault, JSON_COMPACT);

    /* What is no UTF-8 cannot be quoted back in JSON. */
    http_conn_reply(conn, status,
        json != NULL ? json
                     : "{\"fault_message\":\"The request is not UTF-8.\"}");
    free(json);
    json_decref(fault);
}

static void reply_fault(struct http_conn *conn, const char *text)
{
    reply_status(conn, 400, text);
}

CC_PRINTF(2, 3)
static void reply_faultf(struct http_conn *conn, const char *fmt, ...)
{
    char text[HTTP_SERVER_PATH_MAX + SCHEMA_TEXT_MAX];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    reply_fault(conn, text);
}

static bool is_id(const char *id, size_t len)
{
    static const char allowed[] = "0123456789_abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return len >= 1 && len <= ROUTER_ID_MAX && strspn(id, allowed) >= len;
}

/*
 * Whether a path, without its trailing slash, is the route's. *ret_id and
 * *ret_len are what stands where the star is, perhaps nothing; NULL without
 * one.
 */
static bool matches(const char *route, const char *path, size_t len,
    const char **ret_id, size_t *ret_len)
{
    size_t fixed = strlen(route);
    bool has_id = route[fixed - 1] == '*';

    if (!has_id) {
        *ret_id = NULL;
        return len == fixed && memcmp(route, path, fixed) == 0;
    }
    fixed -= 2; /* the slash and the star */
    if (len < fixed || memcmp(route, path, fixed) != 0)
        return false;
    if (len == fixed) {
        *ret_id = path + len;
        *ret_len = 0;
        return true;
    }
    *ret_id = path + fixed + 1;
    *ret_len = len - fixed - 1;
    return path[fixed] == '/' && memchr(*ret_id, '/', *ret_len) == NULL;
}

static const struct router_route *find_route(const struct router *router,
    const struct http_request *request, const char **ret_id, size_t *ret_len)
{
    size_t len = strlen(request->path);

    if (len > 1 && request->path[len - 1] == '/')
        len--;
    for (size_t i = 0; i < router->count; i++) {
        const struct router_route *route = &router->routes[i];

        if (route->verb == request->verb &&
            matches(route->path, request->path, len, ret_id, ret_len))
            return route;
    }
    return NULL;
}

static bool takes_body(enum http_verb verb)
{
    return verb == HTTP_VERB_PUT || verb == HTTP_VERB_PATCH;
}

/* The body's id may have another name; interfaces have words of their own. */
static bool check_id(const struct router_call *call)
{
    const char *id = schema_string(call->body, "drive_id");
    const char *iface = schema_string(call->body, "iface_id");

    if (call->id == NULL)
        return true;
    if (id == NULL)
        id = schema_string(call->body, "id");
    if (iface != NULL && strcmp(iface, call->id) != 0) {
        reply_faultf(call->conn,
            "The id from the path [%s] does not match the id from the body "
            "[%.512s]!",
            call->id, iface);
        return false;
    }
    if (id != NULL && strcmp(id, call->id) != 0) {
        reply_fault(call->conn,
            "The id from the path does not match the id from the body!");
        return false;
    }
    return true;
}

static void answer(struct router_call *call, int rc)
{
    if (rc == ROUTER_TAKEN)
        return;
    if (call->is_deprecated)
        http_conn_deprecate(call->conn);
    if (rc < 0)
        reply_status(call->conn,
            call->fault_status == 0 ? 400 : call->fault_status, call->err.text);
    else
        http_conn_reply(call->conn, call->json == NULL ? 204 : 200, call->json);
    free(call->json);
}

/* The body as the route wants it; false: answered, for what is wrong with it.
 */
static bool parse_body(
    const struct router_route *route, struct router_call *call)
{
    char text[SCHEMA_TEXT_MAX];

    if (!takes_body(route->verb))
        return true;
    if (call->request->body_len == 0) {
        call->body = json_object();
        return true;
    }
    call->body = schema_parse(
        call->request->body, call->request->body_len, route->fields, text);
    if (call->body != NULL)
        return true;
    reply_faultf(call->conn,
        "An error occurred when deserializing the json body of a request: %s.",
        text);
    return false;
}

static bool check_phase(const struct router *router,
    const struct router_route *route, const struct router_call *call)
{
    if ((route->phases & router->phase) != 0)
        return true;
    reply_fault(
        call->conn, router->phase == ROUTER_BEFORE ? BEFORE_TEXT : AFTER_TEXT);
    return false;
}

static void do_route(const struct router *router,
    const struct router_route *route, struct router_call *call)
{
    int rc = -EINVAL;

    if (parse_body(route, call) && check_id(call) &&
        check_phase(router, route, call)) {
        rc = route->handle(router->opaque, call);
        answer(call, rc);
    }
    if (router->tally != NULL)
        router->tally(router->opaque, route, call, rc);
    json_decref(call->body);
}

void router_handle(
    void *opaque, struct http_conn *conn, const struct http_request *request)
{
    const struct router *router = opaque;
    struct router_call call = {.conn = conn, .request = request};
    const struct router_route *route;
    const char *verb = http_verb_name(request->verb);
    char id[ROUTER_ID_MAX + 1];
    const char *at = NULL;
    size_t len = 0;

    route = find_route(router, request, &at, &len);
    if (takes_body(request->verb) && request->body_len == 0 &&
        (route == NULL || !route->may_be_empty)) {
        reply_faultf(conn, "Empty %s request.", verb);
        return;
    }
    if (!takes_body(request->verb) && request->body_len > 0) {
        reply_fault(conn, request->verb == HTTP_VERB_GET
                              ? "GET request cannot have a body."
                              : "Empty Delete request.");
        return;
    }
    if (route == NULL) {
        const char *word = request->path + strspn(request->path, "/");
        char text[ROUTER_EXPLAIN_MAX] = "";

        if (router->explain != NULL)
            router->explain(request, text);
        if (text[0] != '\0') {
            reply_fault(conn, text);
            return;
        }
        /* Only the first of its components, as clients know it. */
        reply_faultf(conn, "Invalid request method and/or path: %s %.*s.", verb,
            (int)strcspn(word, "/"), word);
        return;
    }
    if (at != NULL) {
        if (!is_id(at, len)) {
            reply_fault(conn, len == 0 ? "The ID cannot be empty." : ID_TEXT);
            return;
        }
        memcpy(id, at, len);
        id[len] = '\0';
        call.id = id;
    }
    do_route(router, route, &call);
}
