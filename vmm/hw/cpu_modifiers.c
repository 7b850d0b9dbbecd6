/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/cpu_modifiers.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

static uint32_t *register_of(
    struct kvm_cpuid_entry2 *entry, enum cpu_register reg)
{
    switch (reg) {
    case CPU_EAX:
        return &entry->eax;
    case CPU_EBX:
        return &entry->ebx;
    case CPU_ECX:
        return &entry->ecx;
    case CPU_EDX:
    default:
        return &entry->edx;
    }
}

int cpu_modifiers_apply_cpuid(
    const struct cpu_modifiers *mods, struct cpuid *cpuid, struct err *err)
{
    for (uint32_t i = 0; i < mods->cpuid_count; i++) {
        const struct cpu_cpuid_modifier *m = &mods->cpuid[i];
        struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, m->leaf, m->subleaf);
        uint32_t *reg;

        if (e == NULL)
            return err_set(err, ENOTSUP,
                "Template changes a CPUID entry not supported by KVM: Leaf: "
                "%x, Subleaf: %x",
                m->leaf, m->subleaf);
        e->flags = m->flags;
        reg = register_of(e, m->reg);
        *reg = (*reg & ~m->filter) | m->value;
    }
    return 0;
}

int cpu_modifiers_check_caps(
    const struct cpu_modifiers *mods, const struct kvm *kvm, struct err *err)
{
    for (uint32_t i = 0; i < mods->cap_count; i++) {
        if (ioctl(kvm->fd, KVM_CHECK_EXTENSION, (unsigned long)mods->caps[i]) <=
            0)
            return err_set(err, ENOTSUP,
                "Missing KVM capability: %u, which the CPU template asks for",
                mods->caps[i]);
    }
    return 0;
}

/* One register: 1 if KVM took it, or gave it. */
static int run(
    int vcpu_fd, unsigned long request, uint32_t index, uint64_t *value)
{
    union {
        struct kvm_msrs msrs;
        uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
    } u = {.room = {0}};
    int rc;

    u.msrs.nmsrs = 1;
    u.msrs.entries[0].index = index;
    u.msrs.entries[0].data = *value;
    rc = ioctl(vcpu_fd, request, &u.msrs);
    if (rc == 1)
        *value = u.msrs.entries[0].data;
    return rc;
}

int cpu_modifiers_apply_msrs(
    const struct cpu_modifiers *mods, int vcpu_fd, struct err *err)
{
    for (uint32_t i = 0; i < mods->msr_count; i++) {
        const struct cpu_msr_modifier *m = &mods->msrs[i];
        uint64_t value = 0;

        if (run(vcpu_fd, KVM_GET_MSRS, m->index, &value) != 1)
            return err_set(err, ENOTSUP,
                "Template changes an MSR entry not supported by KVM: Register "
                "Address: %x",
                m->index);
        value = (value & ~m->filter) | m->value;
        if (run(vcpu_fd, KVM_SET_MSRS, m->index, &value) != 1)
            return err_set(err, ENOTSUP,
                "KVM does not take the CPU template's value of register %x: "
                "%llx",
                m->index, (unsigned long long)value);
    }
    return 0;
}
