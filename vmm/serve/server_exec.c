/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clone for each connection, and a command in it that has the connection as
 * its standard input and output.
 *
 * What commands write to standard error goes through one pipe into the log,
 * line by line and as many lines as a log takes.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "guest/agent/proto.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/guest_exec.h"
#include "vmm/serve/server_conn.h"

/* Of a line of a command's that is logged. */
#define LINE_MAX_LEN 200u

struct exec_conn {
    struct server_conn base;
    struct guest_exec exec;
    bool has_exec;
    int out_fd;    /* the client's socket once more; a loop knows each once */
    int errors_fd; /* the pipe's, likewise */
    struct loop_call done;
    enum serve_outcome outcome;
    bool linger; /* what it was sent is whole */
};

static struct exec_conn *of(struct server_conn *conn)
{
    return container_of(conn, struct exec_conn, base);
}

static void end(struct exec_conn *c, enum serve_outcome outcome)
{
    serve_job_leave(&c->base.job, outcome);
    server_conn_close(&c->base);
}

/* ---- the command -------------------------------------------------------- */

/* From the loop: a command cannot be released from its own callback. */
static void on_done_call(void *opaque)
{
    struct exec_conn *c = opaque;

    serve_job_leave(&c->base.job, c->outcome);
    guest_exec_fini(&c->exec);
    c->has_exec = false;
    if (c->linger)
        server_conn_linger(&c->base);
    else
        server_conn_close(&c->base);
}

static void finish(struct exec_conn *c, enum serve_outcome outcome, bool linger)
{
    if (c->done.posted)
        return;
    c->outcome = outcome;
    c->linger = linger;
    loop_post(c->base.server->config.loop, &c->done);
}

static void on_started(void *opaque)
{
    (void)opaque;
}

static void on_done(void *opaque, const struct guest_exec_result *result)
{
    struct exec_conn *c = opaque;
    struct server *server = c->base.server;

    if (!result->is_error) {
        finish(c, SERVE_OK, true);
    } else if (c->exec.out.error != 0) {
        finish(c, SERVE_CLIENT_GONE, false);
    } else {
        log_limited(&server->exec_log, LOG_WARN, "serve", "%s", result->text);
        finish(c, SERVE_NOT_CONNECTED, true);
    }
}

static int start(struct exec_conn *c, int fd, struct err *err)
{
    const struct server_config *config = &c->base.server->config;
    struct guest_exec_config command = {.argv = config->argv,
        .env = config->env,
        .cwd = config->cwd,
        .user = config->user,
        .stdin_fd = c->base.source.fd,
        .on_started = on_started,
        .on_done = on_done,
        .opaque = c};
    int rc;

    c->out_fd = fcntl(c->base.source.fd, F_DUPFD_CLOEXEC, 0);
    c->errors_fd = fcntl(c->base.server->errors_fd, F_DUPFD_CLOEXEC, 0);
    if (c->out_fd < 0 || c->errors_fd < 0) {
        rc = err_sys(err, errno, "cannot run a command");
        (void)close(fd);
        return rc;
    }
    command.stdout_fd = c->out_fd;
    command.stderr_fd = c->errors_fd;
    rc = guest_exec_start(&c->exec, config->loop, fd, &command, err);
    c->has_exec = rc == 0;
    return rc;
}

/* ---- the clone ---------------------------------------------------------- */

static void on_clone(void *opaque)
{
    struct exec_conn *c = opaque;
    struct err err;
    int fd;

    loop_remove(c->base.server->config.loop, &c->base.source);
    if (clone_call_agent(c->base.job.clone, SERVE_GATE_COOKIE, &fd, &err) < 0) {
        log_limited(
            &c->base.server->exec_log, LOG_WARN, "serve", "%s", err.text);
        end(c, SERVE_NOT_CONNECTED);
        return;
    }
    if (start(c, fd, &err) < 0) {
        log_limited(
            &c->base.server->exec_log, LOG_WARN, "serve", "%s", err.text);
        end(c, SERVE_HOST_ERROR);
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
    /* The command's connection says so, behind what it still has. */
    (void)opaque;
}

static void on_end(void *opaque, enum serve_outcome outcome)
{
    struct exec_conn *c = opaque;

    /* Unless it has said before that it was done. */
    if (!c->done.posted)
        end(c, outcome);
}

static const struct serve_job_host host = {
    .on_clone = on_clone,
    .on_refused = on_refused,
    .on_timeout = on_timeout,
    .on_closed = on_closed,
    .on_end = on_end,
};

/* ---- the connection ----------------------------------------------------- */

static void on_source(void *opaque, uint32_t events)
{
    struct exec_conn *c = opaque;
    int left = 0;

    if ((events & (EPOLLHUP | EPOLLERR)) == 0)
        return;
    if (ioctl(c->base.source.fd, FIONREAD, &left) == 0 && left > 0) {
        loop_remove(c->base.server->config.loop, &c->base.source);
        return;
    }
    end(c, SERVE_CLIENT_GONE);
}

static void on_fire(void *opaque)
{
    (void)opaque;
}

static void open_conn(struct server_conn *conn)
{
    struct exec_conn *c = of(conn);
    struct server *server = conn->server;
    int rc;

    c->out_fd = -1;
    c->errors_fd = -1;
    c->done = (struct loop_call){.run = on_done_call, .opaque = c};
    rc = serve_gate_enter(&server->gate, &conn->job, &host, c);
    if (rc < 0) {
        server_conn_close(conn);
        return;
    }
    serve_metrics_time(&server->metrics, SERVE_STAGE_ACCEPT,
        clock_now_ns() - conn->accepted_ns);
    if (rc > 0)
        on_clone(c);
    else if (server_conn_watch(conn, 0) < 0)
        end(c, SERVE_HOST_ERROR);
}

static void fini_conn(struct server_conn *conn)
{
    struct exec_conn *c = of(conn);

    loop_unpost(conn->server->config.loop, &c->done);
    if (c->has_exec)
        guest_exec_fini(&c->exec);
    fd_closep(&c->out_fd);
    fd_closep(&c->errors_fd);
}

const struct server_kind_ops server_exec_ops = {
    .size = sizeof(struct exec_conn),
    .handle = on_source,
    .fire = on_fire,
    .open = open_conn,
    .fini = fini_conn,
};

/* ---- standard error ----------------------------------------------------- */

static void log_text(struct server *server, char *text, size_t len)
{
    char *save = NULL;

    text[len] = '\0';
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '\n' && !isprint((unsigned char)text[i]))
            text[i] = '?';
    }
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save))
        log_limited(&server->errors_log, LOG_WARN, "serve",
            "a command says: %.*s", (int)LINE_MAX_LEN, line);
}

static void on_errors(void *opaque, uint32_t events)
{
    struct server *server = opaque;
    char buf[4096 + 1];
    ssize_t n = read(server->errors.fd, buf, sizeof(buf) - 1);

    (void)events;
    if (n > 0)
        log_text(server, buf, (size_t)n);
}

int server_exec_init(struct server *server, struct err *err)
{
    int fds[2];
    int rc;

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_sys(err, errno, "cannot make a pipe for standard error");
    server->errors_fd = fds[1];
    server->errors = (struct loop_source){
        .fd = fds[0], .handle = on_errors, .opaque = server};
    rc = loop_add(server->config.loop, &server->errors, EPOLLIN);
    return rc < 0 ? err_sys(err, rc, "cannot watch standard error") : 0;
}

void server_exec_fini(struct server *server)
{
    loop_remove(server->config.loop, &server->errors);
    fd_closep(&server->errors.fd);
    fd_closep(&server->errors_fd);
}
