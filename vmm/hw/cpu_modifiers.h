/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Custom CPU templates: bits of CPUID and of model-specific registers that a
 * machine is to boot with instead of what KVM offers.
 *
 * A snapshot has the CPUID and the registers themselves, and needs none of
 * this. Thread rule: constant once made. The values are the user's; what KVM
 * has no place for is refused here, what else they mean is KVM's to judge.
 */
#ifndef VMM_HW_CPU_MODIFIERS_H
#define VMM_HW_CPU_MODIFIERS_H

#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/hw/cpuid.h"
#include "vmm/hw/kvm.h"

/* As many as fit into a request's body, and then some. */
#define CPU_MODIFIERS_CPUID_MAX 512u
#define CPU_MODIFIERS_MSR_MAX   512u
#define CPU_MODIFIERS_CAPS_MAX  64u

enum cpu_register { CPU_EAX, CPU_EBX, CPU_ECX, CPU_EDX };

/* The bits of `filter` become those of `value`, which has no others. */
struct cpu_cpuid_modifier {
    uint32_t leaf;
    uint32_t subleaf;
    uint32_t flags; /* KVM_CPUID_FLAG_* of the entry */
    enum cpu_register reg;
    uint32_t filter;
    uint32_t value;
};

struct cpu_msr_modifier {
    uint32_t index;
    uint64_t filter;
    uint64_t value;
};

struct cpu_modifiers {
    uint32_t cpuid_count;
    uint32_t msr_count;
    uint32_t cap_count;
    struct cpu_cpuid_modifier cpuid[CPU_MODIFIERS_CPUID_MAX];
    struct cpu_msr_modifier msrs[CPU_MODIFIERS_MSR_MAX];
    uint32_t caps[CPU_MODIFIERS_CAPS_MAX]; /* that KVM must have */
};

/*
 * Changes the CPUID that a machine's vCPUs are to have. -ENOTSUP for an entry
 * that KVM does not offer; *cpuid is half changed then.
 */
CC_MUST_CHECK int cpu_modifiers_apply_cpuid(
    const struct cpu_modifiers *mods, struct cpuid *cpuid, struct err *err);

/* -ENOTSUP for a capability that KVM lacks. */
CC_MUST_CHECK int cpu_modifiers_check_caps(
    const struct cpu_modifiers *mods, const struct kvm *kvm, struct err *err);

/*
 * Changes registers of a vCPU that has its CPUID and has not run. -ENOTSUP for
 * one that KVM does not have, or not with that value.
 */
CC_MUST_CHECK int cpu_modifiers_apply_msrs(
    const struct cpu_modifiers *mods, int vcpu_fd, struct err *err);

#endif
