/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers that travel in struct kvm_run (KVM_CAP_SYNC_REGS): general and
 * special registers and pending events, read and written without a system
 * call. For resets in place, where each ioctl would cost as much as KVM_RUN.
 *
 * Thread rule: on the vCPU's own thread outside of KVM_RUN, or while it is
 * new or paused. Guest-controlled: all values.
 *
 * Writing comes true with the next KVM_RUN, which first takes the registers
 * and then completes the exit before it. So at an exit that has a result
 * still to be delivered (port input, MMIO reads, string instructions, MMIO
 * that spans pages) vcpu_settle has to come first. After a plain OUT it need
 * not: KVM either is past it (emulator), or moves RIP on only if RIP is still
 * where the OUT was, so registers that are put in must not point at it.
 */
#ifndef VMM_HW_VCPU_SYNC_H
#define VMM_HW_VCPU_SYNC_H

#include <stdbool.h>

#include "vmm/base/cc.h"
#include "vmm/hw/vcpu.h"
#include "vmm/hw/vcpu_state.h"

/* Whether this host has all of VCPU_STATE_SYNCED in struct kvm_run. */
bool vcpu_sync_supported(const struct vcpu *vcpu);

/*
 * Has every exit from now on deliver VCPU_STATE_SYNCED, or stops that. Valid
 * from the next return of KVM_RUN on, EINTR included.
 */
void vcpu_sync_enable(struct vcpu *vcpu, bool enable);

/*
 * Takes VCPU_STATE_SYNCED as they were when KVM_RUN last returned and adds
 * them to *state, whose other parts stay. Registers of a guest that are to
 * be put back later need the exit completed (vcpu_settle). Asserts that
 * delivery is on.
 */
void vcpu_sync_get(struct vcpu *vcpu, struct vcpu_state *state);

/*
 * Has the next KVM_RUN begin with the parts of VCPU_STATE_SYNCED that are
 * both in `parts` and in `state`. REGS drops a pending exception, so a reset
 * names all three. KVM checks them in KVM_RUN, which then fails with EINVAL.
 * PDPTRs are read anew from guest memory.
 */
void vcpu_sync_set(
    struct vcpu *vcpu, const struct vcpu_state *state, uint32_t parts);

#endif
