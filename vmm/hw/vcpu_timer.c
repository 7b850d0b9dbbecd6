/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/vcpu_timer.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/hw/vcpu_msrs.h"

/* Registers of the local APIC (SDM vol. 3, table 11-1). */
#define INITIAL_COUNT 0x380u
#define CURRENT_COUNT 0x390u

static uint32_t get_register(const struct kvm_lapic_state *lapic, size_t at)
{
    uint32_t value;

    memcpy(&value, lapic->regs + at, sizeof(value));
    return value;
}

static void set_register(
    struct kvm_lapic_state *lapic, size_t at, uint32_t value)
{
    memcpy(lapic->regs + at, &value, sizeof(value));
}

static struct kvm_msr_entry *find_deadline(struct vcpu_state *state)
{
    for (uint32_t i = 0; i < state->msr_count; i++) {
        if (state->msrs[i].index == VCPU_MSR_TSC_DEADLINE)
            return &state->msrs[i];
    }
    return NULL;
}

void vcpu_timer_take(struct vcpu_state *state, struct vcpu_timer *ret_timer)
{
    struct kvm_msr_entry *deadline = find_deadline(state);

    *ret_timer = (struct vcpu_timer){
        .initial = get_register(&state->lapic, INITIAL_COUNT),
        .current = get_register(&state->lapic, CURRENT_COUNT),
        .deadline = deadline == NULL ? 0 : deadline->data};
    set_register(&state->lapic, INITIAL_COUNT, 0);
    set_register(&state->lapic, CURRENT_COUNT, 0);
    if (deadline != NULL)
        deadline->data = 0;
}

/* KVM_GET_MSRS and KVM_SET_MSRS want the entries behind the count. */
union one_msr {
    struct kvm_msrs head;
    uint8_t bytes[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

static int arm_deadline(struct vcpu *vcpu, uint64_t deadline)
{
    union one_msr msr = {.head = {.nmsrs = 1}};
    struct kvm_msr_entry entry = {.index = VCPU_MSR_TSC_DEADLINE};

    memcpy(msr.bytes + sizeof(msr.head), &entry, sizeof(entry));
    if (ioctl(vcpu->fd, KVM_GET_MSRS, &msr.head) != 1)
        return -EIO;
    memcpy(&entry, msr.bytes + sizeof(msr.head), sizeof(entry));
    if (entry.data != 0)
        return 0;
    entry.data = deadline;
    memcpy(msr.bytes + sizeof(msr.head), &entry, sizeof(entry));
    return ioctl(vcpu->fd, KVM_SET_MSRS, &msr.head) == 1 ? 0 : -EIO;
}

/* KVM counts on from the current count that it is given. */
static int arm_counter(struct vcpu *vcpu, const struct vcpu_timer *timer)
{
    struct kvm_lapic_state lapic;

    if (ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic) < 0)
        return -errno;
    if (get_register(&lapic, INITIAL_COUNT) != 0)
        return 0;
    set_register(&lapic, INITIAL_COUNT, timer->initial);
    set_register(
        &lapic, CURRENT_COUNT, timer->current == 0 ? 1 : timer->current);
    return ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic) < 0 ? -errno : 0;
}

int vcpu_timer_arm(
    struct vcpu *vcpu, const struct vcpu_timer *timer, struct err *err)
{
    int rc = 0;

    if (timer->initial != 0)
        rc = arm_counter(vcpu, timer);
    if (rc == 0 && timer->deadline != 0)
        rc = arm_deadline(vcpu, timer->deadline);
    return rc < 0 ? err_sys(err, rc, "the timer of vCPU %u", vcpu->id) : 0;
}
