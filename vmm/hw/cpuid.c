/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/cpuid.h"

#include <asm/kvm_para.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* Intel SDM vol. 2A, CPUID, leaf 01H. */
#define LEAF1_EBX_COUNT_SHIFT   16
#define LEAF1_EBX_APIC_ID_SHIFT 24
#define LEAF1_ECX_TSC_DEADLINE  (1u << 24)
#define LEAF1_ECX_HYPERVISOR    (1u << 31)
#define LEAF1_EDX_HTT           (1u << 28)

/* The processor's name, 16 bytes in each. */
#define LEAF_BRAND   0x80000002u
#define LEAVES_BRAND 3u

/* Leaf 0BH and 1FH, ECX: level type. */
#define TOPOLOGY_LEVEL_SMT  (1u << 8)
#define TOPOLOGY_LEVEL_CORE (2u << 8)

/* Threads, cores, and the one that says that there is no more. */
#define TOPOLOGY_SUBLEAVES 3u

/*
 * Where ring 0 is emulated a hypercall never returns, so only the features
 * that work through memory and MSRs are left on.
 */
#define KVM_FEATURES_WITHOUT_HYPERCALLS                                        \
    ((1u << KVM_FEATURE_CLOCKSOURCE) | (1u << KVM_FEATURE_CLOCKSOURCE2) |      \
        (1u << KVM_FEATURE_CLOCKSOURCE_STABLE_BIT))

struct kvm_cpuid_entry2 *cpuid_find(
    struct cpuid *cpuid, uint32_t leaf, uint32_t subleaf)
{
    for (uint32_t i = 0; i < cpuid->table->nent; i++) {
        struct kvm_cpuid_entry2 *e = &cpuid->table->entries[i];

        if (e->function == leaf && e->index == subleaf)
            return e;
    }
    return NULL;
}

/*
 * Recent kernels leave the topology to user space and give one subleaf only,
 * which makes every vCPU a package of its own.
 */
static void add_topology(struct cpuid *cpuid, uint32_t leaf)
{
    if (cpuid_find(cpuid, leaf, 0) == NULL)
        return;
    for (uint32_t i = 1; i < TOPOLOGY_SUBLEAVES; i++) {
        if (cpuid_find(cpuid, leaf, i) != NULL ||
            cpuid->table->nent >= CPUID_ENTRIES_MAX)
            continue;
        cpuid->table->entries[cpuid->table->nent++] =
            (struct kvm_cpuid_entry2){.function = leaf,
                .index = i,
                .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
    }
}

void cpuid_filter(struct cpuid *cpuid, const struct kvm_features *features)
{
    struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 1, 0);

    if (e != NULL) {
        e->ecx |= LEAF1_ECX_HYPERVISOR;
        if (features->tsc_deadline)
            e->ecx |= LEAF1_ECX_TSC_DEADLINE;
    }
    e = cpuid_find(cpuid, KVM_CPUID_FEATURES, 0);
    if (e != NULL && features->ring0_emulated)
        e->eax &= KVM_FEATURES_WITHOUT_HYPERCALLS;
    add_topology(cpuid, 0xb);
    add_topology(cpuid, 0x1f);
}

void cpuid_set_brand(struct cpuid *cpuid, const char *brand)
{
    char bytes[CPUID_BRAND_BYTES] = {0};
    uint32_t words[LEAVES_BRAND][4];

    memcpy(bytes, brand, strnlen(brand, sizeof(bytes)));
    memcpy(words, bytes, sizeof(words));
    for (uint32_t i = 0; i < LEAVES_BRAND; i++) {
        struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, LEAF_BRAND + i, 0);

        if (e == NULL)
            continue;
        e->eax = words[i][0];
        e->ebx = words[i][1];
        e->ecx = words[i][2];
        e->edx = words[i][3];
    }
}

static int make_table(struct cpuid *cpuid, struct err *err)
{
    cpuid->table =
        calloc(1, sizeof(struct kvm_cpuid2) +
                      CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2));
    if (cpuid->table == NULL)
        return err_sys(err, ENOMEM, "CPUID table");
    return 0;
}

int cpuid_copy(
    const struct cpuid *from, struct cpuid *ret_cpuid, struct err *err)
{
    struct cpuid copy;
    int rc = make_table(&copy, err);

    if (rc < 0)
        return rc;
    copy.table->nent = from->table->nent;
    memcpy(copy.table->entries, from->table->entries,
        from->table->nent * sizeof(from->table->entries[0]));
    *ret_cpuid = copy;
    return 0;
}

int cpuid_init(struct cpuid *cpuid, const struct kvm *kvm, struct err *err)
{
    int rc = make_table(cpuid, err);

    if (rc < 0)
        return rc;
    cpuid->table->nent = CPUID_ENTRIES_MAX;
    if (ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, cpuid->table) < 0) {
        rc = err_sys(err, errno, "KVM_GET_SUPPORTED_CPUID");
        cpuid_fini(cpuid);
        return rc;
    }
    cpuid_filter(cpuid, &kvm->features);
    return 0;
}

void cpuid_fini(struct cpuid *cpuid)
{
    free(cpuid->table);
    cpuid->table = NULL;
}

bool cpuid_equal(const struct cpuid *a, const struct cpuid *b)
{
    uint32_t count = a->table->nent;

    for (uint32_t i = 0; i < count && count == b->table->nent; i++) {
        const struct kvm_cpuid_entry2 *x = &a->table->entries[i];
        const struct kvm_cpuid_entry2 *y = &b->table->entries[i];

        if (x->function != y->function || x->index != y->index ||
            x->flags != y->flags || x->eax != y->eax || x->ebx != y->ebx ||
            x->ecx != y->ecx || x->edx != y->edx)
            return false;
    }
    return count == b->table->nent;
}

static void *run_job(void *opaque)
{
    struct cpuid_job *job = opaque;

    job->rc = cpuid_init(&job->cpuid, job->kvm, &job->err);
    return NULL;
}

int cpuid_begin(struct cpuid_job *job, const struct kvm *kvm, struct err *err)
{
    int rc;

    *job = (struct cpuid_job){.kvm = kvm};
    rc = pthread_create(&job->thread, NULL, run_job, job);
    return rc == 0 ? 0 : err_sys(err, rc, "cannot start a thread");
}

int cpuid_finish(
    struct cpuid_job *job, struct cpuid *ret_cpuid, struct err *err)
{
    (void)pthread_join(job->thread, NULL);
    if (job->rc < 0) {
        if (err != NULL)
            *err = job->err;
        return job->rc;
    }
    *ret_cpuid = job->cpuid;
    return 0;
}

static uint32_t bits_for(uint32_t count)
{
    return count <= 1 ? 0 : 32u - (uint32_t)__builtin_clz(count - 1);
}

/* Leaves 0BH and 1FH: one thread per core, `vcpus` cores. */
static void set_topology_level(
    struct kvm_cpuid_entry2 *e, uint32_t id, uint32_t vcpus)
{
    e->edx = id;
    switch (e->index) {
    case 0:
        e->eax = 0;
        e->ebx = 1;
        e->ecx = TOPOLOGY_LEVEL_SMT;
        break;
    case 1:
        e->eax = bits_for(vcpus);
        e->ebx = vcpus;
        e->ecx = 1 | TOPOLOGY_LEVEL_CORE;
        break;
    default:
        e->eax = 0;
        e->ebx = 0;
        e->ecx = e->index & 0xff;
        break;
    }
}

void cpuid_set_identity(struct cpuid *cpuid, uint32_t id, uint32_t vcpus)
{
    assert(id < vcpus && vcpus <= LAYOUT_VCPUS_MAX);
    for (uint32_t i = 0; i < cpuid->table->nent; i++) {
        struct kvm_cpuid_entry2 *e = &cpuid->table->entries[i];

        switch (e->function) {
        case 0x1:
            e->ebx = (e->ebx & 0xffff) | (vcpus << LEAF1_EBX_COUNT_SHIFT) |
                     (id << LEAF1_EBX_APIC_ID_SHIFT);
            e->edx =
                vcpus > 1 ? e->edx | LEAF1_EDX_HTT : e->edx & ~LEAF1_EDX_HTT;
            break;
        case 0x4:
            /* Cores per package; caches below level 3 are a core's own. */
            if ((e->eax & 0x1f) == 0)
                break;
            e->eax &= 0x3fff;
            e->eax |= (vcpus - 1) << 26;
            if (((e->eax >> 5) & 7) >= 3)
                e->eax |= (vcpus - 1) << 14;
            break;
        case 0xb:
        case 0x1f:
            set_topology_level(e, id, vcpus);
            break;
        case 0x8000001d:
            /* AMD: the same without the number of cores. */
            if ((e->eax & 0x1f) == 0)
                break;
            e->eax &= 0x3fff;
            if (((e->eax >> 5) & 7) >= 3)
                e->eax |= (vcpus - 1) << 14;
            break;
        case 0x80000008:
            /* AMD: number of cores less one, and the width of their ids. */
            e->ecx =
                (e->ecx & ~0xf0ffu) | (vcpus - 1) | (bits_for(vcpus) << 12);
            break;
        case 0x8000001e:
            e->eax = id;
            e->ebx = id;
            e->ecx = 0;
            break;
        default:
            break;
        }
    }
}
