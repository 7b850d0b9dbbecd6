/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/vcpu_report.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/base/num.h"

#define INSN_BYTES_MAX 15

enum operand {
    ANY,
    MEMORY,   /* ModRM.mod below 3 */
    REGISTER, /* ModRM.mod 3 */
};

/*
 * What guest ring-0 code meets on a host whose KVM interprets it. `reg` is
 * the reg field of the ModRM byte that tells members of a group apart, or -1;
 * `prefix` a mandatory 66, f2 or f3, or 0. Members of a group are told apart
 * by all of these, so there 0 means that none of the prefixes is there.
 */
struct insn {
    uint8_t prefix;
    uint8_t opcode_len;
    uint8_t opcode[2];
    int8_t reg;
    enum operand operand;
    const char *name;
};

static const struct insn insns[] = {
    {0, 1, {0xcc}, -1, ANY, "int3"},
    {0, 1, {0x9b}, -1, ANY, "fwait"},
    {0, 2, {0x0f, 0xae}, 0, MEMORY, "fxsave"},
    {0, 2, {0x0f, 0xae}, 1, MEMORY, "fxrstor"},
    {0, 2, {0x0f, 0xae}, 4, MEMORY, "xsave"},
    {0, 2, {0x0f, 0xae}, 5, MEMORY, "xrstor"},
    {0, 2, {0x0f, 0xae}, 5, REGISTER, "lfence"},
    {0, 2, {0x0f, 0xae}, 6, MEMORY, "xsaveopt"},
    {0, 2, {0x0f, 0xae}, 6, REGISTER, "mfence"},
    {0, 2, {0x0f, 0xae}, 7, MEMORY, "clflush"},
    {0, 2, {0x0f, 0xae}, 7, REGISTER, "sfence"},
    {0x66, 2, {0x0f, 0xae}, 6, MEMORY, "clwb"},
    {0x66, 2, {0x0f, 0xae}, 7, MEMORY, "clflushopt"},
    {0xf3, 2, {0x0f, 0xae}, 0, REGISTER, "rdfsbase"},
    {0xf3, 2, {0x0f, 0xae}, 1, REGISTER, "rdgsbase"},
    {0xf3, 2, {0x0f, 0xae}, 2, REGISTER, "wrfsbase"},
    {0xf3, 2, {0x0f, 0xae}, 3, REGISTER, "wrgsbase"},
    {0, 2, {0x0f, 0xc7}, 1, MEMORY, "cmpxchg16b"},
    {0, 2, {0x0f, 0xc7}, 3, MEMORY, "xrstors"},
    {0, 2, {0x0f, 0xc7}, 4, MEMORY, "xsavec"},
    {0, 2, {0x0f, 0xc7}, 5, MEMORY, "xsaves"},
    {0, 2, {0x0f, 0xc7}, 6, REGISTER, "rdrand"},
    {0x66, 2, {0x0f, 0xc7}, 6, REGISTER, "rdrand"},
    {0, 2, {0x0f, 0xc7}, 7, REGISTER, "rdseed"},
    {0x66, 2, {0x0f, 0xc7}, 7, REGISTER, "rdseed"},
    {0xf3, 2, {0x0f, 0xc7}, 7, REGISTER, "rdpid"},
    {0xf3, 2, {0x0f, 0xb8}, -1, ANY, "popcnt"},
    {0xf3, 2, {0x0f, 0xbc}, -1, ANY, "tzcnt"},
    {0xf3, 2, {0x0f, 0xbd}, -1, ANY, "lzcnt"},
    {0, 2, {0x0f, 0x0b}, -1, ANY, "ud2"},
};

static bool is_sse_opcode(uint8_t second)
{
    return (second >= 0x10 && second <= 0x17) ||
           (second >= 0x28 && second <= 0x2f) ||
           (second >= 0x50 && second <= 0x7f) || second == 0xd6 ||
           second == 0xe7 || second == 0xef;
}

/*
 * Steps over legacy and REX prefixes. *ret_mandatory: the last of f2 and f3,
 * which go before a 66 wherever that stands.
 */
static size_t skip_prefixes(
    const uint8_t *bytes, size_t len, uint8_t *ret_mandatory)
{
    size_t i = 0;

    *ret_mandatory = 0;
    while (i < len) {
        switch (bytes[i]) {
        case 0x66:
            if (*ret_mandatory == 0)
                *ret_mandatory = bytes[i];
            break;
        case 0xf2:
        case 0xf3:
            *ret_mandatory = bytes[i];
            break;
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x26:
        case 0x64:
        case 0x65:
        case 0x67:
        case 0xf0:
            break;
        default:
            /* REX is the last prefix before the opcode. */
            return (bytes[i] & 0xf0) == 0x40 ? i + 1 : i;
        }
        i++;
    }
    return i;
}

/* Whether the `left` bytes from the opcode on are this instruction. */
static bool is_insn(
    const struct insn *insn, const uint8_t *op, size_t left, uint8_t mandatory)
{
    size_t n = insn->opcode_len;
    bool is_register;

    if (left < n || memcmp(op, insn->opcode, n) != 0)
        return false;
    if (insn->reg < 0)
        return insn->prefix == 0 || insn->prefix == mandatory;
    if (left == n || insn->prefix != mandatory || (op[n] >> 3 & 7) != insn->reg)
        return false;
    is_register = op[n] >> 6 == 3;
    return insn->operand == ANY || is_register == (insn->operand == REGISTER);
}

const char *vcpu_report_insn_name(const uint8_t *bytes, size_t len)
{
    uint8_t mandatory;
    size_t at = skip_prefixes(bytes, len, &mandatory);
    const uint8_t *op = bytes + at;
    size_t left = len - at;

    for (size_t i = 0; i < ARRAY_SIZE(insns); i++) {
        if (is_insn(&insns[i], op, left, mandatory))
            return insns[i].name;
    }
    if (left >= 3 && op[0] == 0x0f && op[1] == 0x01 && op[2] == 0xc1)
        return "vmcall";
    if (left >= 3 && op[0] == 0x0f && op[1] == 0x01 && op[2] == 0xd9)
        return "vmmcall";
    if (left >= 1 && (op[0] == 0xc4 || op[0] == 0xc5 || op[0] == 0x62))
        return "an AVX instruction";
    if (left >= 2 && op[0] == 0x0f && is_sse_opcode(op[1]))
        return "an SSE instruction";
    return "an instruction";
}

static void fill_regs(
    struct vcpu *vcpu, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
    if (ioctl(vcpu->fd, KVM_GET_REGS, regs) < 0)
        *regs = (struct kvm_regs){0};
    if (ioctl(vcpu->fd, KVM_GET_SREGS, sregs) < 0)
        *sregs = (struct kvm_sregs){0};
}

static void report_emulation(struct vcpu *vcpu, struct vcpu_stop *stop)
{
    struct kvm_run *run = vcpu->run;
    char hex[INSN_BYTES_MAX * 3 + 1] = "";
    uint8_t bytes[INSN_BYTES_MAX] = {0};
    size_t len = 0;
    const char *cure = "";

    if (run->internal.ndata >= 1 &&
        (run->emulation_failure.flags &
            KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0) {
        len = num_min(run->emulation_failure.insn_size, sizeof(bytes));
        memcpy(bytes, run->emulation_failure.insn_bytes, len);
    }
    for (size_t i = 0; i < len; i++)
        (void)snprintf(hex + 3 * i, sizeof(hex) - 3 * i, " %02x", bytes[i]);
    if (vcpu->kvm->features.ring0_emulated)
        cure = "; this host's KVM interprets guest kernels and lacks it: use "
               "spore's guest kernel, or a host with VMX or SVM";
    stop->kind = VCPU_STOP_EMULATION;
    (void)snprintf(stop->text, sizeof(stop->text),
        "KVM cannot emulate %s at rip 0x%llx (bytes%s)%s",
        vcpu_report_insn_name(bytes, len), (unsigned long long)stop->rip,
        len == 0 ? " unknown" : hex, cure);
}

void vcpu_report_exit(struct vcpu *vcpu, struct vcpu_stop *ret_stop)
{
    struct vcpu_stop *stop = ret_stop;
    struct kvm_run *run = vcpu->run;
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    unsigned long long rip;

    fill_regs(vcpu, &regs, &sregs);
    stop->vcpu = vcpu->id;
    stop->rip = regs.rip;
    rip = regs.rip;
    switch (run->exit_reason) {
    case KVM_EXIT_SHUTDOWN:
        stop->kind = VCPU_STOP_TRIPLE_FAULT;
        (void)snprintf(stop->text, sizeof(stop->text),
            "the guest triple-faulted: vCPU %u, rip 0x%llx, rsp 0x%llx, "
            "cr2 0x%llx, cr3 0x%llx",
            vcpu->id, rip, (unsigned long long)regs.rsp,
            (unsigned long long)sregs.cr2, (unsigned long long)sregs.cr3);
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
            report_emulation(vcpu, stop);
            break;
        }
        stop->kind = VCPU_STOP_OTHER;
        (void)snprintf(stop->text, sizeof(stop->text),
            "KVM internal error %u at rip 0x%llx on vCPU %u",
            run->internal.suberror, rip, vcpu->id);
        break;
    case KVM_EXIT_FAIL_ENTRY:
        stop->kind = VCPU_STOP_BAD_ENTRY;
        (void)snprintf(stop->text, sizeof(stop->text),
            "the processor refused the guest's state: hardware reason 0x%llx, "
            "rip 0x%llx on vCPU %u",
            (unsigned long long)run->fail_entry.hardware_entry_failure_reason,
            rip, vcpu->id);
        break;
    case KVM_EXIT_DIRTY_RING_FULL:
        stop->kind = VCPU_STOP_OTHER;
        (void)snprintf(stop->text, sizeof(stop->text),
            "the dirty ring of vCPU %u overflowed: use the bitmap, or larger "
            "rings",
            vcpu->id);
        break;
    default:
        stop->kind = VCPU_STOP_OTHER;
        (void)snprintf(stop->text, sizeof(stop->text),
            "unexpected KVM exit %u at rip 0x%llx on vCPU %u", run->exit_reason,
            rip, vcpu->id);
        break;
    }
}

void vcpu_report_host_error(
    struct vcpu *vcpu, int code, struct vcpu_stop *ret_stop)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct err err;

    fill_regs(vcpu, &regs, &sregs);
    ret_stop->kind = VCPU_STOP_HOST;
    ret_stop->vcpu = vcpu->id;
    ret_stop->rip = regs.rip;
    (void)err_sys(&err, code, "KVM_RUN failed on vCPU %u at rip 0x%llx",
        vcpu->id, (unsigned long long)regs.rip);
    (void)snprintf(ret_stop->text, sizeof(ret_stop->text), "%.*s",
        (int)sizeof(ret_stop->text) - 1, err.text);
}
