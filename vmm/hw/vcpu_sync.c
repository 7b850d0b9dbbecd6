/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/vcpu_sync.h"

#include <assert.h>

#include "vmm/hw/vcpu_sregs.h"

#define SYNC_ALL                                                               \
    ((uint64_t)KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

bool vcpu_sync_supported(const struct vcpu *vcpu)
{
    return vcpu->kvm->features.sync_regs;
}

void vcpu_sync_enable(struct vcpu *vcpu, bool enable)
{
    assert(vcpu_sync_supported(vcpu));
    vcpu->run->kvm_valid_regs = enable ? SYNC_ALL : 0;
}

void vcpu_sync_get(struct vcpu *vcpu, struct vcpu_state *state)
{
    const struct kvm_sync_regs *from = &vcpu->run->s.regs;

    assert((vcpu->run->kvm_valid_regs & SYNC_ALL) == SYNC_ALL);
    state->regs = from->regs;
    state->sregs = vcpu_sregs_widen(&from->sregs);
    state->events = from->events;
    state->parts |= VCPU_STATE_SYNCED;
}

void vcpu_sync_set(
    struct vcpu *vcpu, const struct vcpu_state *state, uint32_t parts)
{
    struct kvm_sync_regs *to = &vcpu->run->s.regs;

    assert(vcpu_sync_supported(vcpu));
    parts &= state->parts;
    if ((parts & VCPU_STATE_REGS) != 0) {
        to->regs = state->regs;
        vcpu->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
    }
    if ((parts & VCPU_STATE_SREGS) != 0) {
        to->sregs = vcpu_sregs_narrow(&state->sregs);
        vcpu->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
    }
    if ((parts & VCPU_STATE_EVENTS) != 0) {
        to->events = state->events;
        vcpu->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
    }
}
