/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of an executor, stopped and looked at: registers, memory, single
 * steps and breakpoints of the program, from the root with the input in place
 * to the run's end.
 *
 * Owns the vCPU's debugging; borrows the executor, which runs nothing else
 * meanwhile. Thread rule: the executor's. Guest-controlled: registers, memory,
 * and everything that an executor's guest controls.
 */
#ifndef FUZZ_DEBUGGER_H
#define FUZZ_DEBUGGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "fuzz/breakpoints.h"
#include "fuzz/executor.h"
#include "fuzz/unwind.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct debugger;

/* -ENOTSUP if this guest, or this host, cannot be debugged. */
CC_MUST_CHECK int debugger_new(
    struct executor *ex, struct debugger **ret_debugger, struct err *err);

void debugger_free(struct debugger *d); /* NULL is fine */

/* To the root with the input in place; breakpoints stay in. */
CC_MUST_CHECK int debugger_begin(
    struct debugger *d, const void *input, size_t size, struct err *err);

enum debugger_halt {
    DEBUGGER_STEPPED,
    DEBUGGER_HIT,   /* on a breakpoint, which is in still */
    DEBUGGER_ENDED, /* the run: debugger_result */
};

/* One instruction of the program, whatever its kernel does in between. */
CC_MUST_CHECK int debugger_step(
    struct debugger *d, enum debugger_halt *ret_halt, struct err *err);

/* To a breakpoint, to the end, or until `timeout_us` are over: a hang. */
CC_MUST_CHECK int debugger_continue(struct debugger *d, uint64_t timeout_us,
    enum debugger_halt *ret_halt, struct err *err);

/* What the run came to; good once it has ended. */
const struct fuzz_result *debugger_result(const struct debugger *d);

/* As they are now. */
CC_MUST_CHECK int debugger_get_regs(struct debugger *d,
    struct kvm_regs *ret_regs, struct kvm_sregs2 *ret_sregs, struct err *err);
CC_MUST_CHECK int debugger_set_regs(
    struct debugger *d, const struct kvm_regs *regs, struct err *err);

/* Of the program, by virtual address, without breakpoints; -EFAULT. */
CC_MUST_CHECK int debugger_read(
    struct debugger *d, uint64_t at, void *dst, size_t size);
/* Only in RAM: what is from a file is read only. */
CC_MUST_CHECK int debugger_write(
    struct debugger *d, uint64_t at, const void *src, size_t size);

/* -EFAULT if there is no code in memory. */
CC_MUST_CHECK int debugger_add_break(
    struct debugger *d, uint64_t at, struct err *err);
void debugger_remove_break(struct debugger *d, uint64_t at);

/* The whole list, for those who have thousands; put in by debugger_put_all. */
struct breakpoints *debugger_breaks(struct debugger *d);
size_t debugger_put_all(struct debugger *d);
CC_MUST_CHECK int debugger_take(struct debugger *d, size_t index);

/* The same registers in the order of unwinding. */
void debugger_to_frame(
    const struct kvm_regs *regs, struct unwind_frame *ret_frame);

#endif
