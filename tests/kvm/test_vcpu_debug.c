/* SPDX-License-Identifier: Apache-2.0 */
/* In ring 0, where every KVM takes part; for ring 3 see test_trap.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "tests/kvm/support/bare.h"
#include "tests/kvm/support/cell.h"
#include "vmm/hw/vcpu_debug.h"

#define TOLD (CELL_MAILBOX + 4096)

static struct vcpu_stop stop;

/* Before what is to be stepped (tests/guests/steps.S). */
static struct cell *begin(void)
{
    struct cell *c = cell_new(&(struct cell_options){.guest = "steps"});

    do {
        assert_int_equal(vcpu_step(&c->vcpus[0], &stop), VCPU_STEP_EXIT);
    } while (c->vcpus[0].run->exit_reason != KVM_EXIT_IO);
    assert_int_equal(vcpu_settle(&c->vcpus[0]), 0);
    assert_int_equal(vcpu_get_rip(&c->vcpus[0]), cell_peek(c, TOLD));
    return c;
}

static void steps_are_single(void **state)
{
    static const uint8_t sizes[] = {5, 4, 1, 1, 7, 5, 2, 2};
    const struct vcpu_debug step = {.step = true};
    const struct vcpu_debug none = {.step = false};
    struct cell *c = begin();
    uint64_t rip = cell_peek(c, TOLD);
    uint64_t dr6 = 0;

    (void)state;
    assert_int_equal(vcpu_debug_set(&c->vcpus[0], &step, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        assert_int_equal(
            vcpu_debug_step(&c->vcpus[0], &stop, &dr6), VCPU_DEBUG_HIT);
        rip += sizes[i];
        assert_int_equal(vcpu_get_rip(&c->vcpus[0]), rip);
        assert_int_equal(dr6 & 0x4000, 0x4000);
    }
    assert_int_equal(vcpu_debug_set(&c->vcpus[0], &none, NULL), 0);
    while (c->exit_status < 0)
        assert_int_equal(
            vcpu_debug_step(&c->vcpus[0], &stop, &dr6), VCPU_DEBUG_EXIT);
    assert_int_equal(c->exit_status, 0);
    cell_free(c);
}

static void breakpoint_is_hit(void **state)
{
    struct vcpu_debug debug = {.count = 2};
    struct cell *c = begin();
    uint64_t dr6 = 0;

    (void)state;
    debug.breaks[0] = (struct vcpu_debug_break){
        .address = 0x1000, .kind = VCPU_DEBUG_EXECUTE, .length = 1};
    debug.breaks[1] =
        (struct vcpu_debug_break){.address = cell_peek(c, TOLD + 16),
            .kind = VCPU_DEBUG_EXECUTE,
            .length = 1};
    assert_int_equal(vcpu_debug_set(&c->vcpus[0], &debug, NULL), 0);
    assert_int_equal(
        vcpu_debug_step(&c->vcpus[0], &stop, &dr6), VCPU_DEBUG_HIT);
    assert_int_equal(dr6 & 0xf, 2);
    assert_int_equal(vcpu_get_rip(&c->vcpus[0]), debug.breaks[1].address);
    cell_free(c);
}

static void others_are_refused(void **state)
{
    struct vcpu_debug debug = {.count = VCPU_DEBUG_BREAKS + 1};
    struct cell *c = begin();
    struct err err;

    (void)state;
    assert_int_equal(vcpu_debug_set(&c->vcpus[0], &debug, &err), -EINVAL);
    debug.count = 1;
    debug.breaks[0] = (struct vcpu_debug_break){
        .address = 0x1002, .kind = VCPU_DEBUG_WRITE, .length = 4};
    assert_int_equal(vcpu_debug_set(&c->vcpus[0], &debug, &err), -EINVAL);
    assert_string_equal(err.text, "a processor cannot watch 4 bytes at 0x1002");
    debug.breaks[0].length = 3;
    assert_int_equal(vcpu_debug_set(&c->vcpus[0], &debug, &err), -EINVAL);
    cell_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_single),
        cmocka_unit_test(breakpoint_is_hit),
        cmocka_unit_test(others_are_refused),
    };
    int rc = bare_need_kvm();

    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
