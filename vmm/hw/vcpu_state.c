/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/vcpu_state.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "vmm/hw/vcpu_sregs.h"

/* Of the local APIC's page: Intel SDM vol. 3, 11.4.1. */
#define LAPIC_PRIORITY    0x0a0u
#define LAPIC_TIMER_COUNT 0x390u

/* Beyond it a guest that measures time with its TSC goes astray. */
#define TSC_TOLERANCE_PPM 250u

const char *vcpu_state_part_name(uint32_t part)
{
    switch (part) {
    case VCPU_STATE_REGS:
        return "general registers";
    case VCPU_STATE_SREGS:
        return "special registers";
    case VCPU_STATE_EVENTS:
        return "pending events";
    case VCPU_STATE_XSAVE:
        return "FPU and vector registers";
    case VCPU_STATE_XCRS:
        return "extended control registers";
    case VCPU_STATE_DEBUG:
        return "debug registers";
    case VCPU_STATE_MSRS:
        return "model-specific registers";
    case VCPU_STATE_LAPIC:
        return "local APIC";
    case VCPU_STATE_MP:
        return "multiprocessing state";
    case VCPU_STATE_TSC:
        return "TSC";
    default:
        return "unknown part";
    }
}

/* Bytes of the XSAVE area that this host's KVM reads and writes. */
static int host_xsave_size(const struct vcpu *vcpu, uint32_t *ret_size,
    bool *ret_is_xsave2, struct err *err)
{
    uint32_t size = sizeof(struct kvm_xsave);
    int rc = kvm_extension(vcpu->kvm, KVM_CAP_XSAVE2);

    *ret_is_xsave2 = rc > (int)size;
    if (*ret_is_xsave2)
        size = (uint32_t)rc;
    if (size > VCPU_STATE_XSAVE_MAX)
        return err_set(err, ENOTSUP,
            "this host's XSAVE area has %u bytes, spore saves up to %u", size,
            VCPU_STATE_XSAVE_MAX);
    *ret_size = size;
    return 0;
}

static int get_failed(
    const struct vcpu *vcpu, uint32_t part, int code, struct err *err)
{
    return err_sys(err, code, "cannot read the %s of vCPU %u",
        vcpu_state_part_name(part), vcpu->id);
}

/* A guest in the middle of being a host has state of which we know nothing. */
static int refuse_nested(const struct vcpu *vcpu, struct err *err)
{
    struct kvm_nested_state nested = {.size = sizeof(nested)};
    bool is_busy;

    if (kvm_extension(vcpu->kvm, KVM_CAP_NESTED_STATE) == 0)
        return 0;
    if (ioctl(vcpu->fd, KVM_GET_NESTED_STATE, &nested) < 0)
        is_busy = errno == E2BIG;
    else
        is_busy = (nested.flags & KVM_STATE_NESTED_GUEST_MODE) != 0 ||
                  (nested.format == KVM_STATE_NESTED_FORMAT_VMX &&
                      nested.hdr.vmx.vmxon_pa != UINT64_MAX);
    return is_busy ? err_set(err, ENOTSUP,
                         "vCPU %u runs virtual machines of its own: end them "
                         "before the guest is saved",
                         vcpu->id)
                   : 0;
}

static int get_xsave(
    struct vcpu *vcpu, struct vcpu_state *state, struct err *err)
{
    bool is_xsave2;
    uint32_t size;
    int rc = host_xsave_size(vcpu, &size, &is_xsave2, err);

    if (rc < 0)
        return rc;
    if (ioctl(vcpu->fd, is_xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE,
            state->xsave) < 0)
        return get_failed(vcpu, VCPU_STATE_XSAVE, errno, err);
    memset(state->xsave + size, 0, sizeof(state->xsave) - size);
    state->xsave_size = size;
    return 0;
}

static bool tsc_offset_attr(
    const struct vcpu *vcpu, unsigned long request, uint64_t *offset)
{
    struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL,
        .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (uint64_t)(uintptr_t)offset};

    return ioctl(vcpu->fd, request, &attr) == 0;
}

static uint32_t tsc_khz(const struct vcpu *vcpu)
{
    int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0L);

    return khz < 0 ? 0 : (uint32_t)khz;
}

static int get_tsc(struct vcpu *vcpu, struct vcpu_state *state, struct err *err)
{
    const struct vcpu_msrs tsc = {.count = 1, .index = {VCPU_MSR_TSC}};
    struct kvm_msr_entry entry;
    int rc = vcpu_msrs_get(vcpu->fd, &tsc, &entry, err);

    if (rc < 0)
        return rc;
    state->tsc = (struct vcpu_tsc){.value = entry.data, .khz = tsc_khz(vcpu)};
    if (tsc_offset_attr(vcpu, KVM_GET_DEVICE_ATTR, &state->tsc.offset))
        state->tsc.has_offset = 1;
    return 0;
}

/* Parts that are a structure of KVM's and one ioctl each way. */
struct plain_part {
    uint32_t part;
    size_t offset;
    unsigned long get;
    unsigned long set;
};

#define PLAIN(bit, member, name)                                               \
    {                                                                          \
        .part = (bit), .offset = offsetof(struct vcpu_state, member),          \
        .get = KVM_GET_##name, .set = KVM_SET_##name                           \
    }

static const struct plain_part plain_mp =
    PLAIN(VCPU_STATE_MP, mp_state, MP_STATE);
static const struct plain_part plain_events =
    PLAIN(VCPU_STATE_EVENTS, events, VCPU_EVENTS);
static const struct plain_part plain_regs = PLAIN(VCPU_STATE_REGS, regs, REGS);
static const struct plain_part plain_xcrs = PLAIN(VCPU_STATE_XCRS, xcrs, XCRS);
static const struct plain_part plain_debug =
    PLAIN(VCPU_STATE_DEBUG, debug, DEBUGREGS);
static const struct plain_part plain_lapic =
    PLAIN(VCPU_STATE_LAPIC, lapic, LAPIC);

static int get_plain(struct vcpu *vcpu, const struct plain_part *plain,
    uint32_t parts, struct vcpu_state *state, struct err *err)
{
    if ((parts & plain->part) == 0)
        return 0;
    if (ioctl(vcpu->fd, plain->get, (uint8_t *)state + plain->offset) < 0)
        return get_failed(vcpu, plain->part, errno, err);
    return 0;
}

/*
 * The order: reading the multiprocessing state makes KVM act on an INIT or
 * SIPI that is pending, which sets all registers; reading the events makes it
 * put the address of a pending page fault into CR2 and of a debug exception
 * into DR6. So these two come first. The rest is independent.
 */
int vcpu_state_get(struct vcpu *vcpu, const struct vcpu_msrs *msrs,
    uint32_t parts, struct vcpu_state *state, struct err *err)
{
    int rc = refuse_nested(vcpu, err);

    assert((parts & ~VCPU_STATE_ALL) == 0);
    if (rc < 0)
        return rc;
    memset(state, 0, offsetof(struct vcpu_state, msrs));
    rc = get_plain(vcpu, &plain_mp, parts, state, err);
    if (rc == 0)
        rc = get_plain(vcpu, &plain_events, parts, state, err);
    if (rc == 0)
        rc = get_plain(vcpu, &plain_regs, parts, state, err);
    if (rc == 0 && (parts & VCPU_STATE_SREGS) != 0) {
        rc = vcpu_sregs_get(vcpu, &state->sregs);
        if (rc < 0)
            return get_failed(vcpu, VCPU_STATE_SREGS, rc, err);
    }
    if (rc == 0)
        rc = get_plain(vcpu, &plain_xcrs, parts, state, err);
    if (rc == 0 && (parts & VCPU_STATE_XSAVE) != 0)
        rc = get_xsave(vcpu, state, err);
    if (rc == 0)
        rc = get_plain(vcpu, &plain_debug, parts, state, err);
    if (rc == 0 && (parts & VCPU_STATE_MSRS) != 0) {
        rc = vcpu_msrs_get(vcpu->fd, msrs, state->msrs, err);
        state->msr_count = msrs->count;
    }
    if (rc == 0)
        rc = get_plain(vcpu, &plain_lapic, parts, state, err);
    if (rc == 0 && (parts & VCPU_STATE_TSC) != 0)
        rc = get_tsc(vcpu, state, err);
    if (rc < 0)
        return rc;
    state->parts = parts;
    return 0;
}

static int set_failed(
    const struct vcpu *vcpu, uint32_t part, int code, struct err *err)
{
    return err_sys(err, code, "vCPU %u: KVM does not take its %s", vcpu->id,
        vcpu_state_part_name(part));
}

static int set_plain(struct vcpu *vcpu, const struct plain_part *plain,
    uint32_t parts, const struct vcpu_state *state, struct err *err)
{
    const uint8_t *from = (const uint8_t *)state + plain->offset;

    if ((parts & plain->part) == 0)
        return 0;
    if (ioctl(vcpu->fd, plain->set, from) < 0)
        return set_failed(vcpu, plain->part, errno, err);
    return 0;
}

static int set_xsave(
    struct vcpu *vcpu, const struct vcpu_state *state, struct err *err)
{
    bool is_xsave2;
    uint32_t size;
    int rc = 0;

    /*
     * KVM reads as much as it has itself: all of that is in our buffer. An
     * area of the old size needs no question, which takes KVM a handful of
     * CPUID instructions: 70 us where those trap.
     */
    if (state->xsave_size > sizeof(struct kvm_xsave))
        rc = host_xsave_size(vcpu, &size, &is_xsave2, err);
    if (rc < 0)
        return rc;
    if (ioctl(vcpu->fd, KVM_SET_XSAVE, state->xsave) < 0)
        return set_failed(vcpu, VCPU_STATE_XSAVE, errno, err);
    return 0;
}

/* The TSC runs as fast as it did, or can be made to. */
static int set_tsc_khz(
    struct vcpu *vcpu, const struct vcpu_state *state, struct err *err)
{
    uint64_t want = state->tsc.khz;
    uint64_t have = tsc_khz(vcpu);
    uint64_t apart = want > have ? want - have : have - want;

    if (want == 0 || have == 0 || apart * 1000000 <= have * TSC_TOLERANCE_PPM)
        return 0;
    if (kvm_extension(vcpu->kvm, KVM_CAP_TSC_CONTROL) != 0 &&
        ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (long)want) == 0)
        return 0;
    return err_set(err, ERANGE,
        "the guest was saved with a TSC of %llu kHz, this host has %llu kHz "
        "and cannot scale it",
        (unsigned long long)want, (unsigned long long)have);
}

static int set_tsc(
    struct vcpu *vcpu, const struct vcpu_state *state, struct err *err)
{
    struct kvm_msr_entry entry = {
        .index = VCPU_MSR_TSC, .data = state->tsc.value};
    uint64_t offset = state->tsc.offset;

    if (state->tsc.has_offset != 0 &&
        tsc_offset_attr(vcpu, KVM_SET_DEVICE_ATTR, &offset))
        return 0;
    return vcpu_msrs_set(vcpu->fd, &entry, 1, err);
}

/* All but the deadline timer, which has its own time: around it. */
static int set_msrs(
    struct vcpu *vcpu, const struct vcpu_state *state, struct err *err)
{
    uint32_t at = 0;
    int rc;

    while (
        at < state->msr_count && state->msrs[at].index != VCPU_MSR_TSC_DEADLINE)
        at++;
    rc = vcpu_msrs_set(vcpu->fd, state->msrs, at, err);
    if (rc == 0 && at < state->msr_count)
        rc = vcpu_msrs_set(
            vcpu->fd, state->msrs + at + 1, state->msr_count - at - 1, err);
    return err_wrap(err, rc, "vCPU %u", vcpu->id);
}

static int set_deadline(
    struct vcpu *vcpu, const struct vcpu_state *state, struct err *err)
{
    for (uint32_t i = 0; i < state->msr_count; i++) {
        if (state->msrs[i].index == VCPU_MSR_TSC_DEADLINE)
            return vcpu_msrs_set(vcpu->fd, &state->msrs[i], 1, err);
    }
    return 0;
}

/*
 * The order:
 *  - SREGS first: they enable the local APIC and put it into x2APIC mode, and
 *    what LAPIC holds is read by that mode;
 *  - REGS after SREGS, and EVENTS behind both and at the very end: setting
 *    REGS drops a pending exception, setting MP can make one of INIT or SIPI;
 *  - the TSC before LAPIC, and LAPIC before the deadline timer's MSR: a
 *    deadline is compared with the guest's TSC when it is set, and a local
 *    APIC whose timer is not in deadline mode ignores it; setting LAPIC
 *    itself clears the deadline;
 *  - MP behind LAPIC: whether a vCPU may wait for a SIPI depends on it.
 */
int vcpu_state_set(struct vcpu *vcpu, const struct vcpu_state *state,
    uint32_t parts, struct err *err)
{
    int rc = 0;

    parts &= state->parts;
    assert(state->msr_count <= VCPU_MSRS_MAX);
    if ((parts & VCPU_STATE_TSC) != 0)
        rc = set_tsc_khz(vcpu, state, err);
    if (rc == 0 && (parts & VCPU_STATE_SREGS) != 0) {
        rc = vcpu_sregs_set(vcpu, &state->sregs);
        if (rc < 0)
            return set_failed(vcpu, VCPU_STATE_SREGS, rc, err);
    }
    if (rc == 0)
        rc = set_plain(vcpu, &plain_regs, parts, state, err);
    if (rc == 0)
        rc = set_plain(vcpu, &plain_xcrs, parts, state, err);
    if (rc == 0 && (parts & VCPU_STATE_XSAVE) != 0)
        rc = set_xsave(vcpu, state, err);
    if (rc == 0)
        rc = set_plain(vcpu, &plain_debug, parts, state, err);
    if (rc == 0 && (parts & VCPU_STATE_MSRS) != 0)
        rc = set_msrs(vcpu, state, err);
    if (rc == 0 && (parts & VCPU_STATE_TSC) != 0)
        rc = set_tsc(vcpu, state, err);
    if (rc == 0)
        rc = set_plain(vcpu, &plain_lapic, parts, state, err);
    if (rc == 0 && (parts & VCPU_STATE_MSRS) != 0)
        rc = set_deadline(vcpu, state, err);
    if (rc == 0)
        rc = set_plain(vcpu, &plain_mp, parts, state, err);
    if (rc == 0)
        rc = set_plain(vcpu, &plain_events, parts, state, err);
    return rc;
}

/*
 * The count runs by itself. The processor priority follows from the rest: KVM
 * works it out when it looks for an interrupt, and KVM_SET_LAPIC leaves one
 * that is made from what was in service before.
 */
static bool lapic_differs(
    const struct kvm_lapic_state *a, const struct kvm_lapic_state *b)
{
    struct kvm_lapic_state x = *a;
    struct kvm_lapic_state y = *b;

    for (size_t i = 0; i < sizeof(uint32_t); i++) {
        x.regs[LAPIC_TIMER_COUNT + i] = y.regs[LAPIC_TIMER_COUNT + i] = 0;
        x.regs[LAPIC_PRIORITY + i] = y.regs[LAPIC_PRIORITY + i] = 0;
    }
    return memcmp(&x, &y, sizeof(x)) != 0;
}

static bool msrs_differ(const struct vcpu_state *a, const struct vcpu_state *b)
{
    return a->msr_count != b->msr_count ||
           memcmp(a->msrs, b->msrs, a->msr_count * sizeof(a->msrs[0])) != 0;
}

static bool part_differs(
    uint32_t part, const struct vcpu_state *a, const struct vcpu_state *b)
{
    switch (part) {
    case VCPU_STATE_REGS:
        return memcmp(&a->regs, &b->regs, sizeof(a->regs)) != 0;
    case VCPU_STATE_SREGS:
        return memcmp(&a->sregs, &b->sregs, sizeof(a->sregs)) != 0;
    case VCPU_STATE_EVENTS:
        return memcmp(&a->events, &b->events, sizeof(a->events)) != 0;
    case VCPU_STATE_XSAVE:
        return memcmp(a->xsave, b->xsave, sizeof(a->xsave)) != 0;
    case VCPU_STATE_XCRS:
        return memcmp(&a->xcrs, &b->xcrs, sizeof(a->xcrs)) != 0;
    case VCPU_STATE_DEBUG:
        return memcmp(&a->debug, &b->debug, sizeof(a->debug)) != 0;
    case VCPU_STATE_MSRS:
        return msrs_differ(a, b);
    case VCPU_STATE_LAPIC:
        return lapic_differs(&a->lapic, &b->lapic);
    case VCPU_STATE_MP:
        return a->mp_state != b->mp_state;
    default:
        assert(part == VCPU_STATE_TSC);
        return a->tsc.khz != b->tsc.khz ||
               a->tsc.has_offset != b->tsc.has_offset ||
               a->tsc.offset != b->tsc.offset;
    }
}

uint32_t vcpu_state_diff(const struct vcpu_state *a, const struct vcpu_state *b)
{
    uint32_t differ = a->parts ^ b->parts;
    uint32_t both = a->parts & b->parts;

    for (uint32_t part = 1; part < VCPU_STATE_ALL; part <<= 1) {
        if ((both & part) != 0 && part_differs(part, a, b))
            differ |= part;
    }
    return differ;
}

static void move_deadline(struct vcpu_state *state, uint64_t ticks)
{
    for (uint32_t i = 0; i < state->msr_count; i++) {
        struct kvm_msr_entry *e = &state->msrs[i];

        /* 0: the timer is not armed. */
        if (e->index == VCPU_MSR_TSC_DEADLINE && e->data != 0)
            e->data = e->data + ticks == 0 ? 1 : e->data + ticks;
    }
}

void vcpu_state_rebase_tsc(struct vcpu_state *state,
    const struct vm_clock *saved, const struct vm_clock *now,
    const struct kvm_features *features)
{
    bool is_back = now->guest_ns < saved->guest_ns;
    uint64_t ns = is_back ? saved->guest_ns - now->guest_ns
                          : now->guest_ns - saved->guest_ns;
    /* ns * kHz / 10^6 without an overflow on the way. */
    uint64_t ticks =
        ns / 1000000 * state->tsc.khz + ns % 1000000 * state->tsc.khz / 1000000;

    if (is_back)
        ticks = -ticks;
    /* Modulo 2^64 all through, as the TSC is. */
    state->tsc.value += ticks;
    state->tsc.offset += saved->host_tsc - now->host_tsc + ticks;
    if (features->tsc_fixed) {
        move_deadline(state, -state->tsc.offset);
        state->tsc.offset = 0;
    }
}
