/* SPDX-License-Identifier: Apache-2.0 */
/* Several queues, rate limits, and a disk that is exchanged. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/unit/support/drive_queue.h"
#include "tests/unit/support/mem_disk.h"
#include "virtio/blk.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define RAM     (4 * NUM_MIB)
#define RINGS   UINT64_C(0x10000)
#define PLACES  UINT64_C(0x80000) /* header, status, data of each request */
#define PLACE   UINT64_C(0x2000)
#define SIZE    ((uint16_t)16)
#define QUEUES  4u
#define SECTORS 256u
#define FEATURES                                                               \
    (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | BLK_F_FLUSH | BLK_F_MQ)

struct fixture {
    struct gmem mem;
    struct loop loop;
    int irq;
    uint8_t data[SECTORS * BLK_SECTOR];
    uint8_t more[2 * SECTORS * BLK_SECTOR];
    struct mem_disk disk;
    struct mem_disk other;
    struct blk blk;
    struct device *dev;
    struct drive_queue d[QUEUES];
    unsigned int placed;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    struct fixture *f = &fixture;
    const struct blk_config config = {.id = "vda",
        .serial = "",
        .backend = &f->disk.backend,
        .queue_size = SIZE,
        .queue_count = QUEUES};
    struct virtio_host host = {.mem = &f->mem, .loop = &f->loop};

    *f = (struct fixture){0};
    mem_disk_init(&f->disk, f->data, SECTORS);
    mem_disk_init(&f->other, f->more, 2 * SECTORS);
    memset(f->data, 0x11, sizeof(f->data));
    memset(f->more, 0x22, sizeof(f->more));
    assert_int_equal(gmem_init(&f->mem, RAM, NULL), 0);
    assert_int_equal(loop_init(&f->loop, NULL), 0);
    f->irq = fd_eventfd();
    host.irq.fd = f->irq;
    assert_int_equal(blk_init(&f->blk, &config, &host, NULL), 0);
    f->dev = &f->blk.virtio.base;
    for (unsigned int i = 0; i < QUEUES; i++)
        drive_queue_init(&f->d[i], &f->mem, RINGS + i * 0x1000, SIZE);
    drive_start(f->dev, FEATURES, f->d, QUEUES);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    f->dev->ops->reset(f->dev);
    blk_fini(&f->blk);
    loop_fini(&f->loop);
    fd_closep(&f->irq);
    gmem_fini(&f->mem);
    return 0;
}

/* A request of its own place in memory; the place's number. */
static unsigned int add(
    struct fixture *f, unsigned int queue, uint32_t type, uint32_t len)
{
    unsigned int n = f->placed++ % 128;
    uint64_t at = PLACES + n * PLACE;
    const struct blk_header h = {.type = le32_put(type)};
    const uint8_t none = 0xff;
    const struct drive_buffer bufs[] = {{at, 16, false},
        {at + 0x1000, len, type == BLK_T_IN}, {at + 16, 1, true}};

    assert_int_equal(gmem_write(&f->mem, gpa(at), &h, sizeof(h)), 0);
    assert_int_equal(gmem_write(&f->mem, gpa(at + 16), &none, 1), 0);
    (void)drive_add(&f->d[queue], bufs, 3);
    return n;
}

static void turn(struct fixture *f, int ms)
{
    assert_int_equal(loop_run_once(&f->loop, ms), 0);
}

static unsigned int answered(struct fixture *f, unsigned int queue)
{
    unsigned int n = 0;
    uint32_t id;
    uint32_t len;

    while (drive_get_used(&f->d[queue], &id, &len))
        n++;
    return n;
}

static void set_ops(struct fixture *f, uint64_t size, uint64_t refill_ms)
{
    const struct rate_change change = {
        .has_ops = true, .limits.ops = {.size = size, .refill_ms = refill_ms}};

    assert_int_equal(blk_set_rate(&f->blk, &change, NULL), 0);
}

static void test_each_queue_is_served(void **state)
{
    struct fixture *f = *state;

    assert_true((f->blk.virtio.features & BLK_F_MQ) != 0);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_CONFIG + 32) >> 16, QUEUES);
    f->disk.holds = true;
    for (unsigned int i = 0; i < QUEUES; i++) {
        (void)add(f, i, BLK_T_IN, 512);
        (void)add(f, i, BLK_T_OUT, 512);
        drive_kick(f->dev, i);
    }
    while (f->disk.held_count < 2 * QUEUES)
        turn(f, 1000);
    for (unsigned int i = 0; i < QUEUES; i++)
        assert_int_equal(f->blk.virtio.queues[i].q.inflight, 2);
    (void)fd_eventfd_drain(f->irq);
    f->disk.backend.ops->drain(&f->disk.backend);
    assert_true(fd_eventfd_drain(f->irq) >= 1);
    for (unsigned int i = 0; i < QUEUES; i++)
        assert_int_equal(answered(f, i), 2);
}

static void test_limit_loses_no_request(void **state)
{
    struct fixture *f = *state;
    unsigned int got = 0;

    set_ops(f, 2, 20);
    for (unsigned int i = 0; i < 20; i++) {
        (void)add(f, i % QUEUES, BLK_T_IN, 512);
        drive_kick(f->dev, i % QUEUES);
    }
    for (unsigned int i = 0; i < QUEUES; i++)
        turn(f, 1000);
    /* Two went at once, or a few more on a slow machine; the rest waits. */
    while (got < 20) {
        turn(f, 1000);
        for (unsigned int i = 0; i < QUEUES; i++)
            got += answered(f, i);
    }
    assert_int_equal(got, 20);
    assert_int_equal(f->disk.reads, 20);
    assert_true(f->blk.throttled > 0);
    assert_int_equal(f->blk.virtio.stats.requests, 20);
}

/* An hour per request: what is beyond the first stays until it is told. */
static void test_limits_change_while_requests_wait(void **state)
{
    struct fixture *f = *state;
    const struct rate_change bad = {.has_bytes = true,
        .limits.bytes = {.size = 1, .refill_ms = UINT64_MAX}};
    struct err err;

    set_ops(f, 1, 3600000);
    for (unsigned int i = 0; i < 5; i++)
        (void)add(f, 1, BLK_T_OUT, 1024);
    drive_kick(f->dev, 1);
    turn(f, 1000);
    assert_int_equal(answered(f, 1), 1);
    assert_int_equal(f->blk.virtio.queues[1].q.inflight, 0);
    /* A kick is not a way around it. */
    drive_kick(f->dev, 1);
    turn(f, 1000);
    assert_int_equal(answered(f, 1), 0);
    assert_int_equal(blk_set_rate(&f->blk, &bad, &err), -EINVAL);
    assert_non_null(strstr(err.text, "vda"));
    assert_int_equal(f->blk.rate.config.bytes.size, 0);
    set_ops(f, 2, 3600000);
    assert_int_equal(answered(f, 1), 2);
    set_ops(f, 0, 0);
    assert_int_equal(answered(f, 1), 2);
    assert_int_equal(f->disk.writes, 5);
}

static void test_omitted_bucket_keeps_its_value(void **state)
{
    struct fixture *f = *state;
    const struct rate_change bytes = {.has_bytes = true,
        .limits.bytes = {.size = 4096, .refill_ms = 3600000}};

    set_ops(f, 3, 3600000);
    (void)add(f, 0, BLK_T_IN, 512);
    drive_kick(f->dev, 0);
    turn(f, 1000);
    assert_int_equal(answered(f, 0), 1);
    assert_int_equal(blk_set_rate(&f->blk, &bytes, NULL), 0);
    assert_int_equal(f->blk.rate.config.ops.size, 3);
    assert_int_equal(f->blk.state.rate.ops.budget, 2);
    /* The data counts, the frame around it does not. */
    for (unsigned int i = 0; i < 2; i++)
        (void)add(f, 0, BLK_T_IN, 2048);
    drive_kick(f->dev, 0);
    turn(f, 1000);
    assert_int_equal(answered(f, 0), 2);
    assert_int_equal(f->blk.state.rate.bytes.budget, 0);
    assert_int_equal(f->blk.state.rate.ops.budget, 0);
}

static void test_snapshot_while_throttled(void **state)
{
    struct fixture *f = *state;
    struct blk_state saved;

    set_ops(f, 1, 3600000);
    for (unsigned int i = 0; i < 4; i++)
        (void)add(f, 2, BLK_T_IN, 512);
    drive_kick(f->dev, 2);
    turn(f, 1000);
    assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
    assert_int_equal(answered(f, 2), 1);
    saved = f->blk.state;
    assert_int_equal(saved.rate.ops.budget, 0);
    f->dev->ops->reset(f->dev);
    f->blk.state = saved;
    assert_int_equal(f->dev->ops->post_load(f->dev, NULL), 0);
    f->dev->ops->resume(f->dev);
    turn(f, 1000);
    /* The tokens are as they were: none. */
    assert_int_equal(answered(f, 2), 0);
    /* Nor do they come with a state that is refused. */
    assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
    saved = f->blk.state;
    f->blk.state.virtio.status = UINT32_MAX;
    f->blk.state.rate.ops.budget = UINT64_MAX;
    assert_int_equal(f->dev->ops->post_load(f->dev, NULL), -EINVAL);
    assert_in_range(f->blk.state.rate.ops.budget, 0, 1);
    /* Used entries to tell of, in a queue that was never enabled. */
    f->blk.state = saved;
    f->blk.state.virtio.queues[0].size = 3;
    f->blk.state.virtio.queues[2].signalled = 7;
    assert_int_equal(f->dev->ops->post_load(f->dev, NULL), -EINVAL);
    f->blk.state = saved;
    assert_int_equal(f->dev->ops->post_load(f->dev, NULL), 0);
    f->dev->ops->resume(f->dev);
    turn(f, 1000);
    assert_int_equal(answered(f, 2), 0);
    set_ops(f, 0, 0);
    assert_int_equal(answered(f, 2), 3);
}

static void test_reset_while_throttled(void **state)
{
    struct fixture *f = *state;

    set_ops(f, 1, 50);
    for (unsigned int i = 0; i < 4; i++)
        (void)add(f, 0, BLK_T_IN, 512);
    drive_kick(f->dev, 0);
    turn(f, 1000);
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(f->blk.virtio.queues[0].q.inflight, 0);
    while (f->loop.timers != NULL)
        turn(f, 1000);
    assert_int_equal(f->disk.reads, 1);
    for (unsigned int i = 0; i < QUEUES; i++)
        drive_queue_init(&f->d[i], &f->mem, RINGS + i * 0x1000, SIZE);
    drive_start(f->dev, FEATURES, f->d, QUEUES);
    (void)add(f, 0, BLK_T_IN, 512);
    drive_kick(f->dev, 0);
    while (answered(f, 0) == 0)
        turn(f, 1000);
}

static uint8_t data_at(struct fixture *f, unsigned int place)
{
    uint8_t byte;

    assert_int_equal(
        gmem_read(&f->mem, gpa(PLACES + place * PLACE + 0x1000), &byte, 1), 0);
    return byte;
}

static void test_disk_is_exchanged(void **state)
{
    struct fixture *f = *state;
    struct blk_backend *old = NULL;
    uint32_t generation = drive_read(f->dev, VIRTIO_MMIO_CONFIG_GENERATION);
    unsigned int before;
    unsigned int after;

    f->disk.holds = true;
    before = add(f, 0, BLK_T_IN, 512);
    drive_kick(f->dev, 0);
    turn(f, 1000);
    assert_int_equal(f->disk.held_count, 1);
    assert_int_equal(
        blk_set_backend(&f->blk, &f->other.backend, &old, NULL), 0);
    assert_ptr_equal(old, &f->disk.backend);
    assert_int_equal(f->disk.held_count, 0);
    assert_int_equal(answered(f, 0), 1);
    assert_int_equal(data_at(f, before), 0x11);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_CONFIG), 2 * SECTORS);
    assert_int_not_equal(
        drive_read(f->dev, VIRTIO_MMIO_CONFIG_GENERATION), generation);
    assert_true((drive_read(f->dev, VIRTIO_MMIO_INTERRUPT_STATUS) &
                    VIRTIO_INTERRUPT_CONFIG) != 0);
    after = add(f, 0, BLK_T_IN, 512);
    drive_kick(f->dev, 0);
    turn(f, 1000);
    assert_int_equal(answered(f, 0), 1);
    assert_int_equal(data_at(f, after), 0x22);
    assert_int_equal(f->blk.state.capacity, 2 * SECTORS);
}

static void test_exchange_is_refused(void **state)
{
    struct fixture *f = *state;
    struct blk_backend *old = NULL;
    struct err err;

    f->other.backend.read_only = true;
    assert_int_equal(
        blk_set_backend(&f->blk, &f->other.backend, &old, &err), -EINVAL);
    assert_non_null(strstr(err.text, "writable"));
    f->other.backend.read_only = false;
    f->other.backend.block_size = 4096;
    assert_int_equal(
        blk_set_backend(&f->blk, &f->other.backend, &old, &err), -EINVAL);
    assert_non_null(strstr(err.text, "4096"));
    assert_null(old);
    assert_ptr_equal(f->blk.backend, &f->disk.backend);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_CONFIG), SECTORS);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_each_queue_is_served),
        T(test_limit_loses_no_request),
        T(test_limits_change_while_requests_wait),
        T(test_omitted_bucket_keeps_its_value),
        T(test_snapshot_while_throttled),
        T(test_reset_while_throttled),
        T(test_disk_is_exchanged),
        T(test_exchange_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
