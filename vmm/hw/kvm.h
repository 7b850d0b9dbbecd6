/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM itself and a virtual machine in it. KVM ioctls are issued here, for
 * vCPUs in vcpu*.c, for its clock in vm_clock.c, for dirty pages in dirty.c,
 * and nowhere else.
 *
 * Order matters and is asserted: memory before the interrupt controller,
 * because every memslot change after one is created waits for a grace period
 * (7.5 ms against 0.1 ms where measured); vCPUs after both.
 *
 * Thread rule: set-up and tear-down from one thread; kvm_vm_irqfd,
 * kvm_vm_ioeventfd and kvm_vm_set_routes from any thread.
 */
#ifndef VMM_HW_KVM_H
#define VMM_HW_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/gmem.h"
#include "vmm/hw/layout.h"

/*
 * What the host's KVM can and cannot do, each work-around behind one name.
 */
struct kvm_features {
    /*
     * Guest ring 0 goes through KVM's instruction emulator (no VMX or SVM
     * behind /dev/kvm): many instructions are missing there, hypercalls never
     * return, CPUID below 0x40000000 is the host's, SYSCALL stays in ring 3.
     */
    bool ring0_emulated;
    bool sync_regs; /* registers and events travel in struct kvm_run */
    bool tsc_deadline;
    /*
     * The guest's TSC is the host's: KVM takes an offset or a value for it
     * and ignores them (measured where ring 0 is emulated).
     */
    bool tsc_fixed;
};

struct kvm {
    int fd;
    uint32_t run_size; /* bytes of a vCPU's struct kvm_run mapping */
    struct kvm_features features;
};

/* Opens /dev/kvm; an error names the cause and the cure. */
CC_MUST_CHECK int kvm_open(struct kvm *kvm, struct err *err);
void kvm_close(struct kvm *kvm);

/* KVM_CHECK_EXTENSION: 0 for "no". */
int kvm_extension(const struct kvm *kvm, int extension);

struct kvm_vm {
    int fd;
    const struct kvm *kvm; /* borrowed */
    uint32_t slot_count;   /* memslots so far, without the spare one */
    uint32_t spare_moves; /* of the spare memslot; it is there from the first */
    bool has_memory;
    bool has_irqchip;
    bool log_dirty; /* memslots are made with logging on: dirty.c */
};

CC_MUST_CHECK int kvm_vm_init(
    struct kvm_vm *vm, const struct kvm *kvm, struct err *err);
void kvm_vm_fini(struct kvm_vm *vm);

/* One memslot per region of `mem`, which must outlive the VM. */
CC_MUST_CHECK int kvm_vm_add_memory(
    struct kvm_vm *vm, const struct gmem *mem, struct err *err);

/*
 * Memory that is not RAM: `size` bytes at the host address `host`, which must
 * stay mapped as long as the VM exists, at guest address `start`; all whole
 * pages, the range apart from all others. A write to a read-only region exits
 * as MMIO. An access that the host cannot carry out (to a mapped file that was
 * cut) makes KVM_RUN fail with EFAULT or, where KVM interprets the guest,
 * exits as MMIO too. Before the interrupt controller, like all memory: 0.2 ms
 * for 256 MiB and 0.8 ms for 1 GiB where measured, where KVM keeps a word for
 * each page.
 */
CC_MUST_CHECK int kvm_vm_add_region(struct kvm_vm *vm, uint64_t start,
    uint64_t size, uint64_t host, bool read_only, struct err *err);

/*
 * Turns KVM's dirty log of all memslots on or off, whether vCPUs run or not.
 * The cost is in bench/bench_dirty.c.
 */
CC_MUST_CHECK int kvm_vm_log_memory(
    struct kvm_vm *vm, const struct gmem *mem, bool log_dirty, struct err *err);

/*
 * Has KVM drop all that it derived from the guest's page tables, which it does
 * not see change when the monitor writes to them, while no vCPU runs: a
 * memslot of one page, of zeros and read-only, in the gap of the physical map
 * (LAYOUT_SPARE), is moved, and KVM forgets everything when any slot moves or
 * goes (Documentation/virt/kvm/api.rst, KVM_X86_QUIRK_SLOT_ZAP_ALL, a quirk
 * that is on unless switched off). RAM's own slots stay, with their dirty log:
 * taking them away and giving them back has KVM free and clear what it keeps
 * for each of their pages. A fault follows for each page that the guest then
 * touches.
 */
CC_MUST_CHECK int kvm_vm_forget_tables(struct kvm_vm *vm, struct err *err);

/*
 * Local APICs in the kernel, the I/O APIC in user space, no PIC, no PIT
 * (KVM_CAP_SPLIT_IRQCHIP): a VM closes in 0.3 ms, against 15 to 23 ms with
 * the in-kernel interrupt controller where measured.
 */
CC_MUST_CHECK int kvm_vm_add_irqchip(struct kvm_vm *vm, struct err *err);

/* Lets an eventfd raise `gsi` as its route says; or stops that. */
CC_MUST_CHECK int kvm_vm_irqfd(
    struct kvm_vm *vm, uint32_t gsi, int eventfd, bool bind);

/*
 * Lets a 4-byte write of `match` to MMIO `address` signal an eventfd without
 * an exit; or stops that.
 */
CC_MUST_CHECK int kvm_vm_ioeventfd(struct kvm_vm *vm, uint64_t address,
    uint32_t match, int eventfd, bool bind);

/* The message that a GSI sends; a GSI without one sends nothing. */
struct kvm_route {
    bool used;
    uint64_t address;
    uint32_t data;
};

/* Replaces all routes; `routes` has one entry per GSI. */
CC_MUST_CHECK int kvm_vm_set_routes(
    struct kvm_vm *vm, const struct kvm_route routes[LAYOUT_GSI_COUNT]);

#endif
