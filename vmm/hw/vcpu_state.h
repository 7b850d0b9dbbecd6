/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that KVM keeps of one vCPU, taken out and put back.
 *
 * The state is plain data in parts, one bit each; a part is what one KVM
 * structure holds. Put into a vCPU of another VM that has the same CPUID and
 * the same RAM, it goes on where the first one stopped.
 *
 * Thread rule: on a vCPU that is new, paused or ended, from any one thread;
 * or on the vCPU's own thread outside of KVM_RUN, once vcpu_settle has
 * completed the exit. While an exit is not completed RIP may be on the
 * instruction or behind it and its result is not in the registers, and a
 * completion would run over what is put in.
 * Guest-controlled: nearly every value; file-controlled: a state that
 * vcpu_state_decode made. Neither is interpreted here: KVM checks what it is
 * given, and only counts and sizes that were checked are used.
 */
#ifndef VMM_HW_VCPU_STATE_H
#define VMM_HW_VCPU_STATE_H

#include <linux/kvm.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/hw/vcpu.h"
#include "vmm/hw/vcpu_msrs.h"
#include "vmm/hw/vm_clock.h"

#define VCPU_STATE_REGS   (1u << 0)
#define VCPU_STATE_SREGS  (1u << 1)
#define VCPU_STATE_EVENTS (1u << 2)
#define VCPU_STATE_XSAVE  (1u << 3)
#define VCPU_STATE_XCRS   (1u << 4)
#define VCPU_STATE_DEBUG  (1u << 5)
#define VCPU_STATE_MSRS   (1u << 6)
#define VCPU_STATE_LAPIC  (1u << 7)
#define VCPU_STATE_MP     (1u << 8)
#define VCPU_STATE_TSC    (1u << 9)
#define VCPU_STATE_ALL    ((1u << 10) - 1)

/* Those that can travel in struct kvm_run: see vcpu_sync.h. */
#define VCPU_STATE_SYNCED                                                      \
    (VCPU_STATE_REGS | VCPU_STATE_SREGS | VCPU_STATE_EVENTS)

/*
 * The largest XSAVE area that is handled: 11 KiB is what AMX comes to. A host
 * whose KVM wants more is refused by name when state is taken or put.
 */
#define VCPU_STATE_XSAVE_MAX 16384u

struct vcpu_tsc {
    uint64_t value;  /* the guest's TSC when it was taken */
    uint64_t offset; /* guest minus host TSC; valid if has_offset */
    uint32_t khz;    /* the guest's TSC frequency; 0: not known */
    uint32_t has_offset;
};

/* Plain data of about 26 KiB: on the heap or in a machine, not on a stack. */
struct vcpu_state {
    uint32_t parts; /* VCPU_STATE_*: which of the rest are there */
    uint32_t mp_state;
    uint32_t xsave_size; /* bytes of xsave in use, <= VCPU_STATE_XSAVE_MAX */
    uint32_t msr_count;  /* <= VCPU_MSRS_MAX */
    struct kvm_regs regs;
    struct kvm_sregs2 sregs; /* without PDPTRs where KVM has no SREGS2 */
    struct kvm_vcpu_events events;
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debug;
    struct vcpu_tsc tsc;
    struct kvm_lapic_state lapic;
    struct kvm_msr_entry msrs[VCPU_MSRS_MAX]; /* by ascending index */
    uint8_t xsave[VCPU_STATE_XSAVE_MAX];      /* zero behind xsave_size */
};

/*
 * Takes the parts that `parts` names into *state, which then has no other and
 * is of no use after an error; each is a system call or two of 8 us where
 * measured, so a caller who knows what can have changed names only that. `msrs`
 * is the host's list (vcpu_msrs_init), only looked at for VCPU_STATE_MSRS.
 * -ENOTSUP for state that cannot be saved: a guest that runs a virtual machine
 * of its own, an XSAVE area that is too large.
 */
CC_MUST_CHECK int vcpu_state_get(struct vcpu *vcpu,
    const struct vcpu_msrs *msrs, uint32_t parts, struct vcpu_state *state,
    struct err *err);

/*
 * Puts in the parts that are both in `parts` and in the state, in the one
 * order that works (said in vcpu_state.c). Parts that depend on each other
 * must go together: LAPIC needs the SREGS of the same state in the vCPU, the
 * deadline timer in MSRs needs LAPIC and TSC, EVENTS must follow REGS.
 * Guest RAM must be there: KVM looks at pages that MSRs name. What is in the
 * TSC part is taken as it is: vcpu_state_rebase_tsc first if the state is from
 * another VM. -EINVAL, naming the part or the MSR, for what KVM does not take;
 * -ERANGE for a TSC frequency that this host does not have and cannot make. The
 * vCPU is then neither in the old state nor in the new one.
 */
CC_MUST_CHECK int vcpu_state_set(struct vcpu *vcpu,
    const struct vcpu_state *state, uint32_t parts, struct err *err);

/*
 * The parts in which two states differ, those that only one has among them.
 * What runs by itself is left out of it: the TSC's value (its offset and
 * frequency count), the current count of the local APIC's timer.
 */
uint32_t vcpu_state_diff(
    const struct vcpu_state *a, const struct vcpu_state *b);

/* The part's name for messages, of one bit of VCPU_STATE_*. */
const char *vcpu_state_part_name(uint32_t part);

/*
 * Moves the TSC of a state so that it stands to the VM's clock as it did when
 * it was saved: `saved` is the clock that was saved with it, `now` what
 * vm_clock_set gave for the VM that it goes into. All vCPUs of one snapshot
 * stay in step to the tick; where KVM has no offset to set, its value is, and
 * KVM itself keeps vCPUs in step that are set within a second.
 *
 * Where the guest's TSC is the host's (tsc_fixed) it cannot be moved: it has
 * run on since the save on the same host, and is another on another host. The
 * deadline of the timer is moved instead, so that it is due when it was.
 */
void vcpu_state_rebase_tsc(struct vcpu_state *state,
    const struct vm_clock *saved, const struct vm_clock *now,
    const struct kvm_features *features);

#endif
