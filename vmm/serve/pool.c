/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/pool.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/proto.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/generation.h"
#include "vmm/keeper_wire.h"
#include "vmm/serve/clone_wire.h"

/* After one that could not be made none is asked for that nobody waits for. */
#define BACK_OFF_NS (2 * CLOCK_NS_PER_S)

/* Clones asked for and not there yet; more of them would only make each late */
#define ASKED_MAX 32u

enum phase {
    PHASE_ASKED,  /* the zygote has not answered yet */
    PHASE_MAKING, /* there, and not ready */
    PHASE_READY,
    PHASE_TAKEN,
    PHASE_RESETTING,
    PHASE_DROPPED, /* the zygote is to be told */
};

struct clone {
    struct pool *pool;
    enum phase phase;
    uint32_t number; /* what the zygote knows it by */
    pid_t pid;
    struct loop_source control; /* owns its fd */
    uint8_t generation[AGENT_GENERATION_ID];
    struct clone_host host;
    bool has_ended; /* its taker was told */
    TAILQ_ENTRY(clone) link;
};

TAILQ_HEAD(clone_list, clone);

struct pool {
    struct pool_config config;
    struct loop_source zygote; /* owns its fd */
    struct clone_list clones;  /* all but those that are ready or dropped */
    struct clone_list ready;
    struct clone_list dropped;
    struct pool_waiter *first_waiter;
    struct pool_waiter **last_waiter;
    struct loop_call hand_out;
    struct loop_timer back_off; /* while it is armed */
    uint32_t next_number;
    bool is_lost; /* the zygote is gone */
    bool is_late; /* it has not taken all that it was told */
    struct pool_stats stats;
    uint32_t asked;
};

static void lose_zygote(struct pool *pool);

/* ---- to the zygote ------------------------------------------------------- */

static int tell_zygote(struct pool *pool, enum zygote_op op, uint32_t number)
{
    const struct zygote_request request = {.op = op,
        .flags = pool->config.with_resets ? ZYGOTE_WITH_RESETS : 0,
        .number = number};
    int rc = pool->is_lost
                 ? -EPIPE
                 : keeper_send(pool->zygote.fd, &request, sizeof(request), -1);

    if (rc == -EAGAIN && !pool->is_late) {
        pool->is_late = true;
        (void)!loop_change(
            pool->config.loop, &pool->zygote, EPOLLIN | EPOLLOUT);
    }
    return rc;
}

static struct clone_list *list_of(struct pool *pool, const struct clone *clone)
{
    switch (clone->phase) {
    case PHASE_READY:
        return &pool->ready;
    case PHASE_DROPPED:
        return &pool->dropped;
    case PHASE_ASKED:
    case PHASE_MAKING:
    case PHASE_TAKEN:
    case PHASE_RESETTING:
    default:
        return &pool->clones;
    }
}

static void count_phase(struct pool *pool, enum phase phase, int by)
{
    struct pool_stats *s = &pool->stats;

    switch (phase) {
    case PHASE_ASKED:
        pool->asked += (uint32_t)by;
        s->starting += (uint32_t)by;
        break;
    case PHASE_MAKING:
    case PHASE_RESETTING:
        s->starting += (uint32_t)by;
        break;
    case PHASE_READY:
        s->ready += (uint32_t)by;
        break;
    case PHASE_TAKEN:
        s->taken += (uint32_t)by;
        break;
    case PHASE_DROPPED:
        break;
    }
}

static void set_phase(struct clone *clone, enum phase phase)
{
    struct pool *pool = clone->pool;

    TAILQ_REMOVE(list_of(pool, clone), clone, link);
    count_phase(pool, clone->phase, -1);
    clone->phase = phase;
    count_phase(pool, phase, 1);
    TAILQ_INSERT_TAIL(list_of(pool, clone), clone, link);
}

/* Nothing of it is left here. */
static void forget(struct clone *clone)
{
    struct pool *pool = clone->pool;

    TAILQ_REMOVE(list_of(pool, clone), clone, link);
    count_phase(pool, clone->phase, -1);
    if (clone->phase != PHASE_DROPPED)
        pool->stats.alive--;
    loop_remove(pool->config.loop, &clone->control);
    fd_closep(&clone->control.fd);
    free(clone);
}

static void hand_out_soon(struct pool *pool)
{
    loop_post(pool->config.loop, &pool->hand_out);
}

/* Its end of the socket closed, one that is not taken over ends by itself. */
static void drop(struct clone *clone)
{
    struct pool *pool = clone->pool;

    loop_remove(pool->config.loop, &clone->control);
    fd_closep(&clone->control.fd);
    pool->stats.alive--;
    set_phase(clone, PHASE_DROPPED);
    if (tell_zygote(pool, ZYGOTE_DROP, clone->number) != -EAGAIN)
        forget(clone);
    hand_out_soon(pool);
}

static void tell_late_drops(struct pool *pool)
{
    struct clone *clone;

    while ((clone = TAILQ_FIRST(&pool->dropped)) != NULL) {
        if (tell_zygote(pool, ZYGOTE_DROP, clone->number) == -EAGAIN)
            return;
        forget(clone);
    }
    pool->is_late = false;
    (void)!loop_change(pool->config.loop, &pool->zygote, EPOLLIN);
    hand_out_soon(pool);
}

/* ---- waiters ------------------------------------------------------------- */

static void add_waiter(struct pool *pool, struct pool_waiter *waiter)
{
    waiter->next = NULL;
    waiter->waits = true;
    *pool->last_waiter = waiter;
    pool->last_waiter = &waiter->next;
    pool->stats.waiting++;
}

static void remove_waiter(struct pool *pool, struct pool_waiter *waiter)
{
    struct pool_waiter **at = &pool->first_waiter;

    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
    if (pool->last_waiter == &waiter->next)
        pool->last_waiter = at;
    waiter->waits = false;
    pool->stats.waiting--;
}

void pool_cancel(struct pool *pool, struct pool_waiter *waiter)
{
    if (waiter->waits)
        remove_waiter(pool, waiter);
}

static void refuse_first(struct pool *pool, const struct err *err)
{
    struct pool_waiter *waiter = pool->first_waiter;

    if (waiter == NULL)
        return;
    remove_waiter(pool, waiter);
    waiter->on_clone(waiter->opaque, NULL, err);
}

/* How many are to be on their way. */
static uint32_t wanted(const struct pool *pool)
{
    const struct pool_stats *s = &pool->stats;
    uint32_t ahead = pool->back_off.armed || s->ready >= pool->config.min
                         ? 0
                         : pool->config.min - s->ready;

    return s->waiting + ahead;
}

/* As many as may be. */
static void ask_for_more(struct pool *pool)
{
    struct pool_stats *s = &pool->stats;

    while (!pool->is_late && !pool->is_lost && pool->asked < ASKED_MAX &&
           s->starting < wanted(pool) && s->alive < pool->config.max) {
        struct clone *clone = calloc(1, sizeof(*clone));

        if (clone == NULL)
            return;
        clone->pool = pool;
        clone->number = pool->next_number;
        clone->control.fd = -1;
        if (tell_zygote(pool, ZYGOTE_TAKE, clone->number) < 0) {
            free(clone);
            return;
        }
        pool->next_number++;
        clone->phase = PHASE_ASKED;
        count_phase(pool, PHASE_ASKED, 1);
        s->alive++;
        TAILQ_INSERT_TAIL(&pool->clones, clone, link);
    }
}

static struct clone *pick(struct pool *pool)
{
    struct clone *clone = TAILQ_FIRST(&pool->ready);

    if (clone != NULL) {
        clone->host = (struct clone_host){0};
        set_phase(clone, PHASE_TAKEN);
    }
    return clone;
}

static void on_hand_out(void *opaque)
{
    static const struct err gone = {"the zygote has ended"};
    struct pool *pool = opaque;

    while (pool->first_waiter != NULL) {
        struct pool_waiter *waiter = pool->first_waiter;
        struct clone *clone = pick(pool);

        if (clone == NULL)
            break;
        remove_waiter(pool, waiter);
        waiter->on_clone(waiter->opaque, clone, NULL);
    }
    while (pool->is_lost && pool->first_waiter != NULL)
        refuse_first(pool, &gone);
    ask_for_more(pool);
}

int pool_take(struct pool *pool, struct pool_waiter *waiter,
    struct clone **ret_clone, struct err *err)
{
    struct clone *clone = NULL;

    if (pool->is_lost)
        return err_set(err, EPIPE, "the zygote has ended");
    if (pool->first_waiter == NULL)
        clone = pick(pool);
    if (clone == NULL) {
        add_waiter(pool, waiter);
        ask_for_more(pool);
    } else {
        /* The next one, when this one is on its way. */
        hand_out_soon(pool);
    }
    *ret_clone = clone;
    return 0;
}

static void on_back_off_end(void *opaque)
{
    ask_for_more(opaque);
}

static void back_off(struct pool *pool)
{
    loop_timer_arm(
        pool->config.loop, &pool->back_off, clock_now_ns() + BACK_OFF_NS);
}

/* ---- from a clone -------------------------------------------------------- */

/* Whatever it was doing, it does no more. */
static void end(struct clone *clone, enum clone_end how, const char *text)
{
    struct pool *pool = clone->pool;
    struct err err;

    pool->stats.ended++;
    switch (clone->phase) {
    case PHASE_TAKEN:
        if (clone->has_ended)
            return;
        clone->has_ended = true;
        loop_remove(pool->config.loop, &clone->control);
        if (clone->host.on_end != NULL)
            clone->host.on_end(clone->host.opaque, how, text);
        return;
    case PHASE_ASKED:
    case PHASE_MAKING:
        pool->stats.failures++;
        back_off(pool);
        (void)err_set(&err, EIO, "a clone could not be made: %s", text);
        drop(clone);
        refuse_first(pool, &err);
        return;
    case PHASE_RESETTING:
        pool->stats.reset_errors++;
        drop(clone);
        return;
    case PHASE_READY:
    case PHASE_DROPPED:
    default:
        drop(clone);
        return;
    }
}

static void become_ready(
    struct clone *clone, const struct clone_message *message)
{
    struct pool *pool = clone->pool;

    memcpy(clone->generation, message->id, sizeof(clone->generation));
    if (clone->phase == PHASE_MAKING)
        pool->stats.made++;
    else
        pool->stats.resets++;
    set_phase(clone, PHASE_READY);
    hand_out_soon(pool);
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
        if (clone->phase == PHASE_MAKING) {
            become_ready(clone, message);
            return;
        }
        break;
    case CLONE_WAS_RESET:
        if (clone->phase == PHASE_RESETTING) {
            become_ready(clone, message);
            return;
        }
        break;
    case CLONE_STARTED:
        if (clone->phase == PHASE_TAKEN && clone->host.on_started != NULL)
            clone->host.on_started(clone->host.opaque, message->ns);
        return;
    case CLONE_CLOSED:
        if (clone->phase == PHASE_TAKEN && clone->host.on_closed != NULL)
            clone->host.on_closed(clone->host.opaque, message->cookie);
        return;
    case CLONE_ENDED:
        end(clone,
            message->cookie == CLONE_POWERED_OFF ? CLONE_POWERED_OFF
                                                 : CLONE_FAILED,
            message->text);
        return;
    default:
        break;
    }
    end(clone, CLONE_FAILED, "it says what makes no sense");
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
}

/* ---- from the zygote ----------------------------------------------------- */

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

static void take_clone(
    struct clone *clone, const struct zygote_message *message, int fd)
{
    struct pool *pool = clone->pool;

    clone->pid = message->pid;
    clone->control =
        (struct loop_source){.fd = fd, .handle = on_control, .opaque = clone};
    set_phase(clone, PHASE_MAKING);
    if (loop_add(pool->config.loop, &clone->control, EPOLLIN) < 0)
        end(clone, CLONE_FAILED, "its socket cannot be watched");
}

static void say_gone(
    const struct zygote_message *message, char *text, size_t size)
{
    int status = message->status;

    if (message->oom_kills > 0)
        (void)snprintf(text, size,
            "it used more memory than its cgroup has and was ended");
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        (void)snprintf(text, size,
            "it tried what its jail does not allow and was ended: its guest "
            "has taken it over, or this is a fault of spore's");
    else if (WIFSIGNALED(status))
        (void)snprintf(text, size, "its process was ended by signal %d (%s)",
            WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        (void)snprintf(text, size, "its process ended with status %d",
            WEXITSTATUS(status));
}

/* What it has said before its end comes first. */
static void lose_clone(
    struct clone *clone, const struct zygote_message *message)
{
    char text[160];
    uint32_t number = clone->number;
    struct pool *pool = clone->pool;
    struct clone_message last;
    int fd = -1;

    while (clone->control.added &&
           keeper_receive(clone->control.fd, &last, sizeof(last), &fd) == 1) {
        fd_closep(&fd);
        hear(clone, &last);
        clone = find(&pool->clones, number);
        if (clone == NULL)
            clone = find(&pool->ready, number);
        if (clone == NULL)
            return;
    }
    say_gone(message, text, sizeof(text));
    end(clone, CLONE_KILLED, text);
}

static int obey(
    struct pool *pool, const struct zygote_message *message, int *fd)
{
    struct clone *clone = find(&pool->clones, message->number);

    if (clone == NULL)
        clone = find(&pool->ready, message->number);
    switch (message->event) {
    case ZYGOTE_CLONE:
        if (*fd < 0 || clone == NULL || clone->phase != PHASE_ASKED)
            return -EPROTO;
        take_clone(clone, message, fd_steal(fd));
        return 0;
    case ZYGOTE_NONE:
        if (clone == NULL || clone->phase != PHASE_ASKED)
            return -EPROTO;
        pool->stats.failures++;
        back_off(pool);
        forget(clone);
        refuse_first(pool, &message->err);
        return 0;
    case ZYGOTE_GONE:
        /* Of one that was dropped nobody wants to know. */
        if (clone != NULL)
            lose_clone(clone, message);
        return 0;
    default:
        return -EPROTO;
    }
}

static void on_zygote(void *opaque, uint32_t events)
{
    struct pool *pool = opaque;
    struct zygote_message message;
    int fd = -1;
    int rc;

    if ((events & EPOLLOUT) != 0)
        tell_late_drops(pool);
    if ((events & ~(uint32_t)EPOLLOUT) == 0)
        return;
    rc = keeper_receive(pool->zygote.fd, &message, sizeof(message), &fd);
    if (rc == -EAGAIN)
        return;
    if (rc <= 0 || obey(pool, &message, &fd) < 0)
        lose_zygote(pool);
    fd_closep(&fd);
}

/* Its clones end with it, and say so or not. */
static void lose_zygote(struct pool *pool)
{
    struct clone *clone;
    struct clone *next;

    pool->is_lost = true;
    loop_remove(pool->config.loop, &pool->zygote);
    while ((clone = TAILQ_FIRST(&pool->dropped)) != NULL)
        forget(clone);
    while ((clone = TAILQ_FIRST(&pool->ready)) != NULL)
        forget(clone);
    for (clone = TAILQ_FIRST(&pool->clones); clone != NULL; clone = next) {
        next = TAILQ_NEXT(clone, link);
        if (clone->phase != PHASE_TAKEN)
            forget(clone);
    }
    /* A taker that is told may drop any of them. */
    do {
        TAILQ_FOREACH(clone, &pool->clones, link)
        {
            if (!clone->has_ended)
                break;
        }
        if (clone != NULL)
            end(clone, CLONE_KILLED, "the zygote has ended");
    } while (clone != NULL);
    hand_out_soon(pool);
    if (pool->config.on_lost != NULL)
        pool->config.on_lost(pool->config.opaque);
}

/* ---- a clone that was taken ---------------------------------------------- */

void clone_watch(struct clone *clone, const struct clone_host *host)
{
    assert(clone->phase == PHASE_TAKEN);
    clone->host = *host;
}

int clone_connect(struct clone *clone, uint32_t port, int fd, uint32_t cookie,
    struct err *err)
{
    const struct clone_request request = {
        .op = CLONE_CONNECT, .port = port, .cookie = cookie};
    int rc;

    assert(clone->phase == PHASE_TAKEN);
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

    assert(clone->phase == PHASE_TAKEN && clone->pool->config.with_resets);
    if (clone->has_ended ||
        keeper_send(clone->control.fd, &request, sizeof(request), -1) < 0) {
        clone_drop(clone);
        return;
    }
    set_phase(clone, PHASE_RESETTING);
}

void clone_drop(struct clone *clone)
{
    assert(clone->phase == PHASE_TAKEN);
    clone->pool->stats.dropped++;
    drop(clone);
}

pid_t clone_pid(const struct clone *clone)
{
    return clone->pid;
}

/* ---- all together -------------------------------------------------------- */

struct pool_stats pool_stats(const struct pool *pool)
{
    return pool->stats;
}

int pool_open(
    const struct pool_config *config, struct pool **ret_pool, struct err *err)
{
    struct pool *pool = calloc(1, sizeof(*pool));
    int rc;

    if (pool == NULL)
        return err_sys(err, ENOMEM, "a pool");
    pool->config = *config;
    TAILQ_INIT(&pool->clones);
    TAILQ_INIT(&pool->ready);
    TAILQ_INIT(&pool->dropped);
    pool->last_waiter = &pool->first_waiter;
    pool->hand_out = (struct loop_call){.run = on_hand_out, .opaque = pool};
    pool->back_off =
        (struct loop_timer){.fire = on_back_off_end, .opaque = pool};
    pool->zygote = (struct loop_source){
        .fd = config->zygote_fd, .handle = on_zygote, .opaque = pool};
    rc = loop_add(config->loop, &pool->zygote, EPOLLIN);
    if (rc < 0) {
        free(pool);
        return err_sys(err, rc, "a pool");
    }
    ask_for_more(pool);
    *ret_pool = pool;
    return 0;
}

void pool_close(struct pool *pool)
{
    struct clone_list *lists[3];

    if (pool == NULL)
        return;
    lists[0] = &pool->clones;
    lists[1] = &pool->ready;
    lists[2] = &pool->dropped;
    /* The connection's end is that of all clones. */
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        while (!TAILQ_EMPTY(lists[i]))
            forget(TAILQ_FIRST(lists[i]));
    }
    loop_unpost(pool->config.loop, &pool->hand_out);
    loop_timer_disarm(pool->config.loop, &pool->back_off);
    loop_remove(pool->config.loop, &pool->zygote);
    fd_closep(&pool->zygote.fd);
    free(pool);
}
