/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuzz/breakpoints.h"
#include "fuzz/trap.h"
#include "tests/kvm/support/bare.h"
#include "tests/kvm/support/cell.h"
#include "vmm/hw/layout.h"
#include "vmm/hw/vcpu_debug.h"

#define TOLD (CELL_MAILBOX + 4096)

struct bench {
    struct cell *cell;
    struct vcpu *vcpu;
    struct guest_view view;
    struct trap trap;
    uint64_t stepped;
    uint64_t word;
    uint64_t last;
};

/* The registers as KVM has them; the view follows. */
static struct kvm_regs look(struct bench *b)
{
    struct vcpu_state *state = calloc(1, sizeof(*state));
    struct kvm_regs regs;

    assert_non_null(state);
    assert_int_equal(vcpu_state_get(b->vcpu, NULL,
                         VCPU_STATE_REGS | VCPU_STATE_SREGS, state, NULL),
        0);
    b->view.regs = (struct page_tables_regs){.cr0 = state->sregs.cr0,
        .cr3 = state->sregs.cr3,
        .cr4 = state->sregs.cr4,
        .efer = state->sregs.efer};
    regs = state->regs;
    free(state);
    return regs;
}

/* In the given ring, before what is to be stepped. */
static struct bench *bench_new(uint32_t ring)
{
    struct bench *b = calloc(1, sizeof(*b));
    struct vcpu_stop stop;

    assert_non_null(b);
    b->cell = cell_new(&(struct cell_options){.guest = "steps"});
    b->vcpu = &b->cell->vcpus[0];
    b->view.mem = &b->cell->mem;
    cell_poke(b->cell, CELL_MAILBOX, ring);
    do {
        assert_int_equal(vcpu_step(b->vcpu, &stop), VCPU_STEP_EXIT);
    } while (b->vcpu->run->exit_reason != KVM_EXIT_IO);
    assert_int_equal(vcpu_settle(b->vcpu), 0);
    b->stepped = cell_peek(b->cell, TOLD);
    b->word = cell_peek(b->cell, TOLD + 8);
    b->last = cell_peek(b->cell, TOLD + 16);
    assert_int_equal(look(b).rip, b->stepped);
    return b;
}

static void bench_free(struct bench *b)
{
    trap_fini(&b->trap);
    cell_free(b->cell);
    free(b);
}

/* Runs to a debug exit and takes it; TRAP_NONE if the guest ended instead. */
static enum trap_kind go(struct bench *b)
{
    struct vcpu_stop stop;
    enum vcpu_debug_step step;
    enum trap_kind kind;
    struct err err;
    uint64_t dr6;

    do {
        step = vcpu_debug_step(b->vcpu, &stop, &dr6);
    } while (step == VCPU_DEBUG_EXIT && b->cell->exit_status < 0);
    if (step == VCPU_DEBUG_EXIT)
        return TRAP_NONE;
    if (step != VCPU_DEBUG_HIT)
        fail_msg("%s", stop.text);
    (void)look(b);
    if (trap_take(&b->trap, &b->view, &kind, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_not_equal(kind, TRAP_NONE);
    return kind;
}

static void start(struct bench *b)
{
    struct err err;

    if (trap_init(&b->trap, b->vcpu, &b->view, &err) < 0)
        fail_msg("%s", err.text);
}

/* Sizes of the instructions of steps.S, and the loop gone through twice. */
static void steps_are_single(void **state)
{
    static const uint8_t sizes[] = {5, 4, 1, 1, 7, 5, 2, 2};
    struct bench *b = bench_new(3);
    struct kvm_regs regs;
    uint64_t rip = b->stepped;

    (void)state;
    start(b);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        assert_int_equal(trap_step(&b->trap, NULL), 0);
        assert_int_equal(go(b), TRAP_STEP);
        regs = look(b);
        rip += sizes[i];
        assert_int_equal(regs.rip, rip);
        assert_int_equal(regs.rflags & 0x100, 0);
    }
    assert_int_equal(regs.rbx, 10);
    assert_int_equal(regs.rcx, 10);
    assert_int_equal(cell_peek(b->cell, b->word), 10);
    assert_int_equal(regs.rdi, 1);
    assert_int_equal(regs.rax, 6);
    /* The branch, then the rest without us. */
    assert_int_equal(trap_step(&b->trap, NULL), 0);
    assert_int_equal(go(b), TRAP_STEP);
    assert_int_equal(look(b).rip, rip - 4);
    assert_int_equal(go(b), TRAP_NONE);
    assert_int_equal(b->cell->exit_status, 0);
    bench_free(b);
}

static uint8_t swap_byte(struct bench *b, uint64_t at, uint8_t byte)
{
    uint8_t old;

    assert_int_equal(guest_view_read(&b->view, at, &old, 1), 0);
    assert_int_equal(guest_view_write(&b->view, at, &byte, 1), 0);
    return old;
}

static void int3_is_caught(void **state)
{
    struct bench *b = bench_new(3);
    struct kvm_regs before = look(b);
    struct kvm_regs regs;
    uint8_t old;

    (void)state;
    start(b);
    old = swap_byte(b, b->last, TRAP_INT3);
    assert_int_equal(go(b), TRAP_INT3_HIT);
    regs = look(b);
    assert_int_equal(regs.rip, b->last);
    assert_int_equal(regs.rsp, before.rsp);
    assert_int_equal(regs.rax, 7);
    assert_int_equal(regs.rdi, 0);
    /* As if there had been none. */
    assert_int_equal(swap_byte(b, b->last, old), TRAP_INT3);
    assert_int_equal(go(b), TRAP_NONE);
    assert_int_equal(b->cell->exit_status, 0);
    bench_free(b);
}

/* Those of a list: one that is hit, one that has no page, one taken back. */
static void list_is_put_in(void **state)
{
    struct bench *b = bench_new(3);
    const uint64_t at[] = {
        b->last, UINT64_C(0x7fffffff0000), b->stepped, b->last, b->stepped + 5};
    struct breakpoints list = {0};
    uint8_t bytes[6] = {0};

    (void)state;
    start(b);
    assert_int_equal(breakpoints_add(&list, at, ARRAY_SIZE(at), NULL), 0);
    assert_int_equal(list.count, 4);
    assert_int_equal(breakpoints_find(&list, b->last), 2);
    assert_int_equal(breakpoints_find(&list, b->last + 1), -ENOENT);
    assert_int_equal(breakpoints_put_all(&list, &b->view), 1);
    assert_int_equal(guest_view_read(&b->view, b->stepped, bytes, 6), 0);
    assert_int_equal(bytes[0], TRAP_INT3);
    assert_int_equal(bytes[5], TRAP_INT3);
    breakpoints_hide(&list, b->stepped, bytes, sizeof(bytes));
    assert_int_equal(bytes[0], 0xb8); /* mov $5, %eax */
    assert_int_equal(bytes[1], 5);
    assert_int_not_equal(bytes[5], TRAP_INT3);
    assert_int_equal(breakpoints_take(&list, &b->view, 1), 0);
    assert_int_equal(go(b), TRAP_INT3_HIT);
    assert_int_equal(look(b).rip, b->stepped);
    assert_int_equal(breakpoints_take(&list, &b->view, 0), 0);
    assert_int_equal(go(b), TRAP_INT3_HIT);
    assert_int_equal(look(b).rip, b->last);
    /* More of them leave those that are in as they are. */
    assert_int_equal(breakpoints_add(&list, at, ARRAY_SIZE(at), NULL), 0);
    assert_int_equal(list.count, 4);
    assert_true(list.list[2].is_in);
    assert_int_equal(breakpoints_take(&list, &b->view, 2), 0);
    assert_int_equal(go(b), TRAP_NONE);
    assert_int_equal(b->cell->exit_status, 0);
    breakpoints_fini(&list);
    bench_free(b);
}

static void only_programs_are_stepped(void **state)
{
    struct bench *b = bench_new(0);
    struct err err;

    (void)state;
    assert_int_equal(trap_init(&b->trap, b->vcpu, &b->view, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "not in a 64-bit program"));
    bench_free(b);
}

/* What is kept from the guest is given back: its own int3 reaches it. */
static void end_is_an_end(void **state)
{
    struct bench *b = bench_new(3);
    struct vcpu_stop stop;

    (void)state;
    start(b);
    trap_fini(&b->trap);
    (void)swap_byte(b, b->last, TRAP_INT3);
    while (b->cell->exit_status < 0)
        assert_int_equal(vcpu_step(b->vcpu, &stop), VCPU_STEP_EXIT);
    assert_int_equal(b->cell->exit_status, 3);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_single),
        cmocka_unit_test(int3_is_caught),
        cmocka_unit_test(list_is_put_in),
        cmocka_unit_test(only_programs_are_stepped),
        cmocka_unit_test(end_is_an_end),
    };
    int rc = bare_need_kvm();

    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
