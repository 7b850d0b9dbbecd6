/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/zygote_process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/core/loop.h"
#include "vmm/keeper_wire.h"
#include "vmm/run_options.h"
#include "vmm/run_origin.h"
#include "vmm/serve/clone_process.h"
#include "vmm/serve/clone_wire.h"

#define RUN_ARGS_MAX 64
/* How often it is asked whether fewer clones would do. */
#define REVIEW_NS (500 * CLOCK_NS_PER_MS)
/* After a clone that could not be made none is made ahead for so long. */
#define BACK_OFF_NS (2 * CLOCK_NS_PER_S)
/* Clones of a client whose end it has not been told yet. */
#define UNTOLD_MAX 4096u

enum kind { KIND_PLAIN, KIND_RESETS, KINDS };

struct client;

struct made {
    struct cell cell;
    struct cgroup *cgroup;
    enum kind kind;
    int control_fd;        /* until it is taken; then -1 */
    struct client *client; /* who took it; NULL */
    uint32_t number;
    bool has_ended; /* and its client has not been told: see `status` */
    int32_t status;
    uint64_t oom_kills;
    TAILQ_ENTRY(made) link;
};

TAILQ_HEAD(made_list, made);

struct client {
    struct zygote *zygote;
    struct loop_source source; /* owns its fd */
    uint32_t keep[KINDS];
    uint32_t untold;
    TAILQ_ENTRY(client) link;
};

TAILQ_HEAD(client_list, client);

/* Clones made ahead. */
struct stock {
    struct made_list list;
    uint32_t count;
    uint32_t target;
    uint32_t low; /* the smallest count since the last review */
};

struct zygote {
    const struct zygote_config *config;
    struct run_options options;
    struct run_origin origin;
    struct loop loop;
    struct loop_source listener;
    struct loop_source children;
    struct loop_timer review;
    struct loop_timer refill;
    struct loop_timer idle;
    struct client_list clients;
    uint32_t client_count;
    struct stock stocks[KINDS];
    struct made_list taken;
    uint64_t serial; /* of cgroups' names */
    uint64_t backs_off_until_ns;
    bool is_private; /* it ends with its client */
    const char *path;
};

/* ---- clones -------------------------------------------------------------- */

static int open_cgroup(
    struct zygote *z, struct cgroup **ret_cgroup, struct err *err)
{
    struct cgroup_config config = z->options.jail.cgroup;
    char name[64];

    *ret_cgroup = NULL;
    if (!z->options.jail.has_cgroup)
        return 0;
    (void)snprintf(name, sizeof(name), "spore-%d-%llu", (int)getpid(),
        (unsigned long long)z->serial++);
    config.name = name;
    return cgroup_open(&config, ret_cgroup, err);
}

static void remove_cgroup(struct made *made)
{
    struct err err;

    if (made->cgroup == NULL)
        return;
    made->oom_kills = cgroup_oom_kills(made->cgroup);
    if (cgroup_remove(made->cgroup, &err) < 0)
        log_warn("zygote", "%s", err.text);
    made->cgroup = NULL;
}

static void forget(struct made *made)
{
    remove_cgroup(made);
    fd_closep(&made->control_fd);
    fd_closep(&made->cell.link_fd);
    free(made);
}

static void become_clone(struct zygote *z, struct made *made, int control_fd)
{
    const struct clone_process setup = {.options = &z->options,
        .origin = &z->origin,
        .cgroup = made->cgroup,
        .cell = &made->cell,
        .control_fd = control_fd,
        .with_resets = made->kind == KIND_RESETS};

    clone_process_run(&setup);
    _exit(EXIT_FAILURE);
}

static int split(struct zygote *z, struct made *made, struct err *err)
{
    const struct jail_config *jail = &z->options.jail.jail;
    struct cell_options options = {.strict = jail->level == JAIL_STRICT,
        .is_plain = jail->level == JAIL_OFF,
        .cgroup_fd = -1};
    struct clone_greeting greeting;
    int fds[2];
    int rc;

    if (socketpair(
            AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return err_sys(err, errno, "cannot make a clone's socket");
    if (made->cgroup != NULL)
        options.cgroup_fd = cgroup_clone_fd(made->cgroup);
    rc = cell_fork(&made->cell, &options, err);
    if (rc == 0)
        become_clone(z, made, fds[1]);
    (void)close(fds[1]);
    if (rc < 0) {
        (void)close(fds[0]);
        return rc;
    }
    made->control_fd = fds[0];
    greeting.pid = made->cell.pid;
    /* One that has ended already is told of by its end. */
    (void)!send(made->cell.link_fd, &greeting, sizeof(greeting), MSG_NOSIGNAL);
    fd_closep(&made->cell.link_fd);
    return 0;
}

static int make(
    struct zygote *z, enum kind kind, struct made **ret_made, struct err *err)
{
    struct made *made = calloc(1, sizeof(*made));
    int rc;

    if (made == NULL)
        return err_sys(err, ENOMEM, "a clone");
    made->kind = kind;
    made->control_fd = -1;
    made->cell = (struct cell)CELL_NONE;
    rc = open_cgroup(z, &made->cgroup, err);
    if (rc == 0)
        rc = split(z, made, err);
    if (rc < 0) {
        forget(made);
        return rc;
    }
    *ret_made = made;
    return 0;
}

/* ---- those that are ready ------------------------------------------------ */

static uint32_t floor_of(const struct zygote *z, enum kind kind)
{
    uint32_t most = kind == KIND_PLAIN ? z->config->keep : 0;
    const struct client *client;

    TAILQ_FOREACH(client, &z->clients, link)
    most = client->keep[kind] > most ? client->keep[kind] : most;
    return most;
}

static void kill_ready(struct stock *stock)
{
    struct made *made = TAILQ_FIRST(&stock->list);

    /* It is taken off the list when it has ended. */
    (void)kill(made->cell.pid, SIGKILL);
}

/*
 * One at a time, so that who asks for a clone meanwhile waits for one at the
 * most.
 */
static void on_refill(void *opaque)
{
    struct zygote *z = opaque;
    bool is_short = false;
    struct err err;

    for (unsigned int kind = 0; kind < KINDS; kind++) {
        struct stock *stock = &z->stocks[kind];
        struct made *made;

        if (stock->count >= stock->target)
            continue;
        if (make(z, (enum kind)kind, &made, &err) < 0) {
            log_warn("zygote", "%s", err.text);
            z->backs_off_until_ns = clock_now_ns() + BACK_OFF_NS;
            is_short = true;
            break;
        }
        TAILQ_INSERT_TAIL(&stock->list, made, link);
        stock->count++;
        is_short |= stock->count < stock->target;
    }
    if (is_short)
        loop_timer_arm(&z->loop, &z->refill,
            num_max(clock_now_ns(), z->backs_off_until_ns));
}

static void refill_soon(struct zygote *z)
{
    for (unsigned int kind = 0; kind < KINDS; kind++) {
        if (z->stocks[kind].count < z->stocks[kind].target) {
            loop_timer_arm(&z->loop, &z->refill,
                num_max(clock_now_ns(), z->backs_off_until_ns));
            return;
        }
    }
}

/*
 * What was never touched since the last review was not needed: half of it
 * goes. A miss has raised the target at once.
 */
static void on_review(void *opaque)
{
    struct zygote *z = opaque;
    bool goes_on = false;

    for (unsigned int kind = 0; kind < KINDS; kind++) {
        struct stock *stock = &z->stocks[kind];
        uint32_t least = floor_of(z, (enum kind)kind);
        uint32_t surplus = (stock->low + 1) / 2;

        if (stock->target > least)
            stock->target -= (uint32_t)num_min(surplus, stock->target - least);
        stock->target = (uint32_t)num_max(stock->target, least);
        if (stock->count > stock->target)
            kill_ready(stock);
        stock->low = stock->count;
        goes_on |= stock->count > least || stock->target > least;
    }
    refill_soon(z);
    if (goes_on)
        loop_timer_arm(&z->loop, &z->review, clock_now_ns() + REVIEW_NS);
}

static void review_later(struct zygote *z)
{
    if (!z->review.armed)
        loop_timer_arm(&z->loop, &z->review, clock_now_ns() + REVIEW_NS);
}

/* The next that is ready, or one that is begun now. */
static int take(
    struct zygote *z, enum kind kind, struct made **ret_made, struct err *err)
{
    struct stock *stock = &z->stocks[kind];
    struct made *made = TAILQ_FIRST(&stock->list);

    if (made == NULL) {
        int rc = make(z, kind, &made, err);

        if (rc < 0)
            return rc;
        if (stock->target < ZYGOTE_READY_MAX)
            stock->target++;
    } else {
        TAILQ_REMOVE(&stock->list, made, link);
        stock->count--;
    }
    stock->low = (uint32_t)num_min(stock->low, stock->count);
    *ret_made = made;
    return 0;
}

/* ---- clients ------------------------------------------------------------- */

static void end_clones_of(struct zygote *z, const struct client *client)
{
    struct made *made;
    struct made *next;

    for (made = TAILQ_FIRST(&z->taken); made != NULL; made = next) {
        next = TAILQ_NEXT(made, link);
        if (made->client != client)
            continue;
        made->client = NULL;
        if (made->has_ended) {
            TAILQ_REMOVE(&z->taken, made, link);
            forget(made);
        } else {
            (void)kill(made->cell.pid, SIGKILL);
        }
    }
}

static void drop_client(struct client *client)
{
    struct zygote *z = client->zygote;

    end_clones_of(z, client);
    loop_remove(&z->loop, &client->source);
    fd_closep(&client->source.fd);
    TAILQ_REMOVE(&z->clients, client, link);
    z->client_count--;
    free(client);
    review_later(z);
    if (z->client_count > 0)
        return;
    if (z->is_private || z->listener.fd < 0)
        loop_stop(&z->loop);
    else if (z->config->idle_ns != 0)
        loop_timer_arm(&z->loop, &z->idle, clock_now_ns() + z->config->idle_ns);
}

static struct made *find_taken(
    const struct zygote *z, const struct client *client, uint32_t number)
{
    struct made *made;

    TAILQ_FOREACH(made, &z->taken, link)
    {
        if (made->client == client && made->number == number)
            return made;
    }
    return NULL;
}

static int send_message(
    const struct client *client, const struct zygote_message *message, int fd)
{
    return keeper_send(client->source.fd, message, sizeof(*message), fd);
}

static int give(struct client *client, const struct zygote_request *request)
{
    enum kind kind =
        (request->flags & ZYGOTE_WITH_RESETS) != 0 ? KIND_RESETS : KIND_PLAIN;
    struct zygote *z = client->zygote;
    struct zygote_message message = {
        .event = ZYGOTE_CLONE, .number = request->number};
    struct made *made = NULL;
    int rc;

    if (find_taken(z, client, request->number) != NULL)
        return -EPROTO;
    if (take(z, kind, &made, &message.err) < 0) {
        message.event = ZYGOTE_NONE;
        return send_message(client, &message, -1);
    }
    made->client = client;
    made->number = request->number;
    message.pid = made->cell.pid;
    TAILQ_INSERT_HEAD(&z->taken, made, link);
    rc = send_message(client, &message, made->control_fd);
    fd_closep(&made->control_fd);
    refill_soon(z);
    review_later(z);
    return rc;
}

static int drop(const struct client *client, uint32_t number)
{
    struct zygote *z = client->zygote;
    struct made *made = find_taken(z, client, number);

    /* Its end may have crossed the request. */
    if (made == NULL)
        return 0;
    made->client = NULL;
    (void)kill(made->cell.pid, SIGKILL);
    return 0;
}

static int keep(struct client *client, const struct zygote_request *request)
{
    enum kind kind =
        (request->flags & ZYGOTE_WITH_RESETS) != 0 ? KIND_RESETS : KIND_PLAIN;
    struct stock *stock = &client->zygote->stocks[kind];

    client->keep[kind] = request->count;
    if (stock->target < request->count)
        stock->target = request->count;
    refill_soon(client->zygote);
    review_later(client->zygote);
    return 0;
}

static int obey(struct client *client, const struct zygote_request *request)
{
    switch (request->op) {
    case ZYGOTE_KEEP:
        return keep(client, request);
    case ZYGOTE_TAKE:
        return give(client, request);
    case ZYGOTE_DROP:
        return drop(client, request->number);
    default:
        return -EPROTO;
    }
}

static void tell_ends(struct client *client)
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
        forget(made);
        client->untold--;
    }
    (void)!loop_change(&z->loop, &client->source, EPOLLIN);
}

static void on_client(void *opaque, uint32_t events)
{
    struct client *client = opaque;
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
    struct client *client;

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

static struct made *find_pid(
    struct zygote *z, pid_t pid, struct stock **ret_stock)
{
    struct made *made;

    TAILQ_FOREACH(made, &z->taken, link)
    {
        if (made->cell.pid == pid && !made->has_ended)
            return made;
    }
    for (unsigned int kind = 0; kind < KINDS; kind++) {
        *ret_stock = &z->stocks[kind];
        TAILQ_FOREACH(made, &z->stocks[kind].list, link)
        {
            if (made->cell.pid == pid)
                return made;
        }
    }
    return NULL;
}

/* One of those that are ready; killed as one too many, or it has failed. */
static void lose_ready(struct zygote *z, struct stock *stock, struct made *made)
{
    struct clone_message message;
    int fd = -1;

    TAILQ_REMOVE(&stock->list, made, link);
    stock->count--;
    stock->low = (uint32_t)num_min(stock->low, stock->count);
    if (!WIFSIGNALED(made->status) || WTERMSIG(made->status) != SIGKILL) {
        z->backs_off_until_ns = clock_now_ns() + BACK_OFF_NS;
        if (keeper_receive(made->control_fd, &message, sizeof(message), &fd) ==
                1 &&
            message.event == CLONE_ENDED) {
            message.text[sizeof(message.text) - 1] = '\0';
            log_warn("zygote", "a clone failed: %s", message.text);
        } else {
            log_warn("zygote", "a clone failed: wait status 0x%x",
                (unsigned int)made->status);
        }
        fd_closep(&fd);
    }
    forget(made);
    refill_soon(z);
}

static void lose_taken(struct zygote *z, struct made *made)
{
    struct client *client = made->client;

    if (client == NULL) {
        TAILQ_REMOVE(&z->taken, made, link);
        forget(made);
        return;
    }
    made->has_ended = true;
    remove_cgroup(made);
    if (++client->untold > UNTOLD_MAX)
        drop_client(client);
    else if (loop_change(&z->loop, &client->source, EPOLLIN | EPOLLOUT) < 0)
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
        struct stock *stock = NULL;
        struct made *made = find_pid(z, pid, &stock);

        if (made == NULL)
            continue;
        made->status = status;
        if (stock != NULL)
            lose_ready(z, stock, made);
        else
            lose_taken(z, made);
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

static int open_all(
    struct zygote *z, int listen_fd, int client_fd, struct err *err)
{
    static const struct page_client_host nobody;
    int rc = parse_options(z, err);

    if (rc == 0 && z->config->jail != NULL)
        z->options.jail = *z->config->jail;
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

/* Those that are left, by name; the kernel ends them with us in any case. */
static void close_all(struct zygote *z)
{
    struct made *made;
    int status;

    TAILQ_FOREACH(made, &z->taken, link)
    (void)kill(made->cell.pid, SIGKILL);
    for (unsigned int kind = 0; kind < KINDS; kind++) {
        while ((made = TAILQ_FIRST(&z->stocks[kind].list)) != NULL) {
            TAILQ_REMOVE(&z->stocks[kind].list, made, link);
            TAILQ_INSERT_TAIL(&z->taken, made, link);
            (void)kill(made->cell.pid, SIGKILL);
        }
    }
    while ((made = TAILQ_FIRST(&z->taken)) != NULL) {
        TAILQ_REMOVE(&z->taken, made, link);
        if (!made->has_ended)
            (void)waitpid(made->cell.pid, &status, 0);
        forget(made);
    }
    run_origin_close(&z->origin);
    run_origin_release(&z->origin);
    run_options_fini(&z->options);
}

int zygote_run(const struct zygote_config *config, int listen_fd, int client_fd,
    const char *path, int said_fd)
{
    struct zygote z = {.config = config,
        .origin = RUN_ORIGIN_NONE,
        .is_private = listen_fd < 0,
        .path = path,
        .clients = TAILQ_HEAD_INITIALIZER(z.clients),
        .taken = TAILQ_HEAD_INITIALIZER(z.taken),
        .review = {.fire = on_review, .opaque = &z},
        .refill = {.fire = on_refill, .opaque = &z},
        .idle = {.fire = on_idle, .opaque = &z}};
    struct zygote_message said = {.event = ZYGOTE_CLONE};
    int rc;

    (void)prctl(PR_SET_NAME, "spore-zygote", 0, 0, 0);
    for (unsigned int kind = 0; kind < KINDS; kind++)
        TAILQ_INIT(&z.stocks[kind].list);
    z.stocks[KIND_PLAIN].target = config->keep;
    rc = open_all(&z, listen_fd, client_fd, &said.err);
    if (rc < 0) {
        said.event = ZYGOTE_NONE;
        said.status = rc;
    }
    (void)!keeper_send(said_fd, &said, sizeof(said), -1);
    fd_closep(&said_fd);
    if (rc == 0) {
        refill_soon(&z);
        rc = loop_run(&z.loop);
    }
    if (path != NULL)
        (void)unlink(path);
    close_all(&z);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
