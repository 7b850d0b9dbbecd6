/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The timer of a vCPU's local APIC, taken out of a state and put back later:
 * for guests whose short runs are not to be interrupted by it.
 *
 * Thread rule: vcpu_timer_take: pure; vcpu_timer_arm: the vCPU's own thread
 * outside of KVM_RUN, the exit settled. Guest-controlled: all values, which
 * only KVM interprets.
 */
#ifndef VMM_HW_VCPU_TIMER_H
#define VMM_HW_VCPU_TIMER_H

#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/hw/vcpu.h"
#include "vmm/hw/vcpu_state.h"

/* All zero: it was not running. */
struct vcpu_timer {
    uint32_t initial; /* counts of one-shot and periodic mode (SDM 11.5.4) */
    uint32_t current;
    uint64_t deadline; /* of TSC-deadline mode */
};

/* Notes how the timer in *state stands, and stops it there. */
void vcpu_timer_take(struct vcpu_state *state, struct vcpu_timer *ret_timer);

/*
 * Has the vCPU's timer go on as noted, unless the guest has set it itself
 * meanwhile. What is long due fires at once. 0 or -errno of KVM.
 */
CC_MUST_CHECK int vcpu_timer_arm(
    struct vcpu *vcpu, const struct vcpu_timer *timer, struct err *err);

#endif
