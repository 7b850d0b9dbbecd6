/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/pool.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/keeper_wire.h"
#include "vmm/serve/pool_clones.h"

/* After one that could not be made none is asked for that nobody waits for. */
#define BACK_OFF_NS (2 * CLOCK_NS_PER_S)

/* Clones asked for and not there yet; more of them would only make each late */
#define ASKED_MAX 32u

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

void pool_hand_out_soon(struct pool *pool)
{
    loop_post(pool->config.loop, &pool->hand_out);
}

/* Its end of the socket closed, one that is not taken over ends by itself. */
void pool_drop(struct clone *clone)
{
    struct pool *pool = clone->pool;

    loop_remove(pool->config.loop, &clone->control);
    fd_closep(&clone->control.fd);
    pool->stats.alive--;
    pool_clone_set_phase(clone, CLONE_PHASE_DROPPED);
    if (tell_zygote(pool, ZYGOTE_DROP, clone->number) != -EAGAIN)
        pool_clone_forget(clone);
    pool_hand_out_soon(pool);
}

static void tell_late_drops(struct pool *pool)
{
    struct clone *clone;

    while ((clone = TAILQ_FIRST(&pool->dropped)) != NULL) {
        if (tell_zygote(pool, ZYGOTE_DROP, clone->number) == -EAGAIN)
            return;
        pool_clone_forget(clone);
    }
    pool->is_late = false;
    (void)!loop_change(pool->config.loop, &pool->zygote, EPOLLIN);
    pool_hand_out_soon(pool);
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

void pool_refuse_first(struct pool *pool, const struct err *err)
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
        struct clone *clone = pool_clone_new(pool, pool->next_number);

        if (clone == NULL)
            return;
        if (tell_zygote(pool, ZYGOTE_TAKE, clone->number) < 0) {
            pool_clone_forget(clone);
            return;
        }
        pool->next_number++;
    }
}

static struct clone *pick(struct pool *pool)
{
    struct clone *clone = TAILQ_FIRST(&pool->ready);

    if (clone != NULL) {
        clone->host = (struct clone_host){0};
        pool_clone_set_phase(clone, CLONE_PHASE_TAKEN);
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
        pool_refuse_first(pool, &gone);
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
        pool_hand_out_soon(pool);
    }
    *ret_clone = clone;
    return 0;
}

static void on_back_off_end(void *opaque)
{
    ask_for_more(opaque);
}

void pool_back_off(struct pool *pool)
{
    loop_timer_arm(
        pool->config.loop, &pool->back_off, clock_now_ns() + BACK_OFF_NS);
}

/* ---- from the zygote ----------------------------------------------------- */

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

    if (!pool_clone_hear_rest(clone))
        return;
    say_gone(message, text, sizeof(text));
    pool_clone_end(clone, CLONE_KILLED, text);
}

static int obey(
    struct pool *pool, const struct zygote_message *message, int *fd)
{
    struct clone *clone = pool_clone_find(pool, message->number);

    switch (message->event) {
    case ZYGOTE_CLONE:
        if (*fd < 0 || clone == NULL || clone->phase != CLONE_PHASE_ASKED)
            return -EPROTO;
        clone->pid = message->pid;
        pool_clone_listen(clone, fd_steal(fd));
        return 0;
    case ZYGOTE_NONE:
        if (clone == NULL || clone->phase != CLONE_PHASE_ASKED)
            return -EPROTO;
        pool->stats.failures++;
        pool_back_off(pool);
        pool_clone_forget(clone);
        pool_refuse_first(pool, &message->err);
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
        pool_clone_forget(clone);
    while ((clone = TAILQ_FIRST(&pool->ready)) != NULL)
        pool_clone_forget(clone);
    for (clone = TAILQ_FIRST(&pool->clones); clone != NULL; clone = next) {
        next = TAILQ_NEXT(clone, link);
        if (clone->phase != CLONE_PHASE_TAKEN)
            pool_clone_forget(clone);
    }
    /* A taker that is told may drop any of them. */
    do {
        TAILQ_FOREACH(clone, &pool->clones, link)
        {
            if (!clone->has_ended)
                break;
        }
        if (clone != NULL)
            pool_clone_end(clone, CLONE_KILLED, "the zygote has ended");
    } while (clone != NULL);
    pool_hand_out_soon(pool);
    if (pool->config.on_lost != NULL)
        pool->config.on_lost(pool->config.opaque);
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
            pool_clone_forget(TAILQ_FIRST(lists[i]));
    }
    loop_unpost(pool->config.loop, &pool->hand_out);
    loop_timer_disarm(pool->config.loop, &pool->back_off);
    loop_remove(pool->config.loop, &pool->zygote);
    fd_closep(&pool->zygote.fd);
    free(pool);
}
