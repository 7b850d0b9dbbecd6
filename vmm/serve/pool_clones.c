/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/pool_clones.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/generation.h"
#include "vmm/keeper_wire.h"

/* Far beyond what it takes: with a thousand guests that are interpreted a
 * process may have to wait for its turn. */
#define PATIENCE_NS (UINT64_C(120) * CLOCK_NS_PER_S)

static struct clone_list *list_of(struct pool *pool, const struct clone *clone)
{
    switch (clone->phase) {
    case CLONE_PHASE_READY:
        return &pool->ready;
    case CLONE_PHASE_DROPPED:
        return &pool->dropped;
    case CLONE_PHASE_ASKED:
    case CLONE_PHASE_MAKING:
    case CLONE_PHASE_TAKEN:
    case CLONE_PHASE_RESETTING:
    default:
        return &pool->clones;
    }
}

static void count_phase(struct pool *pool, enum clone_phase phase, int by)
{
    struct pool_stats *s = &pool->stats;

    switch (phase) {
    case CLONE_PHASE_ASKED:
        pool->asked += (uint32_t)by;
        s->starting += (uint32_t)by;
        break;
    case CLONE_PHASE_MAKING:
    case CLONE_PHASE_RESETTING:
        s->starting += (uint32_t)by;
        break;
    case CLONE_PHASE_READY:
        s->ready += (uint32_t)by;
        break;
    case CLONE_PHASE_TAKEN:
        s->taken += (uint32_t)by;
        break;
    case CLONE_PHASE_DROPPED:
        break;
    }
}

/* A process that was taken over, or hangs, is not waited for for ever. */
static void on_patience_end(void *opaque)
{
    pool_clone_end(opaque, CLONE_FAILED, "it does not answer");
}

struct clone *pool_clone_new(struct pool *pool, uint32_t number)
{
    struct clone *clone = calloc(1, sizeof(*clone));

    if (clone == NULL)
        return NULL;
    clone->pool = pool;
    clone->number = number;
    clone->control.fd = -1;
    clone->patience =
        (struct loop_timer){.fire = on_patience_end, .opaque = clone};
    clone->phase = CLONE_PHASE_ASKED;
    count_phase(pool, CLONE_PHASE_ASKED, 1);
    pool->stats.alive++;
    TAILQ_INSERT_TAIL(&pool->clones, clone, link);
    return clone;
}

void pool_clone_set_phase(struct clone *clone, enum clone_phase phase)
{
    struct pool *pool = clone->pool;

    TAILQ_REMOVE(list_of(pool, clone), clone, link);
    count_phase(pool, clone->phase, -1);
    clone->phase = phase;
    count_phase(pool, phase, 1);
    TAILQ_INSERT_TAIL(list_of(pool, clone), clone, link);
    if (phase == CLONE_PHASE_MAKING || phase == CLONE_PHASE_RESETTING)
        loop_timer_arm(
            pool->config.loop, &clone->patience, clock_now_ns() + PATIENCE_NS);
    else
        loop_timer_disarm(pool->config.loop, &clone->patience);
}

/* Nothing of it is left here. */
void pool_clone_forget(struct clone *clone)
{
    struct pool *pool = clone->pool;

    TAILQ_REMOVE(list_of(pool, clone), clone, link);
    count_phase(pool, clone->phase, -1);
    if (clone->phase != CLONE_PHASE_DROPPED)
        pool->stats.alive--;
    loop_timer_disarm(pool->config.loop, &clone->patience);
    loop_remove(pool->config.loop, &clone->control);
    fd_closep(&clone->control.fd);
    free(clone);
}

/* ---- from a clone -------------------------------------------------------- */

/* Whatever it was doing, it does no more. */
void pool_clone_end(struct clone *clone, enum clone_end how, const char *text)
{
    struct pool *pool = clone->pool;
    struct err err;

    /* Its own word may come before its zygote's. */
    if (!clone->has_ended)
        pool->stats.ended++;
    switch (clone->phase) {
    case CLONE_PHASE_TAKEN:
        if (clone->has_ended)
            return;
        clone->has_ended = true;
        loop_remove(pool->config.loop, &clone->control);
        if (clone->host.on_end != NULL)
            clone->host.on_end(clone->host.opaque, how, text);
        return;
    case CLONE_PHASE_ASKED:
    case CLONE_PHASE_MAKING:
        pool->stats.failures++;
        pool_back_off(pool);
        (void)err_set(&err, EIO, "a clone could not be made: %s", text);
        pool_drop(clone);
        pool_refuse_first(pool, &err);
        return;
    case CLONE_PHASE_RESETTING:
        pool->stats.reset_errors++;
        pool_drop(clone);
        return;
    case CLONE_PHASE_READY:
    case CLONE_PHASE_DROPPED:
    default:
        pool_drop(clone);
        return;
    }
}

static void become_ready(
    struct clone *clone, const struct clone_message *message)
{
    struct pool *pool = clone->pool;

    memcpy(clone->generation, message->id, sizeof(clone->generation));
    if (clone->phase == CLONE_PHASE_MAKING)
        pool->stats.made++;
    else
        pool->stats.resets++;
    pool_clone_set_phase(clone, CLONE_PHASE_READY);
    pool_hand_out_soon(pool);
}

/* It says of itself what it likes; what has no place now is an end. */
static void hear(struct clone *clone, struct clone_message *message)
{
    message->text[sizeof(message->text) - 1] = '\0';
    for (char *p = message->text; *p != '\0'; p++) {
        if (*p < ' ' || *p > '~')
            *p = '?';
    }
    switch (message->event) {
    case CLONE_READY:
        if (clone->phase == CLONE_PHASE_MAKING) {
            become_ready(clone, message);
            return;
        }
        break;
    case CLONE_WAS_RESET:
        if (clone->phase == CLONE_PHASE_RESETTING) {
            become_ready(clone, message);
            return;
        }
        break;
    case CLONE_STARTED:
        if (clone->phase == CLONE_PHASE_TAKEN && clone->host.on_started != NULL)
            clone->host.on_started(clone->host.opaque, message->ns);
        return;
    case CLONE_CLOSED:
        if (clone->phase == CLONE_PHASE_TAKEN && clone->host.on_closed != NULL)
            clone->host.on_closed(clone->host.opaque, message->cookie);
        return;
    case CLONE_ENDED:
        pool_clone_end(clone,
            message->cookie == CLONE_POWERED_OFF ? CLONE_POWERED_OFF
                                                 : CLONE_FAILED,
            message->text);
        return;
    default:
        break;
    }
    pool_clone_end(clone, CLONE_FAILED, "it says what makes no sense");
}

static void on_control(void *opaque, uint32_t events)
{
    struct clone *clone = opaque;
    struct clone_message message;
    int fd = -1;
    int rc = keeper_receive(clone->control.fd, &message, sizeof(message), &fd);

    (void)events;
    fd_closep(&fd);
    if (rc == -EAGAIN)
        return;
    if (rc == 1) {
        hear(clone, &message);
        return;
    }
    /* The zygote knows what ended it, and says so; until then: */
    loop_remove(clone->pool->config.loop, &clone->control);
    /* Nor may anybody be given it meanwhile, or wait for it. */
    if (clone->phase == CLONE_PHASE_READY ||
        clone->phase == CLONE_PHASE_RESETTING)
        pool_clone_end(clone, CLONE_KILLED, "it has ended");
}

static struct clone *find(struct clone_list *list, uint32_t number)
{
    struct clone *clone;

    TAILQ_FOREACH(clone, list, link)
    {
        if (clone->number == number)
            return clone;
    }
    return NULL;
}

struct clone *pool_clone_find(struct pool *pool, uint32_t number)
{
    struct clone *clone = find(&pool->clones, number);

    return clone != NULL ? clone : find(&pool->ready, number);
}

void pool_clone_listen(struct clone *clone, int fd)
{
    clone->control =
        (struct loop_source){.fd = fd, .handle = on_control, .opaque = clone};
    pool_clone_set_phase(clone, CLONE_PHASE_MAKING);
    if (loop_add(clone->pool->config.loop, &clone->control, EPOLLIN) < 0)
        pool_clone_end(clone, CLONE_FAILED, "its socket cannot be watched");
}

bool pool_clone_hear_rest(struct clone *clone)
{
    struct pool *pool = clone->pool;
    uint32_t number = clone->number;
    struct clone_message last;
    int fd = -1;

    while (clone != NULL && clone->control.added &&
           keeper_receive(clone->control.fd, &last, sizeof(last), &fd) == 1) {
        fd_closep(&fd);
        hear(clone, &last);
        clone = pool_clone_find(pool, number);
    }
    return clone != NULL;
}

/* ---- a clone that was taken ---------------------------------------------- */

void clone_watch(struct clone *clone, const struct clone_host *host)
{
    assert(clone->phase == CLONE_PHASE_TAKEN);
    clone->host = *host;
}

int clone_connect(struct clone *clone, uint32_t port, int fd, uint32_t cookie,
    struct err *err)
{
    const struct clone_request request = {
        .op = CLONE_CONNECT, .port = port, .cookie = cookie};
    int rc;

    assert(clone->phase == CLONE_PHASE_TAKEN);
    rc = clone->has_ended
             ? -EPIPE
             : keeper_send(clone->control.fd, &request, sizeof(request), fd);
    (void)close(fd);
    return rc < 0 ? err_sys(err, rc, "a clone cannot be reached") : 0;
}

int clone_call_agent(
    struct clone *clone, uint32_t cookie, int *ret_fd, struct err *err)
{
    struct generation_frame frame;
    int fds[2];
    int rc = generation_make(&frame, clone->generation, true, err);

    if (rc < 0)
        return rc;
    if (socketpair(
            AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return err_sys(err, errno, "cannot connect to the agent");
    rc = fd_write_full(fds[0], &frame, sizeof(frame));
    explicit_bzero(&frame, sizeof(frame));
    if (rc < 0) {
        (void)close(fds[1]);
        rc = err_sys(err, rc, "cannot connect to the agent");
    } else {
        rc = clone_connect(clone, AGENT_PORT, fds[1], cookie, err);
    }
    if (rc < 0)
        (void)close(fds[0]);
    else
        *ret_fd = fds[0];
    return rc;
}

void clone_recycle(struct clone *clone)
{
    const struct clone_request request = {.op = CLONE_RESET};

    assert(
        clone->phase == CLONE_PHASE_TAKEN && clone->pool->config.with_resets);
    if (clone->has_ended ||
        keeper_send(clone->control.fd, &request, sizeof(request), -1) < 0) {
        clone_drop(clone);
        return;
    }
    pool_clone_set_phase(clone, CLONE_PHASE_RESETTING);
}

void clone_drop(struct clone *clone)
{
    assert(clone->phase == CLONE_PHASE_TAKEN);
    clone->pool->stats.dropped++;
    pool_drop(clone);
}

pid_t clone_pid(const struct clone *clone)
{
    return clone->pid;
}
