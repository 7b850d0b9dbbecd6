/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/trap.h"

#include <errno.h>
#include <stdlib.h>

#include "vmm/hw/vcpu_debug.h"

#define VECTOR_DEBUG 1u
#define VECTOR_INT3  3u
#define FLAG_TRAP    UINT64_C(0x100)
#define FLAG_RESUME  UINT64_C(0x10000)

#define PARTS (VCPU_STATE_REGS | VCPU_STATE_SREGS)

/* A gate in 64-bit mode (SDM vol. 3, figure 6-8). */
struct gate {
    uint16_t low;
    uint16_t selector;
    uint16_t attributes;
    uint16_t middle;
    uint32_t high;
    uint32_t reserved;
};

/* What the processor pushes in 64-bit mode, without an error code. */
struct frame {
    uint64_t rip;
    uint64_t cs;
    uint64_t rflags;
    uint64_t rsp;
    uint64_t ss;
};

static int read_gate(const struct trap *trap, const struct guest_view *view,
    unsigned int vector, uint64_t *ret_entry, struct err *err)
{
    const struct kvm_dtable *idt = &trap->state->sregs.idt;
    struct gate gate;

    if ((vector + 1) * sizeof(gate) > (size_t)idt->limit + 1 ||
        guest_view_read(
            view, idt->base + vector * sizeof(gate), &gate, sizeof(gate)) < 0 ||
        (gate.attributes & 0x8000) == 0)
        return err_set(
            err, ENOTSUP, "the guest has no handler for exception %u", vector);
    *ret_entry =
        gate.low | (uint64_t)gate.middle << 16 | (uint64_t)gate.high << 32;
    return 0;
}

static int begin(
    struct trap *trap, const struct guest_view *view, struct err *err)
{
    struct vcpu_debug debug = {.count = 2};
    int rc = vcpu_state_get(trap->vcpu, NULL, PARTS, trap->state, err);

    if (rc < 0)
        return rc;
    trap->cs = trap->state->sregs.cs;
    trap->ss = trap->state->sregs.ss;
    if (trap->cs.dpl != 3 || trap->cs.l == 0)
        return err_set(err, ENOTSUP,
            "the guest is not in a 64-bit program (rip 0x%llx): only programs "
            "can be stepped",
            (unsigned long long)trap->state->regs.rip);
    rc = read_gate(trap, view, VECTOR_DEBUG, &trap->debug_entry, err);
    if (rc == 0)
        rc = read_gate(trap, view, VECTOR_INT3, &trap->int3_entry, err);
    if (rc < 0)
        return rc;
    debug.breaks[0] = (struct vcpu_debug_break){
        .address = trap->debug_entry, .kind = VCPU_DEBUG_EXECUTE, .length = 1};
    debug.breaks[1] = (struct vcpu_debug_break){
        .address = trap->int3_entry, .kind = VCPU_DEBUG_EXECUTE, .length = 1};
    return vcpu_debug_set(trap->vcpu, &debug, err);
}

int trap_init(struct trap *trap, struct vcpu *vcpu,
    const struct guest_view *view, struct err *err)
{
    int rc;

    *trap =
        (struct trap){.vcpu = vcpu, .state = calloc(1, sizeof(*trap->state))};
    if (trap->state == NULL)
        return err_sys(err, ENOMEM, "the debugger");
    rc = begin(trap, view, err);
    if (rc < 0) {
        free(trap->state);
        *trap = (struct trap){0};
    }
    return rc;
}

void trap_fini(struct trap *trap)
{
    static const struct vcpu_debug none;

    if (trap->vcpu != NULL && vcpu_debug_set(trap->vcpu, &none, NULL) < 0) {
        /* The vCPU is of no use then, which its next run says. */
    }
    free(trap->state);
    *trap = (struct trap){0};
}

int trap_step(struct trap *trap, struct err *err)
{
    int rc =
        vcpu_state_get(trap->vcpu, NULL, VCPU_STATE_REGS, trap->state, err);

    if (rc < 0)
        return rc;
    trap->state->regs.rflags |= FLAG_TRAP;
    return vcpu_state_set(trap->vcpu, trap->state, VCPU_STATE_REGS, err);
}

/* From a handler's first instruction to what it was called for. */
static int go_back(struct trap *trap, const struct guest_view *view,
    bool is_int3, struct err *err)
{
    struct kvm_regs *regs = &trap->state->regs;
    struct frame frame;

    if (guest_view_read(view, regs->rsp, &frame, sizeof(frame)) < 0)
        return err_set(err, EFAULT,
            "the stack of the guest's exception is not there (rsp 0x%llx)",
            (unsigned long long)regs->rsp);
    regs->rip = frame.rip - (is_int3 ? 1 : 0);
    regs->rsp = frame.rsp;
    regs->rflags = frame.rflags & ~(FLAG_TRAP | FLAG_RESUME);
    trap->state->sregs.cs = trap->cs;
    trap->state->sregs.ss = trap->ss;
    return vcpu_state_set(trap->vcpu, trap->state, PARTS, err);
}

int trap_take(struct trap *trap, const struct guest_view *view,
    enum trap_kind *ret_kind, struct err *err)
{
    int rc = vcpu_state_get(trap->vcpu, NULL, PARTS, trap->state, err);
    bool is_int3;

    if (rc < 0)
        return rc;
    if (trap->state->sregs.cs.dpl == 3) {
        /* A KVM that has a hand in ring 3 says so right there. */
        trap->state->regs.rflags &= ~FLAG_TRAP;
        *ret_kind = TRAP_STEP;
        return vcpu_state_set(trap->vcpu, trap->state, VCPU_STATE_REGS, err);
    }
    is_int3 = trap->state->regs.rip == trap->int3_entry;
    if (!is_int3 && trap->state->regs.rip != trap->debug_entry) {
        *ret_kind = TRAP_NONE;
        return 0;
    }
    rc = go_back(trap, view, is_int3, err);
    if (rc == 0)
        *ret_kind = is_int3 ? TRAP_INT3_HIT : TRAP_STEP;
    return rc;
}
