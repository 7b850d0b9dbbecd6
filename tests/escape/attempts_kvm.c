/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM, of which the monitor has everything open: more than its guest needs.
 */
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "tests/escape/escape.h"
#include "vmm/base/cc.h"

#define KVM(name, fd, request, arg)                                            \
    static int try_##name(struct escape *e)                                    \
    {                                                                          \
        return ESCAPE_CALL(                                                    \
            e, SYS_ioctl, e->fd, (unsigned long)(request), (arg));             \
    }

/* What the argument is prepared in; KVM reads and writes it. */
#define ARG(type, name)                                                        \
    static type *name(struct escape *e)                                        \
    {                                                                          \
        return (type *)(void *)e->page;                                        \
    }

ARG(struct kvm_cpuid2, cpuid_in)
ARG(struct kvm_create_device, device_in)
ARG(struct kvm_enable_cap, cap_in)
ARG(struct kvm_userspace_memory_region, region_in)
ARG(struct kvm_irqfd, irqfd_in)
ARG(struct kvm_ioeventfd, doorbell_in)
ARG(struct kvm_guest_debug, debug_in)
ARG(struct kvm_coalesced_mmio_zone, zone_in)
ARG(struct kvm_translation, translation_in)

KVM(create_vm, kvm, KVM_CREATE_VM, 0L)
KVM(get_cpuid, kvm, KVM_GET_SUPPORTED_CPUID, e->page)
KVM(create_vcpu, vm, KVM_CREATE_VCPU, 1L)
KVM(create_device, vm, KVM_CREATE_DEVICE, e->page)
KVM(create_irqchip, vm, KVM_CREATE_IRQCHIP, 0L)
KVM(enable_cap, vm, KVM_ENABLE_CAP, e->page)
KVM(set_tss, vm, KVM_SET_TSS_ADDR, 0xfffbd000L)
KVM(set_map, vm, KVM_SET_IDENTITY_MAP_ADDR, e->page)
KVM(set_boot_cpu, vm, KVM_SET_BOOT_CPU_ID, 0L)
KVM(set_region, vm, KVM_SET_USER_MEMORY_REGION, e->page)
KVM(irqfd, vm, KVM_IRQFD, e->page)
KVM(doorbell, vm, KVM_IOEVENTFD, e->page)
KVM(coalesce, vm, KVM_REGISTER_COALESCED_MMIO, e->page)
KVM(msr_filter, vm, KVM_X86_SET_MSR_FILTER, e->page)
KVM(stats, vm, KVM_GET_STATS_FD, 0L)
KVM(routing, vm, KVM_SET_GSI_ROUTING, e->page)
KVM(msi, vm, KVM_SIGNAL_MSI, e->page)
KVM(set_cpuid, vcpu, KVM_SET_CPUID2, e->page)
KVM(debug, vcpu, KVM_SET_GUEST_DEBUG, e->page)
KVM(signal_mask, vcpu, KVM_SET_SIGNAL_MASK, NULL)
KVM(nmi, vcpu, KVM_NMI, 0L)
KVM(translate, vcpu, KVM_TRANSLATE, e->page)
KVM(vcpu_cap, vcpu, KVM_ENABLE_CAP, e->page)
KVM(run, vcpu, KVM_RUN, 0L)
KVM(set_regs, vcpu, KVM_SET_REGS, e->page)
KVM(get_regs, vcpu, KVM_GET_REGS, e->page)
KVM(set_msrs, vcpu, KVM_SET_MSRS, e->page)
KVM(dirty_log, vm, KVM_GET_DIRTY_LOG, e->page)

static int prepare_cpuid(struct escape *e)
{
    cpuid_in(e)->nent = 0;
    return 0;
}

static int prepare_supported(struct escape *e)
{
    cpuid_in(e)->nent = (ESCAPE_PAGE - sizeof(struct kvm_cpuid2)) /
                        sizeof(struct kvm_cpuid_entry2);
    return 0;
}

/* Whether it could: KVM_CREATE_DEVICE_TEST makes none. */
static int prepare_device(struct escape *e)
{
    *device_in(e) = (struct kvm_create_device){
        .type = KVM_DEV_TYPE_VFIO, .flags = KVM_CREATE_DEVICE_TEST};
    return 0;
}

static int prepare_cap(struct escape *e)
{
    *cap_in(e) =
        (struct kvm_enable_cap){.cap = KVM_CAP_EXIT_HYPERCALL, .args = {0}};
    return 0;
}

static int prepare_vcpu_cap(struct escape *e)
{
    *cap_in(e) = (struct kvm_enable_cap){
        .cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = {0}};
    return 0;
}

static int prepare_map(struct escape *e)
{
    uint64_t address = 0xfffbc000;

    memcpy(e->page, &address, sizeof(address));
    return 0;
}

/* A second region: memory of the monitor's, for the guest. */
static int prepare_region(struct escape *e)
{
    *region_in(e) = (struct kvm_userspace_memory_region){.slot = 7,
        .guest_phys_addr = UINT64_C(1) << 32,
        .memory_size = ESCAPE_BYTES,
        .userspace_addr = (uintptr_t)e->ram_map};
    return 0;
}

/* Without an interrupt controller: KVM has come to look for one. */
static int prepare_irqfd(struct escape *e)
{
    *irqfd_in(e) = (struct kvm_irqfd){.fd = (uint32_t)e->event};
    return 0;
}

static int prepare_doorbell(struct escape *e)
{
    *doorbell_in(e) = (struct kvm_ioeventfd){
        .addr = UINT64_C(1) << 33, .len = 4, .fd = e->event};
    return 0;
}

static int prepare_zone(struct escape *e)
{
    *zone_in(e) =
        (struct kvm_coalesced_mmio_zone){.addr = UINT64_C(1) << 33, .size = 8};
    return 0;
}

static int prepare_debug(struct escape *e)
{
    *debug_in(e) = (struct kvm_guest_debug){.control = KVM_GUESTDBG_ENABLE};
    return 0;
}

static int prepare_translation(struct escape *e)
{
    *translation_in(e) = (struct kvm_translation){.linear_address = 0};
    return 0;
}

/* Its registers, to be written back. */
static int prepare_regs(struct escape *e)
{
    return ioctl(e->vcpu, KVM_GET_REGS, e->page) < 0 ? -errno : 0;
}

/* It has no state to run from, so that KVM_RUN comes back at once. */
static int prepare_run(struct escape *e)
{
    if (e->run == NULL)
        return -EBADF;
    e->run->immediate_exit = 1;
    return 0;
}

static int prepare_log(struct escape *e)
{
    struct kvm_dirty_log *log = (struct kvm_dirty_log *)(void *)e->page;

    *log = (struct kvm_dirty_log){
        .slot = 0, .dirty_bitmap = e->page + ESCAPE_PAGE / 2};
    return 0;
}

#define NO_KVM                                                                 \
    {                                                                          \
        .error = -EBADF, .why = "/dev/kvm cannot be opened"                    \
    }
#define NO_SUCH                                                                \
    {                                                                          \
        .error = -EINVAL, .why = "this KVM has none"                           \
    }

#define OF_KVM(kind, what, why)                                                \
    .name = "ioctl KVM_" what, .gain = why, .call = SYS_ioctl, .go = try_##kind

static const struct escape_attempt attempts[] = {
    {OF_KVM(create_vm, "CREATE_VM", "guests that nobody counts"),
        .lacks = {NO_KVM}},
    {OF_KVM(get_cpuid, "GET_SUPPORTED_CPUID", "code that it has no need of"),
        .prepare = prepare_supported, .lacks = {NO_KVM}},
    {OF_KVM(create_vcpu, "CREATE_VCPU", "vCPUs that nobody counts"),
        .lacks = {NO_KVM}},
    {OF_KVM(create_device, "CREATE_DEVICE", "devices in the kernel"),
        .prepare = prepare_device,
        .lacks = {NO_KVM,
            {.error = -ENODEV, .why = "this KVM has no such device"}}},
    {OF_KVM(create_irqchip, "CREATE_IRQCHIP", "devices in the kernel"),
        .lacks = {NO_KVM,
            {.error = -EINVAL, .why = "there are vCPUs already"}}},
    {OF_KVM(enable_cap, "ENABLE_CAP of the VM", "parts of KVM that are off"),
        .prepare = prepare_cap, .lacks = {NO_KVM, NO_SUCH}},
    {OF_KVM(vcpu_cap, "ENABLE_CAP of a vCPU", "parts of KVM that are off"),
        .prepare = prepare_vcpu_cap, .lacks = {NO_KVM, NO_SUCH}},
    {OF_KVM(set_tss, "SET_TSS_ADDR", "code that it has no need of"),
        .lacks = {NO_KVM, NO_SUCH}},
    {OF_KVM(set_map, "SET_IDENTITY_MAP_ADDR", "code that it has no need of"),
        .prepare = prepare_map,
        .outside = -EINVAL, /* there are vCPUs already */
        .lacks = {NO_KVM}},
    {OF_KVM(set_boot_cpu, "SET_BOOT_CPU_ID", "code that it has no need of"),
        .outside = -EBUSY, .lacks = {NO_KVM}},
    {OF_KVM(coalesce, "REGISTER_COALESCED_MMIO", "code that it has no need of"),
        .prepare = prepare_zone, .lacks = {NO_KVM}},
    {OF_KVM(msr_filter, "X86_SET_MSR_FILTER", "code that it has no need of"),
        .lacks = {NO_KVM, NO_SUCH,
            {.error = -ENOTTY, .why = "this KVM has none"}}},
    {OF_KVM(stats, "GET_STATS_FD", "learns of the host's KVM"),
        .lacks = {NO_KVM, {.error = -ENOTTY, .why = "this KVM has none"}}},
    {OF_KVM(msi, "SIGNAL_MSI without an interrupt controller",
         "interrupts past the devices"),
        .outside = -EINVAL, .lacks = {NO_KVM}},
    {OF_KVM(set_cpuid, "SET_CPUID2", "features of another processor"),
        .prepare = prepare_cpuid, .lacks = {NO_KVM}},
    {OF_KVM(debug, "SET_GUEST_DEBUG", "the processor's debug registers"),
        .prepare = prepare_debug, .lacks = {NO_KVM, NO_SUCH}},
    {OF_KVM(signal_mask, "SET_SIGNAL_MASK", "signals that nobody sees"),
        .lacks = {NO_KVM}},
    {OF_KVM(nmi, "NMI", "interrupts past the devices"), .lacks = {NO_KVM}},
    {OF_KVM(translate, "TRANSLATE", "code that it has no need of"),
        .prepare = prepare_translation, .lacks = {NO_KVM}},
    {OF_KVM(run, "RUN", "runs the guest beside its vCPU's thread"),
        .prepare = prepare_run, .outside = -EINTR,
        .inside = {[JAIL_ROLE_VCPU] = ESCAPE_ALLOWED,
            [JAIL_ROLE_FUZZ] = ESCAPE_ALLOWED},
        .lacks = {NO_KVM}},
    {OF_KVM(set_region, "SET_USER_MEMORY_REGION",
         "the monitor's own memory, for the guest"),
        .prepare = prepare_region,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_WORKER] = ESCAPE_ALLOWED,
            [JAIL_ROLE_FUZZ] = ESCAPE_ALLOWED},
        .lacks = {NO_KVM}},
    {OF_KVM(irqfd, "IRQFD without an interrupt controller",
         "interrupts by its own eventfds"),
        .prepare = prepare_irqfd, .outside = -EINVAL,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED},
        .lacks = {NO_KVM}},
    {OF_KVM(doorbell, "IOEVENTFD", "its own eventfds by the guest's accesses"),
        .prepare = prepare_doorbell,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED},
        .lacks = {NO_KVM}},
    {OF_KVM(routing, "SET_GSI_ROUTING without an interrupt controller",
         "other interrupts in the guest"),
        .outside = -EINVAL,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED,
            [JAIL_ROLE_FUZZ] = ESCAPE_ALLOWED},
        .lacks = {NO_KVM}},
    {OF_KVM(get_regs, "GET_REGS", "what its own guest is at"),
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED,
            [JAIL_ROLE_FUZZ] = ESCAPE_ALLOWED},
        .lacks = {NO_KVM}},
    {OF_KVM(set_regs, "SET_REGS", "another state of its own guest"),
        .prepare = prepare_regs,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_FUZZ] = ESCAPE_ALLOWED},
        .lacks = {NO_KVM}},
    {OF_KVM(set_msrs, "SET_MSRS", "another state of its own guest"),
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_FUZZ] = ESCAPE_ALLOWED},
        .lacks = {NO_KVM}},
    {OF_KVM(dirty_log, "GET_DIRTY_LOG", "what its own guest has written"),
        .prepare = prepare_log,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_WORKER] = ESCAPE_ALLOWED,
            [JAIL_ROLE_FUZZ] = ESCAPE_ALLOWED},
        .lacks = {NO_KVM}},
};

const struct escape_list escape_kvm = {attempts, ARRAY_SIZE(attempts)};
