/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "tests/kvm/support/bare.h"
#include "tests/kvm/support/cell.h"
#include "vmm/hw/cpuid_check.h"
#include "vmm/hw/vcpu_msrs.h"
#include "vmm/hw/vcpu_state.h"
#include "vmm/hw/vcpu_state_wire.h"
#include "vmm/hw/vcpu_sync.h"
#include "vmm/hw/vm_clock.h"

/* A VM taken out of KVM. */
struct saved {
    uint8_t *ram;
    uint64_t mem_bytes;
    uint32_t vcpu_count;
    struct vm_clock clock;
    struct vcpu_state vcpus[CELL_VCPUS_MAX];
};

static struct vcpu_msrs msrs;

static int make_msrs(void **state)
{
    struct cell *c = cell_new(&(struct cell_options){0});
    struct err err;

    (void)state;
    if (vcpu_msrs_init(&msrs, &c->kvm, c->vcpus[0].fd, &err) < 0)
        fail_msg("%s", err.text);
    cell_free(c);
    return 0;
}

static void take(struct cell *c, uint32_t i, struct vcpu_state *state)
{
    struct err err;

    if (vcpu_state_get(&c->vcpus[i], &msrs, VCPU_STATE_ALL, state, &err) < 0)
        fail_msg("%s", err.text);
}

static struct saved *save(struct cell *c)
{
    struct saved *s = calloc(1, sizeof(*s));
    struct err err;

    assert_non_null(s);
    s->mem_bytes = c->mem.size;
    s->ram = malloc(c->mem.size);
    assert_non_null(s->ram);
    s->vcpu_count = c->vcpu_count;
    for (uint32_t i = 0; i < c->vcpu_count; i++)
        take(c, i, &s->vcpus[i]);
    if (vm_clock_get(&c->vm, &s->clock, &err) < 0)
        fail_msg("%s", err.text);
    cell_read_ram(c, s->ram);
    return s;
}

static void saved_free(struct saved *s)
{
    free(s->ram);
    free(s);
}

/* Through the wire form and back. */
static void over_the_wire(struct vcpu_state *state)
{
    uint8_t *bytes = malloc(VCPU_STATE_WIRE_MAX);
    struct vcpu_state *copy = malloc(sizeof(*copy));
    struct bytes_writer w;
    struct bytes_reader r;
    struct err err;

    assert_non_null(bytes);
    assert_non_null(copy);
    bytes_writer_init(&w, bytes, VCPU_STATE_WIRE_MAX);
    vcpu_state_encode(state, &w);
    assert_false(w.failed);
    bytes_reader_init(&r, bytes, w.pos);
    if (vcpu_state_decode(&r, copy, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(vcpu_state_diff(state, copy), 0);
    assert_int_equal(copy->tsc.value, state->tsc.value);
    *state = *copy;
    free(copy);
    free(bytes);
}

static void put(
    struct cell *c, uint32_t i, struct saved *s, const struct vm_clock *now)
{
    struct vcpu_state *state = malloc(sizeof(*state));
    struct vcpu_state *after = malloc(sizeof(*after));
    struct err err;
    uint32_t differ;

    assert_non_null(state);
    assert_non_null(after);
    *state = s->vcpus[i];
    over_the_wire(state);
    vcpu_state_rebase_tsc(state, &s->clock, now, &c->kvm.features);
    if (vcpu_state_set(&c->vcpus[i], state, VCPU_STATE_ALL, &err) < 0)
        fail_msg("%s", err.text);
    take(c, i, after);
    differ = vcpu_state_diff(state, after);
    for (uint32_t part = 1; part < VCPU_STATE_ALL; part <<= 1) {
        if ((differ & part) != 0)
            print_error("differs: %s\n", vcpu_state_part_name(part));
    }
    assert_int_equal(differ, 0);
    free(after);
    free(state);
}

/* A fresh VM with all of it; not started. */
static struct cell *load(struct saved *s, enum vm_clock_policy policy)
{
    struct cell *c = cell_new(&(struct cell_options){
        .vcpus = s->vcpu_count, .mem_bytes = s->mem_bytes});
    struct vm_clock now;
    struct err err;

    cell_write_ram(c, s->ram);
    if (vm_clock_set(&c->vm, &s->clock, policy, &now, &err) < 0)
        fail_msg("%s", err.text);
    for (uint32_t i = 0; i < s->vcpu_count; i++)
        put(c, i, s, &now);
    return c;
}

static void wait_all_kinds(struct cell *c)
{
    cell_wait_more(c, CELL_MAILBOX, 40);
    cell_wait_more(c, CELL_MAILBOX + 4, 2);
    cell_wait_more(c, CELL_MAILBOX + 8, 2);
}

/* Every kind of register, the timer, ring 0 and ring 3: 20 generations. */
static void test_every_register_goes_along(void **state)
{
    struct cell *c = cell_new(&(struct cell_options){.guest = "state"});

    (void)state;
    cell_start(c);
    for (unsigned int n = 0; n < 20; n++) {
        struct saved *s;

        wait_all_kinds(c);
        cell_pause(c);
        s = save(c);
        cell_free(c);
        c = load(s, n % 2 == 0 ? VM_CLOCK_FOLLOW : VM_CLOCK_FREEZE);
        saved_free(s);
        cell_start(c);
    }
    wait_all_kinds(c);
    cell_assert_alive(c);
    cell_free(c);
}

/* Two VMs from one save go on, each by itself. */
static void test_two_from_one(void **state)
{
    struct cell *c = cell_new(&(struct cell_options){.guest = "state"});
    struct cell *copies[2];
    struct saved *s;

    (void)state;
    cell_start(c);
    wait_all_kinds(c);
    cell_pause(c);
    s = save(c);
    cell_free(c);
    for (size_t i = 0; i < ARRAY_SIZE(copies); i++)
        copies[i] = load(s, VM_CLOCK_FOLLOW);
    for (size_t i = 0; i < ARRAY_SIZE(copies); i++)
        cell_start(copies[i]);
    for (size_t i = 0; i < ARRAY_SIZE(copies); i++) {
        wait_all_kinds(copies[i]);
        cell_free(copies[i]);
    }
    saved_free(s);
}

static void send_message(struct cell *c, uint32_t vector)
{
    struct kvm_msi msi = {.address_lo = 0xfee00000, .data = vector};

    assert_true(ioctl(c->vm.fd, KVM_SIGNAL_MSI, &msi) > 0);
}

/* Waits until the vCPU is in hlt, paused. */
static void pause_asleep(struct cell *c)
{
    for (;;) {
        struct kvm_mp_state mp;

        cell_pause(c);
        assert_int_equal(ioctl(c->vcpus[0].fd, KVM_GET_MP_STATE, &mp), 0);
        if (mp.mp_state == KVM_MP_STATE_HALTED)
            return;
        cell_resume(c);
        cell_assert_alive(c);
    }
}

static void test_halted_stays_halted_and_wakes(void **state)
{
    struct cell *c = cell_new(&(struct cell_options){.guest = "sleeper"});

    (void)state;
    cell_start(c);
    cell_wait_change(c, CELL_MAILBOX + 16, 0);
    for (uint32_t n = 0; n < 10; n++) {
        struct saved *s;

        pause_asleep(c);
        s = save(c);
        assert_int_equal(s->vcpus[0].mp_state, KVM_MP_STATE_HALTED);
        cell_free(c);
        c = load(s, VM_CLOCK_FOLLOW);
        saved_free(s);
        cell_start(c);
        pause_asleep(c);
        assert_int_equal(cell_peek(c, CELL_MAILBOX), n);
        cell_resume(c);
        send_message(c, 0x41);
        cell_wait_change(c, CELL_MAILBOX, n);
        assert_int_equal(cell_peek(c, CELL_MAILBOX), n + 1);
    }
    cell_free(c);
}

/* An interrupt that came while it was paused is in the local APIC. */
static void test_pending_interrupt_goes_along(void **state)
{
    struct cell *c = cell_new(&(struct cell_options){.guest = "sleeper"});
    struct saved *s;

    (void)state;
    cell_start(c);
    cell_wait_change(c, CELL_MAILBOX + 16, 0);
    pause_asleep(c);
    send_message(c, 0x41);
    s = save(c);
    cell_free(c);
    c = load(s, VM_CLOCK_FOLLOW);
    cell_start(c);
    cell_wait_change(c, CELL_MAILBOX, 0);
    saved_free(s);
    cell_free(c);
}

static struct cell *sleeper_with_deadline(uint32_t ticks)
{
    struct cell *c = cell_new(&(struct cell_options){.guest = "sleeper"});

    cell_poke(c, CELL_MAILBOX + 4, 1);
    cell_poke(c, CELL_MAILBOX + 8, ticks);
    cell_start(c);
    cell_wait_change(c, CELL_MAILBOX + 16, 0);
    return c;
}

/* Half a second ahead: saved before it is due, due in the second VM. */
static void test_deadline_timer_goes_along(void **state)
{
    struct cell *c = sleeper_with_deadline(1200000000);
    struct saved *s;

    (void)state;
    pause_asleep(c);
    s = save(c);
    cell_free(c);
    c = load(s, VM_CLOCK_FREEZE);
    cell_start(c);
    cell_wait_change(c, CELL_MAILBOX + 12, 0);
    saved_free(s);
    cell_free(c);
}

/* One that fired while the VM was paused is not lost. */
static void test_deadline_in_the_past_fires(void **state)
{
    struct cell *c = sleeper_with_deadline(20000000);
    struct saved *s;

    (void)state;
    pause_asleep(c);
    s = save(c);
    cell_free(c);
    c = load(s, VM_CLOCK_FOLLOW);
    cell_start(c);
    cell_wait_change(c, CELL_MAILBOX + 12, 0);
    assert_int_equal(cell_peek(c, CELL_MAILBOX + 12), 1);
    saved_free(s);
    cell_free(c);
}

static void test_waiting_for_sipi_goes_along(void **state)
{
    struct cell *c =
        cell_new(&(struct cell_options){.guest = "smp_late", .vcpus = 2});
    struct saved *s;

    (void)state;
    cell_start(c);
    cell_wait_change(c, CELL_MAILBOX, 0);
    cell_pause(c);
    s = save(c);
    assert_int_equal(s->vcpus[0].mp_state, KVM_MP_STATE_RUNNABLE);
    assert_int_equal(s->vcpus[1].mp_state, KVM_MP_STATE_UNINITIALIZED);
    cell_free(c);
    c = load(s, VM_CLOCK_FOLLOW);
    saved_free(s);
    cell_start(c);
    cell_wait_more(c, CELL_MAILBOX, 10);
    assert_int_equal(cell_peek(c, CELL_MAILBOX + 128), 0);
    cell_poke(c, CELL_MAILBOX + 64, 1);
    cell_wait_more(c, CELL_MAILBOX + 128, 10);
    /* And now both of them run. */
    cell_pause(c);
    s = save(c);
    cell_free(c);
    c = load(s, VM_CLOCK_FOLLOW);
    saved_free(s);
    cell_start(c);
    cell_wait_more(c, CELL_MAILBOX, 10);
    cell_wait_more(c, CELL_MAILBOX + 128, 10);
    cell_free(c);
}

/* All TSCs of a machine are equal, before and after. */
static void test_tscs_stay_in_step(void **state)
{
    struct cell *c =
        cell_new(&(struct cell_options){.guest = "smp_late", .vcpus = 2});
    struct saved *s;

    (void)state;
    cell_start(c);
    cell_wait_change(c, CELL_MAILBOX, 0);
    cell_pause(c);
    s = save(c);
    if (s->vcpus[0].tsc.has_offset == 0) {
        saved_free(s);
        cell_free(c);
        skip();
    }
    assert_int_equal(s->vcpus[0].tsc.offset, s->vcpus[1].tsc.offset);
    cell_free(c);
    c = load(s, VM_CLOCK_FREEZE);
    take(c, 0, &s->vcpus[0]);
    take(c, 1, &s->vcpus[1]);
    assert_int_equal(s->vcpus[0].tsc.offset, s->vcpus[1].tsc.offset);
    saved_free(s);
    cell_free(c);
}

/* To and fro: 200 resets to one point, with no ioctl for what is synced. */
static void test_reset_in_place_by_sync(void **state)
{
    struct cell *c = cell_new(&(struct cell_options){.guest = "state"});
    struct vcpu_state *synced = calloc(1, sizeof(*synced));
    struct saved *s;
    struct err err;
    uint32_t at;

    (void)state;
    if (!vcpu_sync_supported(&c->vcpus[0])) {
        cell_free(c);
        skip();
    }
    assert_non_null(synced);
    vcpu_sync_enable(&c->vcpus[0], true);
    cell_start(c);
    wait_all_kinds(c);
    cell_pause(c);
    s = save(c);
    vcpu_sync_get(&c->vcpus[0], synced);
    assert_int_equal(synced->parts, VCPU_STATE_SYNCED);
    assert_int_equal(
        vcpu_state_diff(synced, &s->vcpus[0]) & VCPU_STATE_SYNCED, 0);
    at = cell_peek(c, CELL_MAILBOX);
    for (unsigned int n = 0; n < 200; n++) {
        cell_resume(c);
        cell_wait_more(c, CELL_MAILBOX, 1 + n % 40);
        cell_pause(c);
        cell_write_ram(c, s->ram);
        assert_int_equal(cell_peek(c, CELL_MAILBOX), at);
        vcpu_sync_set(&c->vcpus[0], synced, VCPU_STATE_ALL);
        if (vcpu_state_set(&c->vcpus[0], &s->vcpus[0],
                VCPU_STATE_XSAVE | VCPU_STATE_LAPIC, &err) < 0)
            fail_msg("%s", err.text);
    }
    cell_resume(c);
    wait_all_kinds(c);
    saved_free(s);
    free(synced);
    cell_free(c);
}

/* rounds.S, run by this thread up to its next OUT. */
static void run_to_out(struct cell *c)
{
    for (;;) {
        int rc = ioctl(c->vcpus[0].fd, KVM_RUN, 0L);

        if (rc == 0 && c->vcpus[0].run->exit_reason == KVM_EXIT_IO &&
            c->vcpus[0].run->io.port == 0x80)
            return;
        if (rc == 0)
            fail_msg("exit %u", c->vcpus[0].run->exit_reason);
    }
}

/* The exit that a reset is made at need not be completed, if it is an OUT. */
static void reset_at_an_out(uint32_t ring)
{
    struct cell *c = cell_new(&(struct cell_options){.guest = "rounds"});
    struct vcpu_state *root = calloc(1, sizeof(*root));
    struct vcpu_state *settled = calloc(1, sizeof(*settled));

    assert_non_null(root);
    assert_non_null(settled);
    cell_poke(c, CELL_MAILBOX, ring);
    cell_poke(c, CELL_MAILBOX + 4, 1024);
    cell_poke(c, CELL_MAILBOX + 8, 1);
    vcpu_sync_enable(&c->vcpus[0], true);
    for (unsigned int n = 0; n < 10; n++)
        run_to_out(c);
    assert_int_equal(vcpu_settle(&c->vcpus[0]), 0);
    vcpu_sync_get(&c->vcpus[0], root);
    for (unsigned int n = 0; n < 300; n++) {
        for (unsigned int i = 0; i <= n % 7; i++)
            run_to_out(c);
        assert_int_equal(
            cell_peek(c, 1024 * NUM_PAGE_SIZE), root->regs.rbx + n % 7 + 1);
        vcpu_sync_set(&c->vcpus[0], root, VCPU_STATE_SYNCED);
        if (n % 2 == 0)
            continue;
        assert_int_equal(vcpu_settle(&c->vcpus[0]), 0);
        vcpu_sync_get(&c->vcpus[0], settled);
        assert_int_equal(vcpu_state_diff(root, settled), 0);
    }
    free(settled);
    free(root);
    cell_free(c);
}

static void test_reset_at_an_out(void **state)
{
    struct cell *c = cell_new(&(struct cell_options){0});
    bool is_supported = vcpu_sync_supported(&c->vcpus[0]);

    (void)state;
    cell_free(c);
    if (!is_supported)
        skip();
    reset_at_an_out(0);
    reset_at_an_out(3);
}

static void test_diff_names_the_parts(void **state)
{
    struct cell *c = cell_new(&(struct cell_options){.guest = "state"});
    struct vcpu_state *a = malloc(sizeof(*a));
    struct vcpu_state *b = malloc(sizeof(*b));

    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    cell_start(c);
    wait_all_kinds(c);
    cell_pause(c);
    take(c, 0, a);
    take(c, 0, b);
    assert_int_equal(vcpu_state_diff(a, b), 0);
    b->regs.rbx ^= 1;
    b->xsave[100] ^= 1;
    b->msrs[b->msr_count - 1].data ^= 1;
    assert_int_equal(vcpu_state_diff(a, b),
        VCPU_STATE_REGS | VCPU_STATE_XSAVE | VCPU_STATE_MSRS);
    *b = *a;
    b->parts &= ~VCPU_STATE_DEBUG;
    b->sregs.cr2 ^= 1;
    b->events.nmi.pending ^= 1;
    b->lapic.regs[0x80] ^= 1;
    b->lapic.regs[0x390] ^= 1;
    assert_int_equal(
        vcpu_state_diff(a, b), VCPU_STATE_DEBUG | VCPU_STATE_SREGS |
                                   VCPU_STATE_EVENTS | VCPU_STATE_LAPIC);
    free(a);
    free(b);
    cell_free(c);
}

/* Words for what KVM refuses; and no crash from a state full of ones. */
static void test_nonsense_is_refused(void **state)
{
    struct cell *c = cell_new(&(struct cell_options){.guest = "state"});
    struct vcpu_state *bad = malloc(sizeof(*bad));
    struct err err;

    (void)state;
    assert_non_null(bad);
    take(c, 0, bad);
    bad->sregs.cr4 = UINT64_MAX;
    assert_true(vcpu_state_set(&c->vcpus[0], bad, VCPU_STATE_ALL, &err) < 0);
    assert_non_null(strstr(err.text, "special registers"));
    take(c, 0, bad);
    bad->msrs[0] = (struct kvm_msr_entry){.index = 0x7fffffff, .data = 1};
    assert_int_equal(
        vcpu_state_set(&c->vcpus[0], bad, VCPU_STATE_ALL, &err), -EINVAL);
    assert_non_null(strstr(err.text, "0x7fffffff"));
    take(c, 0, bad);
    bad->msrs[0] = (struct kvm_msr_entry){.index = 0x7fffffff, .data = 0};
    assert_int_equal(
        vcpu_state_set(&c->vcpus[0], bad, VCPU_STATE_ALL, &err), 0);
    take(c, 0, bad);
    bad->tsc.khz *= 2;
    if (kvm_extension(&c->kvm, KVM_CAP_TSC_CONTROL) == 0) {
        assert_int_equal(
            vcpu_state_set(&c->vcpus[0], bad, VCPU_STATE_ALL, &err), -ERANGE);
        assert_non_null(strstr(err.text, "kHz"));
    }
    for (uint32_t part = 1; part < VCPU_STATE_ALL; part <<= 1) {
        memset(bad, 0xff, sizeof(*bad));
        bad->parts = VCPU_STATE_ALL;
        bad->msr_count = VCPU_MSRS_MAX;
        bad->xsave_size = VCPU_STATE_XSAVE_MAX;
        (void)!vcpu_state_set(&c->vcpus[0], bad, part, &err);
    }
    free(bad);
    cell_free(c);
}

/* What guests see here, saved and loaded, is what they see here. */
static void test_cpuid_of_this_host(void **state)
{
    static uint8_t bytes[CPUID_WIRE_MAX];
    struct cell *c = cell_new(&(struct cell_options){0});
    struct cpuid saved;
    struct bytes_writer w;
    struct bytes_reader r;
    struct err err;

    (void)state;
    cpuid_see(&c->cpuid, &c->kvm.features);
    bytes_writer_init(&w, bytes, sizeof(bytes));
    cpuid_encode(&c->cpuid, &w);
    assert_false(w.failed);
    bytes_reader_init(&r, bytes, w.pos);
    if (cpuid_decode(&r, &saved, &err) < 0 ||
        cpuid_check(&saved, &c->cpuid, &err) < 0)
        fail_msg("%s", err.text);
    cpuid_fini(&saved);
    cell_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_register_goes_along),
        cmocka_unit_test(test_two_from_one),
        cmocka_unit_test(test_halted_stays_halted_and_wakes),
        cmocka_unit_test(test_pending_interrupt_goes_along),
        cmocka_unit_test(test_deadline_timer_goes_along),
        cmocka_unit_test(test_deadline_in_the_past_fires),
        cmocka_unit_test(test_waiting_for_sipi_goes_along),
        cmocka_unit_test(test_tscs_stay_in_step),
        cmocka_unit_test(test_reset_in_place_by_sync),
        cmocka_unit_test(test_reset_at_an_out),
        cmocka_unit_test(test_diff_names_the_parts),
        cmocka_unit_test(test_nonsense_is_refused),
        cmocka_unit_test(test_cpuid_of_this_host),
    };
    int rc = bare_need_kvm();

    return rc != 0 ? rc : cmocka_run_group_tests(tests, make_msrs, NULL);
}
