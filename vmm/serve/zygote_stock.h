/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A zygote's clones: how one is made, and those that are made ahead.
 *
 * Of each kind as many are kept ready as were wanted at a time of late: one
 * that had to be waited for raises that number, and what was not touched for
 * half a second goes by halves.
 *
 * Owns the clones that nobody has taken. Thread rule: the process's only
 * thread, which runs the loop.
 */
#ifndef VMM_SERVE_ZYGOTE_STOCK_H
#define VMM_SERVE_ZYGOTE_STOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "jail/cell.h"
#include "jail/cgroup.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"
#include "vmm/run_options.h"
#include "vmm/run_origin.h"

enum made_kind { MADE_PLAIN, MADE_WITH_RESETS, MADE_KINDS };

struct zygote_client;

/* A clone's process, from its fork to its end. */
struct made {
    struct cell cell;
    struct cgroup *cgroup;
    enum made_kind kind;
    int control_fd;               /* until it is taken; then -1 */
    struct zygote_client *client; /* who took it; NULL */
    uint32_t number;              /* what that calls it */
    bool has_ended; /* and its client has not been told: see `status` */
    int32_t status; /* of wait(2) */
    uint64_t oom_kills;
    TAILQ_ENTRY(made) link;
};

TAILQ_HEAD(made_list, made);

/* Those of one kind that are ready, or about to be. */
struct zygote_shelf {
    struct made_list list;
    uint32_t count;
    uint32_t target;
    uint32_t least; /* at any time */
    uint32_t low;   /* the smallest count since the last review */
};

struct zygote_stock {
    struct loop *loop;
    struct run_options *options; /* what clones are made of */
    struct run_origin *origin;
    struct zygote_shelf shelves[MADE_KINDS];
    struct made_list dying; /* killed, and not gone yet */
    struct loop_timer review;
    struct loop_timer refill;
    uint64_t serial; /* of cgroups' names */
    bool has_swept;  /* what killed zygotes left of theirs */
    uint64_t backs_off_until_ns;
};

void zygote_stock_init(struct zygote_stock *stock, struct loop *loop,
    struct run_options *options, struct run_origin *origin);

/* Kills all that nobody has taken, and waits for their ends. */
void zygote_stock_fini(struct zygote_stock *stock);

/* How many are to be ready at the least. */
void zygote_stock_keep(
    struct zygote_stock *stock, enum made_kind kind, uint32_t least);

/* The next that is ready, or one that is begun now; the caller's. */
CC_MUST_CHECK int zygote_stock_take(struct zygote_stock *stock,
    enum made_kind kind, struct made **ret_made, struct err *err);

/* Kills one that is on no list, and is forgotten when it has ended. */
void zygote_stock_bury(struct zygote_stock *stock, struct made *made);

/* Process `pid` has ended, with `status` of wait(2): whether it was one here.
 */
bool zygote_stock_lose(struct zygote_stock *stock, pid_t pid, int status);

/* Removes its cgroup; the process has ended. */
void made_remove_cgroup(struct made *made);

/* Frees it; the process has ended. */
void made_free(struct made *made);

#endif
