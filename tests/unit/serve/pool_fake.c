/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/serve/pool_fake.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/proto.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"

struct clone {
    struct pool *pool;
    struct clone *next;
    struct clone_host host;
    struct loop_call call;
    pthread_t thread;
    bool has_thread;
    int fd; /* the guest's, under the lock */
    uint32_t port;
    uint32_t cookie;
    bool dropped;
    bool has_started;
    bool has_ended; /* what follows is to be told; under the lock */
    bool was_told;
    enum pool_fake_end end;
};

struct pool {
    struct pool_config config;
    struct pool_waiter *first;
    struct pool_waiter **last;
    struct clone *clones; /* all that ever were */
    struct loop_call call;
};

static struct {
    pthread_mutex_t lock;
    pool_fake_guest_fn *guest;
    void *opaque;
    struct pool *pool; /* that is open */
    bool hold;
    bool fail;
    bool broken;
    struct pool_fake_counts counts;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void lock(void)
{
    (void)pthread_mutex_lock(&fake.lock);
}

static void unlock(void)
{
    (void)pthread_mutex_unlock(&fake.lock);
}

void pool_fake_init(pool_fake_guest_fn *guest, void *opaque)
{
    lock();
    fake.guest = guest;
    fake.opaque = opaque;
    fake.hold = false;
    fake.fail = false;
    fake.broken = false;
    fake.counts = (struct pool_fake_counts){0};
    unlock();
}

static void set(bool *flag, bool on)
{
    lock();
    *flag = on;
    if (fake.pool != NULL)
        loop_post(fake.pool->config.loop, &fake.pool->call);
    unlock();
}

void pool_fake_hold(bool on)
{
    set(&fake.hold, on);
}

void pool_fake_fail(bool on)
{
    set(&fake.fail, on);
}

void pool_fake_break(bool on)
{
    set(&fake.broken, on);
}

struct pool_fake_counts pool_fake_counts(void)
{
    struct pool_fake_counts counts;

    lock();
    counts = fake.counts;
    unlock();
    return counts;
}

/* ---- clones ------------------------------------------------------------- */

static void on_clone_call(void *opaque)
{
    struct clone *clone = opaque;
    bool has_ended;

    if (clone->dropped)
        return;
    if (!clone->has_started && clone->host.on_started != NULL) {
        clone->has_started = true;
        clone->host.on_started(clone->host.opaque, clock_now_ns());
    }
    lock();
    has_ended = clone->has_ended && !clone->was_told;
    if (has_ended)
        clone->was_told = true;
    unlock();
    if (clone->dropped || !has_ended)
        return;
    if (clone->end == POOL_FAKE_CLOSED)
        clone->host.on_closed(clone->host.opaque, clone->cookie);
    else
        clone->host.on_end(clone->host.opaque,
            clone->end == POOL_FAKE_POWERED_OFF ? CLONE_POWERED_OFF
            : clone->end == POOL_FAKE_FAILED    ? CLONE_FAILED
                                                : CLONE_KILLED,
            "it was played");
}

static void *run_guest(void *opaque)
{
    struct clone *clone = opaque;
    pool_fake_guest_fn *guest;
    enum pool_fake_end end;
    void *arg;

    lock();
    guest = fake.guest;
    arg = fake.opaque;
    unlock();
    end = guest(arg, clone->port, clone->fd);
    lock();
    fd_closep(&clone->fd);
    clone->end = end;
    clone->has_ended = true;
    unlock();
    loop_post(clone->pool->config.loop, &clone->call);
    return NULL;
}

void clone_watch(struct clone *clone, const struct clone_host *host)
{
    clone->host = *host;
}

int clone_connect(struct clone *clone, uint32_t port, int fd, uint32_t cookie,
    struct err *err)
{
    assert(!clone->has_thread && !clone->dropped);
    if (fd_set_nonblocking(fd, false) < 0)
        abort();
    clone->port = port;
    clone->cookie = cookie;
    clone->fd = fd;
    if (pthread_create(&clone->thread, NULL, run_guest, clone) != 0) {
        fd_closep(&clone->fd);
        return err_set(err, EAGAIN, "no thread for a guest");
    }
    clone->has_thread = true;
    loop_post(clone->pool->config.loop, &clone->call);
    return 0;
}

int clone_call_agent(
    struct clone *clone, uint32_t cookie, int *ret_fd, struct err *err)
{
    int fds[2];
    int rc;

    if (socketpair(
            AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return err_sys(err, errno, "no sockets");
    lock();
    fake.counts.told_agent++;
    unlock();
    rc = clone_connect(clone, AGENT_PORT, fds[1], cookie, err);
    if (rc < 0)
        (void)close(fds[0]);
    else
        *ret_fd = fds[0];
    return rc;
}

static void end_clone(struct clone *clone, uint64_t *count)
{
    assert(!clone->dropped);
    lock();
    clone->dropped = true;
    if (clone->fd >= 0)
        (void)shutdown(clone->fd, SHUT_RDWR);
    fake.counts.taken--;
    (*count)++;
    unlock();
    /* Somebody else's turn. */
    loop_post(clone->pool->config.loop, &clone->pool->call);
}

void clone_recycle(struct clone *clone)
{
    assert(clone->pool->config.with_resets);
    end_clone(clone, &fake.counts.recycled);
}

void clone_drop(struct clone *clone)
{
    end_clone(clone, &fake.counts.dropped);
}

pid_t clone_pid(const struct clone *clone)
{
    (void)clone;
    return getpid();
}

/* ---- the pool ----------------------------------------------------------- */

static struct clone *new_clone(struct pool *pool)
{
    struct clone *clone = calloc(1, sizeof(*clone));

    if (clone == NULL)
        abort();
    clone->pool = pool;
    clone->fd = -1;
    clone->call = (struct loop_call){.run = on_clone_call, .opaque = clone};
    clone->next = pool->clones;
    pool->clones = clone;
    return clone;
}

/* Whether one can be had now; counts it. */
static bool take_one(struct pool *pool)
{
    bool can;

    lock();
    can = !fake.hold && !fake.fail && fake.counts.taken < pool->config.max;
    if (can) {
        fake.counts.taken++;
        fake.counts.given++;
        if (fake.counts.taken > fake.counts.most)
            fake.counts.most = fake.counts.taken;
    }
    unlock();
    return can;
}

static struct pool_waiter *next_waiter(struct pool *pool)
{
    struct pool_waiter *waiter = pool->first;

    pool->first = waiter->next;
    if (pool->first == NULL)
        pool->last = &pool->first;
    waiter->waits = false;
    lock();
    fake.counts.waiting--;
    unlock();
    return waiter;
}

static bool fails(void)
{
    bool yes;

    lock();
    yes = fake.fail;
    unlock();
    return yes;
}

static void on_pool_call(void *opaque)
{
    struct pool *pool = opaque;
    struct err err;

    while (pool->first != NULL) {
        struct pool_waiter *waiter;

        if (fails()) {
            waiter = next_waiter(pool);
            (void)err_set(&err, ENOMEM, "no clone: it was played");
            waiter->on_clone(waiter->opaque, NULL, &err);
            continue;
        }
        if (!take_one(pool))
            return;
        waiter = next_waiter(pool);
        waiter->on_clone(waiter->opaque, new_clone(pool), NULL);
    }
}

int pool_open(
    const struct pool_config *config, struct pool **ret_pool, struct err *err)
{
    struct pool *pool = calloc(1, sizeof(*pool));

    if (pool == NULL)
        return err_sys(err, ENOMEM, "pool");
    pool->config = *config;
    pool->last = &pool->first;
    pool->call = (struct loop_call){.run = on_pool_call, .opaque = pool};
    lock();
    fake.pool = pool;
    unlock();
    *ret_pool = pool;
    return 0;
}

void pool_close(struct pool *pool)
{
    if (pool == NULL)
        return;
    lock();
    fake.pool = NULL;
    unlock();
    while (pool->clones != NULL) {
        struct clone *clone = pool->clones;

        pool->clones = clone->next;
        lock();
        if (clone->fd >= 0)
            (void)shutdown(clone->fd, SHUT_RDWR);
        unlock();
        if (clone->has_thread)
            (void)pthread_join(clone->thread, NULL);
        loop_unpost(pool->config.loop, &clone->call);
        free(clone);
    }
    loop_unpost(pool->config.loop, &pool->call);
    if (pool->config.zygote_fd >= 0)
        (void)close(pool->config.zygote_fd);
    free(pool);
}

int pool_take(struct pool *pool, struct pool_waiter *waiter,
    struct clone **ret_clone, struct err *err)
{
    bool broken;

    lock();
    broken = fake.broken;
    unlock();
    if (broken)
        return err_set(err, EPIPE, "the zygote is gone: it was played");
    *ret_clone = NULL;
    if (pool->first == NULL && take_one(pool)) {
        *ret_clone = new_clone(pool);
        return 0;
    }
    waiter->next = NULL;
    waiter->waits = true;
    *pool->last = waiter;
    pool->last = &waiter->next;
    lock();
    fake.counts.waiting++;
    unlock();
    if (fails())
        loop_post(pool->config.loop, &pool->call);
    return 0;
}

void pool_cancel(struct pool *pool, struct pool_waiter *waiter)
{
    struct pool_waiter **at = &pool->first;

    if (!waiter->waits)
        return;
    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
    if (*at == NULL)
        pool->last = at;
    waiter->waits = false;
    lock();
    fake.counts.waiting--;
    unlock();
}

struct pool_stats pool_stats(const struct pool *pool)
{
    struct pool_stats stats;

    (void)pool;
    lock();
    stats = (struct pool_stats){.alive = fake.counts.taken,
        .taken = fake.counts.taken,
        .waiting = fake.counts.waiting,
        .made = fake.counts.given,
        .dropped = fake.counts.dropped,
        .resets = fake.counts.recycled};
    unlock();
    return stats;
}
