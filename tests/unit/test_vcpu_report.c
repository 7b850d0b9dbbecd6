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
#include "vmm/hw/vcpu_report.h"

struct example {
    const char *name;
    uint8_t len;
    uint8_t bytes[12];
};

static const struct example examples[] = {
    {"int3", 1, {0xcc}},
    {"fwait", 1, {0x9b}},
    {"ud2", 2, {0x0f, 0x0b}},
    {"fxsave", 3, {0x0f, 0xae, 0x00}},
    {"fxsave", 4, {0x48, 0x0f, 0xae, 0x07}},
    {"fxrstor", 3, {0x0f, 0xae, 0x0f}},
    {"xsave", 4, {0x48, 0x0f, 0xae, 0x27}},
    {"xrstor", 3, {0x0f, 0xae, 0x2f}},
    {"xsaveopt", 4, {0x48, 0x0f, 0xae, 0x37}},
    {"clflush", 3, {0x0f, 0xae, 0x3f}},
    {"clflushopt", 4, {0x66, 0x0f, 0xae, 0x3f}},
    {"clwb", 4, {0x66, 0x0f, 0xae, 0x37}},
    /* The same opcodes with a register are other instructions. */
    {"lfence", 3, {0x0f, 0xae, 0xe8}},
    {"mfence", 3, {0x0f, 0xae, 0xf0}},
    {"sfence", 3, {0x0f, 0xae, 0xf8}},
    {"rdfsbase", 5, {0xf3, 0x48, 0x0f, 0xae, 0xc0}},
    {"rdgsbase", 5, {0xf3, 0x48, 0x0f, 0xae, 0xc8}},
    {"wrfsbase", 5, {0xf3, 0x48, 0x0f, 0xae, 0xd0}},
    {"wrgsbase", 5, {0xf3, 0x48, 0x0f, 0xae, 0xd8}},
    {"cmpxchg16b", 5, {0xf0, 0x48, 0x0f, 0xc7, 0x0f}},
    {"xrstors", 4, {0x48, 0x0f, 0xc7, 0x1f}},
    {"xsavec", 4, {0x48, 0x0f, 0xc7, 0x27}},
    {"xsaves", 4, {0x48, 0x0f, 0xc7, 0x2f}},
    {"rdrand", 3, {0x0f, 0xc7, 0xf0}},
    {"rdrand", 4, {0x66, 0x0f, 0xc7, 0xf0}},
    {"rdseed", 4, {0x48, 0x0f, 0xc7, 0xf8}},
    {"rdpid", 4, {0xf3, 0x0f, 0xc7, 0xf8}},
    {"popcnt", 5, {0xf3, 0x48, 0x0f, 0xb8, 0xc7}},
    /* A 66 does not take the place of the mandatory prefix. */
    {"popcnt", 5, {0x66, 0xf3, 0x0f, 0xb8, 0xc7}},
    {"popcnt", 5, {0xf3, 0x66, 0x0f, 0xb8, 0xc7}},
    {"tzcnt", 4, {0xf3, 0x0f, 0xbc, 0xc0}},
    {"lzcnt", 4, {0xf3, 0x0f, 0xbd, 0xc0}},
    {"vmcall", 3, {0x0f, 0x01, 0xc1}},
    {"vmmcall", 3, {0x0f, 0x01, 0xd9}},
    {"an AVX instruction", 4, {0xc5, 0xf8, 0x28, 0xc1}},
    {"an AVX instruction", 5, {0xc4, 0xe2, 0x79, 0x18, 0x00}},
    {"an AVX instruction", 6, {0x62, 0xf1, 0x7c, 0x48, 0x28, 0xc1}},
    {"an SSE instruction", 3, {0x0f, 0x28, 0xc1}},
    {"an SSE instruction", 4, {0x66, 0x0f, 0x6f, 0x00}},
    {"an SSE instruction", 5, {0x64, 0xf3, 0x0f, 0x6f, 0x00}},
    {"an SSE instruction", 4, {0x66, 0x0f, 0xe7, 0x00}},
};

static void expect_name(const uint8_t *bytes, size_t len, const char *name)
{
    /* In memory of its own, so that a sanitizer sees a read behind it. */
    uint8_t *copy = malloc(len + 1);

    assert_non_null(copy);
    memcpy(copy, bytes, len);
    copy = realloc(copy, len > 0 ? len : 1);
    assert_non_null(copy);
    assert_string_equal(vcpu_report_insn_name(copy, len), name);
    free(copy);
}

static void test_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(examples); i++)
        expect_name(examples[i].bytes, examples[i].len, examples[i].name);
}

static void test_prefixes_do_not_hide_the_name(void **state)
{
    static const uint8_t prefixes[] = {
        0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0x67, 0xf0};
    uint8_t bytes[20];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(examples); i++) {
        for (size_t p = 0; p < sizeof(prefixes); p++) {
            bytes[0] = prefixes[p];
            bytes[1] = prefixes[p];
            memcpy(bytes + 2, examples[i].bytes, examples[i].len);
            expect_name(bytes, examples[i].len + 2u, examples[i].name);
        }
    }
}

/* Cut anywhere before the byte that tells, it is no known instruction. */
static void test_truncated_bytes(void **state)
{
    static const uint8_t xsave[] = {0x48, 0x0f, 0xae, 0x27};
    static const uint8_t vmcall[] = {0x0f, 0x01, 0xc1};
    static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3, 0xf0, 0x48};

    (void)state;
    for (size_t len = 0; len < sizeof(xsave); len++)
        expect_name(xsave, len, "an instruction");
    for (size_t len = 0; len < sizeof(vmcall); len++)
        expect_name(vmcall, len, "an instruction");
    for (size_t len = 0; len <= sizeof(prefixes); len++)
        expect_name(prefixes, len, "an instruction");
}

static void test_what_has_no_name(void **state)
{
    static const struct example others[] = {
        {"", 1, {0x90}}, {"", 2, {0x0f, 0xa2}}, /* cpuid */
        {"", 3, {0x0f, 0xb8, 0xc7}},            /* popcnt without its prefix */
        {"", 4, {0xf2, 0x0f, 0xbc, 0xc0}},      /* tzcnt with another one */
        {"", 4, {0xf3, 0x0f, 0xae, 0x20}},      /* ptwrite */
        {"", 3, {0x0f, 0xae, 0xc0}}, {"", 3, {0x0f, 0xc7, 0x37}}, /* vmptrld */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        expect_name(others[i].bytes, others[i].len, "an instruction");
}

struct fixture {
    struct kvm kvm;
    struct vcpu vcpu;
    struct kvm_run run;
    struct vcpu_stop stop;
};

/* A vCPU without KVM behind it: its registers read as zero. */
static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    if (f == NULL)
        return -1;
    f->kvm.fd = -1;
    f->vcpu = (struct vcpu){.fd = -1, .id = 3, .run = &f->run, .kvm = &f->kvm};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static void expect_stop(
    struct fixture *f, enum vcpu_stop_kind kind, const char *text)
{
    memset(&f->stop, 0xa5, sizeof(f->stop));
    vcpu_report_exit(&f->vcpu, &f->stop);
    assert_int_equal(f->stop.kind, kind);
    assert_int_equal(f->stop.vcpu, 3);
    assert_int_equal(f->stop.rip, 0);
    assert_string_equal(f->stop.text, text);
}

static void test_emulation_failure(void **state)
{
    static const uint8_t bytes[15] = {0x64, 0x48, 0x0f, 0xae, 0x24, 0x25};
    struct fixture *f = *state;

    f->run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
    f->run.emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
    expect_stop(f, VCPU_STOP_EMULATION,
        "KVM cannot emulate an instruction at rip 0x0 (bytes unknown)");
    f->run.emulation_failure.ndata = 3;
    f->run.emulation_failure.flags =
        KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
    f->run.emulation_failure.insn_size = 6;
    memcpy(f->run.emulation_failure.insn_bytes, bytes, sizeof(bytes));
    expect_stop(f, VCPU_STOP_EMULATION,
        "KVM cannot emulate xsave at rip 0x0 (bytes 64 48 0f ae 24 25)");
}

/* The longest of them still ends in its cure. */
static void test_emulation_failure_with_a_cure(void **state)
{
    struct fixture *f = *state;

    f->kvm.features.ring0_emulated = true;
    f->run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
    f->run.emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
    f->run.emulation_failure.ndata = 3;
    f->run.emulation_failure.flags =
        KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
    f->run.emulation_failure.insn_size = 255; /* of which 15 are there */
    memset(f->run.emulation_failure.insn_bytes, 0xc5, 15);
    expect_stop(f, VCPU_STOP_EMULATION,
        "KVM cannot emulate an AVX instruction at rip 0x0 (bytes c5 c5 c5 c5 "
        "c5 c5 c5 c5 c5 c5 c5 c5 c5 c5 c5); this host's KVM interprets guest "
        "kernels and lacks it: use spore's guest kernel, or a host with VMX "
        "or SVM");
    /* With room for an address of 16 digits in the place of one. */
    assert_true(strlen(f->stop.text) + 15 < sizeof(f->stop.text));
}

static void test_other_exits(void **state)
{
    struct fixture *f = *state;

    f->run.exit_reason = KVM_EXIT_SHUTDOWN;
    expect_stop(f, VCPU_STOP_TRIPLE_FAULT,
        "the guest triple-faulted: vCPU 3, rip 0x0, rsp 0x0, cr2 0x0, "
        "cr3 0x0");
    f->run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
    f->run.internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
    expect_stop(
        f, VCPU_STOP_OTHER, "KVM internal error 3 at rip 0x0 on vCPU 3");
    f->run.exit_reason = KVM_EXIT_FAIL_ENTRY;
    f->run.fail_entry.hardware_entry_failure_reason = 0x80000021;
    expect_stop(f, VCPU_STOP_BAD_ENTRY,
        "the processor refused the guest's state: hardware reason "
        "0x80000021, rip 0x0 on vCPU 3");
    f->run.exit_reason = KVM_EXIT_HYPERCALL;
    expect_stop(
        f, VCPU_STOP_OTHER, "unexpected KVM exit 3 at rip 0x0 on vCPU 3");
}

static void test_host_errors(void **state)
{
    struct fixture *f = *state;

    vcpu_report_host_error(&f->vcpu, EFAULT, &f->stop);
    assert_int_equal(f->stop.kind, VCPU_STOP_HOST);
    assert_int_equal(f->stop.vcpu, 3);
    assert_string_equal(
        f->stop.text, "KVM_RUN failed on vCPU 3 at rip 0x0: Bad address");
    vcpu_report_host_error(&f->vcpu, 524, &f->stop);
    assert_string_equal(
        f->stop.text, "KVM_RUN failed on vCPU 3 at rip 0x0: error 524");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_prefixes_do_not_hide_the_name),
        cmocka_unit_test(test_truncated_bytes),
        cmocka_unit_test(test_what_has_no_name),
        cmocka_unit_test_setup_teardown(
            test_emulation_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_emulation_failure_with_a_cure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_exits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_host_errors, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
