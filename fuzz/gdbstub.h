/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's side of GDB's remote serial protocol (GDB manual, appendix E)
 * for one thread of an x86-64 program, with reverse execution.
 *
 * No descriptors and no guest: bytes come in, bytes go out, callbacks do the
 * rest. Thread rule: one thread. Peer-controlled: every byte that comes in.
 */
#ifndef FUZZ_GDBSTUB_H
#define FUZZ_GDBSTUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"

/* Bytes of a packet's data, either way. */
#define GDBSTUB_PACKET_MAX 16384u

/* Breakpoints that a peer can have. */
#define GDBSTUB_BREAKS_MAX 1024u

/* In GDB's order. */
#define GDBSTUB_GENERAL  17u /* rax rbx rcx rdx rsi rdi rbp rsp r8-r15 rip */
#define GDBSTUB_SEGMENTS 7u  /* eflags cs ss ds es fs gs */

struct gdbstub_regs {
    uint64_t general[GDBSTUB_GENERAL];
    uint32_t segments[GDBSTUB_SEGMENTS];
    uint64_t fs_base;
    uint64_t gs_base;
};

enum gdbstub_move {
    GDBSTUB_STEP,
    GDBSTUB_CONTINUE,
    GDBSTUB_STEP_BACK,
    GDBSTUB_CONTINUE_BACK,
};

enum gdbstub_reason {
    GDBSTUB_SIGNAL,    /* or a step that is done */
    GDBSTUB_BREAK,     /* on a breakpoint */
    GDBSTUB_LOG_BEGIN, /* nothing came before */
    GDBSTUB_LOG_END,   /* nothing comes after */
    GDBSTUB_EXITED,    /* the program, and it cannot be looked at any more */
};

struct gdbstub_stop {
    enum gdbstub_reason reason;
    uint32_t signal; /* as the target's system numbers them, or exit status */
};

/* Each 0 or -errno, which the peer is told. */
struct gdbstub_ops {
    int (*get_regs)(void *opaque, struct gdbstub_regs *ret_regs);
    /* General registers and eflags are taken, the others cannot be set. */
    int (*set_regs)(void *opaque, const struct gdbstub_regs *regs);
    int (*read)(void *opaque, uint64_t at, void *dst, size_t size);
    int (*write)(void *opaque, uint64_t at, const void *src, size_t size);
    int (*set_break)(void *opaque, uint64_t at, bool is_set);
};

enum gdbstub_state {
    GDBSTUB_STOPPED, /* the peer's turn */
    GDBSTUB_MOVING,  /* the owner's: does gdbstub_move, says gdbstub_stopped */
    GDBSTUB_DONE,    /* the peer has detached or killed the program */
};

struct gdbstub {
    const struct gdbstub_ops *ops; /* borrowed */
    void *opaque;
    enum gdbstub_state state;
    enum gdbstub_move move; /* while moving */
    bool is_interrupted;    /* the peer wants it stopped */
    bool was_killed;
    struct gdbstub_stop stop; /* the last one */
    uint32_t breaks;

    bool no_ack;
    bool no_ack_next; /* from the next packet on */
    enum { GDBSTUB_IDLE, GDBSTUB_DATA, GDBSTUB_SUM_1, GDBSTUB_SUM_2 } at;
    bool is_bad; /* the packet that is coming in */
    uint8_t sum;
    uint8_t sum_told;
    size_t in_size;
    char in[GDBSTUB_PACKET_MAX + 1];
    size_t out_at; /* sent so far */
    size_t out_size;
    size_t reply_at; /* where the last packet begins, to be sent again */
    char out[2 * GDBSTUB_PACKET_MAX + 16];
};

/* Stopped for `stop`. */
void gdbstub_init(struct gdbstub *stub, const struct gdbstub_ops *ops,
    void *opaque, const struct gdbstub_stop *stop);

/*
 * Takes bytes from the peer: how many. Fewer than there are while output has
 * not been taken, or once the program moves or is done.
 */
size_t gdbstub_input(struct gdbstub *stub, const char *bytes, size_t size);

/*
 * While the program moves: whether these bytes ask for it to be stopped. All
 * of them are done with.
 */
bool gdbstub_asks_stop(struct gdbstub *stub, const char *bytes, size_t size);

/* What goes to the peer; gdbstub_sent says how much of it did. */
const char *gdbstub_output(const struct gdbstub *stub, size_t *ret_size);
void gdbstub_sent(struct gdbstub *stub, size_t size);

/* Words for the user, cut if long; before gdbstub_stopped. */
void gdbstub_say(struct gdbstub *stub, const char *text);

/* After a move. */
void gdbstub_stopped(struct gdbstub *stub, const struct gdbstub_stop *stop);

#endif
