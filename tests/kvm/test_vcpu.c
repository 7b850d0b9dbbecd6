/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "tests/kvm/support/bare.h"

#define VCPUS 4u

/* counter.S: where each processor counts. */
static uint64_t counter_of(uint32_t vcpu)
{
    return BARE_MAILBOX + UINT64_C(64) * vcpu;
}

static void wait_all_count(const struct bare *b, uint32_t vcpus)
{
    for (uint32_t i = 0; i < vcpus; i++)
        bare_wait_change(b, counter_of(i), bare_peek(b, counter_of(i)));
}

/* No counter moves while we look, with the other threads given the CPU. */
static void assert_stopped(const struct bare *b, uint32_t vcpus)
{
    uint32_t at[VCPUS];

    for (uint32_t i = 0; i < vcpus; i++)
        at[i] = bare_peek(b, counter_of(i));
    for (unsigned int n = 0; n < 50; n++) {
        (void)sched_yield();
        for (uint32_t i = 0; i < vcpus; i++)
            assert_int_equal(bare_peek(b, counter_of(i)), at[i]);
    }
}

static void pause_cycles(uint32_t vcpus, unsigned int cycles)
{
    struct bare *b =
        bare_new(&(struct bare_options){.guest = "counter", .vcpus = vcpus});
    bare_start(b);
    wait_all_count(b, vcpus);
    for (unsigned int n = 0; n < cycles; n++) {
        machine_pause(&b->machine);
        assert_stopped(b, vcpus);
        machine_resume(&b->machine);
        wait_all_count(b, vcpus);
    }
    bare_free(b);
}

static void test_pause_stops_and_resume_goes_on(void **state)
{
    (void)state;
    pause_cycles(1, 1000);
}

static void test_pause_stops_every_vcpu(void **state)
{
    (void)state;
    pause_cycles(VCPUS, 100);
}

/* The guest has not moved between two pauses without a resume. */
static void test_second_pause_changes_nothing(void **state)
{
    struct bare *b;
    uint32_t at;

    (void)state;
    b = bare_new(&(struct bare_options){.guest = "counter"});
    bare_start(b);
    wait_all_count(b, 1);
    machine_pause(&b->machine);
    at = bare_peek(b, counter_of(0));
    machine_pause(&b->machine);
    assert_stopped(b, 1);
    assert_int_equal(bare_peek(b, counter_of(0)), at);
    machine_resume(&b->machine);
    machine_resume(&b->machine);
    wait_all_count(b, 1);
    bare_free(b);
}

/* A pause that is there before the start holds the first instruction. */
static void test_pause_before_start(void **state)
{
    struct bare *b;

    (void)state;
    b = bare_new(&(struct bare_options){.guest = "counter"});
    machine_pause(&b->machine);
    bare_start(b);
    vcpu_wait(&b->machine.vcpus[0]);
    assert_stopped(b, 1);
    assert_int_equal(bare_peek(b, counter_of(0)), 0);
    machine_resume(&b->machine);
    wait_all_count(b, 1);
    bare_free(b);
}

/* One in hlt without interrupts, one that waits for a SIPI for ever. */
static void test_pause_of_halted_and_waiting_vcpus(void **state)
{
    struct bare *b;

    (void)state;
    b = bare_new(&(struct bare_options){.guest = "halt", .vcpus = 2});
    bare_start(b);
    for (unsigned int n = 0; n < 100; n++) {
        machine_pause(&b->machine);
        machine_resume(&b->machine);
    }
    bare_free(b);
}

static void test_pause_after_the_end(void **state)
{
    struct bare *b;

    (void)state;
    b = bare_new(&(struct bare_options){.guest = "exit42"});
    bare_start(b);
    bare_wait_end(b);
    machine_pause(&b->machine);
    machine_resume(&b->machine);
    assert_int_equal(b->end.kind, MACHINE_EXITED);
    assert_int_equal(b->end.status, 42);
    bare_free(b);
}

static void test_quit_while_running(void **state)
{
    (void)state;
    for (unsigned int n = 0; n < 20; n++) {
        struct bare *b;

        b = bare_new(
            &(struct bare_options){.guest = "counter", .vcpus = VCPUS});
        bare_start(b);
        /* At first right after the start, later with all in the guest. */
        if (n >= 10)
            wait_all_count(b, VCPUS);
        bare_free(b);
    }
}

static void test_quit_while_paused(void **state)
{
    struct bare *b;

    (void)state;
    b = bare_new(&(struct bare_options){.guest = "counter", .vcpus = VCPUS});
    bare_start(b);
    wait_all_count(b, VCPUS);
    machine_pause(&b->machine);
    bare_free(b);
}

static void test_quit_never_started(void **state)
{
    struct bare *b;

    (void)state;
    b = bare_new(&(struct bare_options){.guest = "counter", .vcpus = VCPUS});
    bare_free(b);
}

static void test_quit_with_one_of_two_started(void **state)
{
    struct bare *b;
    struct err err;

    (void)state;
    b = bare_new(&(struct bare_options){.guest = "counter", .vcpus = 2});
    assert_int_equal(vcpu_install_kick(&err), 0);
    assert_int_equal(vcpu_start(&b->machine.vcpus[0], &err), 0);
    bare_wait_change(b, counter_of(0), 0);
    bare_free(b);
}

/* io_storm.S's counterpart: what was written to it and how it answers. */
struct probe {
    struct device dev;
    uint32_t written;
    uint32_t answer;
};

static void probe_access(struct device *dev, struct bus_access *access)
{
    struct probe *probe = container_of(dev, struct probe, dev);

    if (access->is_write && access->offset == 0)
        probe->written = (uint32_t)access->value;
    else if (!access->is_write && access->offset == 4)
        access->value = ++probe->answer;
}

static const struct device_ops probe_ops = {.access = probe_access};

struct storm {
    struct bare *bare;
    struct probe port;
    struct probe mmio;
};

static void storm_init(struct storm *s)
{
    s->port = (struct probe){0};
    s->mmio = (struct probe){0};
    device_init(&s->port.dev, &probe_ops, "port probe", NULL);
    device_init(&s->mmio.dev, &probe_ops, "mmio probe", NULL);
    s->bare = bare_new(&(struct bare_options){.guest = "io_storm"});
    assert_int_equal(bus_add(&s->bare->machine.pio, 0x700, 8, &s->port.dev), 0);
    assert_int_equal(
        bus_add(&s->bare->machine.mmio, 0xd0000000, 8, &s->mmio.dev), 0);
    bare_start(s->bare);
    bare_wait_change(s->bare, BARE_MAILBOX + 16, 0);
}

/*
 * An instruction pointer behind an access: the devices have seen it, and the
 * answer is in its register. Before it: neither.
 */
static void assert_consistent(const struct storm *s)
{
    uint32_t port_written = bare_peek(s->bare, BARE_MAILBOX);
    uint32_t port_read = bare_peek(s->bare, BARE_MAILBOX + 4);
    uint32_t mmio_written = bare_peek(s->bare, BARE_MAILBOX + 8);
    uint32_t mmio_read = bare_peek(s->bare, BARE_MAILBOX + 12);
    uint32_t round = bare_peek(s->bare, BARE_MAILBOX + 16);
    struct kvm_regs regs;
    uint32_t before;
    bool is_between;

    assert_int_equal(
        ioctl(s->bare->machine.vcpus[0].fd, KVM_GET_REGS, &regs), 0);
    is_between = regs.rip <= round || regs.rip >= mmio_read;
    before = (uint32_t)regs.rcx - (is_between ? 0u : 1u);
    assert_true(regs.rip <= mmio_read);
    assert_int_equal(s->port.written,
        is_between || regs.rip >= port_written ? regs.rcx : before);
    assert_int_equal(s->mmio.written,
        is_between || regs.rip >= mmio_written ? regs.rcx : before);
    assert_int_equal(s->mmio.answer, regs.rdi);
    if (regs.rip >= port_read || regs.rip == round)
        assert_int_equal(s->port.answer, regs.rax);
    else
        assert_int_equal(s->port.answer, before);
}

static void test_pause_completes_the_access(void **state)
{
    static struct storm s;
    uint32_t rounds = 0;
    unsigned int moved = 0;

    (void)state;
    storm_init(&s);
    for (unsigned int n = 0; n < 2000; n++) {
        machine_pause(&s.bare->machine);
        assert_consistent(&s);
        moved += s.port.written != rounds;
        rounds = s.port.written;
        machine_resume(&s.bare->machine);
    }
    /* The pauses did not all come at one place. */
    assert_true(moved > 1);
    bare_free(s.bare);
}

struct kicker {
    pthread_t thread;
    struct machine *machine;
    bool by_signal;
    unsigned int times;
};

static void *kick(void *opaque)
{
    const struct kicker *k = opaque;

    for (unsigned int n = 0; n < k->times; n++) {
        struct vcpu *vcpu = &k->machine->vcpus[n % k->machine->vcpu_count];

        if (k->by_signal)
            (void)pthread_kill(vcpu->thread, SIGRTMIN);
        else
            vcpu_request(vcpu, n % 3 == 0 ? VCPU_PAUSE : VCPU_RUN);
        if (n % 16 == 0)
            (void)sched_yield();
    }
    return NULL;
}

static void run_kickers(
    struct kicker *kickers, size_t count, const struct kicker *config)
{
    for (size_t i = 0; i < count; i++) {
        kickers[i] = *config;
        assert_int_equal(
            pthread_create(&kickers[i].thread, NULL, kick, &kickers[i]), 0);
    }
}

static void join_kickers(struct kicker *kickers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pthread_join(kickers[i].thread, NULL), 0);
}

static void test_requests_from_many_threads(void **state)
{
    struct kicker kickers[3];
    struct bare *b;

    (void)state;
    b = bare_new(&(struct bare_options){.guest = "counter", .vcpus = VCPUS});
    bare_start(b);
    run_kickers(kickers, ARRAY_SIZE(kickers),
        &(struct kicker){.machine = &b->machine, .times = 5000});
    join_kickers(kickers, ARRAY_SIZE(kickers));
    machine_resume(&b->machine);
    wait_all_count(b, VCPUS);
    machine_pause(&b->machine);
    assert_stopped(b, VCPUS);
    bare_free(b);
}

/* Signals that mean nothing neither lose nor repeat an access. */
static void test_stray_signals_in_a_storm_of_io(void **state)
{
    struct kicker kickers[2];
    static struct storm s;

    (void)state;
    storm_init(&s);
    run_kickers(kickers, ARRAY_SIZE(kickers),
        &(struct kicker){
            .machine = &s.bare->machine, .by_signal = true, .times = 20000});
    for (unsigned int n = 0; n < 200; n++) {
        machine_pause(&s.bare->machine);
        assert_consistent(&s);
        machine_resume(&s.bare->machine);
    }
    join_kickers(kickers, ARRAY_SIZE(kickers));
    machine_pause(&s.bare->machine);
    assert_consistent(&s);
    bare_free(s.bare);
}

/* A quit is final, whatever is asked afterwards. */
static void test_quit_wins_over_later_requests(void **state)
{
    struct bare *b;
    uint32_t at;

    (void)state;
    b = bare_new(&(struct bare_options){.guest = "counter"});
    bare_start(b);
    wait_all_count(b, 1);
    vcpu_request(&b->machine.vcpus[0], VCPU_QUIT);
    vcpu_wait(&b->machine.vcpus[0]);
    at = bare_peek(b, counter_of(0));
    machine_resume(&b->machine);
    assert_stopped(b, 1);
    assert_int_equal(bare_peek(b, counter_of(0)), at);
    bare_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pause_stops_and_resume_goes_on),
        cmocka_unit_test(test_pause_stops_every_vcpu),
        cmocka_unit_test(test_second_pause_changes_nothing),
        cmocka_unit_test(test_pause_before_start),
        cmocka_unit_test(test_pause_of_halted_and_waiting_vcpus),
        cmocka_unit_test(test_pause_after_the_end),
        cmocka_unit_test(test_quit_while_running),
        cmocka_unit_test(test_quit_while_paused),
        cmocka_unit_test(test_quit_never_started),
        cmocka_unit_test(test_quit_with_one_of_two_started),
        cmocka_unit_test(test_pause_completes_the_access),
        cmocka_unit_test(test_requests_from_many_threads),
        cmocka_unit_test(test_stray_signals_in_a_storm_of_io),
        cmocka_unit_test(test_quit_wins_over_later_requests),
    };
    int rc = bare_need_kvm();

    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
