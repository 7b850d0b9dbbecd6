/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/rng.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define RAM   (16 * NUM_MIB)
#define RINGS UINT64_C(0x10000)
#define DATA  UINT64_C(0x100000)
#define SIZE  ((uint16_t)RNG_QUEUE_SIZE)
#define F_ALL (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX)

struct fixture {
    struct gmem mem;
    struct loop loop;
    int irq;
    struct rng rng;
    struct device *dev;
    struct drive_queue d;
};

/* With a loop a kick is worked on by run(). */
static void make(
    struct fixture *f, struct rng *rng, struct rate_config rate, bool looped)
{
    const struct rng_config config = {.id = "rng", .rate = rate};
    const struct virtio_host host = {.mem = &f->mem,
        .loop = looped ? &f->loop : NULL,
        .irq = {.fd = f->irq}};

    assert_int_equal(rng_init(rng, &config, &host, NULL), 0);
}

static void remake(struct fixture *f, struct rate_config rate)
{
    rng_fini(&f->rng);
    make(f, &f->rng, rate, true);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    struct fixture *f = &fixture;

    *f = (struct fixture){0};
    assert_int_equal(gmem_init(&f->mem, RAM, NULL), 0);
    assert_int_equal(loop_init(&f->loop, NULL), 0);
    f->irq = fd_eventfd();
    make(f, &f->rng, (struct rate_config){0}, false);
    f->dev = &f->rng.virtio.base;
    drive_queue_init(&f->d, &f->mem, RINGS, SIZE);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    f->dev->ops->reset(f->dev);
    rng_fini(&f->rng);
    loop_fini(&f->loop);
    fd_closep(&f->irq);
    gmem_fini(&f->mem);
    return 0;
}

static void run(struct fixture *f)
{
    assert_int_equal(loop_run_once(&f->loop, 0), 0);
}

static void start(struct fixture *f)
{
    drive_queue_init(&f->d, &f->mem, RINGS, SIZE);
    drive_start(f->dev, F_ALL, &f->d, 1);
}

static void ask(struct fixture *f, uint64_t addr, uint32_t len)
{
    const struct drive_buffer buf = {addr, len, true};

    (void)drive_add(&f->d, &buf, 1);
}

static bool got(struct fixture *f, uint32_t expected_len)
{
    uint32_t id;
    uint32_t len = 0;

    if (!drive_get_used(&f->d, &id, &len))
        return false;
    assert_int_equal(len, expected_len);
    return true;
}

static bool stopped(struct fixture *f)
{
    return (drive_read(f->dev, VIRTIO_MMIO_STATUS) &
               VIRTIO_STATUS_NEEDS_RESET) != 0;
}

static unsigned int zero_bytes(struct fixture *f, uint64_t at, uint32_t len)
{
    unsigned int n = 0;
    uint8_t b = 0;

    for (uint32_t i = 0; i < len; i++) {
        assert_int_equal(gmem_read(&f->mem, gpa(at + i), &b, 1), 0);
        n += b == 0;
    }
    return n;
}

static void test_fills_a_buffer(void **state)
{
    struct fixture *f = *state;
    uint8_t a[64];
    uint8_t b[64];

    start(f);
    bitmap_clear_all(&f->mem.dirty);
    ask(f, DATA, 64);
    ask(f, DATA + 64, 64);
    drive_kick(f->dev, 0);
    assert_true(got(f, 64));
    assert_true(got(f, 64));
    assert_int_equal(gmem_read(&f->mem, gpa(DATA), a, 64), 0);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA + 64), b, 64), 0);
    assert_memory_not_equal(a, b, 64);
    assert_true(zero_bytes(f, DATA, 128) < 64);
    assert_int_equal(zero_bytes(f, DATA + 128, 64), 64);
    assert_true(bitmap_test(&f->mem.dirty, DATA >> NUM_PAGE_SHIFT));
    assert_int_equal(f->rng.virtio.stats.bytes, 128);
    assert_int_equal(fd_eventfd_drain(f->irq), 1);
}

static void test_any_cut_of_a_chain(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bufs[] = {{DATA, 1, true}, {0, 0, true},
        {DATA + 0x1000, 4097, true}, {DATA + 0x8000, 300, true}};

    start(f);
    (void)drive_add(&f->d, bufs, 4);
    drive_kick(f->dev, 0);
    assert_true(got(f, 1 + 4097 + 300));
    assert_true(zero_bytes(f, DATA + 0x1000, 4097) < 1000);
    assert_true(zero_bytes(f, DATA + 0x8000, 300) < 100);
    assert_int_equal(zero_bytes(f, DATA + 0x8000 + 300, 64), 64);
}

/* 5.4.6.2 lets the device use less than all of it. */
static void test_large_chains_are_cut(void **state)
{
    struct fixture *f = *state;

    start(f);
    ask(f, DATA, RNG_CHAIN_BYTES + 4096);
    for (int i = 0; i < 5; i++)
        ask(f, DATA, 1u << 20);
    drive_kick(f->dev, 0);
    for (int i = 0; i < 6; i++)
        assert_true(got(f, RNG_CHAIN_BYTES));
    assert_int_equal(zero_bytes(f, DATA + RNG_CHAIN_BYTES, 4096), 4096);
}

/* One go is bounded; the queue is then kicked again. */
static void test_work_is_spread_over_rounds(void **state)
{
    struct fixture *f = *state;

    remake(f, (struct rate_config){0});
    start(f);
    for (int i = 0; i < 3; i++)
        ask(f, DATA, RNG_CHAIN_BYTES);
    drive_kick(f->dev, 0);
    for (int i = 0; i < 3; i++) {
        assert_false(got(f, RNG_CHAIN_BYTES));
        run(f);
        assert_true(got(f, RNG_CHAIN_BYTES));
    }
}

static void test_readable_descriptor_is_a_violation(void **state)
{
    struct fixture *f = *state;
    static const struct drive_buffer bad[][2] = {
        {{DATA, 8, false}, {DATA + 64, 8, true}},
        {{DATA, 8, false}, {DATA + 64, 8, false}},
        {{DATA, 0, true}, {DATA + 64, 0, true}}};

    for (uint64_t i = 0; i < 3; i++) {
        start(f);
        (void)drive_add(&f->d, bad[i], 2);
        ask(f, DATA, 8);
        assert_false(stopped(f));
        drive_kick(f->dev, 0);
        assert_true(stopped(f));
        assert_false(got(f, 0));
        assert_int_equal(f->rng.virtio.queues[0].q.inflight, 0);
        assert_int_equal(f->rng.virtio.stats.violations, i + 1);
    }
    assert_int_equal(zero_bytes(f, DATA, 128), 128);
}

static void test_limit_holds_back_and_the_timer_goes_on(void **state)
{
    struct fixture *f = *state;
    const struct rate_config slow = {.bytes = {.size = 64, .refill_ms = 20}};

    remake(f, slow);
    start(f);
    for (int i = 0; i < 3; i++)
        ask(f, DATA, 64);
    drive_kick(f->dev, 0);
    run(f);
    assert_true(got(f, 64));
    assert_false(got(f, 64));
    assert_true(f->rng.timer.armed);
    assert_true(f->rng.stats.throttled >= 1);
    for (int i = 0; i < 2; i++) {
        while (!got(f, 64))
            assert_int_equal(loop_run_once(&f->loop, 1000), 0);
    }
    assert_false(stopped(f));
}

static void test_operations_are_limited_too(void **state)
{
    struct fixture *f = *state;
    const struct rate_config slow = {
        .ops = {.size = 2, .refill_ms = 3600000, .burst = 1}};

    remake(f, slow);
    start(f);
    for (int i = 0; i < 4; i++)
        ask(f, DATA, 1);
    drive_kick(f->dev, 0);
    run(f);
    for (int i = 0; i < 3; i++)
        assert_true(got(f, 1));
    assert_false(got(f, 1));
    /* Resetting does not give the driver more. */
    start(f);
    ask(f, DATA, 1);
    drive_kick(f->dev, 0);
    run(f);
    assert_false(got(f, 1));
    /* The host can. */
    assert_int_equal(rng_set_rate(&f->rng, &slow, NULL), 0);
    assert_true(got(f, 1));
}

static void test_new_limits_are_checked(void **state)
{
    struct fixture *f = *state;
    const struct rng_config config = {
        .id = "rng", .rate = {.bytes = {1, UINT64_MAX, 0}}};
    const struct virtio_host host = {.mem = &f->mem, .irq = {.fd = -1}};
    struct rng other;
    struct err err;

    assert_int_equal(rng_set_rate(&f->rng, &config.rate, &err), -EINVAL);
    assert_int_equal(f->rng.rate.config.bytes.size, 0);
    assert_int_equal(rng_init(&other, &config, &host, &err), -EINVAL);
    rng_fini(&other);
}

static void test_reset_with_a_chain_waiting(void **state)
{
    struct fixture *f = *state;
    const struct rate_config slow = {.bytes = {.size = 8, .refill_ms = 5}};

    remake(f, slow);
    start(f);
    ask(f, DATA, 8);
    ask(f, DATA, 8);
    drive_kick(f->dev, 0);
    run(f);
    assert_true(f->rng.timer.armed);
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
    while (f->rng.timer.armed)
        assert_int_equal(loop_run_once(&f->loop, 1000), 0);
    assert_int_equal(f->rng.virtio.stats.requests, 1);
    assert_int_equal(f->rng.virtio.stats.violations, 0);
}

static void test_save_and_load(void **state)
{
    struct fixture *f = *state;
    const struct rate_config slow = {
        .bytes = {.size = 100, .refill_ms = UINT64_C(1) << 40}};
    uint8_t wire[1024];
    struct bytes_writer w;
    struct bytes_reader r;
    struct rng other;
    struct device *dev = &other.virtio.base;

    remake(f, slow);
    start(f);
    for (int i = 0; i < 3; i++)
        ask(f, DATA, 40);
    drive_kick(f->dev, 0);
    run(f);
    assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
    bytes_writer_init(&w, wire, sizeof(wire));
    state_save(f->dev->ops->state, &f->rng.state, &w);
    assert_false(w.failed);

    make(f, &other, slow, true);
    bytes_reader_init(&r, wire, w.pos);
    assert_int_equal(
        state_load(dev->ops->state, dev->ops->state->version, &r, &other.state),
        0);
    assert_null(state_differs(dev->ops->state, &f->rng.state, &other.state));
    assert_int_equal(dev->ops->post_load(dev, NULL), 0);
    dev->ops->resume(dev);
    run(f);
    assert_true(got(f, 40));
    assert_true(got(f, 40));
    assert_false(got(f, 40));
    /* 20 bytes were left, and are: the third chain waits here as well. */
    assert_int_equal(other.state.rate.bytes.budget, 20);
    assert_true(other.timer.armed);
    assert_int_equal(rng_set_rate(&other, &(struct rate_config){0}, NULL), 0);
    assert_true(got(f, 40));

    /* More tokens than there can be. */
    assert_int_equal(rng_set_rate(&other, &slow, NULL), 0);
    other.state.rate.bytes.budget = UINT64_MAX;
    assert_int_equal(dev->ops->post_load(dev, NULL), 0);
    assert_int_equal(other.state.rate.bytes.budget, 100);
    /* A queue that lies nowhere; and nothing else of that state stays. */
    other.state.virtio.queues[0].used = RAM;
    other.state.rate.bytes.budget = UINT64_MAX;
    other.state.rate.ops.debt = UINT64_MAX;
    assert_int_equal(dev->ops->post_load(dev, NULL), -EINVAL);
    assert_int_equal(other.state.rate.bytes.budget, 100);
    /* A driver that resets the device gets nothing for it. */
    other.state.rate.bytes.budget = 5;
    drive_write(dev, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(other.state.rate.bytes.budget, 5);
    rng_fini(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(test_fills_a_buffer),
        T(test_any_cut_of_a_chain),
        T(test_large_chains_are_cut),
        T(test_work_is_spread_over_rounds),
        T(test_readable_descriptor_is_a_violation),
        T(test_limit_holds_back_and_the_timer_goes_on),
        T(test_operations_are_limited_too),
        T(test_new_limits_are_checked),
        T(test_reset_with_a_chain_waiting),
        T(test_save_and_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
