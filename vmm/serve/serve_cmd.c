/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/serve_cmd.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/serve/serve_listen.h"
#include "vmm/serve/serve_options.h"
#include "vmm/serve/serve_status.h"
#include "vmm/serve/serve_systemd.h"
#include "vmm/vm_client.h"

/* Descriptors beside those of connections and VMs. */
#define OTHER_FDS 64u
/* Of a connection: the client, the guest, copies of both for a command. */
#define CONN_FDS 4u

struct app {
    struct serve_options options;
    const struct serve_source *source;
    struct template template;
    bool has_template;
    const char **env; /* the template's, then the command line's */
    struct serve_listen listens[SERVER_LISTEN_MAX];
    uint32_t listen_count;
    struct serve_listen metrics;
    struct loop loop;
    struct loop_source signals; /* owns its fd */
    struct loop_timer drain_timer;
    int zygote_fd;
    struct pool *pool;
    struct server *server;
    struct serve_status status;
    bool is_draining;
    bool is_lost; /* the zygote has ended */
};

/* ---- the end ------------------------------------------------------------ */

static void on_drained(void *opaque)
{
    struct app *app = opaque;

    loop_stop(&app->loop);
}

static void on_drain_timeout(void *opaque)
{
    struct app *app = opaque;

    log_warn("serve", "what was left at the end of --drain-timeout is cut off");
    loop_stop(&app->loop);
}

/* Sockets that others have as well keep who waits in them for those. */
static bool is_ours_alone(const struct app *app)
{
    for (uint32_t i = 0; i < app->listen_count; i++) {
        if (app->listens[i].is_inherited)
            return false;
    }
    return true;
}

static void on_signal(void *opaque, uint32_t events)
{
    struct app *app = opaque;
    struct signalfd_siginfo info;

    (void)events;
    if (read(app->signals.fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (app->is_draining) {
        loop_stop(&app->loop);
        return;
    }
    app->is_draining = true;
    serve_systemd_notify("STOPPING=1");
    loop_timer_arm(&app->loop, &app->drain_timer,
        clock_now_ns() + app->options.drain_timeout_ns);
    server_drain(app->server, is_ours_alone(app));
}

/* ---- the beginning ------------------------------------------------------ */

static int watch_signals(struct app *app, struct err *err)
{
    sigset_t set;
    int rc;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return err_sys(err, errno, "cannot block signals");
    app->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (app->signals.fd < 0)
        return err_sys(err, errno, "cannot create a signalfd");
    rc = loop_add(&app->loop, &app->signals, EPOLLIN);
    return rc < 0 ? err_sys(err, rc, "cannot watch signals") : 0;
}

/* Where the template's server listens, if it is not said. */
static int complete_port(struct app *app, struct err *err)
{
    struct server_config *c = &app->options.config;
    const struct template *t = &app->template;

    if (c->kind == SERVER_EXEC || app->options.has_port)
        return 0;
    if (t->vsock_port != 0) {
        c->port = t->vsock_port;
        return 0;
    }
    if (c->kind == SERVER_HTTP && t->tcp_port != 0) {
        c->port = t->tcp_port;
        c->port_is_tcp = true;
        return 0;
    }
    return err_set(err, EINVAL,
        "nothing listened in %s when it was built: start a server there "
        "before it is frozen, or give --port",
        t->name);
}

static int complete_command(struct app *app, struct err *err)
{
    struct serve_options *o = &app->options;
    const struct template *t = &app->template;
    uint32_t count = 0;

    if (o->config.kind != SERVER_EXEC)
        return 0;
    o->config.argv =
        o->command != NULL ? o->command : (const char *const *)(void *)t->argv;
    if (o->config.argv == NULL || o->config.argv[0] == NULL)
        return err_set(err, EINVAL,
            "%s has no command of its own: give one after --, or --stream or "
            "--http",
            t->name);
    while (t->env != NULL && t->env[count] != NULL)
        count++;
    app->env = calloc((size_t)count + o->env_count + 1, sizeof(char *));
    if (app->env == NULL)
        return err_sys(err, ENOMEM, "environment");
    for (uint32_t i = 0; i < count; i++)
        app->env[i] = t->env[i];
    /* Later ones win. */
    for (uint32_t i = 0; i < o->env_count; i++)
        app->env[count + i] = o->env[i];
    o->config.env = app->env;
    o->config.cwd = t->cwd;
    o->config.user = t->user;
    return 0;
}

static int open_listens(struct app *app, struct err *err)
{
    const struct serve_options *o = &app->options;
    uint32_t passed = serve_systemd_listen_fds();
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < o->listen_count; i++) {
        rc = serve_listen_open(o->listen[i], &app->listens[i], err);
        if (rc == 0)
            app->listen_count++;
    }
    if (o->listen_count == 0 && passed == 0)
        return err_set(err, EINVAL,
            "where to listen is missing: give --listen, or start it by a "
            "systemd socket");
    if (o->listen_count == 0 && passed > SERVER_LISTEN_MAX)
        return err_set(err, EINVAL, "there may be %u sockets at most, not %u",
            SERVER_LISTEN_MAX, passed);
    for (uint32_t i = 0; rc == 0 && o->listen_count == 0 && i < passed; i++) {
        rc =
            serve_listen_take(SERVE_SYSTEMD_FD + (int)i, &app->listens[i], err);
        if (rc == 0)
            app->listen_count++;
    }
    if (rc == 0 && o->metrics != NULL)
        rc = serve_listen_open(o->metrics, &app->metrics, err);
    return rc;
}

static int start_server(struct app *app, struct err *err)
{
    struct server_config *c = &app->options.config;
    int fds[SERVER_LISTEN_MAX];
    int rc;

    c->loop = &app->loop;
    c->pool = app->pool;
    c->on_drained = on_drained;
    c->opaque = app;
    for (uint32_t i = 0; i < app->listen_count; i++)
        fds[i] = app->listens[i].fd;
    rc = server_open(c, fds, app->listen_count, &app->server, err);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < app->listen_count; i++)
        app->listens[i].fd = -1;
    rc = serve_status_open(&app->status, &app->loop, app->server,
        app->template.name, app->metrics.fd, err);
    if (rc == 0)
        app->metrics.fd = -1;
    return rc;
}

/* Nothing can be served any more: whoever started us may start us again. */
static void on_lost(void *opaque)
{
    struct app *app = opaque;

    app->is_lost = true;
    loop_stop(&app->loop);
}

static int start_pool(struct app *app, struct err *err)
{
    const struct serve_options *o = &app->options;
    const struct pool_config pool = {.loop = &app->loop,
        .zygote_fd = app->zygote_fd,
        .max = o->config.vms_max,
        .min = o->ready,
        .with_resets = o->config.resets,
        .on_lost = on_lost,
        .opaque = app};
    int rc = pool_open(&pool, &app->pool, err);

    if (rc == 0)
        app->zygote_fd = -1;
    return rc;
}

/* The zygote first: it is a child that should have none of the others. */
static int set_up(struct app *app, struct err *err)
{
    const struct serve_options *o = &app->options;
    const struct zygote_config zygote = {.template = &app->template,
        .run_options = o->run_option_count == 0 ? NULL : o->run_options};
    uint64_t fds = (uint64_t)o->config.connections_max * CONN_FDS +
                   (uint64_t)o->config.vms_max * 2 + OTHER_FDS;
    int rc = app->source->open_template(o->template, &app->template, err);

    if (rc < 0)
        return rc;
    app->has_template = true;
    rc = complete_port(app, err);
    if (rc == 0)
        rc = complete_command(app, err);
    if (rc == 0)
        rc = fd_raise_limit(fds, o->config.connections_max, "connections",
            "--max-connections", err);
    if (rc == 0)
        rc = open_listens(app, err);
    if (rc == 0)
        rc = app->source->start_zygote(&zygote, &app->zygote_fd, err);
    if (rc == 0)
        rc = loop_init(&app->loop, err);
    if (rc == 0)
        rc = watch_signals(app, err);
    if (rc == 0)
        rc = start_pool(app, err);
    if (rc == 0)
        rc = start_server(app, err);
    return rc;
}

static void tear_down(struct app *app)
{
    serve_status_close(&app->status);
    server_close(app->server);
    pool_close(app->pool);
    fd_closep(&app->zygote_fd);
    for (uint32_t i = 0; i < SERVER_LISTEN_MAX; i++)
        serve_listen_close(&app->listens[i]);
    serve_listen_close(&app->metrics);
    fd_closep(&app->signals.fd);
    loop_fini(&app->loop);
    free(app->env);
    if (app->has_template)
        app->source->close_template(&app->template);
}

static int run(struct app *app)
{
    struct err err;
    int rc = set_up(app, &err);

    if (rc == 0) {
        serve_systemd_notify("READY=1");
        rc = loop_run(&app->loop);
        if (rc < 0)
            (void)err_sys(&err, rc, "the event loop failed");
        else if (app->is_lost)
            rc = err_set(&err, EPIPE,
                "the zygote, which makes the VMs, has ended: it was killed, or "
                "this is a fault of spore's");
    }
    if (rc < 0)
        (void)fprintf(stderr, "spore: serve: %s\n", err.text);
    tear_down(app);
    return rc < 0 ? VM_CLIENT_STATUS_FAILED : 0;
}

int serve_main(int argc, char **argv, const struct serve_source *source)
{
    struct app *app = calloc(1, sizeof(*app));
    struct err err;
    int status;
    int rc;

    if (app == NULL) {
        (void)fputs("spore: serve: out of memory\n", stderr);
        return VM_CLIENT_STATUS_FAILED;
    }
    app->source = source;
    app->zygote_fd = -1;
    app->metrics.fd = -1;
    app->status.dir.fd = -1;
    for (uint32_t i = 0; i < SERVER_LISTEN_MAX; i++)
        app->listens[i].fd = -1;
    app->loop = (struct loop){
        .epoll_fd = -1, .timer_source = {.fd = -1}, .wake_source = {.fd = -1}};
    app->signals =
        (struct loop_source){.fd = -1, .handle = on_signal, .opaque = app};
    app->drain_timer =
        (struct loop_timer){.fire = on_drain_timeout, .opaque = app};
    rc = serve_options_parse(&app->options, argc, argv, &err);
    if (rc > 0) {
        serve_options_help();
        status = 0;
    } else if (rc < 0) {
        (void)fprintf(stderr, "spore: serve: %s\n", err.text);
        status = VM_CLIENT_STATUS_FAILED;
    } else {
        status = run(app);
    }
    free(app);
    return status;
}

int cmd_serve(int argc, char **argv)
{
    static const struct serve_source source = {.open_template = template_open,
        .close_template = template_fini,
        .start_zygote = zygote_start};

    return serve_main(argc, argv, &source);
}
