/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/probe.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/core/gmem.h"

#define CODE_AT UINT64_C(0x1000)
#define PORT    0x10

/*
 * A loop that takes this long is timed well enough; the best of some counts,
 * because others may have had the processor during the rest.
 */
#define ENOUGH_NS  CLOCK_NS_PER_MS
#define BUDGET_NS  (20 * CLOCK_NS_PER_MS)
#define LOOPS_MIN  500u
#define LOOPS_STEP 4u
#define LOOPS_MAX  (1u << 30)
#define ROUNDS     8u

/* Instructions per turn: DEC and JNZ. */
#define LOOP_INSTRUCTIONS 2u

/* Real mode. Asks the host for a count, counts it down, asks again. */
static const uint8_t code[] = {
    0x66, 0xe5, PORT, /* again: in eax, PORT */
    0x66, 0x89, 0xc1, /*        mov ecx, eax */
    0x66, 0x49,       /* turn:  dec ecx */
    0x75, 0xfc,       /*        jnz turn */
    0xeb, 0xf4,       /*        jmp again */
};

struct trial {
    struct kvm_vm vm;
    struct gmem mem;
    int vcpu;
    size_t run_size;
    struct kvm_run *run;
};

static uint32_t cap(const struct kvm *kvm, int extension)
{
    return (uint32_t)kvm_extension(kvm, extension);
}

static enum probe_backend find_backend(const struct kvm *kvm)
{
    if (kvm->features.ring0_emulated)
        return PROBE_SOFTWARE;
    if (access("/sys/module/kvm_intel", F_OK) == 0)
        return PROBE_VMX;
    if (access("/sys/module/kvm_amd", F_OK) == 0)
        return PROBE_SVM;
    return PROBE_UNKNOWN;
}

void probe_read_caps(const struct kvm *kvm, struct probe_caps *ret_caps)
{
    uint32_t ring = cap(kvm, KVM_CAP_DIRTY_LOG_RING);
    uint32_t ring_acq_rel = cap(kvm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
    uint32_t bytes = ring > ring_acq_rel ? ring : ring_acq_rel;
    int version = ioctl(kvm->fd, KVM_GET_API_VERSION, 0L);

    *ret_caps = (struct probe_caps){
        .api_version = version < 0 ? 0 : version,
        .backend = find_backend(kvm),
        .split_irqchip = cap(kvm, KVM_CAP_SPLIT_IRQCHIP) != 0,
        .immediate_exit = cap(kvm, KVM_CAP_IMMEDIATE_EXIT) != 0,
        .ioeventfd = cap(kvm, KVM_CAP_IOEVENTFD) != 0,
        .irqfd = cap(kvm, KVM_CAP_IRQFD) != 0,
        .tsc_deadline = cap(kvm, KVM_CAP_TSC_DEADLINE_TIMER) != 0,
        .tsc_control = cap(kvm, KVM_CAP_TSC_CONTROL) != 0,
        .manual_protect = cap(kvm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2),
        .dirty_ring_max = bytes / (uint32_t)sizeof(struct kvm_dirty_gfn),
        .sync_regs = cap(kvm, KVM_CAP_SYNC_REGS),
        .vcpus_max = cap(kvm, KVM_CAP_MAX_VCPUS),
        .vcpus_recommended = cap(kvm, KVM_CAP_NR_VCPUS),
        .memslots_max = cap(kvm, KVM_CAP_NR_MEMSLOTS),
    };
}

static void trial_fini(struct trial *t)
{
    if (t->run != NULL)
        (void)munmap(t->run, t->run_size);
    fd_closep(&t->vcpu);
    kvm_vm_fini(&t->vm);
    gmem_fini(&t->mem);
}

static int set_real_mode(int vcpu, struct err *err)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = CODE_AT, .rflags = 2};

    if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
        return err_sys(err, errno, "KVM_GET_SREGS");
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0)
        return err_sys(err, errno, "KVM_SET_SREGS");
    if (ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
        return err_sys(err, errno, "KVM_SET_REGS");
    return 0;
}

/* On failure the caller calls trial_fini as well. */
static int trial_init(struct trial *t, const struct kvm *kvm, struct err *err)
{
    void *run;
    int rc = kvm_vm_init(&t->vm, kvm, err);

    if (rc == 0)
        rc = gmem_init(&t->mem, GMEM_SIZE_MIN, err);
    if (rc == 0 && gmem_write(&t->mem, gpa(CODE_AT), code, sizeof(code)) < 0)
        rc = err_set(err, EFAULT, "no room for the code of the trial");
    if (rc == 0)
        rc = kvm_vm_add_memory(&t->vm, &t->mem, err);
    if (rc == 0)
        rc = kvm_vm_add_irqchip(&t->vm, err);
    if (rc < 0)
        return rc;
    t->vcpu = ioctl(t->vm.fd, KVM_CREATE_VCPU, 0L);
    if (t->vcpu < 0)
        return err_sys(err, errno, "cannot create a virtual CPU");
    run = mmap(
        NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, t->vcpu, 0);
    if (run == MAP_FAILED)
        return err_sys(err, errno, "cannot map a virtual CPU");
    t->run = run;
    t->run_size = kvm->run_size;
    return set_real_mode(t->vcpu, err);
}

/* Runs until the code asks for a count; *ret_where is where it goes. */
static int run_to_question(
    const struct trial *t, size_t *ret_where, struct err *err)
{
    uint64_t offset;
    int rc;

    do {
        rc = ioctl(t->vcpu, KVM_RUN, 0L);
    } while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return err_sys(err, errno, "KVM_RUN");
    offset = t->run->io.data_offset;
    if (t->run->exit_reason != KVM_EXIT_IO ||
        t->run->io.direction != KVM_EXIT_IO_IN || t->run->io.port != PORT ||
        t->run->io.size != sizeof(uint32_t) ||
        !num_range_within(offset, sizeof(uint32_t), t->run_size))
        return err_set(err, ENOTSUP,
            "a minimal guest stopped for reason %u instead of running",
            t->run->exit_reason);
    *ret_where = offset;
    return 0;
}

static int measure(
    const struct trial *t, uint64_t *ret_per_second, struct err *err)
{
    uint64_t begin = clock_now_ns();
    uint64_t best_ns = UINT64_MAX; /* of `loops` turns */
    uint32_t loops = LOOPS_MIN;
    uint32_t rounds = 0;
    size_t where = 0;
    int rc = run_to_question(t, &where, err);

    while (rc == 0 && rounds < ROUNDS) {
        uint64_t start = clock_now_ns();
        uint64_t took;

        memcpy((uint8_t *)t->run + where, &loops, sizeof(loops));
        rc = run_to_question(t, &where, err);
        took = clock_now_ns() - start;
        best_ns = num_max(num_min(best_ns, took), 1);
        if (clock_now_ns() - begin > BUDGET_NS)
            break;
        if (best_ns < ENOUGH_NS && loops < LOOPS_MAX) {
            loops *= LOOPS_STEP;
            best_ns = UINT64_MAX;
            rounds = 0;
        } else {
            rounds++;
        }
    }
    if (rc == 0)
        *ret_per_second =
            (uint64_t)loops * LOOP_INSTRUCTIONS * CLOCK_NS_PER_S / best_ns;
    return rc;
}

int probe_measure_ring0(
    const struct kvm *kvm, uint64_t *ret_per_second, struct err *err)
{
    struct trial t = {.vm = {.fd = -1}, .mem = {.fd = -1}, .vcpu = -1};
    int rc = trial_init(&t, kvm, err);

    if (rc == 0)
        rc = measure(&t, ret_per_second, err);
    trial_fini(&t);
    return rc;
}
