/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clone for each connection, which is handed to it.
 *
 * From then on it is the clone that has the socket: the guest sees the
 * client's bytes and its end, the client the guest's, and the server only
 * learns that it is over.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/serve/server_conn.h"

static void end(struct server_conn *conn, enum serve_outcome outcome)
{
    serve_job_leave(&conn->job, outcome);
    server_conn_close(conn);
}

static void on_clone(void *opaque)
{
    struct server_conn *conn = opaque;
    struct err err;

    loop_remove(conn->server->config.loop, &conn->source);
    if (clone_connect(conn->job.clone, conn->server->config.port,
            fd_steal(&conn->source.fd), SERVE_GATE_COOKIE, &err) < 0) {
        log_limited(&conn->server->exec_log, LOG_WARN, "serve", "%s", err.text);
        end(conn, SERVE_NOT_CONNECTED);
    }
}

static void on_refused(void *opaque, enum serve_outcome outcome)
{
    (void)outcome;
    server_conn_close(opaque);
}

static void on_timeout(void *opaque)
{
    end(opaque, SERVE_TIMEOUT);
}

static void on_closed(void *opaque)
{
    end(opaque, SERVE_OK);
}

static void on_end(void *opaque, enum serve_outcome outcome)
{
    end(opaque, outcome);
}

static const struct serve_job_host host = {
    .on_clone = on_clone,
    .on_refused = on_refused,
    .on_timeout = on_timeout,
    .on_closed = on_closed,
    .on_end = on_end,
};

/* While it waits: a client that has gone, and left nothing to be done. */
static void on_source(void *opaque, uint32_t events)
{
    struct server_conn *conn = opaque;
    int left = 0;

    if ((events & (EPOLLHUP | EPOLLERR)) == 0)
        return;
    if (ioctl(conn->source.fd, FIONREAD, &left) == 0 && left > 0) {
        /* It would be told of it without end. */
        loop_remove(conn->server->config.loop, &conn->source);
        return;
    }
    end(conn, SERVE_CLIENT_GONE);
}

static void open_conn(struct server_conn *conn)
{
    struct server *server = conn->server;
    int rc = serve_gate_enter(&server->gate, &conn->job, &host, conn);

    if (rc < 0) {
        server_conn_close(conn);
        return;
    }
    serve_metrics_time(&server->metrics, SERVE_STAGE_ACCEPT,
        clock_now_ns() - conn->accepted_ns);
    if (rc > 0)
        on_clone(conn);
    else if (server_conn_watch(conn, 0) < 0)
        end(conn, SERVE_HOST_ERROR);
}

static void fini_conn(struct server_conn *conn)
{
    (void)conn;
}

static void on_fire(void *opaque)
{
    (void)opaque;
}

const struct server_kind_ops server_stream_ops = {
    .size = sizeof(struct server_conn),
    .handle = on_source,
    .fire = on_fire,
    .open = open_conn,
    .fini = fini_conn,
};
