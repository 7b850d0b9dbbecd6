/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/debugger.h"

#include <errno.h>
#include <stdlib.h>

#include "fuzz/executor_parts.h"
#include "fuzz/trap.h"
#include "vmm/base/clock.h"

/* A step may go through the guest's kernel, which may be interpreted. */
#define STEP_NS (10 * CLOCK_NS_PER_S)

/* Steps in which the kernel was met half way: it is left again. */
#define STEP_AGAIN_MAX 64u

/* Where programs do not go: the upper half is the kernel's. */
#define KERNEL_HALF (UINT64_C(1) << 63)

struct debugger {
    struct executor *ex;
    struct trap trap;
    struct breakpoints breaks;
    struct fuzz_result result;
    bool has_ended;
};

static struct vcpu *vcpu_of(const struct debugger *d)
{
    return &d->ex->runner->machine.vcpus[0];
}

/* ---- begin and end ------------------------------------------------------- */

int debugger_begin(
    struct debugger *d, const void *input, size_t size, struct err *err)
{
    int rc = executor_begin(d->ex, input, size, &d->result, err);

    if (rc < 0)
        return rc;
    /* Registers that are on their way to the vCPU are to be there. */
    rc = vcpu_settle(vcpu_of(d));
    if (rc < 0)
        return err_sys(err, rc, "the guest at its root");
    d->has_ended = false;
    return 0;
}

int debugger_new(
    struct executor *ex, struct debugger **ret_debugger, struct err *err)
{
    struct debugger *d = calloc(1, sizeof(*d));
    struct guest_view view;
    int rc;

    if (d == NULL)
        return err_sys(err, ENOMEM, "the debugger");
    d->ex = ex;
    rc = debugger_begin(d, NULL, 0, err);
    if (rc == 0) {
        view = runner_view(ex->runner);
        rc = trap_init(&d->trap, vcpu_of(d), &view, err);
    }
    if (rc < 0) {
        free(d);
        return rc;
    }
    *ret_debugger = d;
    return 0;
}

void debugger_free(struct debugger *d)
{
    struct guest_view view;

    if (d == NULL)
        return;
    view = runner_view(d->ex->runner);
    for (size_t i = 0; i < d->breaks.count; i++) {
        if (breakpoints_take(&d->breaks, &view, i) < 0)
            break; /* the file is cut: there is nothing to give back */
    }
    breakpoints_fini(&d->breaks);
    trap_fini(&d->trap);
    free(d);
}

const struct fuzz_result *debugger_result(const struct debugger *d)
{
    return &d->result;
}

/* ---- going on ------------------------------------------------------------ */

static int go(struct debugger *d, uint64_t deadline_ns,
    enum debugger_halt *ret_halt, struct err *err)
{
    for (;;) {
        enum trap_kind kind = TRAP_NONE;
        enum calls_outcome outcome;
        struct guest_view view;
        int rc = executor_go(d->ex, deadline_ns, &d->result, &outcome, err);

        if (rc < 0)
            return rc;
        if (outcome == CALLS_LEVEL) {
            runner_answer(d->ex->runner, 0);
            continue;
        }
        if (outcome != CALLS_DEBUG) {
            d->has_ended = true;
            *ret_halt = DEBUGGER_ENDED;
            rc = vcpu_settle(vcpu_of(d));
            return rc == -EPROTO ? 0 : rc;
        }
        view = runner_view(d->ex->runner);
        rc = trap_take(&d->trap, &view, &kind, err);
        if (rc < 0)
            return rc;
        if (kind == TRAP_NONE)
            return err_set(err, EPROTO,
                "the guest stopped where no breakpoint is (rip 0x%llx)",
                (unsigned long long)d->trap.state->regs.rip);
        *ret_halt = kind == TRAP_STEP ? DEBUGGER_STEPPED : DEBUGGER_HIT;
        return 0;
    }
}

/* One step, over the breakpoint that is in at `at`, if one is. */
static int step_over(struct debugger *d, uint64_t at,
    enum debugger_halt *ret_halt, struct err *err)
{
    struct guest_view view = runner_view(d->ex->runner);
    int64_t index = breakpoints_find(&d->breaks, at);
    bool was_in = index >= 0 && d->breaks.list[index].is_in;
    int rc = was_in ? breakpoints_take(&d->breaks, &view, (size_t)index) : 0;

    if (rc == 0)
        rc = trap_step(&d->trap, err);
    else
        (void)err_sys(err, rc, "a breakpoint");
    if (rc == 0)
        rc = go(d, clock_now_ns() + STEP_NS, ret_halt, err);
    if (was_in && rc == 0 &&
        breakpoints_put(&d->breaks, &view, (size_t)index) < 0)
        rc = err_set(err, EFAULT, "a breakpoint cannot be put back");
    return rc;
}

static bool is_in(const struct debugger *d, uint64_t at)
{
    int64_t index = breakpoints_find(&d->breaks, at);

    return index >= 0 && d->breaks.list[index].is_in;
}

static int get_rip(struct debugger *d, uint64_t *ret_rip, struct err *err)
{
    struct kvm_sregs2 sregs;
    struct kvm_regs regs;
    int rc = debugger_get_regs(d, &regs, &sregs, err);

    if (rc == 0)
        *ret_rip = regs.rip;
    return rc;
}

int debugger_step(
    struct debugger *d, enum debugger_halt *ret_halt, struct err *err)
{
    uint64_t rip;
    int rc = 0;

    *ret_halt = DEBUGGER_ENDED;
    for (unsigned int i = 0; i < STEP_AGAIN_MAX && !d->has_ended; i++) {
        rc = get_rip(d, &rip, err);
        if (rc == 0)
            rc = step_over(d, rip, ret_halt, err);
        if (rc < 0 || *ret_halt != DEBUGGER_STEPPED)
            break;
        rc = get_rip(d, &rip, err);
        /* Some hosts show a system call's entry before it is entered. */
        if (rc < 0 || rip < KERNEL_HALF)
            break;
    }
    return rc;
}

int debugger_continue(struct debugger *d, uint64_t timeout_us,
    enum debugger_halt *ret_halt, struct err *err)
{
    uint64_t deadline_ns = clock_now_ns() + timeout_us * 1000;
    uint64_t rip;
    int rc;

    *ret_halt = DEBUGGER_ENDED;
    if (d->has_ended)
        return 0;
    rc = get_rip(d, &rip, err);
    if (rc == 0 && is_in(d, rip)) {
        rc = debugger_step(d, ret_halt, err);
        if (rc < 0 || *ret_halt != DEBUGGER_STEPPED)
            return rc;
        rc = get_rip(d, &rip, err);
        if (rc == 0 && is_in(d, rip)) {
            *ret_halt = DEBUGGER_HIT;
            return 0;
        }
    }
    return rc < 0 ? rc : go(d, deadline_ns, ret_halt, err);
}

/* ---- registers and memory ------------------------------------------------ */

int debugger_get_regs(struct debugger *d, struct kvm_regs *ret_regs,
    struct kvm_sregs2 *ret_sregs, struct err *err)
{
    int rc = vcpu_state_get(vcpu_of(d), NULL,
        VCPU_STATE_REGS | VCPU_STATE_SREGS, d->trap.state, err);

    if (rc < 0)
        return rc;
    *ret_regs = d->trap.state->regs;
    *ret_sregs = d->trap.state->sregs;
    return 0;
}

int debugger_set_regs(
    struct debugger *d, const struct kvm_regs *regs, struct err *err)
{
    int rc =
        vcpu_state_get(vcpu_of(d), NULL, VCPU_STATE_REGS, d->trap.state, err);

    if (rc < 0)
        return rc;
    d->trap.state->regs = *regs;
    return vcpu_state_set(vcpu_of(d), d->trap.state, VCPU_STATE_REGS, err);
}

int debugger_read(struct debugger *d, uint64_t at, void *dst, size_t size)
{
    struct guest_view view = runner_view(d->ex->runner);
    int rc = guest_view_read(&view, at, dst, size);

    if (rc == 0)
        breakpoints_hide(&d->breaks, at, dst, size);
    return rc;
}

int debugger_write(
    struct debugger *d, uint64_t at, const void *src, size_t size)
{
    struct guest_view view = runner_view(d->ex->runner);

    return guest_view_write(&view, at, src, size);
}

/* ---- breakpoints --------------------------------------------------------- */

int debugger_add_break(struct debugger *d, uint64_t at, struct err *err)
{
    struct guest_view view = runner_view(d->ex->runner);
    int rc = breakpoints_add(&d->breaks, &at, 1, err);
    int64_t index = breakpoints_find(&d->breaks, at);

    if (rc < 0)
        return rc;
    rc = breakpoints_put(&d->breaks, &view, (size_t)index);
    if (rc == 0)
        return 0;
    debugger_remove_break(d, at);
    return err_set(
        err, -rc, "no code is in memory at 0x%llx", (unsigned long long)at);
}

void debugger_remove_break(struct debugger *d, uint64_t at)
{
    struct guest_view view = runner_view(d->ex->runner);
    int64_t index = breakpoints_find(&d->breaks, at);

    if (index < 0)
        return;
    if (breakpoints_take(&d->breaks, &view, (size_t)index) == 0)
        breakpoints_drop(&d->breaks, (size_t)index);
}

struct breakpoints *debugger_breaks(struct debugger *d)
{
    return &d->breaks;
}

size_t debugger_put_all(struct debugger *d)
{
    struct guest_view view = runner_view(d->ex->runner);

    return breakpoints_put_all(&d->breaks, &view);
}

int debugger_take(struct debugger *d, size_t index)
{
    struct guest_view view = runner_view(d->ex->runner);

    return breakpoints_take(&d->breaks, &view, index);
}

void debugger_to_frame(
    const struct kvm_regs *regs, struct unwind_frame *ret_frame)
{
    *ret_frame = (struct unwind_frame){
        .regs = {[UNWIND_RAX] = regs->rax,
            [UNWIND_RDX] = regs->rdx,
            [UNWIND_RCX] = regs->rcx,
            [UNWIND_RBX] = regs->rbx,
            [UNWIND_RSI] = regs->rsi,
            [UNWIND_RDI] = regs->rdi,
            [UNWIND_RBP] = regs->rbp,
            [UNWIND_RSP] = regs->rsp,
            [UNWIND_R8] = regs->r8,
            [UNWIND_R9] = regs->r9,
            [UNWIND_R10] = regs->r10,
            [UNWIND_R11] = regs->r11,
            [UNWIND_R12] = regs->r12,
            [UNWIND_R13] = regs->r13,
            [UNWIND_R14] = regs->r14,
            [UNWIND_R15] = regs->r15,
            [UNWIND_RIP] = regs->rip},
        .known = (1u << UNWIND_REGS) - 1,
    };
}
