/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/num.h"
#include "vmm/hw/cpu_features.h"
#include "vmm/hw/cpuid_check.h"
#include "vmm/hw/cpuid_template.h"

static const struct kvm_features plain = {0};

/* A processor that has everything, with bits that are no features too. */
static struct cpuid make(void)
{
    static const struct kvm_cpuid_entry2 more[] = {
        {.function = 0xd, .eax = 0x602e7, .ebx = 0x340, .ecx = 0x2b00},
        {.function = 0xd, .index = 2, .eax = 0x100, .ebx = 0x240},
        {.function = 0xd, .index = 5, .eax = 0x40, .ebx = 0x440},
        {.function = 0xd, .index = 6, .eax = 0x200, .ebx = 0x480},
        {.function = 0xd, .index = 7, .eax = 0x400, .ebx = 0x680},
        {.function = 0xd, .index = 18, .eax = 0x2000, .ebx = 0xb00},
    };
    struct cpuid cpuid = {
        .table =
            calloc(1, sizeof(struct kvm_cpuid2) +
                          CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2))};
    struct kvm_cpuid2 *t = cpuid.table;

    assert_non_null(t);
    memcpy(t->entries, more, sizeof(more));
    t->nent = ARRAY_SIZE(more);
    for (size_t i = 0; i < cpu_feature_word_count; i++) {
        const struct cpu_feature_word *word = &cpu_feature_words[i];

        if (cpuid_find(&cpuid, word->leaf, word->subleaf) != NULL)
            continue;
        t->entries[t->nent++] =
            (struct kvm_cpuid_entry2){.function = word->leaf,
                .index = word->subleaf,
                .eax = UINT32_MAX,
                .ebx = UINT32_MAX,
                .ecx = UINT32_MAX,
                .edx = UINT32_MAX};
    }
    cpuid_find(&cpuid, 0x80000008, 0)->eax = 0x3030;
    return cpuid;
}

static struct cpuid templated(const char *text)
{
    struct cpuid cpuid = make();
    struct err err;

    if (cpuid_template_apply(&cpuid, &plain, text, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    return cpuid;
}

static void expect(
    const char *saved_text, const char *host_text, const char *missing)
{
    struct cpuid saved = saved_text == NULL ? make() : templated(saved_text);
    struct cpuid host = host_text == NULL ? make() : templated(host_text);
    struct err err = {.text = ""};
    int rc = cpuid_check(&saved, &host, &err);

    if (missing == NULL ? rc != 0 : strstr(err.text, missing) == NULL)
        fail_msg("%d '%s', expected '%s'", rc, err.text,
            missing == NULL ? "" : missing);
    cpuid_fini(&saved);
    cpuid_fini(&host);
}

static void test_levels_are_ordered(void **state)
{
    (void)state;
    expect("x86-64-v2", NULL, NULL);
    expect("x86-64-v2", "x86-64-v3", NULL);
    expect("x86-64-v3", "x86-64-v4", NULL);
    expect("x86-64-v4", NULL, NULL);
    expect("x86-64-v2", "x86-64-v2", NULL);
    expect("x86-64-v3", "x86-64-v2", "fma, movbe, xsave, avx");
    expect("x86-64-v4", "x86-64-v3", "avx512f, avx512dq");
    expect(NULL, "x86-64-v4", "vmx");
    expect("avx2,fma", "avx2,fma", NULL);
    expect("fma", "avx2,fma", ": avx2;");
    expect("kvmclock", NULL, NULL);
    expect(NULL, "kvmclock", ": kvmclock;");
}

static void test_what_is_left(void **state)
{
    struct cpuid cpuid = templated("x86-64-v3");

    (void)state;
    /* Components x87, SSE and AVX, and an area as large as these. */
    assert_int_equal(cpuid_find(&cpuid, 0xd, 0)->eax, 7);
    assert_int_equal(cpuid_find(&cpuid, 0xd, 0)->ecx, 832);
    assert_int_equal(cpuid_find(&cpuid, 0xd, 2)->eax, 0x100);
    assert_int_equal(cpuid_find(&cpuid, 0xd, 5)->eax, 0);
    assert_int_equal(cpuid_find(&cpuid, 0xd, 18)->eax, 0);
    /* What is no feature stays, and what KVM brings. */
    assert_true((cpuid_find(&cpuid, 1, 0)->ecx >> 31 & 1) == 1);
    assert_int_equal(cpuid_find(&cpuid, 0x40000001, 0)->eax, UINT32_MAX);
    assert_true((cpuid_find(&cpuid, 7, 0)->edx >> 29 & 1) == 1);
    cpuid_fini(&cpuid);
    cpuid = templated("x86-64-v4");
    assert_int_equal(cpuid_find(&cpuid, 0xd, 0)->eax, 0xe7);
    assert_int_equal(cpuid_find(&cpuid, 0xd, 0)->ecx, 0x680 + 0x400);
    cpuid_fini(&cpuid);
    cpuid = templated("x86-64-v2");
    assert_int_equal(cpuid_find(&cpuid, 0xd, 0)->eax, 0);
    assert_int_equal(cpuid_find(&cpuid, 0xd, 0)->ecx, 0);
    assert_true((cpuid_find(&cpuid, 1, 0)->ecx >> 26 & 1) == 0);
    cpuid_fini(&cpuid);
}

static void test_check(void **state)
{
    static char longest[CPUID_TEMPLATE_MAX + 8];
    struct err err;

    (void)state;
    assert_int_equal(cpuid_template_check("x86-64-v2", &err), 0);
    assert_int_equal(cpuid_template_check("avx2", &err), 0);
    assert_int_equal(cpuid_template_check("avx2,kvmclock", &err), 0);
    assert_int_equal(cpuid_template_check("", &err), -EINVAL);
    assert_int_equal(cpuid_template_check("avx2,", &err), -EINVAL);
    assert_int_equal(cpuid_template_check(",avx2", &err), -EINVAL);
    assert_int_equal(cpuid_template_check("avx2, fma", &err), -EINVAL);
    assert_non_null(strstr(err.text, "' fma'"));
    assert_int_equal(cpuid_template_check("x86-64-v5", &err), -EINVAL);
    assert_int_equal(cpuid_template_check("x86-64-v2,fma", &err), -EINVAL);
    memset(longest, 'a', sizeof(longest) - 1);
    assert_int_equal(cpuid_template_check(longest, &err), -EINVAL);
    assert_true(cpuid_template_is_level("x86-64-v4"));
    assert_false(cpuid_template_is_level("avx2"));
}

/* Where guests see the processor itself. */
static void test_what_cannot_be_hidden(void **state)
{
    const struct kvm_features emulated = {.ring0_emulated = true};
    struct cpuid cpuid = make();
    struct err err;

    (void)state;
    assert_int_equal(
        cpuid_template_apply(&cpuid, &emulated, "kvmclock", &err), 0);
    assert_int_equal(
        cpuid_template_apply(&cpuid, &emulated, "fpu", &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "fpu cannot be hidden"));
    cpuid_fini(&cpuid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels_are_ordered),
        cmocka_unit_test(test_what_is_left),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_what_cannot_be_hidden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
