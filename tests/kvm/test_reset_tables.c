/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page tables that a reset puts back: the guest's next access goes where they
 * then say, and not where KVM saw them lead before. Ring 3 reads, since what
 * is interpreted walks the tables themselves.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "snapshot/reset.h"
#include "tests/kvm/support/bare.h"

#define PORT   0x80u
#define ROUNDS 100u

/* To the next write to the port; what is written. */
static uint8_t run(struct bare *b)
{
    struct vcpu *vcpu = &b->machine.vcpus[0];
    struct vcpu_stop stop;

    for (;;) {
        enum vcpu_step step = vcpu_step(vcpu, &stop);
        const struct kvm_run *run = vcpu->run;

        if (step == VCPU_STEP_STOPPED)
            fail_msg("%s", stop.text);
        if (step == VCPU_STEP_EXIT && run->exit_reason == KVM_EXIT_IO &&
            run->io.port == PORT)
            return ((const uint8_t *)run)[run->io.data_offset];
    }
}

static void check(bool static_page_tables)
{
    const struct bare_options options = {
        .guest = "remap", .tracking = MACHINE_TRACK_BITMAP};
    struct bare *b = bare_new(&options);
    struct reset_config config = {.vcpu_parts = RESET_VCPU_PARTS_ALL,
        .static_page_tables = static_page_tables,
        .clock = VM_CLOCK_FOLLOW,
        .hot_max = 16};
    struct reset r;
    struct err err;

    assert_int_equal(run(b), 0);
    assert_int_equal(vcpu_settle(&b->machine.vcpus[0]), 0);
    if (machine_prepare_parts(&b->machine, &err) < 0)
        fail_msg("%s", err.text);
    config.parts = machine_parts(&b->machine);
    if (reset_init(&r, &config, &err) < 0)
        fail_msg("%s", err.text);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        assert_int_equal(run(b), 'a');
        assert_int_equal(run(b), 'b');
        /* Now and then from a table that is as it was. */
        if (i % 3 == 1)
            assert_int_equal(run(b), 'b');
        if (i % 3 == 2) {
            assert_int_equal(run(b), 'b');
            assert_int_equal(run(b), 'a');
        }
        if (reset_to_top(&r, &err) < 0)
            fail_msg("%s", err.text);
        reset_resume(&r);
    }
    reset_fini(&r);
    bare_free(b);
}

static void test_any_page_may_be_a_table(void **state)
{
    (void)state;
    check(false);
}

static void test_tables_are_known(void **state)
{
    (void)state;
    check(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_page_may_be_a_table),
        cmocka_unit_test(test_tables_are_known),
    };
    int rc = bare_need_kvm();

    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
