/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/vcpu_sregs.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

/* The two are the same up to and with apic_base. */
_Static_assert(offsetof(struct kvm_sregs, interrupt_bitmap) ==
                   offsetof(struct kvm_sregs2, flags),
    "kvm_sregs2 begins as kvm_sregs does");
_Static_assert(offsetof(struct kvm_sregs, apic_base) ==
                   offsetof(struct kvm_sregs2, apic_base),
    "kvm_sregs2 begins as kvm_sregs does");

struct kvm_sregs2 vcpu_sregs_widen(const struct kvm_sregs *sregs)
{
    struct kvm_sregs2 wide = {0};

    memcpy(&wide, sregs, offsetof(struct kvm_sregs2, flags));
    return wide;
}

struct kvm_sregs vcpu_sregs_narrow(const struct kvm_sregs2 *sregs)
{
    struct kvm_sregs narrow = {0};

    memcpy(&narrow, sregs, offsetof(struct kvm_sregs2, flags));
    return narrow;
}

int vcpu_sregs_get(struct vcpu *vcpu, struct kvm_sregs2 *ret_sregs)
{
    struct kvm_sregs2 wide = {0};
    struct kvm_sregs narrow;

    if (kvm_extension(vcpu->kvm, KVM_CAP_SREGS2) != 0) {
        if (ioctl(vcpu->fd, KVM_GET_SREGS2, &wide) < 0)
            return -errno;
        *ret_sregs = wide;
        return 0;
    }
    if (ioctl(vcpu->fd, KVM_GET_SREGS, &narrow) < 0)
        return -errno;
    *ret_sregs = vcpu_sregs_widen(&narrow);
    return 0;
}

int vcpu_sregs_set(struct vcpu *vcpu, const struct kvm_sregs2 *sregs)
{
    struct kvm_sregs narrow;

    if (kvm_extension(vcpu->kvm, KVM_CAP_SREGS2) != 0)
        return ioctl(vcpu->fd, KVM_SET_SREGS2, sregs) < 0 ? -errno : 0;
    narrow = vcpu_sregs_narrow(sregs);
    return ioctl(vcpu->fd, KVM_SET_SREGS, &narrow) < 0 ? -errno : 0;
}
