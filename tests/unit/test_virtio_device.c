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

static bool needs_reset(struct echo_bench *f)
{
    return (drive_read(f->dev, VIRTIO_MMIO_STATUS) &
               VIRTIO_STATUS_NEEDS_RESET) != 0;
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

static void test_doorbell_is_bound_after_enough_kicks(void **state)
{
    struct echo_bench *f = *state;

    use_loop(f);
    start(f, ECHO_F_ALL);
    for (unsigned int i = 0; i < VIRTIO_BIND_AFTER - 1; i++)
        drive_kick(f->dev, 1);
    assert_int_equal(f->binds, 0);
    drive_kick(f->dev, 1);
    assert_int_equal(f->binds, 1);
    assert_int_equal(f->bound_address, UINT64_C(0xc0001050));
    assert_int_equal(f->bound_queue, 1);
    for (unsigned int i = 0; i < 1000; i++)
        drive_kick(f->dev, 1);
    assert_int_equal(f->binds, 1);
    assert_int_equal(loop_run_once(&f->loop, 1000), 0);
    /* What KVM would do on a doorbell write. */
    (void)add(f, 1);
    fd_eventfd_signal(f->bound_fd);
    assert_int_equal(loop_run_once(&f->loop, 1000), 0);
    assert_true(got_answer(f, 1));
    assert_int_equal(f->unbinds, 0);
    virtio_fini(&f->e.virtio);
    assert_int_equal(f->unbinds, 1);
    echo_init(f, &f->e, NULL);
}

static void test_doorbell_that_cannot_be_bound(void **state)
{
    struct echo_bench *f = *state;

    f->bind_result = -ENOSPC;
    use_loop(f);
    start(f, ECHO_F_ALL);
    for (unsigned int i = 0; i < 3 * VIRTIO_BIND_AFTER; i++)
        drive_kick(f->dev, 1);
    assert_int_equal(f->binds, 1);
    (void)add(f, 1);
    drive_kick(f->dev, 1);
    assert_int_equal(loop_run_once(&f->loop, 1000), 0);
    assert_true(got_answer(f, 1));
    virtio_fini(&f->e.virtio);
    assert_int_equal(f->unbinds, 0);
    echo_init(f, &f->e, NULL);
}

static void test_quiesce_holds_kicks_until_resume(void **state)
{
    struct echo_bench *f = *state;

    use_loop(f);
    start(f, ECHO_F_ALL);
    f->e.holds = true;
    (void)add(f, 0);
    drive_kick(f->dev, 0);
    assert_int_equal(loop_run_once(&f->loop, 1000), 0);
    assert_int_equal(f->e.held_count, 1);
    f->e.holds = false;
    assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
    assert_true(got_answer(f, 0));
    (void)add(f, 0);
    drive_kick(f->dev, 0);
    assert_int_equal(loop_run_once(&f->loop, 0), 0);
    assert_false(got_answer(f, 0));
    f->dev->ops->resume(f->dev);
    assert_int_equal(f->e.resumed, 1);
    assert_int_equal(loop_run_once(&f->loop, 1000), 0);
    assert_true(got_answer(f, 0));
}

static void save(struct echo_bench *f, uint8_t *wire, size_t size)
{
    struct bytes_writer w;

    bytes_writer_init(&w, wire, size);
    state_save(f->dev->ops->state, f->dev->state, &w);
    assert_false(w.failed);
    assert_int_equal(w.pos, size);
}

static void load(struct device *dev, const uint8_t *wire, size_t size)
{
    struct bytes_reader r;

    bytes_reader_init(&r, wire, size);
    assert_int_equal(state_load(dev->ops->state, 1, &r, dev->state), 0);
}

static void test_saved_state_goes_on_in_another_device(void **state)
{
    struct echo_bench *f = *state;
    uint8_t wire[sizeof(struct echo_state)];
    struct echo other;
    struct echo_state before;

    start(f, ECHO_F_ALL);
    for (int i = 0; i < 5; i++) {
        (void)add(f, 1);
        drive_kick(f->dev, 1);
        assert_true(got_answer(f, 1));
    }
    (void)fd_eventfd_drain(f->irq);
    assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
    /* A kick that the old device never got to see. */
    (void)add(f, 1);
    save(f, wire, sizeof(wire));
    before = f->e.state;

    echo_init(f, &other, NULL);
    load(&other.virtio.base, wire, sizeof(wire));
    assert_null(state_differs(&echo_desc, &before, &other.state));
    assert_int_equal(virtio_post_load(&other.virtio.base, NULL), 0);
    virtio_resume(&other.virtio.base);
    assert_true(got_answer(f, 1));
    assert_int_equal(other.state.echoed, 6);
    /* The unacknowledged interrupt is raised again. */
    assert_true(fd_eventfd_drain(f->irq) >= 1);
    (void)add(f, 1);
    drive_kick(&other.virtio.base, 1);
    assert_true(got_answer(f, 1));
    virtio_fini(&other.virtio);
}

static void test_state_is_put_back_in_place(void **state)
{
    struct echo_bench *f = *state;
    struct echo_state saved;
    struct drive_queue driver;
    uint8_t rings[0x2000];
    uint64_t base = ECHO_RINGS + 0x10000;

    start(f, ECHO_F_ALL);
    (void)add(f, 1);
    drive_kick(f->dev, 1);
    assert_true(got_answer(f, 1));
    assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
    saved = f->e.state;
    driver = f->d[1];
    assert_int_equal(gmem_read(&f->mem, gpa(base), rings, sizeof(rings)), 0);
    for (int round = 0; round < 3; round++) {
        f->dev->ops->resume(f->dev);
        for (int i = 0; i < 40; i++) {
            (void)add(f, 1);
            drive_kick(f->dev, 1);
            assert_true(got_answer(f, 1));
        }
        if (round == 1)
            drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
        assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
        f->e.state = saved;
        f->d[1] = driver;
        assert_int_equal(
            gmem_write(&f->mem, gpa(base), rings, sizeof(rings)), 0);
        assert_int_equal(f->dev->ops->post_load(f->dev, NULL), 0);
        assert_int_equal(f->e.state.echoed, 1);
    }
    f->dev->ops->resume(f->dev);
    (void)add(f, 1);
    drive_kick(f->dev, 1);
    assert_true(got_answer(f, 1));
}

static void expect_load_refused(
    struct echo_bench *f, const struct echo_state *hostile, const char *why)
{
    static const struct virtio_state zero;
    struct err err;

    f->e.state = *hostile;
    assert_int_equal(f->dev->ops->post_load(f->dev, &err), -EINVAL);
    if (strstr(err.text, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
    assert_memory_equal(&f->e.state.virtio, &zero, sizeof(zero));
}

static void test_hostile_states_are_refused(void **state)
{
    struct echo_bench *f = *state;
    struct echo_state good;
    struct echo_state s;

    start(f, ECHO_F_ALL);
    assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
    good = f->e.state;
    s = good;
    s.virtio.status |= 0x10;
    expect_load_refused(f, &s, "device status");
    s = good;
    s.virtio.status &= ~VIRTIO_STATUS_FEATURES_OK;
    expect_load_refused(f, &s, "without FEATURES_OK");
    s = good;
    s.virtio.status = 0;
    expect_load_refused(f, &s, "cannot be ready");
    s = good;
    s.virtio.interrupt_status = 4;
    expect_load_refused(f, &s, "interrupt status");
    s = good;
    s.virtio.driver_features |= UINT64_C(1) << 35;
    expect_load_refused(f, &s, "does not offer");
    s = good;
    s.virtio.driver_features &= ~VIRTIO_F_VERSION_1;
    expect_load_refused(f, &s, "does not offer");
    s = good;
    s.virtio.queues[ECHO_QUEUES].size = 1;
    expect_load_refused(f, &s, "does not have");
    s = good;
    s.virtio.queues[0].ready = 2;
    expect_load_refused(f, &s, "cannot be ready");
    s = good;
    s.virtio.queues[1].size = 32;
    expect_load_refused(f, &s, "queue 1");
    s = good;
    s.virtio.queues[1].used = ECHO_RAM;
    expect_load_refused(f, &s, "outside RAM");
    s = good;
    s.virtio.queues[0].desc += 1;
    expect_load_refused(f, &s, "misaligned");
    s = good;
    s.spare = 1;
    expect_load_refused(f, &s, "spare");
    /* Selectors and indices may be anything. */
    s = good;
    s.virtio.queue_sel = UINT32_MAX;
    s.virtio.device_features_sel = UINT32_MAX;
    s.virtio.driver_features_sel = UINT32_MAX;
    s.virtio.queues[0].avail_next = 31337;
    s.virtio.queues[0].used_next = 4242;
    f->e.state = s;
    assert_int_equal(f->dev->ops->post_load(f->dev, NULL), 0);
    f->dev->ops->resume(f->dev);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    /* The impossible index is found as soon as the queue is looked at. */
    assert_true(needs_reset(f));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(test_doorbell_is_bound_after_enough_kicks),
        T(test_doorbell_that_cannot_be_bound),
        T(test_quiesce_holds_kicks_until_resume),
        T(test_saved_state_goes_on_in_another_device),
        T(test_state_is_put_back_in_place),
        T(test_hostile_states_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
