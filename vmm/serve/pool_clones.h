/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside a pool (pool.h): its clones one by one, what they say and what they
 * are told. For pool.c and pool_clones.c only.
 *
 * Thread rule: as pool.h. Hostile: the messages of clones.
 */
#ifndef VMM_SERVE_POOL_CLONES_H
#define VMM_SERVE_POOL_CLONES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "guest/agent/proto.h"
#include "vmm/core/loop.h"
#include "vmm/serve/clone_wire.h"
#include "vmm/serve/pool.h"

enum clone_phase {
    CLONE_PHASE_ASKED,  /* the zygote has not answered yet */
    CLONE_PHASE_MAKING, /* there, and not ready */
    CLONE_PHASE_READY,
    CLONE_PHASE_TAKEN,
    CLONE_PHASE_RESETTING,
    CLONE_PHASE_DROPPED, /* the zygote is to be told */
};

struct clone {
    struct pool *pool;
    enum clone_phase phase;
    uint32_t number; /* what the zygote knows it by */
    pid_t pid;
    struct loop_source control; /* owns its fd */
    struct loop_timer patience; /* while it is made or put back */
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

/* ---- pool_clones.c ------------------------------------------------------- */

/* One that is asked for; NULL for lack of memory. */
struct clone *pool_clone_new(struct pool *pool, uint32_t number);

/* Puts it on the list, and into the count, of its phase. */
void pool_clone_set_phase(struct clone *clone, enum clone_phase phase);

/* Frees it; nothing of it is left here. */
void pool_clone_forget(struct clone *clone);

/* Whatever it was doing, it does no more. */
void pool_clone_end(struct clone *clone, enum clone_end how, const char *text);

/* From here on it is heard; `fd` is the clone's. */
void pool_clone_listen(struct clone *clone, int fd);

/* What it had said before its process ended. False: it is no more. */
bool pool_clone_hear_rest(struct clone *clone);

/* By its number, among those that are there; NULL. */
struct clone *pool_clone_find(struct pool *pool, uint32_t number);

/* ---- pool.c -------------------------------------------------------------- */

/* Its end of the socket closed, one that is not taken over ends by itself. */
void pool_drop(struct clone *clone);

void pool_hand_out_soon(struct pool *pool);

/* The one who waits longest gets none. */
void pool_refuse_first(struct pool *pool, const struct err *err);

/* None is asked for that nobody waits for, for a while. */
void pool_back_off(struct pool *pool);

#endif
