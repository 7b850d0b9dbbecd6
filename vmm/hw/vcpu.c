/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/vcpu.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/thread.h"
#include "vmm/hw/dirty.h"
#include "vmm/hw/vcpu_regs.h"
#include "vmm/hw/vcpu_report.h"

/*
 * The signal only has to interrupt KVM_RUN; what is wanted is in `request`,
 * and immediate_exit covers the moment before the thread is inside.
 */
#define KICK_SIGNAL SIGRTMIN

#define STACK_SIZE (UINT64_C(256) * NUM_KIB)

static void on_kick(int signal)
{
    (void)signal;
}

int vcpu_install_kick(struct err *err)
{
    struct sigaction action = {.sa_handler = on_kick};

    if (sigaction(KICK_SIGNAL, &action, NULL) < 0)
        return err_sys(err, errno, "cannot install the kick signal");
    return 0;
}

int vcpu_set_cpuid(
    struct vcpu *vcpu, struct cpuid *cpuid, uint32_t vcpus, struct err *err)
{
    cpuid_set_identity(cpuid, vcpu->id, vcpus);
    if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid->table) < 0)
        return err_sys(err, errno, "KVM_SET_CPUID2 of vCPU %u", vcpu->id);
    return 0;
}

int vcpu_init(struct vcpu *vcpu, struct kvm_vm *vm, struct cpuid *cpuid,
    const struct vcpu_config *config, struct err *err)
{
    void *run;
    int rc;

    assert(vm->has_irqchip);
    *vcpu = (struct vcpu){.fd = -1,
        .id = config->id,
        .kvm = vm->kvm,
        .pio = config->pio,
        .mmio = config->mmio,
        .dirty = config->dirty,
        .on_stop = config->on_stop,
        .begin = config->begin,
        .opaque = config->opaque,
        .lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER,
        .changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER};
    vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (long)config->id);
    if (vcpu->fd < 0)
        return err_sys(err, errno, "cannot create vCPU %u", config->id);
    run = mmap(NULL, vm->kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
        vcpu->fd, 0);
    if (run == MAP_FAILED) {
        rc = err_sys(err, errno, "cannot map vCPU %u", config->id);
        goto fail;
    }
    vcpu->run = run;
    rc = vcpu_set_cpuid(vcpu, cpuid, config->vcpus, err);
    if (rc < 0)
        goto fail;
    rc = vcpu_regs_set_boot_msrs(vcpu->fd, err);
    if (rc < 0)
        goto fail;
    if (vcpu->dirty != NULL) {
        rc = dirty_add_vcpu(vcpu->dirty, vcpu->fd, err);
        if (rc < 0)
            goto fail;
    }
    return 0;
fail:
    vcpu_fini(vcpu);
    return rc;
}

void vcpu_fini(struct vcpu *vcpu)
{
    if (vcpu->has_thread) {
        vcpu_request(vcpu, VCPU_QUIT);
        (void)pthread_join(vcpu->thread, NULL);
        vcpu->has_thread = false;
    }
    if (vcpu->run != NULL)
        (void)munmap(vcpu->run, vcpu->kvm->run_size);
    vcpu->run = NULL;
    if (vcpu->kvm != NULL)
        fd_closep(&vcpu->fd);
}

int vcpu_set_boot_state(
    struct vcpu *vcpu, const struct boot_entry *entry, struct err *err)
{
    assert(vcpu->phase == VCPU_NEW);
    return vcpu_regs_set_boot(
        vcpu->fd, vcpu->run, vcpu->kvm->features.sync_regs, entry, err);
}

uint64_t vcpu_get_rip(const struct vcpu *vcpu)
{
    struct kvm_regs regs;

    return ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0 ? 0 : regs.rip;
}

/* Port I/O: `count` accesses of one size at one port, data after kvm_run. */
static void do_pio(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint64_t offset = run->io.data_offset;
    uint32_t size = run->io.size;
    uint32_t count = run->io.count;
    bool is_write = run->io.direction == KVM_EXIT_IO_OUT;

    assert(
        num_range_within(offset, (uint64_t)size * count, vcpu->kvm->run_size));
    for (uint32_t i = 0; i < count; i++)
        (void)bus_access(vcpu->pio, run->io.port,
            (uint8_t *)run + offset + (uint64_t)i * size, size, is_write);
}

static void do_mmio(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;

    assert(run->mmio.len >= 1 && run->mmio.len <= sizeof(run->mmio.data));
    (void)bus_access(vcpu->mmio, run->mmio.phys_addr, run->mmio.data,
        run->mmio.len, run->mmio.is_write != 0);
}

/* Carries out one exit; false if the guest can run no further. */
static bool handle_exit(struct vcpu *vcpu, struct vcpu_stop *stop)
{
    switch (vcpu->run->exit_reason) {
    case KVM_EXIT_IO:
        do_pio(vcpu);
        return true;
    case KVM_EXIT_MMIO:
        do_mmio(vcpu);
        return true;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_IOAPIC_EOI:
        return true;
    case KVM_EXIT_DIRTY_RING_FULL:
        if (vcpu->dirty != NULL && dirty_ring_full(vcpu->dirty) == 0)
            return true;
        vcpu_report_exit(vcpu, stop);
        return false;
    default:
        vcpu_report_exit(vcpu, stop);
        return false;
    }
}

/* KVM_RUN says EINTR only when nothing is left to complete. */
int vcpu_settle(struct vcpu *vcpu)
{
    struct vcpu_stop stop;
    int rc;

    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
    do {
        rc = ioctl(vcpu->fd, KVM_RUN, 0L) < 0 ? -errno : 0;
    } while (rc == 0 && handle_exit(vcpu, &stop));
    /* A request that came meanwhile may have had its signal used up here. */
    (void)pthread_mutex_lock(&vcpu->lock);
    __atomic_store_n(&vcpu->run->immediate_exit,
        vcpu->request == VCPU_RUN ? 0 : 1, __ATOMIC_RELAXED);
    (void)pthread_mutex_unlock(&vcpu->lock);
    if (rc == 0)
        return -EPROTO;
    return rc == -EINTR || rc == -EAGAIN ? 0 : rc;
}

/* Obeys the owner's request; false if it is to quit. */
static bool obey(struct vcpu *vcpu)
{
    bool go_on;

    (void)pthread_mutex_lock(&vcpu->lock);
    /* Cleared under the lock that vcpu_request sets it under. */
    __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
    while (vcpu->request == VCPU_PAUSE) {
        if (vcpu->phase != VCPU_PAUSED) {
            vcpu->phase = VCPU_PAUSED;
            (void)pthread_cond_broadcast(&vcpu->changed);
        }
        (void)pthread_cond_wait(&vcpu->changed, &vcpu->lock);
        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
    }
    go_on = vcpu->request == VCPU_RUN;
    if (go_on && vcpu->phase != VCPU_RUNNING) {
        vcpu->phase = VCPU_RUNNING;
        (void)pthread_cond_broadcast(&vcpu->changed);
    }
    (void)pthread_mutex_unlock(&vcpu->lock);
    return go_on;
}

static void end_phase(struct vcpu *vcpu)
{
    (void)pthread_mutex_lock(&vcpu->lock);
    vcpu->phase = VCPU_ENDED;
    (void)pthread_cond_broadcast(&vcpu->changed);
    (void)pthread_mutex_unlock(&vcpu->lock);
}

enum vcpu_step vcpu_step(struct vcpu *vcpu, struct vcpu_stop *ret_stop)
{
    int rc = ioctl(vcpu->fd, KVM_RUN, 0L);

    __atomic_store_n(&vcpu->exits, vcpu->exits + 1, __ATOMIC_RELAXED);
    if (rc == 0)
        return handle_exit(vcpu, ret_stop) ? VCPU_STEP_EXIT : VCPU_STEP_STOPPED;
    switch (errno) {
    case EINTR:
        return VCPU_STEP_INTERRUPTED;
    case EAGAIN:
        /* An application processor that was woken by an INIT or SIPI. */
        return VCPU_STEP_EXIT;
    default:
        vcpu_report_host_error(vcpu, errno, ret_stop);
        return VCPU_STEP_STOPPED;
    }
}

/*
 * A request is looked at only when KVM_RUN says EINTR: by then KVM has
 * completed the access that the previous exit was about, so a paused vCPU
 * never has half an instruction outstanding.
 */
static enum vcpu_step run_guest(struct vcpu *vcpu, struct vcpu_stop *stop)
{
    enum vcpu_step step;

    __atomic_store_n(&vcpu->first_run_ns, clock_now_ns(), __ATOMIC_RELEASE);
    do {
        step = vcpu_step(vcpu, stop);
    } while (step == VCPU_STEP_EXIT ||
             (step == VCPU_STEP_INTERRUPTED && obey(vcpu)));
    return step;
}

static void *vcpu_thread(void *opaque)
{
    struct vcpu *vcpu = opaque;
    struct vcpu_stop stop = {.vcpu = vcpu->id};
    enum vcpu_step step;
    struct err err;
    char name[16];

    (void)snprintf(name, sizeof(name), "vcpu %u", vcpu->id);
    (void)prctl(PR_SET_NAME, name);
    if (vcpu->begin != NULL && vcpu->begin(vcpu->opaque, &err) < 0) {
        stop.kind = VCPU_STOP_HOST;
        (void)snprintf(stop.text, sizeof(stop.text), "%.255s", err.text);
        step = VCPU_STEP_STOPPED;
    } else {
        step = run_guest(vcpu, &stop);
    }
    end_phase(vcpu);
    if (step == VCPU_STEP_STOPPED)
        vcpu->on_stop(vcpu->opaque, &stop);
    return NULL;
}

int vcpu_start(struct vcpu *vcpu, struct err *err)
{
    const struct thread_config config = {.run = vcpu_thread,
        .opaque = vcpu,
        .stack_bytes = STACK_SIZE,
        .signal = KICK_SIGNAL};
    int rc;

    assert(!vcpu->has_thread);
    /* Another vCPU that already runs may end the machine meanwhile. */
    (void)pthread_mutex_lock(&vcpu->lock);
    if (vcpu->request != VCPU_RUN)
        __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
    vcpu->phase = VCPU_RUNNING;
    rc = thread_start(&vcpu->thread, &config);
    if (rc == 0)
        vcpu->has_thread = true;
    else
        vcpu->phase = VCPU_NEW;
    (void)pthread_mutex_unlock(&vcpu->lock);
    if (rc < 0)
        return err_sys(err, rc, "cannot start vCPU %u", vcpu->id);
    return 0;
}

void vcpu_request(struct vcpu *vcpu, enum vcpu_request request)
{
    (void)pthread_mutex_lock(&vcpu->lock);
    vcpu->request = request;
    if (vcpu->has_thread && vcpu->phase != VCPU_ENDED) {
        if (vcpu->phase == VCPU_PAUSED) {
            (void)pthread_cond_broadcast(&vcpu->changed);
        } else {
            __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELEASE);
            (void)pthread_kill(vcpu->thread, KICK_SIGNAL);
        }
    }
    (void)pthread_mutex_unlock(&vcpu->lock);
}

static bool is_settled(const struct vcpu *vcpu)
{
    if (vcpu->phase == VCPU_ENDED || vcpu->phase == VCPU_NEW)
        return true;
    switch (vcpu->request) {
    case VCPU_RUN:
        return vcpu->phase == VCPU_RUNNING;
    case VCPU_PAUSE:
        return vcpu->phase == VCPU_PAUSED;
    case VCPU_QUIT:
    default:
        return false;
    }
}

void vcpu_wait(struct vcpu *vcpu)
{
    (void)pthread_mutex_lock(&vcpu->lock);
    while (!is_settled(vcpu))
        (void)pthread_cond_wait(&vcpu->changed, &vcpu->lock);
    (void)pthread_mutex_unlock(&vcpu->lock);
}
