/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/vcpu_debug.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "vmm/base/num.h"

#define DR7_FIXED        UINT64_C(0x400)
#define DR7_EXACT        UINT64_C(0x300) /* LE and GE */
#define DR7_GLOBAL(n)    (UINT64_C(2) << (2 * (n)))
#define DR7_KIND(n, k)   ((uint64_t)(k) << (16 + 4 * (n)))
#define DR7_LENGTH(n, l) ((uint64_t)(l) << (18 + 4 * (n)))

/* LEN of DR7; false if there is none. */
static bool encode_length(
    const struct vcpu_debug_break *b, uint64_t *ret_length)
{
    switch (b->length) {
    case 1:
        *ret_length = 0;
        return true;
    case 2:
        *ret_length = 1;
        break;
    case 4:
        *ret_length = 3;
        break;
    case 8:
        *ret_length = 2;
        break;
    default:
        return false;
    }
    return b->kind != VCPU_DEBUG_EXECUTE && b->address % b->length == 0;
}

int vcpu_debug_set(
    struct vcpu *vcpu, const struct vcpu_debug *debug, struct err *err)
{
    struct kvm_guest_debug to = {0};
    uint64_t dr7 = DR7_FIXED | DR7_EXACT;

    if (debug->count > VCPU_DEBUG_BREAKS)
        return err_set(err, EINVAL, "a processor has %u breakpoints, not %u",
            VCPU_DEBUG_BREAKS, debug->count);
    for (uint32_t i = 0; i < debug->count; i++) {
        const struct vcpu_debug_break *b = &debug->breaks[i];
        uint64_t length;

        if (!encode_length(b, &length))
            return err_set(err, EINVAL,
                "a processor cannot watch %u bytes at 0x%llx", b->length,
                (unsigned long long)b->address);
        to.arch.debugreg[i] = b->address;
        dr7 |= DR7_GLOBAL(i) | DR7_KIND(i, b->kind) | DR7_LENGTH(i, length);
    }
    if (debug->step || debug->count > 0)
        to.control |= KVM_GUESTDBG_ENABLE;
    if (debug->step)
        to.control |= KVM_GUESTDBG_SINGLESTEP;
    if (debug->count > 0) {
        to.control |= KVM_GUESTDBG_USE_HW_BP;
        to.arch.debugreg[7] = dr7;
    }
    if (ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &to) == 0)
        return 0;
    if (errno == ENOTTY)
        return err_set(err, ENOTSUP,
            "this host's KVM cannot debug guests (KVM_SET_GUEST_DEBUG)");
    return err_sys(err, errno, "KVM_SET_GUEST_DEBUG");
}

enum vcpu_debug_step vcpu_debug_step(
    struct vcpu *vcpu, struct vcpu_stop *ret_stop, uint64_t *ret_dr6)
{
    switch (vcpu_step(vcpu, ret_stop)) {
    case VCPU_STEP_EXIT:
        return VCPU_DEBUG_EXIT;
    case VCPU_STEP_INTERRUPTED:
        return VCPU_DEBUG_INTERRUPTED;
    case VCPU_STEP_STOPPED:
    default:
        break;
    }
    /* To vcpu_step it is an exit that spore has no answer to. */
    if (ret_stop->kind != VCPU_STOP_OTHER ||
        vcpu->run->exit_reason != KVM_EXIT_DEBUG)
        return VCPU_DEBUG_STOPPED;
    *ret_dr6 = vcpu->run->debug.arch.dr6;
    return VCPU_DEBUG_HIT;
}
