/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/kvm.h"

#include <assert.h>
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/fd.h"

#define API_VERSION 12

/* Intel SDM vol. 2A CPUID.01H:ECX.VMX; AMD APM vol. 3 Fn8000_0001 ECX.SVM. */
#define CPUID_1_ECX_VMX        (1u << 5)
#define CPUID_80000001_ECX_SVM (1u << 2)

int kvm_extension(const struct kvm *kvm, int extension)
{
    int rc = ioctl(kvm->fd, KVM_CHECK_EXTENSION, (long)extension);

    return rc < 0 ? 0 : rc;
}

static bool cpu_has_vmx(void)
{
    unsigned int a, b, c, d;

    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & CPUID_1_ECX_VMX) != 0;
}

static bool cpu_has_svm(void)
{
    unsigned int a, b, c, d;

    return __get_cpuid(0x80000001, &a, &b, &c, &d) != 0 &&
           (c & CPUID_80000001_ECX_SVM) != 0;
}

/*
 * A host with neither VMX nor SVM, or with the back end that needs neither
 * loaded, has no hardware virtualisation behind /dev/kvm.
 */
static bool ring0_is_emulated(void)
{
    if (access("/sys/module/kvm_pvm", F_OK) == 0)
        return true;
    return !cpu_has_vmx() && !cpu_has_svm();
}

static int open_error(struct err *err, int code)
{
    switch (code) {
    case ENOENT:
        return err_set(err, code,
            "/dev/kvm is missing: load a KVM module (modprobe kvm_intel or "
            "kvm_amd), or turn on nested virtualisation for this machine");
    case EACCES:
    case EPERM:
        return err_set(err, code,
            "/dev/kvm may not be opened by this user: join its group (usermod "
            "-aG kvm USER, then log in again)");
    case ENODEV:
        return err_set(err, code,
            "/dev/kvm has no back end: turn on virtualisation in the firmware "
            "and load kvm_intel or kvm_amd");
    default:
        return err_sys(err, code, "/dev/kvm");
    }
}

int kvm_open(struct kvm *kvm, struct err *err)
{
    const unsigned long wanted =
        KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
    int rc;

    *kvm = (struct kvm){.fd = -1};
    kvm->fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm->fd < 0)
        return open_error(err, errno);
    rc = ioctl(kvm->fd, KVM_GET_API_VERSION, 0L);
    if (rc != API_VERSION) {
        kvm_close(kvm);
        return err_set(err, ENOTSUP,
            "/dev/kvm speaks API version %d, %d is needed: use Linux 4.4 or "
            "later",
            rc, API_VERSION);
    }
    rc = ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, 0L);
    if (rc < (int)sizeof(struct kvm_run)) {
        rc = err_sys(err, rc < 0 ? errno : EINVAL, "KVM_GET_VCPU_MMAP_SIZE");
        kvm_close(kvm);
        return rc;
    }
    kvm->run_size = (uint32_t)rc;
    if (kvm_extension(kvm, KVM_CAP_SPLIT_IRQCHIP) == 0 ||
        kvm_extension(kvm, KVM_CAP_IMMEDIATE_EXIT) == 0) {
        kvm_close(kvm);
        return err_set(err, ENOTSUP,
            "/dev/kvm lacks a split interrupt controller or immediate exits: "
            "use Linux 4.13 or later");
    }
    kvm->features.ring0_emulated = ring0_is_emulated();
    kvm->features.tsc_fixed = kvm->features.ring0_emulated;
    kvm->features.sync_regs =
        ((unsigned long)kvm_extension(kvm, KVM_CAP_SYNC_REGS) & wanted) ==
        wanted;
    kvm->features.tsc_deadline =
        kvm_extension(kvm, KVM_CAP_TSC_DEADLINE_TIMER) != 0;
    return 0;
}

void kvm_close(struct kvm *kvm)
{
    fd_closep(&kvm->fd);
}

int kvm_vm_init(struct kvm_vm *vm, const struct kvm *kvm, struct err *err)
{
    *vm = (struct kvm_vm){.fd = -1, .kvm = kvm};
    do {
        vm->fd = ioctl(kvm->fd, KVM_CREATE_VM, 0L);
    } while (vm->fd < 0 && errno == EINTR);
    if (vm->fd < 0)
        return err_sys(err, errno, "cannot create a virtual machine");
    /*
     * Needed by VMX without unrestricted guest, where KVM hides a page table
     * and a task state segment in guest space; free of cost elsewhere.
     */
    if (!kvm->features.ring0_emulated && cpu_has_vmx()) {
        uint64_t identity_map = LAYOUT_IDENTITY_MAP;

        if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
            ioctl(vm->fd, KVM_SET_TSS_ADDR, LAYOUT_TSS) < 0) {
            int rc = err_sys(err, errno, "KVM_SET_TSS_ADDR");

            kvm_vm_fini(vm);
            return rc;
        }
    }
    return 0;
}

void kvm_vm_fini(struct kvm_vm *vm)
{
    fd_closep(&vm->fd);
}

/* RAM has the first memslots, one for each region. */
static int set_memslot(struct kvm_vm *vm, const struct gmem *mem,
    unsigned int i, uint64_t size, struct err *err)
{
    struct kvm_userspace_memory_region region = {.slot = i,
        .flags = vm->log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0,
        .guest_phys_addr = mem->regions[i].start.v,
        .memory_size = size,
        .userspace_addr = gmem_region_host(mem, i)};

    if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return err_sys(err, errno, "KVM does not take %llu MiB of guest memory",
            (unsigned long long)(mem->regions[i].size / NUM_MIB));
    return 0;
}

static int set_memslots(
    struct kvm_vm *vm, const struct gmem *mem, struct err *err)
{
    int rc = 0;

    for (unsigned int i = 0; i < mem->region_count && rc == 0; i++)
        rc = set_memslot(vm, mem, i, mem->regions[i].size, err);
    return rc;
}

int kvm_vm_add_memory(
    struct kvm_vm *vm, const struct gmem *mem, struct err *err)
{
    int rc;

    assert(!vm->has_irqchip && vm->slot_count == 0);
    rc = set_memslots(vm, mem, err);
    if (rc < 0)
        return rc;
    vm->slot_count = mem->region_count;
    vm->has_memory = true;
    return 0;
}

int kvm_vm_log_memory(
    struct kvm_vm *vm, const struct gmem *mem, bool log_dirty, struct err *err)
{
    assert(vm->has_memory);
    vm->log_dirty = log_dirty;
    return set_memslots(vm, mem, err);
}

/* What the spare memslot shows; nobody writes to it. */
static const uint8_t spare_page[4096] __attribute__((aligned(4096)));

static int set_spare(struct kvm_vm *vm, struct err *err)
{
    struct kvm_userspace_memory_region region = {.slot = vm->slot_count,
        .flags = KVM_MEM_READONLY,
        .guest_phys_addr = LAYOUT_SPARE + vm->spare_moves % 2 * 4096,
        .memory_size = sizeof(spare_page),
        .userspace_addr = (uintptr_t)spare_page};

    if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return err_sys(err, errno, "KVM does not move the spare memory slot");
    vm->spare_moves++;
    return 0;
}

int kvm_vm_forget_tables(struct kvm_vm *vm, struct err *err)
{
    int rc = 0;

    /* Later regions would be given the spare one's number. */
    assert(vm->has_memory && vm->has_irqchip);
    if (vm->spare_moves == 0)
        rc = set_spare(vm, err);
    return rc == 0 ? set_spare(vm, err) : rc;
}

/* AMD APM vol. 3 Fn8000_0008 EAX[7:0], which Intel processors have too. */
static unsigned int physical_address_bits(void)
{
    unsigned int a, b, c, d;

    return __get_cpuid(0x80000008, &a, &b, &c, &d) == 0 ? 36 : a & 0xff;
}

int kvm_vm_add_region(struct kvm_vm *vm, uint64_t start, uint64_t size,
    uint64_t host, bool read_only, struct err *err)
{
    struct kvm_userspace_memory_region region = {.slot = vm->slot_count,
        .flags = read_only ? KVM_MEM_READONLY : 0,
        .guest_phys_addr = start,
        .memory_size = size,
        .userspace_addr = host};
    unsigned int bits = physical_address_bits();
    uint64_t end;

    assert(vm->has_memory && !vm->has_irqchip);
    if (!num_add(start, size, &end) || (bits < 64 && end >> bits != 0))
        return err_set(err, EFBIG,
            "%llu MiB of persistent memory: beyond the %u-bit addresses of "
            "this processor",
            (unsigned long long)(size / NUM_MIB), bits);
    if (read_only && kvm_extension(vm->kvm, KVM_CAP_READONLY_MEM) == 0)
        return err_set(err, ENOTSUP,
            "this host's KVM has no read-only memory: use Linux 3.7 or later, "
            "or give the guest a copy that it may write to");
    if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return err_sys(err, errno,
            "KVM does not take %llu MiB of persistent memory at 0x%llx",
            (unsigned long long)(size / NUM_MIB), (unsigned long long)start);
    vm->slot_count++;
    return 0;
}

int kvm_vm_add_irqchip(struct kvm_vm *vm, struct err *err)
{
    struct kvm_enable_cap cap = {
        .cap = KVM_CAP_SPLIT_IRQCHIP, .args = {LAYOUT_GSI_COUNT}};

    assert(vm->has_memory && !vm->has_irqchip);
    if (ioctl(vm->fd, KVM_ENABLE_CAP, &cap) < 0)
        return err_sys(err, errno, "KVM_CAP_SPLIT_IRQCHIP");
    vm->has_irqchip = true;
    return 0;
}

int kvm_vm_irqfd(struct kvm_vm *vm, uint32_t gsi, int eventfd, bool bind)
{
    struct kvm_irqfd irqfd = {.fd = (uint32_t)eventfd,
        .gsi = gsi,
        .flags = bind ? 0 : KVM_IRQFD_FLAG_DEASSIGN};

    return ioctl(vm->fd, KVM_IRQFD, &irqfd) < 0 ? -errno : 0;
}

int kvm_vm_ioeventfd(
    struct kvm_vm *vm, uint64_t address, uint32_t match, int eventfd, bool bind)
{
    uint32_t flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
    struct kvm_ioeventfd io = {.datamatch = match,
        .addr = address,
        .len = sizeof(match),
        .fd = eventfd,
        .flags = bind ? flags : flags | KVM_IOEVENTFD_FLAG_DEASSIGN};

    return ioctl(vm->fd, KVM_IOEVENTFD, &io) < 0 ? -errno : 0;
}

int kvm_vm_set_routes(
    struct kvm_vm *vm, const struct kvm_route routes[LAYOUT_GSI_COUNT])
{
    union {
        struct kvm_irq_routing table;
        uint8_t bytes[sizeof(struct kvm_irq_routing) +
                      LAYOUT_GSI_COUNT * sizeof(struct kvm_irq_routing_entry)];
    } u;

    memset(&u, 0, sizeof(u));
    for (uint32_t gsi = 0; gsi < LAYOUT_GSI_COUNT; gsi++) {
        struct kvm_irq_routing_entry *e = &u.table.entries[u.table.nr];

        if (!routes[gsi].used)
            continue;
        e->gsi = gsi;
        e->type = KVM_IRQ_ROUTING_MSI;
        e->u.msi.address_lo = (uint32_t)routes[gsi].address;
        e->u.msi.address_hi = (uint32_t)(routes[gsi].address >> 32);
        e->u.msi.data = routes[gsi].data;
        u.table.nr++;
    }
    return ioctl(vm->fd, KVM_SET_GSI_ROUTING, &u.table) < 0 ? -errno : 0;
}
