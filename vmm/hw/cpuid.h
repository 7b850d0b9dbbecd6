/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPUID that guests see.
 *
 * One template per process, from what KVM supports; each vCPU gets a copy
 * with its own identity and the machine's topology (one socket, one thread
 * per core). Thread rule: a template is constant once made.
 */
#ifndef VMM_HW_CPUID_H
#define VMM_HW_CPUID_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/hw/kvm.h"

#define CPUID_ENTRIES_MAX 256u

struct cpuid {
    struct kvm_cpuid2 *table; /* owned; room for CPUID_ENTRIES_MAX */
};

/* Asks KVM (0.4 ms where measured: once per process) and filters. */
CC_MUST_CHECK int cpuid_init(
    struct cpuid *cpuid, const struct kvm *kvm, struct err *err);

void cpuid_fini(struct cpuid *cpuid);

/* A table of its own with the same entries; 0 or -ENOMEM. */
CC_MUST_CHECK int cpuid_copy(
    const struct cpuid *from, struct cpuid *ret_cpuid, struct err *err);

/*
 * cpuid_init on a thread of its own, beside which a machine is built:
 * cpuid_finish waits for it and gives its result. `kvm` and the job stay in
 * place until then; cpuid_finish is due exactly once if cpuid_begin succeeded.
 */
struct cpuid_job {
    const struct kvm *kvm;
    pthread_t thread;
    struct cpuid cpuid;
    struct err err;
    int rc;
};

CC_MUST_CHECK int cpuid_begin(
    struct cpuid_job *job, const struct kvm *kvm, struct err *err);
CC_MUST_CHECK int cpuid_finish(
    struct cpuid_job *job, struct cpuid *ret_cpuid, struct err *err);

/* What cpuid_init does to the table that KVM gave it. */
void cpuid_filter(struct cpuid *cpuid, const struct kvm_features *features);

/* Sets what differs from vCPU to vCPU: APIC id `id`, of `vcpus` in all. */
void cpuid_set_identity(struct cpuid *cpuid, uint32_t id, uint32_t vcpus);

/*
 * The processor's name, in leaves 80000002H to 80000004H: CPUID_BRAND_BYTES of
 * it, NUL bytes behind what is shorter. Where ring 0 is emulated, programs of
 * the guest go on to see the processor's own.
 */
#define CPUID_BRAND_BYTES 48u
void cpuid_set_brand(struct cpuid *cpuid, const char *brand);

/* The same entries in the same order. */
bool cpuid_equal(const struct cpuid *a, const struct cpuid *b);

/* The entry of a leaf, or NULL. */
struct kvm_cpuid_entry2 *cpuid_find(
    struct cpuid *cpuid, uint32_t leaf, uint32_t subleaf);

#endif
