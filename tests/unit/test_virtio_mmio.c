/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/unit/support/drive_queue.h"
#include "tests/unit/support/echo_device.h"
#include "virtio/device.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

static int set_up(void **state)
{
    static struct echo_bench bench;

    echo_bench_init(&bench);
    *state = &bench;
    return 0;
}

static int tear_down(void **state)
{
    echo_bench_fini(*state);
    return 0;
}

static void use_loop(struct echo_bench *f)
{
    virtio_fini(&f->e.virtio);
    echo_init(f, &f->e, &f->loop);
}

static void start(struct echo_bench *f, uint64_t features)
{
    drive_start(f->dev, features, f->d, ECHO_QUEUES);
}

static uint32_t status(struct echo_bench *f)
{
    return drive_read(f->dev, VIRTIO_MMIO_STATUS);
}

static bool needs_reset(struct echo_bench *f)
{
    return (status(f) & VIRTIO_STATUS_NEEDS_RESET) != 0;
}

static uint16_t add(struct echo_bench *f, unsigned int queue)
{
    const struct drive_buffer bufs[] = {
        {ECHO_DATA, 5, false}, {ECHO_DATA + 0x1000, 6, true}};

    assert_int_equal(gmem_write(&f->mem, gpa(ECHO_DATA), "hello", 5), 0);
    return drive_add(&f->d[queue], bufs, 2);
}

static bool got_answer(struct echo_bench *f, unsigned int queue)
{
    uint8_t data[5];
    uint32_t id;
    uint32_t len;

    if (!drive_get_used(&f->d[queue], &id, &len))
        return false;
    assert_int_equal(len, 5);
    assert_int_equal(gmem_read(&f->mem, gpa(ECHO_DATA + 0x1000), data, 5), 0);
    assert_memory_equal(data, "hello", 5);
    return true;
}

static void test_identity_registers(void **state)
{
    struct echo_bench *f = *state;

    assert_int_equal(drive_read(f->dev, 0x000), 0x74726976);
    assert_int_equal(drive_read(f->dev, 0x004), 2);
    assert_int_equal(drive_read(f->dev, 0x008), 42);
    assert_int_equal(drive_read(f->dev, 0x0b0), UINT32_MAX);
    assert_int_equal(drive_read(f->dev, 0x0bc), UINT32_MAX);
    drive_write(f->dev, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    assert_int_equal(
        drive_read(f->dev, VIRTIO_MMIO_DEVICE_FEATURES), (uint32_t)ECHO_F_ALL);
    drive_write(f->dev, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    assert_int_equal(
        drive_read(f->dev, VIRTIO_MMIO_DEVICE_FEATURES), ECHO_F_ALL >> 32);
    drive_write(f->dev, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_DEVICE_FEATURES), 0);
}

static void test_queue_maxima(void **state)
{
    struct echo_bench *f = *state;

    drive_write(f->dev, VIRTIO_MMIO_QUEUE_SEL, 1);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_QUEUE_NUM_MAX), 16);
    drive_write(f->dev, VIRTIO_MMIO_QUEUE_SEL, ECHO_QUEUES);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    drive_write(f->dev, VIRTIO_MMIO_QUEUE_SEL, UINT32_MAX);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    drive_write(f->dev, VIRTIO_MMIO_QUEUE_READY, 1);
    assert_false(needs_reset(f));
}

static void test_negotiation(void **state)
{
    struct echo_bench *f = *state;

    assert_true(drive_negotiate(f->dev, ECHO_F_ALL));
    assert_true(drive_negotiate(f->dev, VIRTIO_F_VERSION_1));
    /* Legacy, and what was not offered. */
    assert_false(drive_negotiate(f->dev, 0));
    assert_false(drive_negotiate(f->dev, ECHO_F));
    assert_false(
        drive_negotiate(f->dev, VIRTIO_F_VERSION_1 | (UINT64_C(1) << 34)));
    assert_false(needs_reset(f));
    assert_int_equal(f->e.virtio.stats.violations, 0);
}

static void test_features_are_fixed_after_features_ok(void **state)
{
    struct echo_bench *f = *state;

    assert_true(drive_negotiate(f->dev, VIRTIO_F_VERSION_1));
    drive_write(f->dev, VIRTIO_MMIO_DRIVER_FEATURES, 0);
    assert_true(needs_reset(f));
    assert_int_equal(f->e.state.virtio.driver_features, VIRTIO_F_VERSION_1);
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(status(f), 0);
}

static void test_status_mistakes(void **state)
{
    struct echo_bench *f = *state;

    drive_write(f->dev, VIRTIO_MMIO_STATUS, VIRTIO_STATUS_FEATURES_OK);
    assert_int_equal(status(f), 0);
    drive_write(f->dev, VIRTIO_MMIO_STATUS,
        VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    drive_write(f->dev, VIRTIO_MMIO_STATUS, VIRTIO_STATUS_ACKNOWLEDGE);
    assert_true(needs_reset(f));
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
    drive_write(f->dev, VIRTIO_MMIO_STATUS,
        VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
            VIRTIO_STATUS_DRIVER_OK);
    assert_true(needs_reset(f));
    assert_int_equal(status(f) & VIRTIO_STATUS_DRIVER_OK, 0);
    assert_int_equal(f->e.activated, 0);
    /* Not up, so nothing to interrupt (2.1.2). */
    assert_int_equal(fd_eventfd_drain(f->irq), 0);
    /* The bit is the device's alone. */
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0xffffff40);
    assert_false(needs_reset(f));
}

static void test_requests_inline(void **state)
{
    struct echo_bench *f = *state;

    start(f, ECHO_F_ALL);
    assert_int_equal(f->e.activated, 1);
    (void)add(f, 1);
    assert_false(got_answer(f, 1));
    drive_kick(f->dev, 1);
    assert_true(got_answer(f, 1));
    assert_int_equal(fd_eventfd_drain(f->irq), 1);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    drive_write(f->dev, VIRTIO_MMIO_INTERRUPT_ACK, 1);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    assert_int_equal(f->e.virtio.stats.requests, 1);
    assert_int_equal(f->e.virtio.stats.kicks, 1);
    assert_int_equal(f->e.virtio.stats.interrupts, 1);
}

static void test_requests_through_the_loop(void **state)
{
    struct echo_bench *f = *state;

    use_loop(f);
    start(f, VIRTIO_F_VERSION_1);
    (void)add(f, 0);
    (void)add(f, 0);
    drive_kick(f->dev, 0);
    assert_false(got_answer(f, 0));
    assert_int_equal(loop_run_once(&f->loop, 1000), 0);
    assert_true(got_answer(f, 0));
    assert_true(got_answer(f, 0));
    /* One interrupt for the batch. */
    assert_int_equal(fd_eventfd_drain(f->irq), 1);
}

static void test_kicks_before_driver_ok_do_nothing(void **state)
{
    struct echo_bench *f = *state;

    assert_true(drive_negotiate(f->dev, ECHO_F_ALL));
    drive_setup_queue(f->dev, 0, &f->d[0]);
    (void)add(f, 0);
    drive_kick(f->dev, 0);
    assert_false(got_answer(f, 0));
    assert_false(needs_reset(f));
}

static void test_kick_of_no_queue_is_a_violation(void **state)
{
    struct echo_bench *f = *state;

    start(f, ECHO_F_ALL);
    drive_kick(f->dev, ECHO_QUEUES);
    assert_true(needs_reset(f));
    assert_int_equal(fd_eventfd_drain(f->irq), 1);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_INTERRUPT_STATUS),
        VIRTIO_INTERRUPT_CONFIG);
}

static void test_violation_stops_the_device_until_reset(void **state)
{
    struct echo_bench *f = *state;
    const struct drive_buffer bad = {ECHO_RAM, 1, true};

    start(f, ECHO_F_ALL);
    (void)drive_add(&f->d[0], &bad, 1);
    drive_kick(f->dev, 0);
    assert_true(needs_reset(f));
    assert_int_equal(f->e.virtio.stats.violations, 1);
    assert_non_null(strstr(f->e.virtio.last_violation, "outside RAM"));
    assert_int_equal(fd_eventfd_drain(f->irq), 1);
    /* Its other queue stands still too, and it does not interrupt again. */
    (void)add(f, 1);
    drive_kick(f->dev, 1);
    assert_false(got_answer(f, 1));
    assert_int_equal(fd_eventfd_drain(f->irq), 0);
    /* A driver that starts over is served. */
    drive_queue_init(&f->d[0], &f->mem, ECHO_RINGS, ECHO_SIZE);
    drive_queue_init(&f->d[1], &f->mem, ECHO_RINGS + 0x10000, 16);
    start(f, ECHO_F_ALL);
    (void)add(f, 0);
    drive_kick(f->dev, 0);
    assert_true(got_answer(f, 0));
}

static void test_queue_setup_mistakes(void **state)
{
    struct echo_bench *f = *state;
    struct drive_queue bad = f->d[0];

    /* Before FEATURES_OK. */
    drive_setup_queue(f->dev, 0, &f->d[0]);
    assert_true(needs_reset(f));

    assert_true(drive_negotiate(f->dev, ECHO_F_ALL));
    drive_write(f->dev, VIRTIO_MMIO_QUEUE_SEL, 0);
    drive_write(f->dev, VIRTIO_MMIO_QUEUE_NUM, 16);
    assert_true(needs_reset(f));
    assert_true(drive_negotiate(f->dev, ECHO_F_ALL));
    drive_write(f->dev, VIRTIO_MMIO_QUEUE_NUM, 0x10008);
    assert_true(needs_reset(f));

    assert_true(drive_negotiate(f->dev, ECHO_F_ALL));
    bad.used = ECHO_RAM - 4;
    drive_setup_queue(f->dev, 0, &bad);
    assert_true(needs_reset(f));
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_QUEUE_READY), 0);

    /* 4.2.2.2: nothing changes while ready. */
    assert_true(drive_negotiate(f->dev, ECHO_F_ALL));
    drive_setup_queue(f->dev, 0, &f->d[0]);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_QUEUE_READY), 1);
    drive_write(f->dev, VIRTIO_MMIO_QUEUE_DESC_HIGH, 1);
    assert_true(needs_reset(f));
    assert_int_equal(f->e.state.virtio.queues[0].desc, f->d[0].desc);
    drive_write(f->dev, VIRTIO_MMIO_QUEUE_READY, 1);
    assert_int_equal(f->e.virtio.stats.violations, 6);
}

static void test_queue_ready_0_stops_the_queue(void **state)
{
    struct echo_bench *f = *state;

    f->e.holds = true;
    start(f, ECHO_F_ALL);
    (void)add(f, 0);
    drive_kick(f->dev, 0);
    assert_int_equal(f->e.held_count, 1);
    drive_write(f->dev, VIRTIO_MMIO_QUEUE_SEL, 0);
    drive_write(f->dev, VIRTIO_MMIO_QUEUE_READY, 0);
    assert_int_equal(f->e.held_count, 0);
    assert_true(got_answer(f, 0));
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_QUEUE_READY), 0);
    (void)add(f, 0);
    drive_kick(f->dev, 0);
    assert_int_equal(f->e.held_count, 0);
}

static void test_queue_reset(void **state)
{
    struct echo_bench *f = *state;

    f->e.holds = true;
    start(f, ECHO_F_ALL);
    (void)add(f, 0);
    drive_kick(f->dev, 0);
    drive_write(f->dev, VIRTIO_MMIO_QUEUE_SEL, 0);
    drive_write(f->dev, VIRTIO_MMIO_QUEUE_RESET, 1);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_QUEUE_RESET), 0);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_QUEUE_READY), 0);
    assert_int_equal(f->e.held_count, 0);
    f->e.holds = false;
    /* The queue comes back elsewhere; the other one never noticed. */
    drive_queue_init(&f->d[0], &f->mem, ECHO_RINGS + 0x20000, 4);
    drive_setup_queue(f->dev, 0, &f->d[0]);
    for (unsigned int i = 0; i < ECHO_QUEUES; i++) {
        (void)add(f, i);
        drive_kick(f->dev, i);
        assert_true(got_answer(f, i));
    }
    assert_false(needs_reset(f));
}

static void test_queue_reset_needs_negotiation(void **state)
{
    struct echo_bench *f = *state;

    start(f, VIRTIO_F_VERSION_1);
    drive_write(f->dev, VIRTIO_MMIO_QUEUE_SEL, 0);
    drive_write(f->dev, VIRTIO_MMIO_QUEUE_RESET, 1);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_QUEUE_READY), 1);
}

static void test_device_reset_with_requests_in_flight(void **state)
{
    struct echo_bench *f = *state;
    static const struct virtio_state zero;

    f->e.holds = true;
    start(f, ECHO_F_ALL);
    for (int i = 0; i < 3; i++)
        (void)add(f, 1);
    drive_kick(f->dev, 1);
    assert_int_equal(f->e.held_count, 3);
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(f->e.held_count, 0);
    assert_int_equal(f->e.virtio.queues[1].q.inflight, 0);
    assert_memory_equal(&f->e.state.virtio, &zero, sizeof(zero));
    assert_int_equal(f->e.state.echoed, 0);
}

static void test_odd_accesses(void **state)
{
    struct echo_bench *f = *state;
    static const uint8_t lens[] = {1, 2, 8};
    struct bus_access a;

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        a = (struct bus_access){.value = UINT64_MAX, .len = lens[i]};
        f->dev->ops->access(f->dev, &a);
        assert_true(a.value == UINT64_MAX);
        a = (struct bus_access){.offset = VIRTIO_MMIO_STATUS,
            .value = 1,
            .len = lens[i],
            .is_write = true};
        f->dev->ops->access(f->dev, &a);
        assert_int_equal(status(f), 0);
    }
    a = (struct bus_access){.offset = 2, .value = UINT64_MAX, .len = 4};
    f->dev->ops->access(f->dev, &a);
    assert_true(a.value == UINT64_MAX);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_QUEUE_NOTIFY), 0);
    drive_write(f->dev, VIRTIO_MMIO_MAGIC_VALUE, 7);
    assert_int_equal(f->e.virtio.stats.violations, 0);
}

static void test_configuration_space(void **state)
{
    struct echo_bench *f = *state;
    struct bus_access a = {.offset = 0x101, .value = UINT64_MAX, .len = 1};
    uint32_t generation;

    f->dev->ops->access(f->dev, &a);
    assert_int_equal(a.value, 2);
    a = (struct bus_access){.offset = 0x102, .len = 2};
    f->dev->ops->access(f->dev, &a);
    assert_int_equal(a.value, 0x0403);
    /* Past its end there are zeroes, to the last byte of the window. */
    a = (struct bus_access){.offset = 0x108, .len = 8};
    f->dev->ops->access(f->dev, &a);
    assert_true(a.value == 0x0c0b0a09);
    assert_int_equal(drive_read(f->dev, 0xffc), 0);
    drive_write(f->dev, 0x104, 0x11223344);
    assert_int_equal(drive_read(f->dev, 0x104), 0x11223344);

    start(f, ECHO_F_ALL);
    generation = drive_read(f->dev, VIRTIO_MMIO_CONFIG_GENERATION);
    virtio_config_changed(&f->e.virtio);
    assert_int_equal(
        drive_read(f->dev, VIRTIO_MMIO_CONFIG_GENERATION), generation + 1);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_INTERRUPT_STATUS),
        VIRTIO_INTERRUPT_CONFIG);
    assert_int_equal(fd_eventfd_drain(f->irq), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(test_identity_registers),
        T(test_queue_maxima),
        T(test_negotiation),
        T(test_features_are_fixed_after_features_ok),
        T(test_status_mistakes),
        T(test_requests_inline),
        T(test_requests_through_the_loop),
        T(test_kicks_before_driver_ok_do_nothing),
        T(test_kick_of_no_queue_is_a_violation),
        T(test_violation_stops_the_device_until_reset),
        T(test_queue_setup_mistakes),
        T(test_queue_ready_0_stops_the_queue),
        T(test_queue_reset),
        T(test_queue_reset_needs_negotiation),
        T(test_device_reset_with_requests_in_flight),
        T(test_odd_accesses),
        T(test_configuration_space),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
