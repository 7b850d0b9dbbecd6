/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/vm_clock.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <time.h>
#include <x86intrin.h>

static uint64_t realtime_ns(void)
{
    struct timespec ts = {0};

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/*
 * KVM gives the host's clocks only while all TSCs are in step and the host
 * itself runs on the TSC. Otherwise they are read around the call, which is
 * as exact as the call is short.
 */
int vm_clock_get(
    const struct kvm_vm *vm, struct vm_clock *ret_clock, struct err *err)
{
    struct kvm_clock_data data = {0};
    uint64_t before = __rdtsc();
    uint64_t after;

    if (ioctl(vm->fd, KVM_GET_CLOCK, &data) < 0)
        return err_sys(err, errno, "KVM_GET_CLOCK");
    after = __rdtsc();
    *ret_clock = (struct vm_clock){.guest_ns = data.clock};
    ret_clock->host_tsc = (data.flags & KVM_CLOCK_HOST_TSC) != 0
                              ? data.host_tsc
                              : before + (after - before) / 2;
    ret_clock->realtime_ns =
        (data.flags & KVM_CLOCK_REALTIME) != 0 ? data.realtime : realtime_ns();
    return 0;
}

/*
 * The time that has passed is added here and not by KVM_CLOCK_REALTIME, which
 * not every KVM has and which the hosts' clocks do not make more exact.
 */
int vm_clock_set(const struct kvm_vm *vm, const struct vm_clock *saved,
    enum vm_clock_policy policy, struct vm_clock *ret_now, struct err *err)
{
    struct kvm_clock_data data = {.clock = saved->guest_ns};

    if (policy == VM_CLOCK_FOLLOW) {
        uint64_t now = realtime_ns();

        if (now > saved->realtime_ns)
            data.clock += now - saved->realtime_ns;
    }
    if (ioctl(vm->fd, KVM_SET_CLOCK, &data) < 0)
        return err_sys(err, errno, "KVM_SET_CLOCK");
    return vm_clock_get(vm, ret_now, err);
}

void vm_clock_encode(const struct vm_clock *clock, struct bytes_writer *w)
{
    bytes_put_u64(w, clock->guest_ns);
    bytes_put_u64(w, clock->host_tsc);
    bytes_put_u64(w, clock->realtime_ns);
}

int vm_clock_decode(
    struct bytes_reader *r, struct vm_clock *ret_clock, struct err *err)
{
    struct vm_clock clock;

    if (bytes_left(r) != VM_CLOCK_WIRE_SIZE)
        return err_set(
            err, EINVAL, "the VM's clock is not %u bytes", VM_CLOCK_WIRE_SIZE);
    clock.guest_ns = bytes_get_u64(r);
    clock.host_tsc = bytes_get_u64(r);
    clock.realtime_ns = bytes_get_u64(r);
    *ret_clock = clock;
    return 0;
}
