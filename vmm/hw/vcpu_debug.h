/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU under a debugger: single steps and the processor's own breakpoints
 * (KVM_SET_GUEST_DEBUG). The guest's debug registers and its trap flag are
 * KVM's meanwhile.
 *
 * Thread rule: on the thread that steps the vCPU, outside of KVM_RUN.
 * Guest-controlled: registers, and the instructions that are stepped.
 */
#ifndef VMM_HW_VCPU_DEBUG_H
#define VMM_HW_VCPU_DEBUG_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/hw/vcpu.h"

#define VCPU_DEBUG_BREAKS 4u

/* As DR7 has them (SDM vol. 3, 17.2.4). */
enum vcpu_debug_kind {
    VCPU_DEBUG_EXECUTE = 0,
    VCPU_DEBUG_WRITE = 1,
    VCPU_DEBUG_ACCESS = 3,
};

struct vcpu_debug_break {
    uint64_t address;
    enum vcpu_debug_kind kind;
    uint32_t length; /* bytes: 1, 2, 4 or 8, aligned; 1 to execute */
};

struct vcpu_debug {
    bool step;
    uint32_t count;
    struct vcpu_debug_break breaks[VCPU_DEBUG_BREAKS];
};

/*
 * What the vCPU is to stop at from now on; a zeroed one ends debugging.
 * -ENOTSUP if this host's KVM has no KVM_SET_GUEST_DEBUG, -EINVAL for a
 * breakpoint that a processor has not.
 */
CC_MUST_CHECK int vcpu_debug_set(
    struct vcpu *vcpu, const struct vcpu_debug *debug, struct err *err);

enum vcpu_debug_step {
    VCPU_DEBUG_EXIT, /* as VCPU_STEP_EXIT and so on */
    VCPU_DEBUG_INTERRUPTED,
    VCPU_DEBUG_STOPPED,
    VCPU_DEBUG_HIT, /* a step is done, or a breakpoint hit */
};

/*
 * As vcpu_step. Of a hit, *ret_dr6 says which (SDM vol. 3, 17.2.3): bits 0 to
 * 3 the breakpoints, bit 14 a step. RIP is then at the instruction that comes
 * next.
 */
enum vcpu_debug_step vcpu_debug_step(
    struct vcpu *vcpu, struct vcpu_stop *ret_stop, uint64_t *ret_dr6);

#endif
