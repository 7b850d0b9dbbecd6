/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/zygote_process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/core/loop.h"
#include "vmm/keeper_wire.h"
#include "vmm/run_options.h"
#include "vmm/run_origin.h"
#include "vmm/serve/clone_wire.h"
#include "vmm/serve/zygote_stock.h"

#define RUN_ARGS_MAX 64
/* Clones of a client whose end it has not been told yet. */
#define UNTOLD_MAX 4096u

struct zygote_client {
    struct zygote *zygote;
    struct loop_source source; /* owns its fd */
    uint32_t untold;
    TAILQ_ENTRY(zygote_client) link;
};

TAILQ_HEAD(client_list, zygote_client);

struct zygote {
    const struct zygote_config *config;
    struct run_options options;
    struct run_origin origin;
    struct loop loop;
    struct loop_source listener;
    struct loop_source children;
    struct loop_timer idle;
    struct client_list clients;
    uint32_t client_count;
    struct zygote_stock stock;
    struct made_list taken;
    struct spaces spaces; /* of all clones, as root */
    bool is_private;      /* it ends with its client */
    const char *path;
};

/* ---- clients ------------------------------------------------------------- */

static enum made_kind kind_of(const struct zygote_request *request)
{
    return (request->flags & ZYGOTE_WITH_RESETS) != 0 ? MADE_WITH_RESETS
                                                      : MADE_PLAIN;
}

static void end_clones_of(struct zygote *z, const struct zygote_client *client)
{
    struct made *made;
    struct made *next;

    for (made = TAILQ_FIRST(&z->taken); made != NULL; made = next) {
        next = TAILQ_NEXT(made, link);
        if (made->client != client)
            continue;
        TAILQ_REMOVE(&z->taken, made, link);
        if (made->has_ended)
            made_free(made);
        else
            zygote_stock_bury(&z->stock, made);
    }
}

static void drop_client(struct zygote_client *client)
{
    struct zygote *z = client->zygote;

    end_clones_of(z, client);
    loop_remove(&z->loop, &client->source);
    fd_closep(&client->source.fd);
    TAILQ_REMOVE(&z->clients, client, link);
    z->client_count--;
    free(client);
    if (z->client_count > 0)
        return;
    if (z->is_private || z->listener.fd < 0)
        loop_stop(&z->loop);
    else if (z->config->idle_ns != 0)
        loop_timer_arm(&z->loop, &z->idle, clock_now_ns() + z->config->idle_ns);
}

static struct made *find_taken(
    const struct zygote *z, const struct zygote_client *client, uint32_t number)
{
    struct made *made;

    TAILQ_FOREACH(made, &z->taken, link)
    {
        if (made->client == client && made->number == number)
            return made;
    }
    return NULL;
}

static int send_message(const struct zygote_client *client,
    const struct zygote_message *message, int fd)
{
    return keeper_send(client->source.fd, message, sizeof(*message), fd);
}

static int give(
    struct zygote_client *client, const struct zygote_request *request)
{
    enum made_kind kind = kind_of(request);
    struct zygote *z = client->zygote;
    struct zygote_message message = {
        .event = ZYGOTE_CLONE, .number = request->number};
    struct made *made = NULL;
    int rc;

    if (find_taken(z, client, request->number) != NULL)
        return -EPROTO;
    if (zygote_stock_take(&z->stock, kind, &made, &message.err) < 0) {
        message.event = ZYGOTE_NONE;
        return send_message(client, &message, -1);
    }
    made->client = client;
    made->number = request->number;
    message.pid = made->cell.pid;
    TAILQ_INSERT_HEAD(&z->taken, made, link);
    rc = send_message(client, &message, made->control_fd);
    fd_closep(&made->control_fd);
    return rc;
}

static int drop(struct zygote_client *client, uint32_t number)
{
    struct zygote *z = client->zygote;
    struct made *made = find_taken(z, client, number);

    /* Its end may have crossed the request. */
    if (made == NULL)
        return 0;
    TAILQ_REMOVE(&z->taken, made, link);
    if (made->has_ended) {
        /* Reaped: its process id may be another's. Nobody is to be told. */
        client->untold--;
        made_free(made);
        return 0;
    }
    zygote_stock_bury(&z->stock, made);
    return 0;
}

static int obey(
    struct zygote_client *client, const struct zygote_request *request)
{
    switch (request->op) {
    case ZYGOTE_TAKE:
        return give(client, request);
    case ZYGOTE_DROP:
        return drop(client, request->number);
    default:
        return -EPROTO;
    }
}

static void tell_ends(struct zygote_client *client)
{
    struct zygote *z = client->zygote;
    struct made *made;
    struct made *next;

    for (made = TAILQ_FIRST(&z->taken); made != NULL && client->untold > 0;
         made = next) {
        struct zygote_message message = {.event = ZYGOTE_GONE};

        next = TAILQ_NEXT(made, link);
        if (made->client != client || !made->has_ended)
            continue;
        message.number = made->number;
        message.pid = made->cell.pid;
        message.status = made->status;
        message.oom_kills = made->oom_kills;
        if (send_message(client, &message, -1) == -EAGAIN)
            return;
        TAILQ_REMOVE(&z->taken, made, link);
        made_free(made);
        client->untold--;
    }
    (void)!loop_change(&z->loop, &client->source, EPOLLIN);
}

static void on_client(void *opaque, uint32_t events)
{
    struct zygote_client *client = opaque;
    struct zygote_request request;
    int fd = -1;
    int rc;

    if ((events & EPOLLOUT) != 0)
        tell_ends(client);
    if ((events & ~(uint32_t)EPOLLOUT) == 0)
        return;
    rc = keeper_receive(client->source.fd, &request, sizeof(request), &fd);
    fd_closep(&fd);
    if (rc == -EAGAIN)
        return;
    if (rc <= 0 || obey(client, &request) < 0)
        drop_client(client);
}

/* On success `fd` is the client's. */
static int add_client(struct zygote *z, int fd)
{
    struct zygote_client *client;

    if (z->client_count == ZYGOTE_CLIENTS_MAX)
        return -EAGAIN;
    client = calloc(1, sizeof(*client));
    if (client == NULL)
        return -ENOMEM;
    client->zygote = z;
    client->source =
        (struct loop_source){.fd = fd, .handle = on_client, .opaque = client};
    if (loop_add(&z->loop, &client->source, EPOLLIN) < 0) {
        free(client);
        return -ENOMEM;
    }
    TAILQ_INSERT_TAIL(&z->clients, client, link);
    z->client_count++;
    loop_timer_disarm(&z->loop, &z->idle);
    return 0;
}

static void on_listener(void *opaque, uint32_t events)
{
    struct zygote *z = opaque;
    int fd = accept4(z->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd >= 0 && add_client(z, fd) < 0)
        (void)close(fd);
}

/* Who has connected before the path is gone is served yet. */
static void on_idle(void *opaque)
{
    struct zygote *z = opaque;

    if (z->path != NULL)
        (void)unlink(z->path);
    on_listener(z, EPOLLIN);
    loop_remove(&z->loop, &z->listener);
    fd_closep(&z->listener.fd);
    if (z->client_count == 0)
        loop_stop(&z->loop);
}

/* ---- clones that end ----------------------------------------------------- */

static struct made *find_pid(const struct zygote *z, pid_t pid)
{
    struct made *made;

    TAILQ_FOREACH(made, &z->taken, link)
    {
        if (made->cell.pid == pid && !made->has_ended)
            return made;
    }
    return NULL;
}

static void lose_taken(struct zygote *z, struct made *made, int status)
{
    struct zygote_client *client = made->client;

    made->status = status;
    made->has_ended = true;
    made_remove_cgroup(made);
    if (++client->untold > UNTOLD_MAX ||
        loop_change(&z->loop, &client->source, EPOLLIN | EPOLLOUT) < 0)
        drop_client(client);
}

static void on_child(void *opaque, uint32_t events)
{
    struct zygote *z = opaque;
    struct signalfd_siginfo info;
    pid_t pid;
    int status;

    (void)events;
    (void)!read(z->children.fd, &info, sizeof(info));
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct made *made;

        if (zygote_stock_lose(&z->stock, pid, status))
            continue;
        made = find_pid(z, pid);
        if (made != NULL)
            lose_taken(z, made, status);
    }
}

/* ---- all together -------------------------------------------------------- */

static int parse_options(struct zygote *z, struct err *err)
{
    const struct template *t = z->config->template;
    const char *argv[RUN_ARGS_MAX + 1] = {
        "run", "--from", TEMPLATE_SNAPSHOT, "--store", t->store};
    int argc = 5;

    for (const char *const *option = z->config->run_options;
         option != NULL && *option != NULL; option++) {
        if (argc == RUN_ARGS_MAX)
            return err_set(err, E2BIG, "too many options");
        argv[argc++] = *option;
    }
    /* getopt_long(3) wants it so, and writes to no string. */
    return run_options_parse(&z->options, argc, (char **)(uintptr_t)argv, err);
}

static int watch_children(struct zygote *z, struct err *err)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    z->children = (struct loop_source){
        .fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK),
        .handle = on_child,
        .opaque = z};
    if (z->children.fd < 0 || loop_add(&z->loop, &z->children, EPOLLIN) < 0)
        return err_sys(err, errno, "cannot watch for ends of processes");
    return 0;
}

/* Clones of other users are in a user namespace each, and have their own. */
static int make_spaces(struct zygote *z, struct err *err)
{
    int rc;

    if (geteuid() != 0 || z->options.jail.jail.level == JAIL_OFF)
        return 0;
    rc = spaces_begin(&z->spaces, err);
    if (rc < 0)
        return rc;
    spaces_wait(&z->spaces);
    if (z->spaces.rc < 0) {
        /* Each will try for itself, and say what it comes to. */
        spaces_abandon(&z->spaces);
        return 0;
    }
    z->options.jail.jail.spaces = &z->spaces;
    return 0;
}

static int open_all(
    struct zygote *z, int listen_fd, int client_fd, struct err *err)
{
    static const struct page_client_host nobody;
    int rc = parse_options(z, err);

    if (rc == 0 && z->config->jail != NULL)
        z->options.jail = *z->config->jail;
    if (rc == 0)
        rc = make_spaces(z, err);
    z->listener = (struct loop_source){
        .fd = listen_fd, .handle = on_listener, .opaque = z};
    if (rc == 0 && (z->options.page_server != NULL ||
                       z->options.verify == RUN_VERIFY_LAZY))
        rc = err_set(err, ENOTSUP,
            "clones have their memory from files: no "
            "--page-server, no --verify=lazy");
    if (rc == 0)
        rc = run_origin_open(&z->origin, &z->options, &nobody, err);
    if (rc == 0)
        rc = loop_init(&z->loop, err);
    if (rc == 0)
        rc = watch_children(z, err);
    if (rc == 0 && listen_fd >= 0 &&
        loop_add(&z->loop, &z->listener, EPOLLIN) < 0)
        rc = err_sys(err, errno, "cannot watch the zygote's socket");
    if (rc == 0 && client_fd >= 0)
        rc = add_client(z, client_fd);
    return rc;
}

/* What is left, one by one; the kernel ends them with us in any case. */
static void close_all(struct zygote *z)
{
    struct made *made;

    while ((made = TAILQ_FIRST(&z->taken)) != NULL) {
        TAILQ_REMOVE(&z->taken, made, link);
        if (made->has_ended)
            made_free(made);
        else
            zygote_stock_bury(&z->stock, made);
    }
    zygote_stock_fini(&z->stock);
    spaces_abandon(&z->spaces);
    run_origin_close(&z->origin);
    run_origin_release(&z->origin);
    run_options_fini(&z->options);
}

int zygote_run(const struct zygote_config *config, int listen_fd, int client_fd,
    const char *path, int said_fd)
{
    struct zygote z = {.config = config,
        .origin = RUN_ORIGIN_NONE,
        .spaces = SPACES_NONE,
        .is_private = listen_fd < 0,
        .path = path,
        .clients = TAILQ_HEAD_INITIALIZER(z.clients),
        .taken = TAILQ_HEAD_INITIALIZER(z.taken),
        .idle = {.fire = on_idle, .opaque = &z}};
    struct zygote_message said = {.event = ZYGOTE_CLONE};
    int rc;

    (void)prctl(PR_SET_NAME, "spore-zygote", 0, 0, 0);
    zygote_stock_init(&z.stock, &z.loop, &z.options, &z.origin);
    rc = open_all(&z, listen_fd, client_fd, &said.err);
    if (rc < 0) {
        said.event = ZYGOTE_NONE;
        said.status = rc;
    }
    (void)!keeper_send(said_fd, &said, sizeof(said), -1);
    fd_closep(&said_fd);
    if (rc == 0) {
        zygote_stock_keep(&z.stock, MADE_PLAIN, config->keep);
        rc = loop_run(&z.loop);
    }
    if (path != NULL)
        (void)unlink(path);
    close_all(&z);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
