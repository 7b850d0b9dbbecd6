/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clones of a program that uses libspore, each with a channel on which the
 * program says what it is to do (vmm/lib/wire.h).
 *
 * Owns the channels, the clones and the commands that run in them. A channel's
 * end, or a packet that has no place on it, is its clone's end.
 *
 * Thread rule: the loop's thread. A signal that kills writers of closed pipes
 * (SIGPIPE) is the caller's to ignore. Not trusted: packets, and through pool
 * and guest_exec what guests say.
 */
#ifndef VMM_SERVE_LIB_CLONES_H
#define VMM_SERVE_LIB_CLONES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "vmm/base/cc.h"
#include "vmm/core/loop.h"
#include "vmm/serve/lib_request.h"
#include "vmm/serve/pool.h"
#include "vmm/serve/template.h"

/* Channels beyond the clones there may be: who waits for one has one. */
#define LIB_WAITERS_MAX 1024u

/* Of a clone: its channel, itself, the agent, a command's three streams. */
#define LIB_CHANNEL_FDS 6u

struct lib_clone;

TAILQ_HEAD(lib_clone_list, lib_clone);

struct lib_clones {
    struct loop *loop;
    struct pool *pool;               /* borrowed */
    const struct template *template; /* borrowed */
    bool renews;                     /* a reset is another clone */
    uint32_t channels_max;
    uint32_t channel_count;
    struct lib_clone_list list;
    uint8_t packet[LIB_PACKET_MAX]; /* the one being looked at */
    struct lib_call call;
    const char *env[LIB_ARGS_MAX + TEMPLATE_ARGS_MAX + 1];
};

void lib_clones_init(struct lib_clones *all, struct loop *loop,
    struct pool *pool, const struct template *template, bool renews,
    uint32_t max);

/* Ends them all. */
void lib_clones_fini(struct lib_clones *all);

/*
 * A clone for whoever has the other end of `channel`, which is taken over; it
 * is told when it is there, or what is in the way.
 */
void lib_clones_add(struct lib_clones *all, int channel, uint32_t timeout_ms);

/* Answers `rc` on a channel or the first socket; -errno. */
CC_MUST_CHECK int lib_clones_answer(
    int fd, int rc, int status, const char *text);

#endif
