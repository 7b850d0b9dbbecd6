/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/serve/server_conn.h"

#define ACCEPT_BATCH 16u
#define RETRY_NS     (50 * CLOCK_NS_PER_MS)

/* What a client may still send when it has been answered. */
#define LINGER_NS  (2 * CLOCK_NS_PER_S)
#define LINGER_MAX (UINT32_C(256) * 1024)

/* ---- connections -------------------------------------------------------- */

static void link_conn(struct server *server, struct server_conn *conn)
{
    conn->prev = NULL;
    conn->next = server->conns;
    if (server->conns == NULL)
        server->oldest = conn;
    else
        server->conns->prev = conn;
    server->conns = conn;
}

static void unlink_conn(struct server *server, struct server_conn *conn)
{
    if (conn->prev == NULL)
        server->conns = conn->next;
    else
        conn->prev->next = conn->next;
    if (conn->next == NULL)
        server->oldest = conn->prev;
    else
        conn->next->prev = conn->prev;
}

static void check_drained(struct server *server)
{
    if (server->is_draining && !server->has_drained && server->conn_count == 0)
        loop_post(server->config.loop, &server->drained);
}

void server_conn_close(struct server_conn *conn)
{
    struct server *server = conn->server;

    serve_job_leave(&conn->job, SERVE_STOPPED);
    server->ops->fini(conn);
    loop_remove(server->config.loop, &conn->source);
    loop_timer_disarm(server->config.loop, &conn->timer);
    fd_closep(&conn->source.fd);
    unlink_conn(server, conn);
    server->conn_count--;
    free(conn);
    check_drained(server);
}

void server_conn_touch(struct server_conn *conn)
{
    unlink_conn(conn->server, conn);
    link_conn(conn->server, conn);
}

int server_conn_watch(struct server_conn *conn, uint32_t events)
{
    struct loop *loop = conn->server->config.loop;

    return conn->source.added ? loop_change(loop, &conn->source, events)
                              : loop_add(loop, &conn->source, events);
}

static void on_linger(void *opaque, uint32_t events)
{
    struct server_conn *conn = opaque;
    char buf[4096];
    ssize_t n;

    (void)events;
    do {
        n = recv(conn->source.fd, buf, sizeof(buf), MSG_DONTWAIT);
        if (n > 0)
            conn->discarded += (size_t)n;
    } while (
        (n > 0 && conn->discarded <= LINGER_MAX) || (n < 0 && errno == EINTR));
    if (n >= 0 || errno != EAGAIN)
        server_conn_close(conn);
}

static void on_linger_end(void *opaque)
{
    server_conn_close(opaque);
}

void server_conn_linger(struct server_conn *conn)
{
    assert(conn->job.state == SERVE_JOB_OUT && !conn->lingers);
    conn->lingers = true;
    conn->is_idle = true;
    conn->source.handle = on_linger;
    conn->source.opaque = conn;
    conn->timer.fire = on_linger_end;
    if (shutdown(conn->source.fd, SHUT_WR) < 0 ||
        server_conn_watch(conn, EPOLLIN) < 0) {
        server_conn_close(conn);
        return;
    }
    loop_timer_arm(
        conn->server->config.loop, &conn->timer, clock_now_ns() + LINGER_NS);
    on_linger(conn, 0);
}

int server_pair(int ret_fds[2])
{
    int fds[2];

    if (socketpair(
            AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return -errno;
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

/* ---- accepting ---------------------------------------------------------- */

static void turn_away(struct server *server, int fd)
{
    const char *text = server->ops->refusal;

    server->metrics.refused++;
    /* Bytes that are not read would make an error of the answer's end. */
    if (text != NULL &&
        send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
        char buf[4096];

        (void)shutdown(fd, SHUT_WR);
        (void)recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
    }
    (void)close(fd);
}

/* Closes one that nobody would miss, longest without any use. */
static bool make_room(struct server *server)
{
    struct server_conn *conn = server->oldest;

    while (conn != NULL && !conn->is_idle)
        conn = conn->prev;
    if (conn == NULL)
        return false;
    server->metrics.evicted++;
    server_conn_close(conn);
    return true;
}

static void add_conn(struct server *server, int fd)
{
    struct server_conn *conn;

    server->metrics.accepted++;
    if (server->conn_count >= server->config.connections_max &&
        !make_room(server)) {
        turn_away(server, fd);
        return;
    }
    conn = calloc(1, server->ops->size);
    if (conn == NULL) {
        turn_away(server, fd);
        return;
    }
    conn->server = server;
    conn->accepted_ns = clock_now_ns();
    conn->source = (struct loop_source){
        .fd = fd, .handle = server->ops->handle, .opaque = conn};
    conn->timer =
        (struct loop_timer){.fire = server->ops->fire, .opaque = conn};
    server->conn_count++;
    link_conn(server, conn);
    server->ops->open(conn);
}

static int accept_one(int listen_fd)
{
    const int on = 1;
    int fd;

    do {
        fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd < 0)
        return -errno;
    /* The end of an answer would wait for the client to acknowledge the rest,
     * which it does after 40 ms. Not on a Unix socket. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

/*
 * Without a descriptor for the next one it can only wait; the one that was
 * kept for this tells it that it need not.
 */
static void refuse_one(struct server *server, int listen_fd)
{
    int fd;

    fd_closep(&server->spare_fd);
    fd = accept_one(listen_fd);
    if (fd >= 0) {
        server->metrics.accepted++;
        turn_away(server, fd);
    }
    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void pause_accepting(struct server *server)
{
    server->metrics.out_of_fds++;
    for (uint32_t i = 0; i < server->listener_count; i++)
        loop_remove(server->config.loop, &server->listeners[i].source);
    loop_timer_arm(
        server->config.loop, &server->retry, clock_now_ns() + RETRY_NS);
}

static void on_listener(void *opaque, uint32_t events)
{
    struct server_listener *listener = opaque;
    struct server *server = listener->server;

    (void)events;
    for (unsigned int i = 0; i < ACCEPT_BATCH; i++) {
        int fd = accept_one(listener->source.fd);

        if (fd >= 0) {
            add_conn(server, fd);
            continue;
        }
        if (fd == -EMFILE || fd == -ENFILE)
            refuse_one(server, listener->source.fd);
        if (fd != -EAGAIN && (fd != -EMFILE || server->spare_fd < 0))
            pause_accepting(server);
        return;
    }
}

static int watch_listeners(struct server *server)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < server->listener_count; i++) {
        struct loop_source *source = &server->listeners[i].source;

        if (!source->added)
            rc = loop_add(server->config.loop, source, EPOLLIN);
    }
    return rc;
}

static void on_retry(void *opaque)
{
    struct server *server = opaque;

    if (server->spare_fd < 0)
        server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (watch_listeners(server) < 0)
        loop_timer_arm(
            server->config.loop, &server->retry, clock_now_ns() + RETRY_NS);
}

/* ---- the end ------------------------------------------------------------ */

static void on_drained(void *opaque)
{
    struct server *server = opaque;

    if (server->conn_count > 0 || server->has_drained)
        return;
    server->has_drained = true;
    if (server->config.on_drained != NULL)
        server->config.on_drained(server->config.opaque);
}

static void close_listeners(struct server *server)
{
    loop_timer_disarm(server->config.loop, &server->retry);
    for (uint32_t i = 0; i < server->listener_count; i++) {
        loop_remove(server->config.loop, &server->listeners[i].source);
        fd_closep(&server->listeners[i].source.fd);
    }
    server->listener_count = 0;
}

/* No more than a queue of connections can hold. */
#define REST_MAX 4096u

static void accept_rest(struct server *server)
{
    for (uint32_t i = 0; i < server->listener_count; i++) {
        for (unsigned int n = 0; n < REST_MAX; n++) {
            int fd = accept_one(server->listeners[i].source.fd);

            if (fd < 0)
                break;
            add_conn(server, fd);
        }
    }
}

void server_drain(struct server *server, bool takes_rest)
{
    struct server_conn *conn;

    if (server->is_draining)
        return;
    if (takes_rest)
        accept_rest(server);
    server->is_draining = true;
    close_listeners(server);
    conn = server->conns;
    while (conn != NULL) {
        /* It closes itself and no other. */
        struct server_conn *next = conn->next;

        if (server->ops->drain != NULL && !conn->lingers)
            server->ops->drain(conn);
        conn = next;
    }
    check_drained(server);
}

void server_close(struct server *server)
{
    if (server == NULL)
        return;
    close_listeners(server);
    while (server->conns != NULL)
        server_conn_close(server->conns);
    loop_unpost(server->config.loop, &server->drained);
    serve_gate_fini(&server->gate);
    server_exec_fini(server);
    fd_closep(&server->spare_fd);
    free(server);
}

/* ---- the beginning ------------------------------------------------------ */

static const struct server_kind_ops *ops_of(enum server_kind kind)
{
    switch (kind) {
    case SERVER_HTTP:
        return &server_http_ops;
    case SERVER_EXEC:
        return &server_exec_ops;
    case SERVER_STREAM:
    default:
        return &server_stream_ops;
    }
}

int server_open(const struct server_config *config, const int *fds,
    uint32_t count, struct server **ret_server, struct err *err)
{
    const struct serve_gate_config gate = {.loop = config->loop,
        .pool = config->pool,
        .vms_max = config->vms_max,
        .queue_max = config->queue_max,
        .queue_timeout_ns = config->queue_timeout_ns,
        .timeout_ns = config->timeout_ns,
        .memory_max = config->memory_max,
        .resets = config->resets};
    struct server *server = calloc(1, sizeof(*server));
    int rc = 0;

    assert(count >= 1 && count <= SERVER_LISTEN_MAX);
    if (server == NULL)
        return err_sys(err, ENOMEM, "cannot set up the server");
    server->config = *config;
    server->ops = ops_of(config->kind);
    server->errors.fd = -1;
    server->errors_fd = -1;
    server->drained = (struct loop_call){.run = on_drained, .opaque = server};
    server->retry = (struct loop_timer){.fire = on_retry, .opaque = server};
    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    serve_gate_init(&server->gate, &gate);
    server->gate.config.metrics = &server->metrics;
    server->listener_count = count;
    for (uint32_t i = 0; i < count; i++)
        server->listeners[i] = (struct server_listener){.server = server,
            .source = {.fd = fds[i],
                .handle = on_listener,
                .opaque = &server->listeners[i]}};
    for (uint32_t i = 0; rc == 0 && i < count; i++)
        rc = fd_set_nonblocking(fds[i], true);
    if (rc == 0)
        rc = watch_listeners(server);
    if (rc < 0)
        rc = err_sys(err, rc, "cannot watch the listening socket");
    if (rc == 0 && config->kind == SERVER_EXEC)
        rc = server_exec_init(server, err);
    if (rc < 0) {
        for (uint32_t i = 0; i < count; i++) {
            loop_remove(config->loop, &server->listeners[i].source);
            server->listeners[i].source.fd = -1;
        }
        server_close(server);
        return rc;
    }
    *ret_server = server;
    return 0;
}

/* ---- what it says of itself --------------------------------------------- */

bool server_is_draining(const struct server *server)
{
    return server->is_draining;
}

struct serve_gauges server_gauges(const struct server *server)
{
    const struct serve_gate *gate = &server->gate;

    return (struct serve_gauges){.connections = server->conn_count,
        .running = gate->running,
        .queued = gate->held + gate->waiting,
        .private_bytes = serve_gate_memory(gate),
        .typical_bytes = gate->typical_bytes,
        .is_draining = server->is_draining,
        .pool = pool_stats(server->config.pool)};
}

const struct serve_metrics *server_metrics(const struct server *server)
{
    return &server->metrics;
}

void server_write_metrics(const struct server *server, FILE *out)
{
    const struct serve_gauges gauges = server_gauges(server);

    serve_metrics_write(&server->metrics, &gauges, out);
}

void server_walk(const struct server *server,
    void (*found)(void *opaque, pid_t pid, uint64_t since_ns), void *opaque)
{
    for (const struct serve_job *job = server->gate.first; job != NULL;
         job = job->next) {
        if (job->clone != NULL)
            found(opaque, clone_pid(job->clone), job->cloned_ns);
    }
}
