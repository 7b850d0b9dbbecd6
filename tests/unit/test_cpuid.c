/* SPDX-License-Identifier: Apache-2.0 */
/* The table that guests see, on one made by hand: no /dev/kvm is asked. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <asm/kvm_para.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/num.h"
#include "vmm/hw/cpuid.h"

#define HYPERVISOR   (1u << 31) /* leaf 1, ECX */
#define TSC_DEADLINE (1u << 24)
#define HTT          (1u << 28) /* leaf 1, EDX */

/* Leaf 4 and 8000001DH, EAX: cache type and level, and what is replaced. */
#define CACHE(type, level) ((type) | (level) << 5 | 0xffffc000u)

static const struct kvm_cpuid_entry2 template[] = {
    {.function = 0, .eax = 0x1f},
    {.function = 1,
        .eax = 0x806f8,
        .ebx = 0xaabb0833,
        .ecx = 0x00000201,
        .edx = 0x0f8bfbff},
    {.function = 4, .index = 0, .eax = CACHE(1u, 1u), .ebx = 0x2c0003f},
    {.function = 4, .index = 1, .eax = CACHE(2u, 1u)},
    {.function = 4, .index = 2, .eax = CACHE(3u, 2u)},
    {.function = 4, .index = 3, .eax = CACHE(3u, 3u)},
    {.function = 4, .index = 4, .eax = 0},
    {.function = 0xb, .index = 0, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 77},
    {.function = 0xb, .index = 1, .eax = 7, .ebx = 99, .ecx = 0x201, .edx = 7},
    {.function = 0x1f, .index = 0, .eax = 1, .ebx = 2, .ecx = 0x100},
    {.function = 0x1f, .index = 1, .eax = 7, .ebx = 99, .ecx = 0x201},
    {.function = 0x1f, .index = 2, .eax = 9, .ebx = 99, .ecx = 0x302},
    {.function = KVM_CPUID_FEATURES, .eax = 0xffffffff, .edx = 0x1},
    {.function = 0x80000002, .eax = 1, .edx = 2},
    {.function = 0x80000004, .eax = 1, .ecx = 2, .edx = 3},
    {.function = 0x80000008, .eax = 0x3039, .ecx = 0xffffffff},
    {.function = 0x8000001d, .index = 0, .eax = CACHE(1u, 1u)},
    {.function = 0x8000001d, .index = 3, .eax = CACHE(3u, 3u)},
    {.function = 0x8000001d, .index = 4, .eax = 0},
    {.function = 0x8000001e, .eax = 99, .ebx = 99, .ecx = 99},
};

static int setup(void **state)
{
    struct cpuid *cpuid = malloc(sizeof(*cpuid));

    if (cpuid == NULL)
        return -1;
    cpuid->table =
        calloc(1, sizeof(struct kvm_cpuid2) +
                      CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2));
    if (cpuid->table == NULL)
        return -1;
    cpuid->table->nent = ARRAY_SIZE(template);
    memcpy(cpuid->table->entries, template, sizeof(template));
    *state = cpuid;
    return 0;
}

static int teardown(void **state)
{
    struct cpuid *cpuid = *state;

    cpuid_fini(cpuid);
    cpuid_fini(cpuid);
    free(cpuid);
    return 0;
}

static struct kvm_cpuid_entry2 get(
    struct cpuid *cpuid, uint32_t leaf, uint32_t subleaf)
{
    struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, leaf, subleaf);

    assert_non_null(e);
    return e != NULL ? *e : (struct kvm_cpuid_entry2){0};
}

static void test_find(void **state)
{
    struct cpuid *cpuid = *state;

    assert_int_equal(get(cpuid, 4, 3).index, 3);
    assert_int_equal(get(cpuid, 0x8000001e, 0).function, 0x8000001e);
    assert_null(cpuid_find(cpuid, 4, 5));
    assert_null(cpuid_find(cpuid, 2, 0));
}

static void test_features_on_hardware(void **state)
{
    struct cpuid *cpuid = *state;
    struct kvm_features features = {.tsc_deadline = true};

    cpuid_filter(cpuid, &features);
    assert_int_equal(
        get(cpuid, 1, 0).ecx, 0x00000201 | HYPERVISOR | TSC_DEADLINE);
    assert_int_equal(get(cpuid, KVM_CPUID_FEATURES, 0).eax, 0xffffffff);
}

/* What a guest would use through a hypercall is not offered. */
static void test_features_where_ring0_is_emulated(void **state)
{
    static const unsigned int calls[] = {KVM_FEATURE_PV_UNHALT,
        KVM_FEATURE_PV_SEND_IPI, KVM_FEATURE_PV_SCHED_YIELD,
        KVM_FEATURE_HC_MAP_GPA_RANGE, KVM_FEATURE_MIGRATION_CONTROL,
        KVM_FEATURE_MMU_OP, KVM_FEATURE_ASYNC_PF, KVM_FEATURE_PV_TLB_FLUSH};
    static const unsigned int kept[] = {KVM_FEATURE_CLOCKSOURCE,
        KVM_FEATURE_CLOCKSOURCE2, KVM_FEATURE_CLOCKSOURCE_STABLE_BIT};
    struct cpuid *cpuid = *state;
    struct kvm_features features = {.ring0_emulated = true};
    uint32_t eax;

    cpuid_filter(cpuid, &features);
    assert_int_equal(get(cpuid, 1, 0).ecx, 0x00000201 | HYPERVISOR);
    eax = get(cpuid, KVM_CPUID_FEATURES, 0).eax;
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        assert_int_equal(eax >> calls[i] & 1, 0);
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
        assert_int_equal(eax >> kept[i] & 1, 1);
    assert_int_equal(get(cpuid, KVM_CPUID_FEATURES, 0).edx, 1);
}

/* A KVM that gives the first topology subleaf only. */
static void test_topology_is_completed(void **state)
{
    struct cpuid *cpuid = *state;
    struct kvm_features features = {0};

    cpuid->table->nent = 2;
    cpuid->table->entries[0] = (struct kvm_cpuid_entry2){
        .function = 0xb, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
    cpuid->table->entries[1] = (struct kvm_cpuid_entry2){.function = 1};
    cpuid_filter(cpuid, &features);
    assert_int_equal(cpuid->table->nent, 4);
    assert_null(cpuid_find(cpuid, 0x1f, 0));
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(
            get(cpuid, 0xb, i).flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
    cpuid_set_identity(cpuid, 2, 4);
    assert_int_equal(get(cpuid, 0xb, 0).ebx, 1);
    assert_int_equal(get(cpuid, 0xb, 1).eax, 2);
    assert_int_equal(get(cpuid, 0xb, 1).ebx, 4);
    assert_int_equal(get(cpuid, 0xb, 2).ecx, 2);
    /* Once is enough. */
    cpuid_filter(cpuid, &features);
    assert_int_equal(cpuid->table->nent, 4);
}

static void test_topology_of_a_full_table(void **state)
{
    struct cpuid *cpuid = *state;
    struct kvm_features features = {0};

    for (uint32_t i = 0; i < CPUID_ENTRIES_MAX; i++)
        cpuid->table->entries[i] =
            (struct kvm_cpuid_entry2){.function = 0x40001000 + i};
    cpuid->table->entries[0] = (struct kvm_cpuid_entry2){.function = 0xb};
    cpuid->table->nent = CPUID_ENTRIES_MAX - 1;
    cpuid_filter(cpuid, &features);
    assert_int_equal(cpuid->table->nent, CPUID_ENTRIES_MAX);
    assert_non_null(cpuid_find(cpuid, 0xb, 1));
    assert_null(cpuid_find(cpuid, 0xb, 2));
}

static void expect_topology(struct cpuid *cpuid, uint32_t leaf, uint32_t id,
    uint32_t vcpus, uint32_t id_bits)
{
    struct kvm_cpuid_entry2 smt = get(cpuid, leaf, 0);
    struct kvm_cpuid_entry2 core = get(cpuid, leaf, 1);

    assert_int_equal(smt.eax, 0);
    assert_int_equal(smt.ebx, 1);
    assert_int_equal(smt.ecx, 0x100);
    assert_int_equal(smt.edx, id);
    assert_int_equal(core.eax, id_bits);
    assert_int_equal(core.ebx, vcpus);
    assert_int_equal(core.ecx, 0x201);
    assert_int_equal(core.edx, id);
}

static void expect_caches(struct cpuid *cpuid, uint32_t vcpus)
{
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t shared = i == 3 ? vcpus - 1 : 0;
        struct kvm_cpuid_entry2 e = get(cpuid, 4, i);

        assert_int_equal(e.eax & 0x3fff, template[2 + i].eax & 0x3fff);
        assert_int_equal(e.eax >> 14 & 0xfff, shared);
        assert_int_equal(e.eax >> 26, vcpus - 1);
        assert_int_equal(e.ebx, template[2 + i].ebx);
    }
    assert_int_equal(get(cpuid, 4, 4).eax, 0);
    assert_int_equal(get(cpuid, 0x8000001d, 0).eax, CACHE(1u, 1u) & 0x3fff);
    assert_int_equal(get(cpuid, 0x8000001d, 3).eax,
        (CACHE(3u, 3u) & 0x3fff) | (vcpus - 1) << 14);
    assert_int_equal(get(cpuid, 0x8000001d, 4).eax, 0);
}

static void test_identity(void **state)
{
    static const struct {
        uint32_t vcpus;
        uint32_t id_bits;
    } machines[] = {{1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {32, 5}};
    struct cpuid *cpuid = *state;

    /* One table serves vCPU after vCPU, so nothing may stick to it. */
    for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
        uint32_t vcpus = machines[i].vcpus;

        for (uint32_t id = 0; id < vcpus; id++) {
            struct kvm_cpuid_entry2 e;

            cpuid_set_identity(cpuid, id, vcpus);
            e = get(cpuid, 1, 0);
            assert_int_equal(e.eax, 0x806f8);
            assert_int_equal(e.ebx, 0x0833 | vcpus << 16 | id << 24);
            assert_int_equal(e.ecx, 0x00000201);
            assert_int_equal(
                e.edx, (0x0f8bfbff & ~HTT) | (vcpus > 1 ? HTT : 0));
            expect_caches(cpuid, vcpus);
            expect_topology(cpuid, 0xb, id, vcpus, machines[i].id_bits);
            expect_topology(cpuid, 0x1f, id, vcpus, machines[i].id_bits);
            e = get(cpuid, 0x1f, 2);
            assert_int_equal(e.eax | e.ebx, 0);
            assert_int_equal(e.ecx, 2);
            assert_int_equal(e.edx, id);
            e = get(cpuid, 0x80000008, 0);
            assert_int_equal(e.eax, 0x3039);
            assert_int_equal(e.ecx & 0xff, vcpus - 1);
            assert_int_equal(e.ecx >> 12 & 0xf, machines[i].id_bits);
            assert_int_equal(e.ecx & ~0xf0ffu, 0xffff0f00);
            e = get(cpuid, 0x8000001e, 0);
            assert_int_equal(e.eax, id);
            assert_int_equal(e.ebx, id);
            assert_int_equal(e.ecx, 0);
            assert_int_equal(get(cpuid, 0, 0).eax, 0x1f);
        }
    }
    assert_int_equal(cpuid->table->nent, ARRAY_SIZE(template));
}

static void test_brand(void **state)
{
    const char *brand = "0123456789abcdefghijklmnopqrstuvNYX vCPU (NO-PT)";
    struct cpuid *cpuid = *state;
    struct kvm_cpuid_entry2 *e;

    assert_int_equal(strlen(brand), CPUID_BRAND_BYTES);
    cpuid_set_brand(cpuid, brand);
    e = cpuid_find(cpuid, 0x80000002, 0);
    assert_int_equal(e->eax, 0x33323130);
    assert_int_equal(e->edx, 0x66656463);
    assert_null(cpuid_find(cpuid, 0x80000003, 0));
    e = cpuid_find(cpuid, 0x80000004, 0);
    assert_int_equal(e->eax, 0x2058594e); /* "NYX " */
    assert_int_equal(e->ebx, 0x55504376);
    assert_int_equal(e->ecx, 0x4f4e2820);
    assert_int_equal(e->edx, 0x2954502d); /* "-PT)" */
    cpuid_set_brand(cpuid, "short");
    assert_int_equal(e->eax, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_find, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_features_on_hardware, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_features_where_ring0_is_emulated, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_topology_is_completed, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_topology_of_a_full_table, setup, teardown),
        cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
        cmocka_unit_test_setup_teardown(test_brand, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
