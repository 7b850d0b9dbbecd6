/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines of one template, made ahead and given out one by one.
 *
 * A pool talks to the template's zygote (zygote.h), which makes clones: each a
 * process in a jail of its own whose machine is restored and stands before its
 * next instruction, and has some ready of its own. The pool has `min` of them
 * here, so that the next that is wanted is there at once.
 *
 * Owns the clones that nobody has taken; one that was taken is its taker's
 * until clone_drop, which costs the taker no wait.
 *
 * Thread rule: the loop's thread; no callback comes from within a call that
 * has it as an argument. clone_drop and clone_recycle may be called from any of
 * a clone's callbacks. A connection's on_closed comes after the last byte of
 * the guest's is in the client's socket; when the clone is gone, that has its
 * end. Not trusted: what a clone says, which its guest may have taken over. It
 * can lie about itself; it cannot hold up the pool.
 */
#ifndef VMM_SERVE_POOL_H
#define VMM_SERVE_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"

struct pool;
struct clone;

struct pool_config {
    struct loop *loop;
    int zygote_fd;    /* a connection to it (zygote.h), the pool's from then */
    uint32_t max;     /* clones alive at a time, those made ahead included */
    uint32_t min;     /* ready here, as long as there may be so many */
    bool with_resets; /* clones note where they begin, for clone_recycle */
    /* The zygote is gone: there are no clones any more, and will be none. Once;
     * NULL: no use. */
    void (*on_lost)(void *opaque);
    void *opaque;
};

/* What became of a clone that nobody dropped. */
enum clone_end {
    CLONE_POWERED_OFF, /* the guest ended it, in order or not */
    CLONE_FAILED,      /* a vCPU can run no further, or a kernel has panicked */
    CLONE_KILLED,      /* its process was: by its jail, its cgroup, a user */
};

struct clone_host {
    /* The guest runs: at `ns` of clock_now_ns it went on. NULL: no use. */
    void (*on_started)(void *opaque, uint64_t ns);
    /* A connection made by clone_connect is closed on the guest's side, or was
     * refused there. */
    void (*on_closed)(void *opaque, uint32_t cookie);
    /* It is no more; clone_drop is due. `text`: one line for people. */
    void (*on_end)(void *opaque, enum clone_end end, const char *text);
    void *opaque;
};

/* Somebody who waits for a clone; embedded in its owner. */
struct pool_waiter {
    /* `clone` NULL: there will be none, see `err`. Else it is the waiter's. */
    void (*on_clone)(void *opaque, struct clone *clone, const struct err *err);
    void *opaque;
    struct pool_waiter *next; /* the pool's own, as the last */
    bool waits;
};

struct pool_stats {
    uint32_t alive;    /* clones, in whatever state */
    uint32_t ready;    /* made ahead and not taken */
    uint32_t starting; /* being made */
    uint32_t taken;
    uint32_t waiting;  /* waiters */
    uint64_t made;     /* since the beginning */
    uint64_t dropped;  /* of those that were taken */
    uint64_t ended;    /* by themselves, by enum clone_end */
    uint64_t failures; /* clones that could not be made */
    uint64_t resets;   /* that succeeded */
    uint64_t reset_errors;
};

/* On failure the caller keeps config->zygote_fd. */
CC_MUST_CHECK int pool_open(
    const struct pool_config *config, struct pool **ret_pool, struct err *err);

/* Ends all clones; nobody waits or has one any more. Fine on NULL. */
void pool_close(struct pool *pool);

/*
 * A clone for `waiter`, in turn: *ret_clone is one that is ready, or NULL and
 * on_clone is called later. -EPIPE when the zygote is gone.
 */
CC_MUST_CHECK int pool_take(struct pool *pool, struct pool_waiter *waiter,
    struct clone **ret_clone, struct err *err);

/* It does not wait any more. */
void pool_cancel(struct pool *pool, struct pool_waiter *waiter);

struct pool_stats pool_stats(const struct pool *pool);

/* ---- a clone that was taken ---------------------------------------------- */

/* Who is told of what befalls it; right after it was taken. */
void clone_watch(struct clone *clone, const struct clone_host *host);

/*
 * Connects `fd`, a connected stream socket which is taken over whatever comes
 * of it, to `port` of the guest; the first one lets the guest go on. `cookie`
 * is for on_closed, which comes too where the guest refuses it.
 */
CC_MUST_CHECK int clone_connect(struct clone *clone, uint32_t port, int fd,
    uint32_t cookie, struct err *err);

/*
 * A connection to the guest's agent, on which that has been told that this is
 * a generation of its own: *ret_fd is our end, for one operation.
 */
CC_MUST_CHECK int clone_call_agent(
    struct clone *clone, uint32_t cookie, int *ret_fd, struct err *err);

/*
 * Puts it back to where it was made, ends what the guest had connected, and
 * gives it to the pool, whose it is again; for clones that were made
 * with_resets.
 */
void clone_recycle(struct clone *clone);

/* Ends it, now, and forgets it. */
void clone_drop(struct clone *clone);

/* Its process, as this host has it. */
pid_t clone_pid(const struct clone *clone);

#endif
