/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM's clock (kvmclock): nanoseconds that all of its vCPUs share, with
 * the host's TSC and realtime clock at the same instant: to the tick where KVM
 * gives them, within a call's length where it does not.
 *
 * With a split irqchip it is the only state that KVM keeps for a VM as a
 * whole: interrupt routes follow from the I/O APIC's state.
 *
 * Thread rule: any one thread, vCPUs not running. File-controlled: what
 * vm_clock_decode made; every value of it is allowed.
 */
#ifndef VMM_HW_VM_CLOCK_H
#define VMM_HW_VM_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/hw/kvm.h"

struct vm_clock {
    uint64_t guest_ns; /* kvmclock */
    uint64_t host_tsc;
    uint64_t realtime_ns; /* since the epoch */
};

enum vm_clock_policy {
    VM_CLOCK_FOLLOW, /* the time since the save has passed for the guest too */
    VM_CLOCK_FREEZE, /* it has not */
};

CC_MUST_CHECK int vm_clock_get(
    const struct kvm_vm *vm, struct vm_clock *ret_clock, struct err *err);

/*
 * Sets the clock to what `saved` says under the policy; *ret_now is what it
 * shows afterwards, for vcpu_state_rebase_tsc. Before vCPUs run. A realtime
 * clock that went backwards since the save counts as no time. 7.5 us or so.
 */
CC_MUST_CHECK int vm_clock_set(const struct kvm_vm *vm,
    const struct vm_clock *saved, enum vm_clock_policy policy,
    struct vm_clock *ret_now, struct err *err);

/* Three u64 in the order of the struct; -EINVAL if `r` is not just that. */
#define VM_CLOCK_WIRE_VERSION 1u
#define VM_CLOCK_WIRE_SIZE    24u
void vm_clock_encode(const struct vm_clock *clock, struct bytes_writer *w);
CC_MUST_CHECK int vm_clock_decode(
    struct bytes_reader *r, struct vm_clock *ret_clock, struct err *err);

#endif
