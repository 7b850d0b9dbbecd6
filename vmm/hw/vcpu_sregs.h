/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Special registers in the one form that spore keeps, struct kvm_sregs2,
 * whichever this host's KVM has.
 *
 * struct kvm_sregs has the vector of an interrupt that is being delivered
 * instead of the PDPTRs; that vector is also in the events, which are always
 * put in after the special registers, so it is left out here.
 *
 * Thread rule: that of vcpu_state.h.
 */
#ifndef VMM_HW_VCPU_SREGS_H
#define VMM_HW_VCPU_SREGS_H

#include <linux/kvm.h>

#include "vmm/base/cc.h"
#include "vmm/hw/vcpu.h"

/* 0 or -errno. */
CC_MUST_CHECK int vcpu_sregs_get(
    struct vcpu *vcpu, struct kvm_sregs2 *ret_sregs);
CC_MUST_CHECK int vcpu_sregs_set(
    struct vcpu *vcpu, const struct kvm_sregs2 *sregs);

/* Between the two forms; the other's own field is 0. */
struct kvm_sregs2 vcpu_sregs_widen(const struct kvm_sregs *sregs);
struct kvm_sregs vcpu_sregs_narrow(const struct kvm_sregs2 *sregs);

#endif
