/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a request to its handler: one table of endpoints, and the checks that
 * all of them share, in the order in which Firecracker makes them (a body
 * where one belongs, path, id, the body's content, the machine's phase).
 *
 * Thread rule: as http_server.h. A handler sees only requests that passed all
 * checks, so that a refused one has changed nothing.
 */
#ifndef VMM_API_ROUTER_H
#define VMM_API_ROUTER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/api/http_server.h"
#include "vmm/api/schema.h"
#include "vmm/base/err.h"

#define ROUTER_ID_MAX      64u
#define ROUTER_EXPLAIN_MAX 1200u

/* When a request has a place. */
enum router_phase {
    ROUTER_BEFORE = 1, /* the machine has not been started */
    ROUTER_AFTER = 2,
    ROUTER_ALWAYS = ROUTER_BEFORE | ROUTER_AFTER,
};

/* What a handler is given, and what it answers with. */
struct router_call {
    const char *id; /* what stood in the place of the star; or NULL */
    json_t *body;   /* borrowed; NULL without one */
    struct http_conn *conn;
    const struct http_request *request;
    char *json; /* of a 200; the handler's malloc, freed by the router */
    bool is_deprecated; /* the client is to be told so */
    int fault_status;   /* instead of 400, if not 0 */
    struct err err;
};

/*
 * 0: answered with 204, or with 200 if `json` is set. Negative: with 400 and
 * err.text. ROUTER_TAKEN: the connection has been taken over, or the answer
 * was deferred.
 */
typedef int router_handler_fn(void *opaque, struct router_call *call);
#define ROUTER_TAKEN 1

struct router_route {
    enum http_verb verb;
    const char *path; /* a star, as its last component, is an id */
    enum router_phase phases;
    const struct schema_field *fields; /* of the body; NULL: any object */
    router_handler_fn *handle;
    bool may_be_empty; /* a body that is not there counts as {} */
};

struct router {
    const struct router_route *routes;
    size_t count;
    enum router_phase phase; /* ROUTER_BEFORE or ROUTER_AFTER, now */
    /* What is wrong with a path that no route has; NULL: the usual. */
    void (*explain)(
        const struct http_request *request, char ret_text[ROUTER_EXPLAIN_MAX]);
    /* Told of each request that a route has: negative `rc` is a refusal. */
    void (*tally)(void *opaque, const struct router_route *route,
        const struct router_call *call, int rc);
    void *opaque; /* of the handlers */
};

/* A http_handler_fn; `opaque` is a struct router. */
void router_handle(
    void *opaque, struct http_conn *conn, const struct http_request *request);

#endif
