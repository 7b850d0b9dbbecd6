/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "vmm/hw/cpu_modifiers.h"

/* Two entries: leaf 1, and leaf 7, subleaf 1. */
static int set_up(void **state)
{
    struct cpuid *cpuid = calloc(1, sizeof(*cpuid));

    assert_non_null(cpuid);
    cpuid->table = calloc(
        1, sizeof(struct kvm_cpuid2) + 2 * sizeof(struct kvm_cpuid_entry2));
    assert_non_null(cpuid->table);
    cpuid->table->nent = 2;
    cpuid->table->entries[0] = (struct kvm_cpuid_entry2){.function = 1,
        .eax = 0xffff0000,
        .ebx = 0x12345678,
        .ecx = 0xffffffff,
        .edx = 0};
    cpuid->table->entries[1] =
        (struct kvm_cpuid_entry2){.function = 7, .index = 1, .edx = 0xf0};
    *state = cpuid;
    return 0;
}

static int tear_down(void **state)
{
    struct cpuid *cpuid = *state;

    cpuid_fini(cpuid);
    free(cpuid);
    return 0;
}

static struct cpu_modifiers *make(
    const struct cpu_cpuid_modifier *m, uint32_t count)
{
    struct cpu_modifiers *mods = calloc(1, sizeof(*mods));

    assert_non_null(mods);
    for (uint32_t i = 0; i < count; i++)
        mods->cpuid[i] = m[i];
    mods->cpuid_count = count;
    return mods;
}

static void changes_the_bits_it_names(void **state)
{
    static const struct cpu_cpuid_modifier m[] = {
        {.leaf = 1, .reg = CPU_EAX, .filter = 0x00ff00ff, .value = 0x00120034},
        {.leaf = 1, .reg = CPU_ECX, .filter = 1u << 31, .value = 0},
        {.leaf = 1, .reg = CPU_EDX, .filter = 0, .value = 0},
        {.leaf = 7,
            .subleaf = 1,
            .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            .reg = CPU_EDX,
            .filter = 0xff,
            .value = 0x0f},
        {.leaf = 7,
            .subleaf = 1,
            .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            .reg = CPU_EBX,
            .filter = UINT32_MAX,
            .value = 7},
    };
    struct cpuid *cpuid = *state;
    struct cpu_modifiers *mods = make(m, 5);
    const struct kvm_cpuid_entry2 *e = cpuid->table->entries;

    assert_int_equal(cpu_modifiers_apply_cpuid(mods, cpuid, NULL), 0);
    assert_int_equal(e[0].eax, 0xff120034);
    assert_int_equal(e[0].ebx, 0x12345678);
    assert_int_equal(e[0].ecx, 0x7fffffff);
    assert_int_equal(e[0].edx, 0);
    assert_int_equal(e[1].edx, 0x0f);
    assert_int_equal(e[1].ebx, 7);
    assert_int_equal(e[1].flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
    free(mods);
}

static void refuses_what_is_not_there(void **state)
{
    static const struct cpu_cpuid_modifier m[] = {
        {.leaf = 7, .subleaf = 0x1f, .reg = CPU_EAX, .filter = 1, .value = 1}};
    struct cpu_modifiers *mods = make(m, 1);
    struct err err;

    assert_int_equal(cpu_modifiers_apply_cpuid(mods, *state, &err), -ENOTSUP);
    assert_string_equal(err.text,
        "Template changes a CPUID entry not supported by KVM: Leaf: 7, "
        "Subleaf: 1f");
    free(mods);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(changes_the_bits_it_names),
        TEST(refuses_what_is_not_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
