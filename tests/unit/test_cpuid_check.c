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
#include "vmm/hw/cpuid_check.h"

static const struct kvm_features none = {0};

static struct cpuid make(void)
{
    static const struct kvm_cpuid_entry2 entries[] = {
        {.function = 0,
            .ebx = 0x68747541,
            .ecx = 0x444d4163,
            .edx = 0x69746e65},
        {.function = 1, .eax = 0xa20f12, .ecx = 0x9c982203, .edx = 0x0f8bfbff},
        {.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ebx = 0x20},
        {.function = 0xd, .eax = 7, .ebx = 0x340},
        {.function = 0xd, .index = 2, .eax = 0x100, .ebx = 0x240},
        {.function = 0x40000001, .eax = 0x01000009},
        {.function = 0x80000008, .eax = 0x3030},
    };
    struct cpuid cpuid = {
        .table =
            calloc(1, sizeof(struct kvm_cpuid2) +
                          CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2))};

    assert_non_null(cpuid.table);
    cpuid.table->nent = ARRAY_SIZE(entries);
    memcpy(cpuid.table->entries, entries, sizeof(entries));
    return cpuid;
}

static void test_wire_round_trip(void **state)
{
    uint8_t bytes[CPUID_WIRE_MAX];
    struct cpuid cpuid = make();
    struct cpuid copy;
    struct bytes_writer w;
    struct bytes_reader r;
    struct err err;
    size_t size;

    (void)state;
    bytes_writer_init(&w, bytes, sizeof(bytes));
    cpuid_encode(&cpuid, &w);
    assert_false(w.failed);
    size = w.pos;
    bytes_reader_init(&r, bytes, size);
    assert_int_equal(cpuid_decode(&r, &copy, &err), 0);
    assert_int_equal(copy.table->nent, cpuid.table->nent);
    assert_memory_equal(copy.table->entries, cpuid.table->entries,
        cpuid.table->nent * sizeof(cpuid.table->entries[0]));
    cpuid_fini(&copy);
    for (size_t n = 0; n < size; n++) {
        bytes_reader_init(&r, bytes, n);
        assert_int_equal(cpuid_decode(&r, &copy, &err), -EINVAL);
    }
    cpuid_fini(&cpuid);
}

static void test_same_host_is_fine(void **state)
{
    struct cpuid saved = make();
    struct cpuid host = make();
    struct err err;

    (void)state;
    assert_int_equal(cpuid_check(&saved, &host, &err), 0);
    /* More is fine; so are another stepping, APIC id, caches. */
    cpuid_find(&host, 7, 0)->ebx |= 1u << 16;
    cpuid_find(&host, 1, 0)->eax ^= 3;
    cpuid_find(&host, 1, 0)->ebx = 0x05060708;
    cpuid_find(&host, 1, 0)->edx ^= 1u << 28;
    assert_int_equal(cpuid_check(&saved, &host, &err), 0);
    cpuid_fini(&saved);
    cpuid_fini(&host);
}

static void refused(struct cpuid *saved, struct cpuid *host, const char *word)
{
    struct err err;

    assert_int_equal(cpuid_check(saved, host, &err), -ENOTSUP);
    if (strstr(err.text, word) == NULL)
        fail_msg("no \"%s\" in: %s", word, err.text);
    cpuid_fini(saved);
    cpuid_fini(host);
}

static void test_missing_features_are_named(void **state)
{
    struct cpuid saved = make();
    struct cpuid host = make();

    (void)state;
    cpuid_find(&host, 7, 0)->ebx = 0;
    cpuid_find(&host, 1, 0)->ecx &= ~(1u << 23);
    refused(&saved, &host, "popcnt, avx2");

    saved = make();
    host = make();
    cpuid_find(&saved, 7, 0)->edx |= 1u << 12;
    refused(&saved, &host, "cpuid 0x7.0 edx bit 12");

    saved = make();
    host = make();
    cpuid_find(&host, 0x40000001, 0)->eax &= ~1u;
    refused(&saved, &host, "kvmclock");

    /* A leaf that is not there has nothing. */
    saved = make();
    host = make();
    cpuid_find(&host, 1, 0)->function = 0x12345678;
    cpuid_find(&saved, 7, 0)->ebx = UINT32_MAX;
    refused(&saved, &host, " more");
}

static void test_other_reasons(void **state)
{
    struct cpuid saved = make();
    struct cpuid host = make();

    (void)state;
    cpuid_find(&host, 0, 0)->ebx = 0x756e6547;
    refused(&saved, &host, "AuthenticAMD");

    saved = make();
    host = make();
    cpuid_find(&host, 0xd, 2)->ebx = 0x280;
    refused(&saved, &host, "XSAVE component 2 lies elsewhere");

    saved = make();
    host = make();
    cpuid_find(&host, 0xd, 0)->eax = 3;
    refused(&saved, &host, "lacks XSAVE component 2");

    saved = make();
    host = make();
    cpuid_find(&host, 0x80000008, 0)->eax = 0x3028;
    refused(&saved, &host, "40 and 48");
}

static void test_mask(void **state)
{
    const struct kvm_features emulated = {.ring0_emulated = true};
    struct cpuid cpuid = make();
    struct err err;

    (void)state;
    assert_int_equal(cpuid_mask(&cpuid, &none, "", &err), 0);
    assert_int_equal(cpuid_mask(&cpuid, &none, "avx2,popcnt,la57", &err), 0);
    assert_int_equal(cpuid_find(&cpuid, 7, 0)->ebx, 0);
    assert_int_equal(cpuid_find(&cpuid, 1, 0)->ecx & 1u << 23, 0);
    assert_int_equal(cpuid_mask(&cpuid, &none, "avx2,avx3", &err), -EINVAL);
    assert_non_null(strstr(err.text, "\"avx3\""));
    assert_int_equal(cpuid_mask(&cpuid, &emulated, "fpu", &err), -ENOTSUP);
    assert_int_equal(cpuid_mask(&cpuid, &emulated, "avx2", &err), 0);
    assert_int_equal(cpuid_mask(&cpuid, &emulated, "kvmclock", &err), 0);
    assert_int_equal(cpuid_find(&cpuid, 0x40000001, 0)->eax & 1, 0);
    cpuid_fini(&cpuid);
}

/* Where ring 0 is emulated the table has no say below the hypervisor's. */
static void test_see(void **state)
{
    const struct kvm_features emulated = {.ring0_emulated = true};
    struct cpuid cpuid = make();
    struct cpuid before = make();

    (void)state;
    cpuid_see(&cpuid, &none);
    assert_memory_equal(cpuid.table->entries, before.table->entries,
        cpuid.table->nent * sizeof(cpuid.table->entries[0]));
    cpuid_find(&cpuid, 1, 0)->edx = 0;
    cpuid_find(&cpuid, 0x40000001, 0)->eax = 0x55;
    cpuid_see(&cpuid, &emulated);
    assert_int_equal(cpuid_find(&cpuid, 1, 0)->edx & 1, 1);
    assert_int_equal(cpuid_find(&cpuid, 0x40000001, 0)->eax, 0x55);
    cpuid_fini(&cpuid);
    cpuid_fini(&before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wire_round_trip),
        cmocka_unit_test(test_same_host_is_fine),
        cmocka_unit_test(test_missing_features_are_named),
        cmocka_unit_test(test_other_reasons),
        cmocka_unit_test(test_mask),
        cmocka_unit_test(test_see),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
