/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual CPU: its thread, its run loop and its acknowledged pause.
 *
 * Owns the vCPU descriptor, its struct kvm_run mapping and its thread. The
 * run loop carries out port and MMIO accesses on the two buses and hands
 * everything that ends the guest to its owner, once.
 *
 * Thread rule: vcpu_init, vcpu_start, vcpu_step, vcpu_fini from the owner's
 * thread; vcpu_request from any thread; vcpu_wait from any thread but the
 * vCPU's own; `on_stop` is called on the vCPU's thread. Register access
 * (vcpu_get_rip and the like) only before vcpu_start or while paused or
 * stopped.
 * Guest-controlled: all of struct kvm_run's exit data.
 */
#ifndef VMM_HW_VCPU_H
#define VMM_HW_VCPU_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/bus.h"
#include "vmm/hw/boot.h"
#include "vmm/hw/cpuid.h"
#include "vmm/hw/kvm.h"

struct dirty;

/* Why a vCPU can run no further. */
enum vcpu_stop_kind {
    VCPU_STOP_TRIPLE_FAULT, /* KVM_EXIT_SHUTDOWN */
    VCPU_STOP_EMULATION,    /* an instruction that KVM does not emulate */
    VCPU_STOP_BAD_ENTRY,    /* the processor refused the guest's state */
    VCPU_STOP_OTHER,        /* an exit that spore has no answer to */
    VCPU_STOP_HOST,         /* KVM_RUN itself failed */
};

struct vcpu_stop {
    enum vcpu_stop_kind kind;
    uint32_t vcpu;
    uint64_t rip;
    char text[256]; /* one line: what it was, where, and the cure if any */
};

enum vcpu_request { VCPU_RUN, VCPU_PAUSE, VCPU_QUIT };
enum vcpu_phase { VCPU_NEW, VCPU_RUNNING, VCPU_PAUSED, VCPU_ENDED };

struct vcpu {
    int fd;
    uint32_t id;
    struct kvm_run *run;
    const struct kvm *kvm; /* borrowed, as are the buses */
    struct bus *pio;
    struct bus *mmio;
    struct dirty *dirty; /* borrowed; NULL: no ring can be full */
    void (*on_stop)(void *opaque, const struct vcpu_stop *stop);
    int (*begin)(void *opaque, struct err *err); /* NULL: nothing to do */
    void *opaque;
    uint64_t exits; /* the vCPU's thread writes, others may read; relaxed */
    uint64_t first_run_ns; /* clock before the first KVM_RUN; atomic */
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock; /* protects the rest */
    pthread_cond_t changed;
    enum vcpu_request request;
    enum vcpu_phase phase;
};

struct vcpu_config {
    uint32_t id;
    uint32_t vcpus; /* in the machine */
    struct bus *pio;
    struct bus *mmio;
    struct dirty *dirty; /* initialised before; may be NULL */
    void (*on_stop)(void *opaque, const struct vcpu_stop *stop);
    /* First on the vCPU's thread: one that fails runs no guest. May be NULL. */
    int (*begin)(void *opaque, struct err *err);
    void *opaque;
};

/*
 * Creates the vCPU and gives it its CPUID and MSRs. `cpuid` is the process's
 * template and comes back with this vCPU's identity in it.
 */
CC_MUST_CHECK int vcpu_init(struct vcpu *vcpu, struct kvm_vm *vm,
    struct cpuid *cpuid, const struct vcpu_config *config, struct err *err);

/*
 * Another CPUID for a vCPU that has not run yet, of `vcpus` in all; as in
 * vcpu_init.
 */
CC_MUST_CHECK int vcpu_set_cpuid(
    struct vcpu *vcpu, struct cpuid *cpuid, uint32_t vcpus, struct err *err);

/* Ends the thread if it runs, and frees; fine on a zeroed or half-made one. */
void vcpu_fini(struct vcpu *vcpu);

/* Sets the boot vCPU's registers as the loader asks. */
CC_MUST_CHECK int vcpu_set_boot_state(
    struct vcpu *vcpu, const struct boot_entry *entry, struct err *err);

/*
 * One KVM_RUN on the calling thread, instead of a thread of the vCPU's own:
 * runs the guest to its next exit and carries that out.
 */
enum vcpu_step {
    VCPU_STEP_EXIT,        /* carried out; the guest may go on */
    VCPU_STEP_INTERRUPTED, /* by a signal or immediate_exit */
    VCPU_STEP_STOPPED,     /* it can run no further: *ret_stop says why */
};
enum vcpu_step vcpu_step(struct vcpu *vcpu, struct vcpu_stop *ret_stop);

/* Starts the thread, which runs the guest at once. */
CC_MUST_CHECK int vcpu_start(struct vcpu *vcpu, struct err *err);

/* Asks for a phase and kicks the vCPU out of the guest; does not wait. */
void vcpu_request(struct vcpu *vcpu, enum vcpu_request request);

/*
 * Waits until the last request is carried out: PAUSED (all pending I/O of the
 * vCPU completed, registers as the guest sees them), RUNNING or ENDED. An
 * ended vCPU satisfies every request.
 */
void vcpu_wait(struct vcpu *vcpu);

/*
 * Completes the last exit without entering the guest, on the vCPU's own
 * thread outside of KVM_RUN (or on one that has none yet): the registers are
 * then as the guest sees them, as in a pause. An access of several parts is
 * carried out to its end. One KVM_RUN of 8 us where measured. 0, or -errno of
 * KVM_RUN; -EPROTO if the guest can run no further.
 */
CC_MUST_CHECK int vcpu_settle(struct vcpu *vcpu);

/* RIP while not running, 0 if KVM does not say. */
uint64_t vcpu_get_rip(const struct vcpu *vcpu);

/*
 * Installs the handler of the signal that kicks vCPU threads. Once per
 * process, before the first vcpu_start.
 */
CC_MUST_CHECK int vcpu_install_kick(struct err *err);

#endif
