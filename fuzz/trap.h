/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single steps and breakpoints in ring 3 of a guest, on any KVM: also one that
 * runs ring 3 natively and there takes no part in debugging.
 *
 * A step (the trap flag) or an int3 in ring 3 is delivered through the guest's
 * interrupt table. At the first instructions of its two handlers, which run in
 * ring 0, wait two of the processor's breakpoints; the vCPU stops there before
 * the guest's kernel has done anything, and trap_take puts it back to where it
 * was in ring 3. So the guest does not notice.
 *
 * Owns the vCPU's debugging (vmm/hw/vcpu_debug.h) while it exists. Thread
 * rule: that of the vCPU. Guest-controlled: the interrupt table, stacks and
 * registers.
 */
#ifndef FUZZ_TRAP_H
#define FUZZ_TRAP_H

#include <stdbool.h>
#include <stdint.h>

#include "fuzz/guest_view.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/hw/vcpu.h"
#include "vmm/hw/vcpu_state.h"

#define TRAP_INT3 0xccu

struct trap {
    struct vcpu *vcpu; /* borrowed */
    struct vcpu_state *state;
    uint64_t debug_entry;
    uint64_t int3_entry;
    struct kvm_segment cs; /* as they are in ring 3 */
    struct kvm_segment ss;
};

enum trap_kind {
    TRAP_NONE, /* none of ours: the vCPU is as it was */
    TRAP_STEP, /* an instruction was carried out */
    TRAP_INT3_HIT,
};

/*
 * With the vCPU settled (vcpu_settle) in ring 3, its handlers those of the
 * whole time. `view` is on its memory. -ENOTSUP if it is not in ring 3 of
 * 64-bit mode, or there are no handlers, or this KVM cannot do it.
 */
CC_MUST_CHECK int trap_init(struct trap *trap, struct vcpu *vcpu,
    const struct guest_view *view, struct err *err);

void trap_fini(struct trap *trap); /* a zeroed one is let be */

/*
 * Has the next instruction in ring 3 be the only one. With the vCPU settled,
 * outside of ring 0.
 */
CC_MUST_CHECK int trap_step(struct trap *trap, struct err *err);

/*
 * After a debug exit: what it was. The vCPU is then in ring 3, the trap flag
 * off: behind the instruction that was stepped, or on the int3 that was hit,
 * which the caller replaces. Its registers are in *trap->state (REGS, SREGS).
 */
CC_MUST_CHECK int trap_take(struct trap *trap, const struct guest_view *view,
    enum trap_kind *ret_kind, struct err *err);

#endif
