/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/lib_cmd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/serve/lib_clones.h"
#include "vmm/serve/zygote.h"
#include "vmm/vm_client.h"

/* Descriptors beside those of channels. */
#define OTHER_FDS 64u

struct app {
    struct loop loop;
    struct loop_source control; /* to the program; owns its fd */
    struct loop_source program; /* its pidfd */
    struct template template;
    struct pool *pool;
    struct lib_clones clones;
};

/* ---- the program --------------------------------------------------------- */

/* The library starts it with all signals blocked, and none ends it: its
 * program does. */
static void settle_signals(void)
{
    sigset_t none;

    for (int i = 1; i < SIGRTMIN; i++)
        (void)signal(i, SIG_DFL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int find_program(struct app *app, struct err *err)
{
    struct ucred program;
    socklen_t size = sizeof(program);
    int type = 0;
    socklen_t type_size = sizeof(type);

    if (getsockopt(app->control.fd, SOL_SOCKET, SO_TYPE, &type, &type_size) <
            0 ||
        type != SOCK_SEQPACKET ||
        getsockopt(app->control.fd, SOL_SOCKET, SO_PEERCRED, &program, &size) <
            0)
        return err_set(
            err, EINVAL, "this is for libspore only: see libspore(3)");
    app->program.fd = pidfd_open(program.pid, 0);
    if (app->program.fd < 0)
        return err_sys(err, errno, "the program that uses libspore");
    return 0;
}

static void on_program(void *opaque, uint32_t events)
{
    struct app *app = opaque;

    (void)events;
    loop_stop(&app->loop);
}

/* 1: a request; 0: there will be none; -EPROTO, -EINVAL. */
static int hear(struct app *app, int *ret_fd, struct err *err)
{
    struct lib_clones *all = &app->clones;
    int fds[LIB_FDS_MAX];
    size_t fd_count = 0;
    size_t size = 0;
    int rc = lib_wire_receive(app->control.fd, all->packet, sizeof(all->packet),
        &size, fds, &fd_count);

    if (rc <= 0)
        return rc == -EAGAIN ? rc : 0;
    rc = lib_request_parse(all->packet, size, fd_count, &all->call, err);
    *ret_fd = rc == 0 && all->call.op == LIB_CLONE ? fd_steal(&fds[0]) : -1;
    for (size_t i = 0; i < fd_count; i++)
        fd_closep(&fds[i]);
    return rc < 0 ? rc : 1;
}

static void on_control(void *opaque, uint32_t events)
{
    struct app *app = opaque;
    int fd = -1;
    int rc = hear(app, &fd, NULL);

    (void)events;
    if (rc == -EAGAIN)
        return;
    if (rc <= 0 || fd < 0)
        loop_stop(&app->loop);
    else
        lib_clones_add(&app->clones, fd, app->clones.call.timeout_ms);
}

/* Whoever asks for anything is told by the end of the process. */
static void on_lost(void *opaque)
{
    struct app *app = opaque;

    loop_stop(&app->loop);
}

/* ---- the template -------------------------------------------------------- */

static int hear_open(struct app *app, struct err *err)
{
    struct pollfd wanted = {.fd = app->control.fd, .events = POLLIN};
    int fd = -1;
    int rc;

    do {
        if (poll(&wanted, 1, -1) < 0 && errno != EINTR)
            return err_sys(err, errno, "cannot wait");
        rc = hear(app, &fd, err);
    } while (rc == -EAGAIN);
    fd_closep(&fd);
    if (rc == 0)
        return err_set(err, EPIPE, "the program has gone");
    if (rc == 1 && app->clones.call.op != LIB_OPEN)
        return err_set(err, EPROTO, "the first request opens no template");
    return rc < 0 ? rc : 0;
}

static int open_pool(struct app *app, struct err *err)
{
    const struct lib_call *call = &app->clones.call;
    const struct zygote_config zygote = {.template = &app->template,
        .run_options = call->argc == 0 ? NULL : call->argv};
    bool renews = (call->flags & LIB_RENEW) != 0;
    uint64_t fds =
        (uint64_t)call->max * LIB_CHANNEL_FDS + LIB_WAITERS_MAX + OTHER_FDS;
    struct pool_config config = {.loop = &app->loop,
        .max = call->max,
        .min = call->ready,
        .with_resets = !renews,
        .on_lost = on_lost,
        .opaque = app};
    int rc = fd_raise_limit(fds, call->max, "clones", "max_clones", err);

    if (rc == 0)
        rc = zygote_start(&zygote, &config.zygote_fd, err);
    if (rc < 0)
        return rc;
    rc = pool_open(&config, &app->pool, err);
    if (rc < 0)
        (void)close(config.zygote_fd);
    else
        lib_clones_init(&app->clones, &app->loop, app->pool, &app->template,
            renews, call->max);
    return rc;
}

static int set_up(struct app *app, struct err *err)
{
    int rc = hear_open(app, err);

    if (rc == 0)
        rc = template_open(app->clones.call.name, &app->template, err);
    if (rc == 0)
        rc = loop_init(&app->loop, err);
    if (rc == 0)
        rc = open_pool(app, err);
    if (rc < 0)
        return rc;
    rc = loop_add(&app->loop, &app->control, EPOLLIN);
    if (rc == 0)
        rc = loop_add(&app->loop, &app->program, EPOLLIN);
    return rc < 0 ? err_sys(err, rc, "cannot watch the program") : 0;
}

static int run(struct app *app)
{
    struct err err;
    int rc = set_up(app, &err);

    if (lib_clones_answer(app->control.fd, rc, 0, rc < 0 ? err.text : "") < 0 ||
        rc < 0)
        return VM_CLIENT_STATUS_FAILED;
    rc = loop_run(&app->loop);
    lib_clones_fini(&app->clones);
    return rc < 0 ? VM_CLIENT_STATUS_FAILED : 0;
}

int cmd_libspore_pool(int argc, char **argv)
{
    struct app *app = calloc(1, sizeof(*app));
    struct err err;
    int status = VM_CLIENT_STATUS_FAILED;

    (void)argc;
    (void)argv;
    if (app == NULL)
        return status;
    settle_signals();
    app->loop = (struct loop){
        .epoll_fd = -1, .timer_source = {.fd = -1}, .wake_source = {.fd = -1}};
    app->control = (struct loop_source){
        .fd = LIB_WIRE_FD, .handle = on_control, .opaque = app};
    app->program =
        (struct loop_source){.fd = -1, .handle = on_program, .opaque = app};
    TAILQ_INIT(&app->clones.list);
    if (find_program(app, &err) < 0) {
        (void)fprintf(stderr, "spore: libspore-pool: %s\n", err.text);
    } else {
        status = run(app);
        pool_close(app->pool);
        loop_fini(&app->loop);
        template_fini(&app->template);
        fd_closep(&app->program.fd);
    }
    free(app);
    return status;
}
