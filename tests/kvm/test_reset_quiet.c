/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resets that know which pages an entry to ring 0 writes, and pages that are
 * kept. The guest's rounds write to PAGES pages from ring 3 and stay there.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "snapshot/reset.h"
#include "tests/kvm/support/bare.h"

#define PORT       0x80u
#define FIRST_PAGE 1024u
#define PAGES      8u
#define UNTOUCHED  2000u /* a page that no round writes */
#define KEPT       (FIRST_PAGE + 3)
#define ROUNDS     100u

static void poke(struct bare *b, uint64_t at, uint32_t value)
{
    assert_int_equal(
        gmem_write(&b->machine.mem, gpa(BARE_MAILBOX + at), &value, 4), 0);
}

static void run_round(struct bare *b)
{
    struct vcpu *vcpu = &b->machine.vcpus[0];
    struct vcpu_stop stop;

    for (;;) {
        enum vcpu_step step = vcpu_step(vcpu, &stop);

        if (step == VCPU_STEP_STOPPED)
            fail_msg("%s", stop.text);
        if (step == VCPU_STEP_EXIT && vcpu->run->exit_reason == KVM_EXIT_IO &&
            vcpu->run->io.port == PORT)
            return;
    }
}

static struct bare *begin(void)
{
    const struct bare_options options = {
        .guest = "rounds", .tracking = MACHINE_TRACK_BITMAP};
    struct bare *b = bare_new(&options);
    struct err err;

    poke(b, 0, 3);
    poke(b, 4, FIRST_PAGE);
    poke(b, 8, PAGES);
    run_round(b);
    assert_int_equal(vcpu_settle(&b->machine.vcpus[0]), 0);
    if (machine_prepare_parts(&b->machine, &err) < 0)
        fail_msg("%s", err.text);
    return b;
}

static void init(struct reset *r, struct bare *b, uint32_t entry_page,
    const uint32_t *kept, uint32_t kept_count)
{
    const struct reset_config config = {.parts = machine_parts(&b->machine),
        .vcpu_parts = RESET_VCPU_PARTS_ALL,
        .static_page_tables = true,
        .entry_pages = &entry_page,
        .entry_page_count = 1,
        .quiet_parts = VCPU_STATE_XSAVE,
        .kept = kept,
        .kept_count = kept_count,
        .clock = VM_CLOCK_FOLLOW,
        .hot_max = 16};
    struct err err;

    if (reset_init(r, &config, &err) < 0)
        fail_msg("%s", err.text);
}

static void put_back(struct reset *r)
{
    struct err err;

    if (reset_to_top(r, &err) < 0)
        fail_msg("%s", err.text);
    reset_resume(r);
}

static uint32_t word_of(struct bare *b, uint32_t page)
{
    uint32_t word;

    gmem_peek_page(&b->machine.mem, page, 0, &word, sizeof(word));
    return word;
}

static void test_round_in_ring_3_is_quiet(void **state)
{
    struct bare *b = begin();
    uint8_t *before = test_malloc(b->machine.mem.size);
    struct reset r;
    uint32_t first;

    (void)state;
    init(&r, b, UNTOUCHED, NULL, 0);
    gmem_copy_pages(
        &b->machine.mem, 0, gmem_page_count(&b->machine.mem), before);
    first = word_of(b, FIRST_PAGE);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        run_round(b);
        /* Registers too were put back: the guest counts on from there. */
        assert_int_equal(word_of(b, FIRST_PAGE), first + 1);
        put_back(&r);
    }
    assert_int_equal(r.stats.entered, 0);
    assert_true(r.stats.hot > 0);
    for (uint64_t page = 0; page < gmem_page_count(&b->machine.mem); page++) {
        if (!gmem_page_equals(
                &b->machine.mem, page, before + page * NUM_PAGE_SIZE))
            fail_msg("page %llu differs", (unsigned long long)page);
    }
    reset_fini(&r);
    test_free(before);
    bare_free(b);
}

/* A page that is written in each round is seen in each, hot ones or not. */
static void test_entry_is_seen(void **state)
{
    struct bare *b = begin();
    struct reset r;

    (void)state;
    init(&r, b, FIRST_PAGE, NULL, 0);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        run_round(b);
        put_back(&r);
    }
    assert_int_equal(r.stats.entered, ROUNDS);
    reset_fini(&r);
    bare_free(b);
}

static void test_kept_pages_are_left_alone(void **state)
{
    static const uint32_t kept[] = {KEPT, UNTOUCHED + 1};
    const uint32_t mark = 0x5eed;
    struct bare *b = begin();
    struct reset r;
    uint32_t first;

    (void)state;
    init(&r, b, UNTOUCHED, kept, 2);
    gmem_poke_page(&b->machine.mem, kept[1], 0, &mark, sizeof(mark));
    first = word_of(b, FIRST_PAGE);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        run_round(b);
        put_back(&r);
        assert_int_equal(word_of(b, FIRST_PAGE), first);
        assert_int_equal(word_of(b, KEPT), first + 1);
        assert_int_equal(word_of(b, kept[1]), mark);
    }
    /* Not one that a level holds, either. */
    run_round(b);
    assert_int_equal(vcpu_settle(&b->machine.vcpus[0]), 0);
    assert_int_equal(reset_push(&r, NULL), 0);
    run_round(b);
    assert_int_equal(reset_to_level(&r, 0, NULL), 0);
    reset_resume(&r);
    assert_int_equal(word_of(b, FIRST_PAGE), first);
    assert_int_equal(word_of(b, KEPT), first + 2);
    reset_fini(&r);
    bare_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_in_ring_3_is_quiet),
        cmocka_unit_test(test_entry_is_seen),
        cmocka_unit_test(test_kept_pages_are_left_alone),
    };
    int rc = bare_need_kvm();

    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
