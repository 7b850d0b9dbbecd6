/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From one frame of a stopped process to its caller's: by .eh_frame or
 * .debug_frame where a file has them, else by frame pointers.
 *
 * Thread rule: one thread. Guest-controlled: registers and memory;
 * file-controlled: the rules for unwinding.
 */
#ifndef FUZZ_UNWIND_H
#define FUZZ_UNWIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz/symbols.h"
#include "vmm/base/cc.h"

/* In the order of the psABI's DWARF numbers (figure 3.36). */
enum unwind_reg {
    UNWIND_RAX,
    UNWIND_RDX,
    UNWIND_RCX,
    UNWIND_RBX,
    UNWIND_RSI,
    UNWIND_RDI,
    UNWIND_RBP,
    UNWIND_RSP,
    UNWIND_R8,
    UNWIND_R9,
    UNWIND_R10,
    UNWIND_R11,
    UNWIND_R12,
    UNWIND_R13,
    UNWIND_R14,
    UNWIND_R15,
    UNWIND_RIP, /* DWARF's return address */
    UNWIND_REGS,
};

struct unwind_frame {
    uint64_t regs[UNWIND_REGS];
    uint32_t known; /* by number: registers whose value is known */
    bool is_call;   /* RIP is a return address: the call is before it */
};

/* Reads the stopped process' memory; false: it is not there. */
struct unwind_memory {
    bool (*read)(void *opaque, uint64_t address, void *ret_bytes, size_t size);
    void *opaque;
};

/*
 * Turns a frame into its caller's. False at the end of the stack, or where
 * nothing tells how to go on. A caller's stack pointer is always above its
 * callee's but across signal handlers, so that loops end; the caller limits
 * the number of frames too.
 */
CC_MUST_CHECK bool unwind_step(struct symbols *symbols,
    const struct unwind_memory *memory, struct unwind_frame *frame);

#endif
