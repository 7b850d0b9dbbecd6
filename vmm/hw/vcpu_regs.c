/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/vcpu_regs.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/base/cc.h"

/* Intel SDM vol. 4. */
#define MSR_MISC_ENABLE              0x1a0u
#define MSR_MISC_ENABLE_FAST_STRINGS UINT64_C(1)
#define MSR_MTRR_DEF_TYPE            0x2ffu
#define MTRR_ENABLE                  (UINT64_C(1) << 11)
#define MTRR_WRITE_BACK              UINT64_C(6)

static const struct kvm_msr_entry boot_msrs[] = {
    {.index = MSR_MISC_ENABLE, .data = MSR_MISC_ENABLE_FAST_STRINGS},
    {.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE | MTRR_WRITE_BACK},
};

int vcpu_regs_set_boot_msrs(int vcpu_fd, struct err *err)
{
    union {
        struct kvm_msrs msrs;
        uint8_t bytes[sizeof(struct kvm_msrs) + sizeof(boot_msrs)];
    } u;
    int rc;

    memset(&u, 0, sizeof(u));
    u.msrs.nmsrs = ARRAY_SIZE(boot_msrs);
    memcpy(u.msrs.entries, boot_msrs, sizeof(boot_msrs));
    rc = ioctl(vcpu_fd, KVM_SET_MSRS, &u.msrs);
    if (rc < 0)
        return err_sys(err, errno, "KVM_SET_MSRS");
    if (rc != (int)ARRAY_SIZE(boot_msrs))
        return err_set(
            err, EIO, "KVM does not take MSR 0x%x", boot_msrs[rc].index);
    return 0;
}

static struct kvm_segment segment_of(const struct boot_segment *s)
{
    return (struct kvm_segment){.base = s->base,
        .limit = s->limit,
        .selector = s->selector,
        .type = s->type,
        .present = 1,
        .db = s->db,
        .s = s->code_or_data,
        .l = s->l,
        .g = s->g};
}

static void fill_sregs(struct kvm_sregs *sregs, const struct boot_entry *entry)
{
    struct kvm_segment data = segment_of(&entry->data);

    sregs->cs = segment_of(&entry->cs);
    sregs->ds = data;
    sregs->es = data;
    sregs->fs = data;
    sregs->gs = data;
    sregs->ss = data;
    sregs->tr = segment_of(&entry->tr);
    sregs->gdt =
        (struct kvm_dtable){.base = entry->gdt_base, .limit = entry->gdt_limit};
    sregs->idt =
        (struct kvm_dtable){.base = entry->idt_base, .limit = entry->idt_limit};
    sregs->cr0 = entry->cr0;
    sregs->cr3 = entry->cr3;
    sregs->cr4 = entry->cr4;
    sregs->efer = entry->efer;
}

int vcpu_regs_set_boot(int vcpu_fd, struct kvm_run *run, bool sync_regs,
    const struct boot_entry *entry, struct err *err)
{
    struct kvm_regs regs = {.rip = entry->rip,
        .rbx = entry->rbx,
        .rsi = entry->rsi,
        .rflags = entry->rflags};
    struct kvm_sregs sregs;

    /* The local APIC's base and the like stay as KVM made them. */
    if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
        return err_sys(err, errno, "KVM_GET_SREGS");
    fill_sregs(&sregs, entry);
    if (sync_regs) {
        run->s.regs.regs = regs;
        run->s.regs.sregs = sregs;
        run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
        return 0;
    }
    if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0)
        return err_sys(err, errno, "KVM_SET_SREGS");
    if (ioctl(vcpu_fd, KVM_SET_REGS, &regs) < 0)
        return err_sys(err, errno, "KVM_SET_REGS");
    return 0;
}
