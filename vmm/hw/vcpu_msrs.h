/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model-specific registers that belong to a vCPU's state.
 *
 * One list per process: what KVM_GET_MSR_INDEX_LIST names, less
 *  - what KVM does not return or take back on a vCPU with the guests' CPUID;
 *  - the TSC, which is a part of its own (struct vcpu_tsc);
 *  - KVM's wall clock, a write to which makes KVM write to guest memory: a
 *    guest asks for it anew each time it wants to know;
 *  - Hyper-V's, which guests are not offered and of which some are clocks;
 *  - the VMX capabilities, constants of the host.
 *
 * Thread rule: vcpu_msrs_init on a vCPU that is not running; the list is
 * constant then. Guest-controlled: nothing.
 */
#ifndef VMM_HW_VCPU_MSRS_H
#define VMM_HW_VCPU_MSRS_H

#include <linux/kvm.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/hw/kvm.h"

#define VCPU_MSRS_MAX 512u

#define VCPU_MSR_TSC          0x10u
#define VCPU_MSR_TSC_DEADLINE 0x6e0u

struct vcpu_msrs {
    uint32_t count;
    uint32_t index[VCPU_MSRS_MAX]; /* ascending */
};

/*
 * Makes the list; each register that KVM refuses costs a system call. It
 * reads them all and writes to each what it holds.
 */
CC_MUST_CHECK int vcpu_msrs_init(struct vcpu_msrs *msrs, const struct kvm *kvm,
    int vcpu_fd, struct err *err);

/* Reads all of the list: `ret_entries` has room for msrs->count. */
CC_MUST_CHECK int vcpu_msrs_get(int vcpu_fd, const struct vcpu_msrs *msrs,
    struct kvm_msr_entry *ret_entries, struct err *err);

/*
 * Writes `count` <= VCPU_MSRS_MAX registers in their order. One that KVM does
 * not take is -EINVAL and named, unless its value is 0, which says nothing.
 */
CC_MUST_CHECK int vcpu_msrs_set(int vcpu_fd,
    const struct kvm_msr_entry *entries, uint32_t count, struct err *err);

#endif
