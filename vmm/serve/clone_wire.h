/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes over sockets between a zygote, its clones and those who use them:
 * one message a packet (vmm/keeper_wire.h), each with at most one descriptor.
 * All are the same program. Thread rule: none.
 *
 * A clone's messages are hostile: its guest may have taken it over.
 */
#ifndef VMM_SERVE_CLONE_WIRE_H
#define VMM_SERVE_CLONE_WIRE_H

#include <stdint.h>

#include "guest/agent/proto.h"
#include "vmm/base/err.h"

/* ---- to a zygote --------------------------------------------------------- */

enum zygote_op {
    ZYGOTE_TAKE, /* one; the sender calls it `number` */
    ZYGOTE_DROP, /* end clone `number` */
    ZYGOTE_OPS,
};

enum zygote_flag {
    ZYGOTE_WITH_RESETS = 1u << 0, /* of TAKE: it can be put back */
};

struct zygote_request {
    uint32_t op;
    uint32_t flags;
    uint32_t number;
    uint32_t zero;
};

/* ---- from it ------------------------------------------------------------- */

enum zygote_event {
    ZYGOTE_CLONE, /* a clone, with its socket */
    ZYGOTE_NONE,  /* it could not be made: `err` */
    ZYGOTE_GONE,  /* its process has ended, with `status` of wait(2) */
    ZYGOTE_EVENTS,
};

struct zygote_message {
    uint32_t event;
    uint32_t number;
    int32_t pid;
    int32_t status;
    uint64_t oom_kills; /* in its cgroup */
    struct err err;
};

/* ---- to a clone ---------------------------------------------------------- */

enum clone_op {
    CLONE_CONNECT, /* the descriptor, to `port`; the guest goes on */
    CLONE_RESET,   /* back to the beginning, before the guest's next step */
    CLONE_OPS,
};

struct clone_request {
    uint32_t op;
    uint32_t port;
    uint32_t cookie;
    uint32_t zero;
};

/* ---- from it ------------------------------------------------------------- */

enum clone_event {
    CLONE_READY,     /* made; its guest's generation is `id` */
    CLONE_STARTED,   /* the guest has gone on, at `ns` */
    CLONE_CLOSED,    /* the connection `cookie` */
    CLONE_WAS_RESET, /* with the generation `id` */
    CLONE_ENDED,     /* enum clone_end in `cookie`; the process ends */
    CLONE_EVENTS,
};

struct clone_message {
    uint32_t event;
    uint32_t cookie;
    uint64_t ns;
    uint8_t id[AGENT_GENERATION_ID];
    char text[384]; /* one line, NUL-terminated; as struct err has it */
};

/* On the link of its cell, from the zygote: the clone as the host knows it. */
struct clone_greeting {
    int32_t pid;
};

#endif
