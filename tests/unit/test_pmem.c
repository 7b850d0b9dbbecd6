/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/unit/support/drive_queue.h"
#include "tests/unit/support/skip.h"
#include "virtio/pmem.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/core/bus.h"

#define RAM   (16 * NUM_MIB)
#define RINGS UINT64_C(0x10000)
#define TYPES UINT64_C(0x40000)
#define REPLY UINT64_C(0x80000)
#define START (UINT64_C(5) << 30)
#define BYTES (6 * NUM_MIB)
#define SIZE  ((uint16_t)PMEM_QUEUE_SIZE)
#define F_ALL (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX)
#define NONE  UINT32_C(0x5a5a5a5a)

/* How a test runs: each one runs in all of them. */
struct mode {
    bool ring;
    bool looped;
};

static struct mode modes[] = {
    {false, false}, {false, true}, {true, false}, {true, true}};

struct fixture {
    struct gmem mem;
    struct loop loop;
    struct uring uring;
    struct bus mmio;
    int irq;
    int fd;
    struct mode mode;
    struct pmem pmem;
    struct device *dev;
    struct drive_queue d;
    unsigned int faults;
};

static void on_fault(void *opaque)
{
    struct fixture *f = opaque;

    f->faults++;
}

static struct pmem_config config_of(struct fixture *f)
{
    return (struct pmem_config){.id = "pmem0",
        .fd = f->fd,
        .uring = f->mode.ring ? &f->uring : NULL,
        .start = START,
        .size = BYTES,
        .on_fault = on_fault,
        .opaque = f};
}

static void make(
    struct fixture *f, struct pmem *pmem, const struct pmem_config *config)
{
    const struct virtio_host host = {.mem = &f->mem,
        .loop = f->mode.looped ? &f->loop : NULL,
        .irq = {.fd = f->irq}};

    assert_int_equal(pmem_init(pmem, config, &host, NULL), 0);
}

static void make_main(struct fixture *f, const struct pmem_config *config)
{
    make(f, &f->pmem, config);
    f->dev = &f->pmem.virtio.base;
    bus_init(&f->mmio);
    assert_int_equal(bus_add(&f->mmio, START, BYTES, &f->pmem.window), 0);
}

static void remake(struct fixture *f, const struct pmem_config *config)
{
    pmem_fini(&f->pmem);
    make_main(f, config);
}

static int set_up(void **state)
{
    const struct mode *mode = *state;
    struct fixture *f = calloc(1, sizeof(*f));
    struct pmem_config config;

    assert_non_null(f);
    f->mode = *mode;
    assert_int_equal(gmem_init(&f->mem, RAM, NULL), 0);
    assert_int_equal(loop_init(&f->loop, NULL), 0);
    uring_init(&f->uring, f->mode.looped ? &f->loop : NULL);
    f->irq = fd_eventfd();
    f->fd = memfd_create("pmem", MFD_CLOEXEC);
    assert_true(f->fd >= 0);
    config = config_of(f);
    make_main(f, &config);
    *state = f;
    return 0;
}

static void reset(struct fixture *f)
{
    device_lock(f->dev);
    f->dev->ops->reset(f->dev);
    device_unlock(f->dev);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    reset(f);
    pmem_fini(&f->pmem);
    uring_fini(&f->uring);
    loop_fini(&f->loop);
    fd_closep(&f->irq);
    fd_closep(&f->fd);
    gmem_fini(&f->mem);
    free(f);
    return 0;
}

static void start(struct fixture *f)
{
    drive_queue_init(&f->d, &f->mem, RINGS, SIZE);
    drive_start(f->dev, F_ALL, &f->d, 1);
}

/* Request `i` of a type: its own type and reply. */
static void add(struct fixture *f, unsigned int i, uint32_t type)
{
    const le32 wire = le32_put(type);
    const uint32_t none = NONE;
    const struct drive_buffer bufs[] = {
        {TYPES + i * 4u, 4, false}, {REPLY + i * 4u, 4, true}};

    assert_int_equal(gmem_write(&f->mem, gpa(bufs[0].addr), &wire, 4), 0);
    assert_int_equal(gmem_write(&f->mem, gpa(bufs[1].addr), &none, 4), 0);
    (void)drive_add(&f->d, bufs, 2);
}

static uint32_t reply(struct fixture *f, unsigned int i)
{
    le32 wire;

    assert_int_equal(gmem_read(&f->mem, gpa(REPLY + i * 4u), &wire, 4), 0);
    return le32_get(wire);
}

/* Turns the loop until `n` answers are there. */
static void wait_for(struct fixture *f, unsigned int n)
{
    uint32_t id;
    uint32_t len;

    while (n > 0) {
        if (f->mode.looped)
            assert_int_equal(loop_run_once(&f->loop, 1000), 0);
        else
            assert_true(f->d.used_seen != f->d.avail_idx);
        while (drive_get_used(&f->d, &id, &len)) {
            assert_int_equal(len, 4);
            n--;
        }
    }
}

static uint32_t one(struct fixture *f, uint32_t type)
{
    add(f, 0, type);
    drive_kick(f->dev, 0);
    wait_for(f, 1);
    return reply(f, 0);
}

static bool stopped(struct fixture *f)
{
    return (drive_read(f->dev, VIRTIO_MMIO_STATUS) &
               VIRTIO_STATUS_NEEDS_RESET) != 0;
}

static void test_identity_and_configuration(void **state)
{
    struct fixture *f = *state;
    const uint64_t at = VIRTIO_MMIO_CONFIG;

    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_DEVICE_ID), 27);
    assert_int_equal(drive_read(f->dev, at), (uint32_t)START);
    assert_int_equal(drive_read(f->dev, at + 4), START >> 32);
    assert_int_equal(drive_read(f->dev, at + 8), BYTES);
    assert_int_equal(drive_read(f->dev, at + 12), 0);
    assert_int_equal(drive_read(f->dev, at + 16), 0);
    assert_int_equal(f->pmem.virtio.features & 0xffffff, 0);
}

static void test_flush(void **state)
{
    struct fixture *f = *state;

    start(f);
    bitmap_clear_all(&f->mem.dirty);
    assert_int_equal(one(f, PMEM_REQ_FLUSH), PMEM_RESP_OK);
    assert_true(bitmap_test(&f->mem.dirty, REPLY >> NUM_PAGE_SHIFT));
    assert_int_equal(fd_eventfd_drain(f->irq), 1);
    assert_int_equal(one(f, PMEM_REQ_FLUSH), PMEM_RESP_OK);
    assert_int_equal(f->pmem.stats.syncs, 2);
    assert_int_equal(f->pmem.stats.flushes, 2);
    assert_int_equal(f->pmem.virtio.stats.errors, 0);
    if (f->mode.ring && skip_is_forbidden())
        assert_true(f->pmem.slot >= 0);
    if (!f->mode.ring)
        assert_int_equal(f->pmem.slot, -1);
}

/* Any number of flushes is one fdatasync; what comes meanwhile is the next. */
static void test_flushes_are_merged(void **state)
{
    struct fixture *f = *state;

    if (!f->mode.looped)
        return;
    start(f);
    for (unsigned int i = 0; i < 20; i++)
        add(f, i, PMEM_REQ_FLUSH);
    drive_kick(f->dev, 0);
    assert_int_equal(loop_run_once(&f->loop, 0), 0);
    for (unsigned int i = 20; i < 30; i++)
        add(f, i, PMEM_REQ_FLUSH);
    drive_kick(f->dev, 0);
    wait_for(f, 30);
    for (unsigned int i = 0; i < 30; i++)
        assert_int_equal(reply(f, i), PMEM_RESP_OK);
    assert_int_equal(f->pmem.stats.syncs, 2);
    assert_int_equal(f->pmem.stats.flushes, 30);
}

static void test_failed_sync_is_told(void **state)
{
    struct fixture *f = *state;
    struct pmem_config config = config_of(f);

    /* fdatasync(2) of one is EINVAL. */
    config.fd = f->irq;
    remake(f, &config);
    start(f);
    assert_int_equal(one(f, PMEM_REQ_FLUSH), PMEM_RESP_EIO);
    assert_int_equal(f->pmem.virtio.stats.errors, 1);
    assert_false(stopped(f));
}

static void test_unknown_type(void **state)
{
    struct fixture *f = *state;

    start(f);
    assert_int_equal(one(f, 1), PMEM_RESP_EIO);
    assert_int_equal(one(f, UINT32_MAX), PMEM_RESP_EIO);
    assert_int_equal(f->pmem.stats.syncs, 0);
    assert_int_equal(one(f, PMEM_REQ_FLUSH), PMEM_RESP_OK);
}

/* A driver may cut a request anywhere, and leave more room than needed. */
static void test_any_cut(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bufs[] = {{TYPES, 1, false},
        {TYPES + 1, 3, false}, {TYPES + 4, 8, false}, {REPLY, 2, true},
        {REPLY + 2, 1, true}, {REPLY + 3, 100, true}};
    const uint64_t none = UINT64_MAX;

    start(f);
    assert_int_equal(gmem_write(&f->mem, gpa(REPLY), &none, 8), 0);
    (void)drive_add(&f->d, bufs, ARRAY_SIZE(bufs));
    drive_kick(f->dev, 0);
    wait_for(f, 1);
    assert_int_equal(reply(f, 0), PMEM_RESP_OK);
    assert_int_equal(reply(f, 1), UINT32_MAX);
}

static void test_bad_shapes_are_violations(void **state)
{
    struct fixture *f = *state;
    static const struct drive_buffer bad[][2] = {
        {{TYPES, 3, false}, {REPLY, 4, true}},
        {{TYPES, 4, false}, {REPLY, 3, true}},
        {{TYPES, 4, false}, {REPLY, 4, false}},
        {{TYPES, 4, true}, {REPLY, 4, true}}};

    for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
        start(f);
        /* One that is good, whose answer must still come. */
        add(f, 0, PMEM_REQ_FLUSH);
        (void)drive_add(&f->d, bad[i], 2);
        drive_kick(f->dev, 0);
        wait_for(f, 1);
        assert_true(stopped(f));
        assert_int_equal(f->pmem.virtio.stats.violations, i + 1);
        assert_int_equal(f->pmem.virtio.queues[0].q.inflight, 0);
    }
}

static void test_reset_with_a_sync_in_flight(void **state)
{
    struct fixture *f = *state;

    for (unsigned int i = 0; i < 10; i++) {
        start(f);
        add(f, 0, PMEM_REQ_FLUSH);
        drive_kick(f->dev, 0);
        if (f->mode.looped)
            assert_int_equal(loop_run_once(&f->loop, 0), 0);
        drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
        assert_int_equal(f->pmem.virtio.queues[0].q.inflight, 0);
        assert_null(f->pmem.syncing);
    }
    start(f);
    assert_int_equal(one(f, PMEM_REQ_FLUSH), PMEM_RESP_OK);
}

static void test_read_only_drops_writes(void **state)
{
    struct fixture *f = *state;
    struct pmem_config config = config_of(f);
    uint8_t data[8] = {1};

    config.read_only = true;
    /* Nobody syncs a file that cannot have changed. */
    config.fd = -1;
    remake(f, &config);
    start(f);
    assert_int_equal(one(f, PMEM_REQ_FLUSH), PMEM_RESP_OK);
    assert_true(bus_access(&f->mmio, START + BYTES - 8, data, 8, true));
    assert_true(bus_access(&f->mmio, START, data, 1, true));
    assert_int_equal(f->pmem.stats.dropped_writes, 2);
    assert_int_equal(f->faults, 0);
    /* The driver learns that what it wrote is not there. */
    assert_int_equal(one(f, PMEM_REQ_FLUSH), PMEM_RESP_EIO);
    start(f);
    assert_int_equal(one(f, PMEM_REQ_FLUSH), PMEM_RESP_OK);
    assert_int_equal(f->pmem.stats.syncs, 0);
    /* A read comes out of KVM only if the host could not carry it out. */
    assert_true(bus_access(&f->mmio, START, data, 4, false));
    assert_int_equal(f->faults, 1);
}

static void test_failed_accesses_end_the_guest(void **state)
{
    struct fixture *f = *state;
    uint8_t data[8] = {1};

    start(f);
    assert_true(bus_access(&f->mmio, START + 64, data, 8, false));
    assert_int_equal(data[0], 0xff);
    assert_true(bus_access(&f->mmio, START + 64, data, 8, true));
    assert_int_equal(f->faults, 2);
    assert_int_equal(f->pmem.stats.dropped_writes, 0);
}

static void test_limit_holds_back_and_the_timer_goes_on(void **state)
{
    struct fixture *f = *state;
    struct pmem_config config = config_of(f);

    if (!f->mode.looped)
        return;
    config.rate.ops = (struct rate_bucket_config){1, 20, 0};
    remake(f, &config);
    start(f);
    for (unsigned int i = 0; i < 3; i++) {
        add(f, i, PMEM_REQ_FLUSH);
        drive_kick(f->dev, 0);
        wait_for(f, 1);
    }
    assert_int_equal(f->pmem.stats.syncs, 3);
    assert_true(f->pmem.stats.throttled >= 1);

    /* Bytes: a sync costs as many as are mapped. */
    config.rate = (struct rate_config){.bytes = {2 * BYTES, 3600000, 0}};
    assert_int_equal(pmem_set_rate(&f->pmem, &config.rate, NULL), 0);
    assert_int_equal(one(f, PMEM_REQ_FLUSH), PMEM_RESP_OK);
    assert_int_equal(one(f, PMEM_REQ_FLUSH), PMEM_RESP_OK);
    add(f, 5, PMEM_REQ_FLUSH);
    drive_kick(f->dev, 0);
    assert_int_equal(loop_run_once(&f->loop, 0), 0);
    assert_true(f->pmem.timer.armed);
    assert_int_equal(reply(f, 5), NONE);
    /* A reset does not help the driver to more. */
    start(f);
    add(f, 5, PMEM_REQ_FLUSH);
    drive_kick(f->dev, 0);
    assert_int_equal(loop_run_once(&f->loop, 0), 0);
    assert_int_equal(reply(f, 5), NONE);
    assert_int_equal(
        pmem_set_rate(&f->pmem, &(struct rate_config){0}, NULL), 0);
    wait_for(f, 1);
    assert_int_equal(reply(f, 5), PMEM_RESP_OK);
}

static void test_limits_are_checked(void **state)
{
    struct fixture *f = *state;
    struct pmem_config config = config_of(f);
    const struct virtio_host host = {.mem = &f->mem, .irq = {.fd = -1}};
    struct pmem other;
    struct err err;

    config.rate.bytes = (struct rate_bucket_config){1, UINT64_MAX, 0};
    assert_int_equal(pmem_set_rate(&f->pmem, &config.rate, &err), -EINVAL);
    assert_int_equal(f->pmem.rate.config.bytes.size, 0);
    assert_int_equal(pmem_init(&other, &config, &host, &err), -EINVAL);
    pmem_fini(&other);
}

static void load(struct fixture *f, struct pmem *other)
{
    struct device *dev = &other->virtio.base;
    uint8_t wire[1024];
    struct bytes_writer w;
    struct bytes_reader r;

    bytes_writer_init(&w, wire, sizeof(wire));
    state_save(f->dev->ops->state, &f->pmem.state, &w);
    assert_false(w.failed);
    bytes_reader_init(&r, wire, w.pos);
    assert_int_equal(state_load(dev->ops->state, dev->ops->state->version, &r,
                         &other->state),
        0);
}

static void test_save_and_load(void **state)
{
    struct fixture *f = *state;
    struct pmem_config config = config_of(f);
    struct pmem other;
    struct device *dev = &other.virtio.base;
    struct err err;
    uint32_t id;
    uint32_t len;

    start(f);
    add(f, 0, PMEM_REQ_FLUSH);
    drive_kick(f->dev, 0);
    /* Perhaps with a sync in flight, and the driver told not to kick. */
    if (f->mode.looped)
        assert_int_equal(loop_run_once(&f->loop, 0), 0);
    device_lock(f->dev);
    assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
    device_unlock(f->dev);
    assert_true(drive_get_used(&f->d, &id, &len));
    make(f, &other, &config);
    load(f, &other);
    assert_null(state_differs(dev->ops->state, &f->pmem.state, &other.state));
    device_lock(dev);
    assert_int_equal(dev->ops->post_load(dev, NULL), 0);
    dev->ops->resume(dev);
    device_unlock(dev);
    /* The driver kicks if it is asked to. */
    add(f, 1, PMEM_REQ_FLUSH);
    if (drive_avail_event(&f->d) == (uint16_t)(f->d.avail_idx - 1))
        drive_kick(dev, 0);
    wait_for(f, 1);
    assert_int_equal(reply(f, 1), PMEM_RESP_OK);

    /* Another place, another size, a queue that lies nowhere. */
    for (unsigned int i = 0; i < 3; i++) {
        device_lock(dev);
        assert_int_equal(dev->ops->quiesce(dev, NULL), 0);
        load(f, &other);
        if (i == 0)
            other.state.start += PMEM_QUEUE_SIZE;
        else if (i == 1)
            other.state.size *= 2;
        else
            other.state.virtio.queues[0].used = RAM;
        other.state.rate.ops.budget = UINT64_MAX;
        assert_int_equal(dev->ops->post_load(dev, &err), -EINVAL);
        assert_int_equal(other.state.rate.ops.budget, config.rate.ops.size);
        assert_int_equal(other.state.virtio.status, 0);
        assert_int_equal(other.state.start, START);
        assert_int_equal(other.state.size, BYTES);
        device_unlock(dev);
    }
    pmem_fini(&other);
}

int main(void)
{
#define T(name)                                                                \
    {#name " (calls, inline)", name, set_up, tear_down, &modes[0]},            \
        {#name " (calls, loop)", name, set_up, tear_down, &modes[1]},          \
        {#name " (ring, inline)", name, set_up, tear_down, &modes[2]},         \
    {                                                                          \
#name " (ring, loop)", name, set_up, tear_down, &modes[3]              \
    }
    const struct CMUnitTest tests[] = {
        T(test_identity_and_configuration),
        T(test_flush),
        T(test_flushes_are_merged),
        T(test_failed_sync_is_told),
        T(test_unknown_type),
        T(test_any_cut),
        T(test_bad_shapes_are_violations),
        T(test_reset_with_a_sync_in_flight),
        T(test_read_only_drops_writes),
        T(test_failed_accesses_end_the_guest),
        T(test_limit_holds_back_and_the_timer_goes_on),
        T(test_limits_are_checked),
        T(test_save_and_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
