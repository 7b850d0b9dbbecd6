/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/serve_status.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"

#define TEXT_TYPE    "text/plain; charset=utf-8"
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

static void reply_metrics(
    const struct serve_status *status, struct http_conn *conn)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    if (out == NULL) {
        http_conn_reply_text(conn, 503, TEXT_TYPE, "out of memory\n");
        return;
    }
    server_write_metrics(status->server, out);
    if (fclose(out) != 0 || text == NULL)
        http_conn_reply_text(conn, 503, TEXT_TYPE, "out of memory\n");
    else
        http_conn_reply_text(conn, 200, METRICS_TYPE, text);
    free(text);
}

struct list {
    json_t *clones;
    uint64_t now_ns;
};

static void add_clone(void *opaque, pid_t pid, uint64_t since_ns)
{
    const struct list *list = opaque;

    (void)json_array_append_new(list->clones,
        json_pack("{s:I, s:I}", "pid", (json_int_t)pid, "age_ms",
            (json_int_t)((list->now_ns - since_ns) / CLOCK_NS_PER_MS)));
}

static json_t *outcomes(const struct serve_metrics *m)
{
    json_t *json = json_object();

    for (unsigned int i = 0; i < SERVE_OUTCOME_COUNT; i++)
        (void)json_object_set_new(json,
            serve_outcome_name((enum serve_outcome)i),
            json_integer((json_int_t)m->outcomes[i]));
    return json;
}

static void reply_status(
    const struct serve_status *status, struct http_conn *conn)
{
    const struct serve_gauges g = server_gauges(status->server);
    struct list list = {.clones = json_array(), .now_ns = clock_now_ns()};
    json_t *json;
    char *text;

    server_walk(status->server, add_clone, &list);
    json = json_pack("{s:s, s:i, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I,"
                     " s:o, s:o}",
        "template", status->template, "pid", (int)getpid(), "age_ms",
        (json_int_t)((list.now_ns - status->started_ns) / CLOCK_NS_PER_MS),
        "draining", g.is_draining, "connections", (json_int_t)g.connections,
        "running", (json_int_t)g.running, "queued", (json_int_t)g.queued,
        "ready", (json_int_t)g.pool.ready, "made", (json_int_t)g.pool.made,
        "private_bytes", (json_int_t)g.private_bytes, "typical_bytes",
        (json_int_t)g.typical_bytes, "requests",
        outcomes(server_metrics(status->server)), "clones", list.clones);
    text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    if (text == NULL)
        http_conn_reply_text(conn, 503, TEXT_TYPE, "out of memory\n");
    else
        http_conn_reply(conn, 200, text);
    free(text);
    json_decref(json);
}

static bool is_path(const struct http_request *request, const char *path)
{
    size_t len = strcspn(request->path, "?");

    return len == strlen(path) && memcmp(request->path, path, len) == 0;
}

static void handle(
    void *opaque, struct http_conn *conn, const struct http_request *request)
{
    const struct serve_status *status = opaque;
    bool is_draining = server_is_draining(status->server);

    if (request->verb != HTTP_VERB_GET)
        http_conn_reply_text(conn, 405, TEXT_TYPE, "there is only GET\n");
    else if (is_path(request, "/metrics"))
        reply_metrics(status, conn);
    else if (is_path(request, "/status"))
        reply_status(status, conn);
    else if (is_path(request, "/healthz"))
        http_conn_reply_text(conn, is_draining ? 503 : 200, TEXT_TYPE,
            is_draining ? "draining\n" : "ok\n");
    else
        http_conn_reply_text(
            conn, 404, TEXT_TYPE, "/metrics, /healthz and /status are here\n");
}

static int open_own(
    struct serve_status *status, struct loop *loop, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    struct sockaddr_un addr;
    int rc = rundir_open(&status->dir, RUNDIR_SERVERS, err);

    if (rc < 0) {
        status->dir.fd = -1;
        return rc;
    }
    (void)snprintf(status->name, sizeof(status->name), "%d", (int)getpid());
    /* Whoever had the number before is no more. */
    (void)unlinkat(status->dir.fd, status->name, 0);
    addr = rundir_address(&status->dir, status->name);
    rc = fd_listen_unix(&addr, status->name, &fd, err);
    if (rc == 0)
        rc = http_server_init(&status->own, loop, fd, handle, status, err);
    if (rc == 0)
        (void)fd_steal(&fd);
    return rc;
}

int serve_status_open(struct serve_status *status, struct loop *loop,
    const struct server *server, const char *template, int metrics_fd,
    struct err *err)
{
    struct err why;
    int rc = 0;

    *status = (struct serve_status){.server = server,
        .template = template,
        .started_ns = clock_now_ns(),
        .dir = {.fd = -1}};
    if (open_own(status, loop, &why) < 0)
        log_warn("serve", "spore top will not know of this: %s", why.text);
    if (metrics_fd >= 0)
        rc = http_server_init(
            &status->metrics, loop, metrics_fd, handle, status, err);
    if (rc < 0)
        serve_status_close(status);
    return rc;
}

void serve_status_close(struct serve_status *status)
{
    if (status->server == NULL)
        return;
    http_server_fini(&status->metrics);
    http_server_fini(&status->own);
    if (status->dir.fd >= 0)
        (void)unlinkat(status->dir.fd, status->name, 0);
    rundir_close(&status->dir);
    *status = (struct serve_status){.dir = {.fd = -1}};
}
