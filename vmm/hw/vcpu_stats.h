/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM's own counters of a vCPU (Documentation/virt/kvm/api.rst, 4.133).
 *
 * Thread rule: on the vCPU's thread outside of KVM_RUN, or while it is not
 * running. Nothing here is guest-controlled but what it makes KVM count.
 */
#ifndef VMM_HW_VCPU_STATS_H
#define VMM_HW_VCPU_STATS_H

#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/hw/vcpu.h"

/* Instructions that KVM's emulator carried out. */
#define VCPU_STATS_EMULATED "insn_emulation"

/*
 * The counter `name`: 0, -ENOENT if this kernel has none of that name,
 * -ENOTSUP or another -errno if it has no counters. A dozen system calls.
 */
CC_MUST_CHECK int vcpu_stats_read(
    const struct vcpu *vcpu, const char *name, uint64_t *ret_value);

#endif
