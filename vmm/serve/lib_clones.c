/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/lib_clones.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/guest_exec.h"

enum lib_phase {
    LIB_WAITS, /* for a clone */
    LIB_IDLE,  /* has one, or one that has ended */
    LIB_RUNS,  /* a command */
};

struct lib_clone {
    struct lib_clones *all;
    enum lib_phase phase;
    struct loop_source channel; /* owns its fd */
    struct pool_waiter waiter;
    struct clone *clone; /* NULL: there is none (any more) */
    struct loop_timer timer;
    struct guest_exec exec;
    bool has_exec;
    int fds[LIB_FDS_MAX]; /* of the command; -1 */
    struct loop_call done;
    struct lib_reply reply;            /* that `done` sends */
    char end[sizeof(struct err) + 32]; /* why there is no clone */
    TAILQ_ENTRY(lib_clone) link;
};

/* ---- answers ------------------------------------------------------------- */

static void fill_reply(
    struct lib_reply *reply, int rc, int status, const char *text)
{
    *reply = (struct lib_reply){
        .version = LIB_WIRE_VERSION, .rc = rc, .status = status};
    (void)snprintf(reply->text, sizeof(reply->text), "%s", text);
}

static int send_reply(int fd, struct lib_reply *reply)
{
    const struct iovec part = {.iov_base = reply, .iov_len = sizeof(*reply)};

    return lib_wire_send(fd, &part, 1, NULL, 0, false);
}

int lib_clones_answer(int fd, int rc, int status, const char *text)
{
    struct lib_reply reply;

    fill_reply(&reply, rc, status, text);
    return send_reply(fd, &reply);
}

/* Who does not take an answer has gone, which its channel says. */
static void answer(struct lib_clone *c, int rc, const char *text)
{
    (void)!lib_clones_answer(c->channel.fd, rc, 0, text);
}

/* ---- the end of a channel ------------------------------------------------ */

static void end_command(struct lib_clone *c)
{
    loop_timer_disarm(c->all->loop, &c->timer);
    loop_unpost(c->all->loop, &c->done);
    if (c->has_exec)
        guest_exec_fini(&c->exec);
    c->has_exec = false;
    for (size_t i = 0; i < ARRAY_SIZE(c->fds); i++)
        fd_closep(&c->fds[i]);
}

static void close_channel(struct lib_clone *c)
{
    struct lib_clones *all = c->all;

    end_command(c);
    pool_cancel(all->pool, &c->waiter);
    if (c->clone != NULL)
        clone_drop(c->clone);
    loop_remove(all->loop, &c->channel);
    fd_closep(&c->channel.fd);
    TAILQ_REMOVE(&all->list, c, link);
    all->channel_count--;
    free(c);
}

/* ---- the command --------------------------------------------------------- */

/* From the loop: a command cannot be released from its own callback. What it
 * wrote to is closed before its user is told. */
static void on_done_call(void *opaque)
{
    struct lib_clone *c = opaque;

    end_command(c);
    c->phase = LIB_IDLE;
    (void)!send_reply(c->channel.fd, &c->reply);
}

static void finish(struct lib_clone *c, int rc, int status, const char *text)
{
    if (c->phase != LIB_RUNS || c->done.posted)
        return;
    fill_reply(&c->reply, rc, status, text);
    loop_post(c->all->loop, &c->done);
}

static void on_started(void *opaque)
{
    (void)opaque;
}

static void on_done(void *opaque, const struct guest_exec_result *result)
{
    struct lib_clone *c = opaque;

    if (!result->is_error)
        finish(c, 0, result->status, "");
    else
        finish(c, -EIO, result->status,
            result->text[0] == '\0' ? "the command was not run to its end"
                                    : result->text);
}

/* The template's, then the command's own: later ones win. */
static const char *const *merge_env(
    struct lib_clones *all, const struct lib_call *call)
{
    const struct template *t = all->template;
    size_t count = 0;

    while (
        t->env != NULL && count < TEMPLATE_ARGS_MAX && t->env[count] != NULL) {
        all->env[count] = t->env[count];
        count++;
    }
    memcpy(all->env + count, call->env, (call->envc + 1) * sizeof(char *));
    return all->env;
}

/* Output that nobody wants still has to go somewhere. */
static int complete_fds(struct lib_clone *c)
{
    for (size_t i = STDOUT_FILENO; i < ARRAY_SIZE(c->fds); i++) {
        if (c->fds[i] >= 0)
            continue;
        c->fds[i] = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (c->fds[i] < 0)
            return -errno;
    }
    return 0;
}

/* A clone whose process has just gone, before its zygote has said so. */
static int end_of(int rc)
{
    return rc == -EPIPE ? -ESHUTDOWN : rc;
}

static int start_command(struct lib_clone *c, struct err *err)
{
    struct lib_clones *all = c->all;
    const struct lib_call *call = &all->call;
    const struct template *t = all->template;
    struct guest_exec_config command = {
        .argv =
            call->argc != 0 ? call->argv : (const char *const *)(void *)t->argv,
        .env = merge_env(all, call),
        .cwd = call->cwd != NULL ? call->cwd : t->cwd,
        .user = call->user != NULL ? call->user : t->user,
        .stdin_fd = c->fds[STDIN_FILENO],
        .on_started = on_started,
        .on_done = on_done,
        .opaque = c};
    int fd;
    int rc;

    if (command.argv == NULL || command.argv[0] == NULL)
        return err_set(err, EINVAL,
            "the template has no command of its own: give arguments");
    rc = complete_fds(c);
    if (rc < 0)
        return err_sys(err, rc, "a command's output");
    command.stdout_fd = c->fds[STDOUT_FILENO];
    command.stderr_fd = c->fds[STDERR_FILENO];
    rc = clone_call_agent(c->clone, 0, &fd, err);
    if (rc < 0)
        return end_of(rc);
    rc = guest_exec_start(&c->exec, all->loop, fd, &command, err);
    if (rc == 0) {
        c->has_exec = true;
        c->phase = LIB_RUNS;
    }
    return rc;
}

static void arm(struct lib_clone *c, uint32_t timeout_ms)
{
    if (timeout_ms != 0)
        loop_timer_arm(c->all->loop, &c->timer,
            clock_now_ns() + timeout_ms * CLOCK_NS_PER_MS);
}

static void on_timer(void *opaque)
{
    struct lib_clone *c = opaque;

    if (c->phase == LIB_RUNS) {
        finish(c, -ETIMEDOUT, 0, "the command's time was up");
        return;
    }
    pool_cancel(c->all->pool, &c->waiter);
    c->phase = LIB_IDLE;
    (void)snprintf(c->end, sizeof(c->end), "no clone came free in time");
    answer(c, -ETIMEDOUT, c->end);
}

/* ---- the clone ----------------------------------------------------------- */

static void on_end(void *opaque, enum clone_end end, const char *text)
{
    struct lib_clone *c = opaque;

    (void)end;
    (void)snprintf(c->end, sizeof(c->end), "the machine has ended: %s", text);
    clone_drop(c->clone);
    c->clone = NULL;
    finish(c, -ESHUTDOWN, 0, c->end);
}

static void on_clone(
    void *opaque, struct clone *clone, const struct err *problem)
{
    struct lib_clone *c = opaque;
    const struct clone_host host = {.on_end = on_end, .opaque = c};

    loop_timer_disarm(c->all->loop, &c->timer);
    c->phase = LIB_IDLE;
    if (clone == NULL) {
        (void)snprintf(c->end, sizeof(c->end), "%s", problem->text);
        answer(c, -EIO, problem->text);
        return;
    }
    clone_watch(clone, &host);
    c->clone = clone;
    answer(c, 0, "");
}

static void want_clone(struct lib_clone *c, uint32_t timeout_ms)
{
    struct clone *clone = NULL;
    struct err err;

    c->phase = LIB_WAITS;
    c->waiter = (struct pool_waiter){.on_clone = on_clone, .opaque = c};
    if (pool_take(c->all->pool, &c->waiter, &clone, &err) < 0) {
        on_clone(c, NULL, &err);
        return;
    }
    if (clone != NULL) {
        on_clone(c, clone, NULL);
        return;
    }
    arm(c, timeout_ms);
}

/* Whichever the pool has next is as this one was. */
static void reset(struct lib_clone *c)
{
    if (c->clone != NULL) {
        if (c->all->renews)
            clone_drop(c->clone);
        else
            clone_recycle(c->clone);
        c->clone = NULL;
    }
    want_clone(c, c->all->call.timeout_ms);
}

static void connect_stream(struct lib_clone *c, int *fd)
{
    struct err err;
    int type = 0;
    socklen_t size = sizeof(type);
    int rc;

    if (getsockopt(*fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
        type != SOCK_STREAM) {
        answer(c, -EPROTO, "what is to be connected is no stream socket");
        return;
    }
    rc = clone_connect(c->clone, c->all->call.port, fd_steal(fd), 0, &err);
    answer(c, end_of(rc), rc < 0 ? err.text : "");
}

/*
 * A terminal takes as much as somebody reads, whatever it says of room: one
 * that blocks would hold up all clones. Opened anew it does not, and remains
 * as it is for its owner.
 */
static void unblock(int *fd)
{
    char path[32];
    int own;

    if (*fd < 0 || isatty(*fd) == 0)
        return;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", *fd);
    own = open(path,
        (fcntl(*fd, F_GETFL) & O_ACCMODE) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own < 0)
        return;
    (void)close(*fd);
    *fd = own;
}

static void run(struct lib_clone *c, int *fds)
{
    struct err err;
    size_t next = 0;
    int rc;

    for (size_t i = 0; i < ARRAY_SIZE(c->fds); i++) {
        if ((c->all->call.flags & ((uint32_t)LIB_STDIN << i)) != 0)
            c->fds[i] = fd_steal(&fds[next++]);
        unblock(&c->fds[i]);
    }
    rc = start_command(c, &err);
    if (rc == 0) {
        arm(c, c->all->call.timeout_ms);
        return;
    }
    end_command(c);
    answer(c, rc, err.text);
}

/* ---- a channel ----------------------------------------------------------- */

/* False: it has no place here. */
static bool obey(struct lib_clone *c, int *fds)
{
    enum lib_op op = c->all->call.op;

    if (op == LIB_CANCEL) {
        finish(c, -ECANCELED, 0, "the command was cancelled");
        return true;
    }
    if (c->phase != LIB_IDLE)
        return false;
    if (op == LIB_RESET) {
        reset(c);
        return true;
    }
    if (op != LIB_EXEC && op != LIB_STREAM)
        return false;
    if (c->clone == NULL)
        answer(c, -ESHUTDOWN, c->end);
    else if (op == LIB_EXEC)
        run(c, fds);
    else
        connect_stream(c, &fds[0]);
    return true;
}

static void on_channel(void *opaque, uint32_t events)
{
    struct lib_clone *c = opaque;
    struct lib_clones *all = c->all;
    int fds[LIB_FDS_MAX];
    size_t fd_count = 0;
    size_t size = 0;
    struct err err;
    bool stays;
    int rc = lib_wire_receive(
        c->channel.fd, all->packet, sizeof(all->packet), &size, fds, &fd_count);

    (void)events;
    if (rc == -EAGAIN)
        return;
    if (rc <= 0) {
        close_channel(c);
        return;
    }
    rc = lib_request_parse(all->packet, size, fd_count, &all->call, &err);
    if (rc == -EINVAL && c->phase == LIB_IDLE) {
        answer(c, rc, err.text);
        stays = true;
    } else {
        stays = rc == 0 && obey(c, fds);
    }
    for (size_t i = 0; i < fd_count; i++)
        fd_closep(&fds[i]);
    if (!stays)
        close_channel(c);
}

void lib_clones_add(struct lib_clones *all, int channel, uint32_t timeout_ms)
{
    struct lib_clone *c = NULL;

    if (all->channel_count < all->channels_max)
        c = calloc(1, sizeof(*c));
    if (c == NULL) {
        (void)!lib_clones_answer(channel, -EAGAIN, 0,
            "too many wait for a clone: open it with more, or close some");
        (void)close(channel);
        return;
    }
    c->all = all;
    c->channel =
        (struct loop_source){.fd = channel, .handle = on_channel, .opaque = c};
    c->timer = (struct loop_timer){.fire = on_timer, .opaque = c};
    c->done = (struct loop_call){.run = on_done_call, .opaque = c};
    for (size_t i = 0; i < ARRAY_SIZE(c->fds); i++)
        c->fds[i] = -1;
    TAILQ_INSERT_TAIL(&all->list, c, link);
    all->channel_count++;
    if (loop_add(all->loop, &c->channel, EPOLLIN) < 0) {
        answer(c, -EIO, "the clone's channel cannot be watched");
        close_channel(c);
        return;
    }
    want_clone(c, timeout_ms);
}

/* ---- all together -------------------------------------------------------- */

void lib_clones_init(struct lib_clones *all, struct loop *loop,
    struct pool *pool, const struct template *template, bool renews,
    uint32_t max)
{
    all->loop = loop;
    all->pool = pool;
    all->template = template;
    all->renews = renews;
    all->channels_max = max + LIB_WAITERS_MAX;
    all->channel_count = 0;
    TAILQ_INIT(&all->list);
}

void lib_clones_fini(struct lib_clones *all)
{
    while (!TAILQ_EMPTY(&all->list))
        close_channel(TAILQ_FIRST(&all->list));
}
