/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/balloon.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define RAM   (64 * NUM_MIB)
#define PAGES (RAM >> BALLOON_PFN_SHIFT)
#define RINGS UINT64_C(0x10000)
#define LIST  UINT64_C(0x80000)  /* what the driver sends */
#define DATA  UINT64_C(0x400000) /* pages to give away, up to the end */
#define FIRST (DATA >> BALLOON_PFN_SHIFT)
#define SIZE  ((uint16_t)32)
#define F_ALL                                                                  \
    (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | BALLOON_F_STATS_VQ |            \
        BALLOON_F_DEFLATE_ON_OOM | BALLOON_F_FREE_PAGE_HINT |                  \
        BALLOON_F_PAGE_REPORTING)

struct fixture {
    struct gmem mem;
    struct loop loop;
    int irq;
    struct balloon b;
    struct device *dev;
    struct drive_queue d[BALLOON_ROLES];
};

static const struct balloon_config full_config = {.id = "balloon",
    .target = 100,
    .stats_interval_ms = 1,
    .deflate_on_oom = true,
    .page_hinting = true,
    .page_reporting = true};

static void make(struct fixture *f, struct balloon *b,
    const struct balloon_config *config, bool looped)
{
    const struct virtio_host host = {.mem = &f->mem,
        .loop = looped ? &f->loop : NULL,
        .irq = {.fd = f->irq}};

    assert_int_equal(balloon_init(b, config, &host, NULL), 0);
}

static void remake(
    struct fixture *f, const struct balloon_config *config, bool looped)
{
    balloon_fini(&f->b);
    make(f, &f->b, config, looped);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    struct fixture *f = &fixture;

    *f = (struct fixture){0};
    assert_int_equal(gmem_init(&f->mem, RAM, NULL), 0);
    assert_int_equal(loop_init(&f->loop, NULL), 0);
    f->irq = fd_eventfd();
    make(f, &f->b, &full_config, false);
    f->dev = &f->b.virtio.base;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    f->dev->ops->reset(f->dev);
    balloon_fini(&f->b);
    loop_fini(&f->loop);
    fd_closep(&f->irq);
    gmem_fini(&f->mem);
    return 0;
}

static void start_some(struct fixture *f, uint64_t features, uint32_t queues)
{
    for (uint32_t i = 0; i < queues; i++)
        drive_queue_init(&f->d[i], &f->mem, RINGS + i * 0x4000, SIZE);
    drive_start(f->dev, features, f->d, queues);
}

static void start(struct fixture *f)
{
    start_some(f, F_ALL, BALLOON_ROLES);
}

/* Fills `n` pages from DATA on with something. */
static void touch(struct fixture *f, uint32_t n)
{
    static const uint8_t ones[1] = {1};

    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(
            gmem_write(&f->mem, gpa(DATA + i * NUM_PAGE_SIZE), ones, 1), 0);
}

/* Whether page `i` from DATA on has its contents. */
static bool is_there(struct fixture *f, uint32_t i)
{
    uint8_t b = 0;

    assert_int_equal(
        gmem_read(&f->mem, gpa(DATA + i * NUM_PAGE_SIZE), &b, 1), 0);
    return b == 1;
}

/* Before any is looked at: reading a hole through the mapping fills it. */
static uint64_t host_pages(const struct fixture *f)
{
    struct stat st;

    assert_int_equal(fstat(f->mem.fd, &st), 0);
    return (uint64_t)st.st_blocks * 512 / NUM_PAGE_SIZE;
}

static void put_pfn(struct fixture *f, uint32_t i, uint64_t pfn)
{
    const le32 wire = le32_put((uint32_t)pfn);

    assert_int_equal(
        gmem_write(&f->mem, gpa(LIST + 4 * i), &wire, sizeof(wire)), 0);
}

static void send(struct fixture *f, uint32_t queue, uint32_t bytes)
{
    const struct drive_buffer buf = {LIST, bytes, false};

    (void)drive_add(&f->d[queue], &buf, 1);
    drive_kick(f->dev, queue);
}

static void offer(
    struct fixture *f, uint32_t queue, uint64_t addr, uint32_t len)
{
    const struct drive_buffer buf = {addr, len, true};

    (void)drive_add(&f->d[queue], &buf, 1);
    drive_kick(f->dev, queue);
}

static bool used(struct fixture *f, uint32_t queue)
{
    uint32_t id;
    uint32_t len = 1;

    if (!drive_get_used(&f->d[queue], &id, &len))
        return false;
    assert_int_equal(len, 0);
    return true;
}

static bool stopped(struct fixture *f)
{
    return (drive_read(f->dev, VIRTIO_MMIO_STATUS) &
               VIRTIO_STATUS_NEEDS_RESET) != 0;
}

static uint32_t config_at(struct fixture *f, uint64_t offset)
{
    return drive_read(f->dev, VIRTIO_MMIO_CONFIG + offset);
}

static void test_inflated_pages_go_back_to_the_host(void **state)
{
    struct fixture *f = *state;
    uint64_t before;

    start(f);
    touch(f, 8);
    for (uint32_t i = 0; i < 4; i++)
        put_pfn(f, i, FIRST + i * 2);
    before = host_pages(f);
    bitmap_clear_all(&f->mem.dirty);
    send(f, BALLOON_INFLATE, 16);
    assert_true(used(f, BALLOON_INFLATE));
    assert_int_equal(host_pages(f), before - 4);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(is_there(f, i), i % 2);
        assert_int_equal(bitmap_test(&f->mem.dirty, FIRST + i), (i % 2) == 0);
    }
    assert_int_equal(f->b.stats.inflated, 4);
    assert_int_equal(f->b.stats.discards, 4);
    assert_int_equal(f->b.stats.failed, 0);
    assert_int_equal(fd_eventfd_drain(f->irq), 1);
    send(f, BALLOON_DEFLATE, 16);
    assert_true(used(f, BALLOON_DEFLATE));
    assert_int_equal(f->b.stats.deflated, 4);
    /* Used again they are ordinary pages. */
    touch(f, 8);
    assert_true(is_there(f, 0));
    assert_int_equal(host_pages(f), before);
}

/* In any order, also with some twice, a run is one call. */
static void test_adjacent_pages_are_one_call(void **state)
{
    struct fixture *f = *state;
    uint64_t before;

    start(f);
    touch(f, 200);
    for (uint32_t i = 0; i < 100; i++)
        put_pfn(f, i, FIRST + 99 - i);
    for (uint32_t i = 100; i < 200; i++)
        put_pfn(f, i, FIRST + i * 61 % 200);
    before = host_pages(f);
    send(f, BALLOON_INFLATE, 400);
    assert_int_equal(f->b.stats.discards, 1);
    assert_int_equal(host_pages(f), before - 100);
    /* Of those given now half were given before. */
    for (uint32_t i = 0; i < 200; i++)
        put_pfn(f, i, FIRST + i * 61 % 200);
    send(f, BALLOON_INFLATE, 800);
    assert_int_equal(f->b.stats.discards, 2);
    assert_int_equal(host_pages(f), before - 200);
    for (uint32_t i = 0; i < 5; i++)
        put_pfn(f, i, FIRST);
    send(f, BALLOON_INFLATE, 20);
    assert_int_equal(f->b.stats.discards, 3);
    assert_int_equal(host_pages(f), before - 200);
    assert_false(stopped(f));
}

static void test_pages_outside_ram_are_a_violation(void **state)
{
    struct fixture *f = *state;
    static const uint32_t bad[] = {PAGES, PAGES + 1, UINT32_MAX,
        GMEM_GAP_START >> 12, GMEM_GAP_END >> 12, UINT32_MAX - 1};

    for (uint32_t queue = 0; queue < 2; queue++) {
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
            start(f);
            put_pfn(f, 0, FIRST);
            put_pfn(f, 1, bad[i]);
            send(f, queue, 8);
            assert_true(stopped(f));
            assert_false(used(f, queue));
            assert_int_equal(f->b.virtio.queues[queue].q.inflight, 0);
        }
    }
    assert_int_equal(f->b.virtio.stats.violations, 2 * ARRAY_SIZE(bad));
    /* The very last one is one of the guest's, and good. */
    start(f);
    put_pfn(f, 0, PAGES - 1);
    send(f, BALLOON_INFLATE, 4);
    assert_true(used(f, BALLOON_INFLATE));
    assert_false(stopped(f));
}

static void test_malformed_lists_are_violations(void **state)
{
    struct fixture *f = *state;
    static const struct drive_buffer bad[][2] = {
        {{LIST, 3, false}, {0, 0, false}}, {{LIST, 8, false}, {LIST, 2, false}},
        {{LIST, 4, false}, {LIST, 4, true}}, {{LIST, 4, true}, {0, 0, true}}};

    for (uint32_t queue = 0; queue < 2; queue++) {
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
            start(f);
            put_pfn(f, 0, FIRST);
            (void)drive_add(&f->d[queue], bad[i], 2);
            assert_false(stopped(f));
            drive_kick(f->dev, queue);
            assert_true(stopped(f));
            assert_false(used(f, queue));
        }
    }
    assert_int_equal(f->b.stats.discards, 0);
}

/* A list as long as it may be is worked off in rounds. */
static void test_long_lists_do_not_hold_the_loop(void **state)
{
    struct fixture *f = *state;
    const uint32_t n = 10000;
    unsigned int rounds = 0;

    remake(f, &full_config, true);
    start(f);
    /* No two of them adjacent, from the end on. */
    touch(f, 14000);
    for (uint32_t i = 0; i < n; i++)
        put_pfn(f, i, FIRST + 13999 - (uint64_t)(i % 7000) * 2);
    send(f, BALLOON_INFLATE, 4 * n);
    while (!used(f, BALLOON_INFLATE)) {
        uint64_t before = f->b.stats.discards;

        assert_int_equal(loop_run_once(&f->loop, 0), 0);
        assert_in_range(f->b.stats.discards - before, 1, 512);
        rounds++;
    }
    assert_in_range(rounds, 20, 60);
    assert_int_equal(f->b.stats.inflated, n);
    for (uint32_t i = 0; i < 14000; i++)
        assert_int_equal(is_there(f, i), i % 2 == 0);
}

static void test_target_and_actual(void **state)
{
    struct fixture *f = *state;
    struct err err;

    start(f);
    assert_int_equal(config_at(f, 0), 100);
    assert_int_equal(config_at(f, 4), 0);
    assert_int_equal(balloon_set_target(&f->b, 200, NULL), 0);
    assert_int_equal(config_at(f, 0), 200);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_CONFIG_GENERATION), 1);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_INTERRUPT_STATUS),
        VIRTIO_INTERRUPT_CONFIG);
    assert_int_equal(balloon_set_target(&f->b, 200, NULL), 0);
    assert_int_equal(fd_eventfd_drain(f->irq), 1);
    assert_int_equal(balloon_set_target(&f->b, PAGES + 1, &err), -EINVAL);
    assert_int_equal(config_at(f, 0), 200);
    assert_int_equal(balloon_set_target(&f->b, PAGES, NULL), 0);
    drive_write(f->dev, VIRTIO_MMIO_CONFIG + 4, 0xdeadbeef);
    assert_int_equal(f->b.state.actual, 0xdeadbeef);
    assert_int_equal(config_at(f, 4), 0xdeadbeef);
    /* The rest is not the driver's. */
    drive_write(f->dev, VIRTIO_MMIO_CONFIG, 7);
    drive_write(f->dev, VIRTIO_MMIO_CONFIG + 8, 7);
    drive_write(f->dev, VIRTIO_MMIO_CONFIG + 12, 7);
    assert_int_equal(config_at(f, 0), PAGES);
    assert_int_equal(config_at(f, 8), 0);
    assert_int_equal(config_at(f, 12), 0);
    assert_false(stopped(f));
    /* The driver's part goes with it, the host's stays. */
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(config_at(f, 0), PAGES);
    assert_int_equal(config_at(f, 4), 0);
}

static void test_configurations_are_checked(void **state)
{
    struct fixture *f = *state;
    const struct virtio_host host = {.mem = &f->mem, .irq = {.fd = -1}};
    struct balloon_config config = {.id = "b", .target = PAGES + 1};
    struct balloon b;
    struct err err;

    assert_int_equal(balloon_init(&b, &config, &host, &err), -EINVAL);
    balloon_fini(&b);
    config.target = PAGES;
    config.stats_interval_ms = BALLOON_INTERVAL_MS_MAX + 1;
    assert_int_equal(balloon_init(&b, &config, &host, &err), -EINVAL);
    config.stats_interval_ms = 0;
    assert_int_equal(balloon_init(&b, &config, &host, &err), 0);
    assert_int_equal(b.virtio.features & 0xffffff, 0);
    assert_int_equal(balloon_set_interval(&b, 5, &err), -EOPNOTSUPP);
    balloon_fini(&b);
    assert_int_equal(f->b.virtio.features & 0xffffff, F_ALL & 0xffffff);
    assert_int_equal(balloon_set_interval(&f->b, 5, &err), 0);
    assert_int_equal(f->b.interval_ms, 5);
    assert_int_equal(balloon_set_interval(&f->b, 0, &err), -EINVAL);
    assert_int_equal(
        balloon_set_interval(&f->b, BALLOON_INTERVAL_MS_MAX + 1, &err),
        -EINVAL);
}

static void put_stat(
    struct fixture *f, uint32_t i, uint16_t tag, uint64_t value)
{
    const struct balloon_stat s = {
        .tag = le16_put(tag), .value = le64_put(value)};

    assert_int_equal(
        gmem_write(&f->mem, gpa(LIST + i * sizeof(s)), &s, sizeof(s)), 0);
}

static void test_statistics(void **state)
{
    struct fixture *f = *state;

    start(f);
    assert_false(balloon_poll_stats(&f->b));
    put_stat(f, 0, BALLOON_S_MEMFREE, 1234);
    put_stat(f, 1, BALLOON_TAGS, 99);
    put_stat(f, 2, UINT16_MAX, 99);
    put_stat(f, 3, BALLOON_S_SWAP_IN, UINT64_MAX);
    send(f, BALLOON_STATS, 40);
    /* The buffer stays with the device until it wants more (5.5.6.3). */
    assert_false(used(f, BALLOON_STATS));
    assert_int_equal(f->b.guest.updates, 1);
    assert_int_equal(
        f->b.guest.present, 1u << BALLOON_S_MEMFREE | 1u << BALLOON_S_SWAP_IN);
    assert_int_equal(f->b.guest.values[BALLOON_S_MEMFREE], 1234);
    assert_true(f->b.guest.values[BALLOON_S_SWAP_IN] == UINT64_MAX);
    assert_true(balloon_poll_stats(&f->b));
    assert_true(used(f, BALLOON_STATS));
    assert_int_equal(fd_eventfd_drain(f->irq), 1);
    assert_false(balloon_poll_stats(&f->b));
    put_stat(f, 0, BALLOON_S_MEMTOT, 5);
    send(f, BALLOON_STATS, 10);
    assert_int_equal(f->b.guest.updates, 2);
    assert_int_equal(f->b.guest.present, 1u << BALLOON_S_MEMTOT);
    assert_int_equal(f->b.virtio.stats.requests, 1);
}

static void test_statistics_are_asked_for_at_an_interval(void **state)
{
    struct fixture *f = *state;

    remake(f, &full_config, true);
    start(f);
    for (uint64_t i = 1; i < 4; i++) {
        put_stat(f, 0, BALLOON_S_MEMFREE, i);
        send(f, BALLOON_STATS, 10);
        while (!used(f, BALLOON_STATS))
            assert_int_equal(loop_run_once(&f->loop, 1000), 0);
        assert_int_equal(f->b.guest.updates, i);
        assert_int_equal(f->b.guest.values[BALLOON_S_MEMFREE], i);
    }
    /* It ends with the driver. */
    assert_true(f->b.timer.armed);
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
    while (f->b.timer.armed)
        assert_int_equal(loop_run_once(&f->loop, 1000), 0);
}

static void test_bad_statistics(void **state)
{
    struct fixture *f = *state;
    static const struct drive_buffer bad[][2] = {
        {{LIST, 9, false}, {0, 0, false}}, {{LIST, 11, false}, {0, 0, false}},
        {{LIST, 10, false}, {LIST, 10, true}},
        {{LIST, 10, true}, {0, 0, true}}};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        start(f);
        (void)drive_add(&f->d[BALLOON_STATS], bad[i], 2);
        drive_kick(f->dev, BALLOON_STATS);
        assert_true(stopped(f));
        assert_false(used(f, BALLOON_STATS));
        assert_false(balloon_poll_stats(&f->b));
    }
    assert_int_equal(f->b.guest.updates, 0);
    /* More entries than anybody knows are not looked at for ever. */
    start(f);
    for (uint32_t i = 0; i < 64; i++)
        put_stat(f, i, BALLOON_S_MEMFREE, i);
    put_stat(f, 64, BALLOON_S_MEMTOT, 1);
    send(f, BALLOON_STATS, 650);
    assert_int_equal(f->b.guest.present, 1u << BALLOON_S_MEMFREE);
    assert_int_equal(f->b.guest.values[BALLOON_S_MEMFREE], 63);
    assert_false(stopped(f));
}

static void test_reported_pages(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bufs[] = {{DATA, 8192, true},
        {DATA + 3 * 4096, 4096, true}, {DATA + 5 * 4096 + 1, 8191, true}};
    const struct drive_buffer bad[] = {{DATA, 4, false}, {DATA, 4096, true}};
    static const bool kept[8] = {
        false, false, true, false, true, true, false, true};
    uint64_t before;

    start(f);
    touch(f, 8);
    before = host_pages(f);
    (void)drive_add(&f->d[BALLOON_REPORT], bufs, 3);
    drive_kick(f->dev, BALLOON_REPORT);
    assert_true(used(f, BALLOON_REPORT));
    assert_int_equal(host_pages(f), before - 4);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(is_there(f, i), kept[i]);
    (void)drive_add(&f->d[BALLOON_REPORT], bad, 2);
    drive_kick(f->dev, BALLOON_REPORT);
    assert_true(stopped(f));
    assert_false(used(f, BALLOON_REPORT));
}

static void test_large_reports_are_done_in_rounds(void **state)
{
    struct fixture *f = *state;
    const uint32_t pages = 15000;
    unsigned int rounds = 0;

    remake(f, &full_config, true);
    start(f);
    touch(f, pages);
    offer(f, BALLOON_REPORT, DATA, (pages - 1) * 4096);
    while (!used(f, BALLOON_REPORT)) {
        assert_int_equal(loop_run_once(&f->loop, 0), 0);
        rounds++;
    }
    assert_in_range(rounds, 3, 5);
    assert_int_equal(f->b.stats.reported, pages - 1);
    assert_true(is_there(f, pages - 1));
    for (uint32_t i = 0; i < pages - 1; i++)
        assert_false(is_there(f, i));
}

static void send_cmd(struct fixture *f, uint32_t cmd)
{
    put_pfn(f, 0, cmd);
    send(f, BALLOON_HINT, 4);
    assert_true(used(f, BALLOON_HINT));
}

static void test_hinting_run(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(balloon_start_hinting(&f->b, true, NULL), -EOPNOTSUPP);
    start(f);
    touch(f, 4);
    assert_int_equal(config_at(f, 8), BALLOON_CMD_STOP);
    /* Hints that nobody asked for. */
    offer(f, BALLOON_HINT, DATA, 4096);
    assert_true(used(f, BALLOON_HINT));
    assert_int_equal(f->b.stats.stale, 1);

    assert_int_equal(balloon_start_hinting(&f->b, true, NULL), 0);
    assert_int_equal(config_at(f, 8), BALLOON_CMD_FIRST);
    assert_true((drive_read(f->dev, VIRTIO_MMIO_INTERRUPT_STATUS) &
                    VIRTIO_INTERRUPT_CONFIG) != 0);
    /* Nor are these for the run that goes on. */
    offer(f, BALLOON_HINT, DATA, 4096);
    assert_true(used(f, BALLOON_HINT));
    assert_true(is_there(f, 0));
    send_cmd(f, BALLOON_CMD_FIRST);
    assert_int_equal(f->b.state.guest_cmd, BALLOON_CMD_FIRST);
    offer(f, BALLOON_HINT, DATA, 8192);
    assert_true(used(f, BALLOON_HINT));
    assert_false(is_there(f, 0));
    assert_false(is_there(f, 1));
    assert_int_equal(f->b.stats.hinted, 2);
    assert_int_equal(config_at(f, 8), BALLOON_CMD_FIRST);
    send_cmd(f, BALLOON_CMD_STOP);
    assert_int_equal(config_at(f, 8), BALLOON_CMD_DONE);
    offer(f, BALLOON_HINT, DATA + 8192, 8192);
    assert_true(is_there(f, 2));
    assert_int_equal(f->b.stats.stale, 3);
}

static void test_hinting_ended_by_the_host(void **state)
{
    struct fixture *f = *state;

    start(f);
    balloon_stop_hinting(&f->b);
    assert_int_equal(config_at(f, 8), BALLOON_CMD_STOP);
    assert_int_equal(balloon_start_hinting(&f->b, false, NULL), 0);
    send_cmd(f, BALLOON_CMD_FIRST);
    send_cmd(f, BALLOON_CMD_STOP);
    assert_int_equal(config_at(f, 8), BALLOON_CMD_FIRST);
    balloon_stop_hinting(&f->b);
    assert_int_equal(config_at(f, 8), BALLOON_CMD_DONE);
    /* Each run has an id of its own, across resets and the end of numbers. */
    assert_int_equal(balloon_start_hinting(&f->b, false, NULL), 0);
    assert_int_equal(config_at(f, 8), BALLOON_CMD_FIRST + 1);
    start(f);
    assert_int_equal(config_at(f, 8), BALLOON_CMD_STOP);
    f->b.state.last_cmd = UINT32_MAX - 1;
    assert_int_equal(balloon_start_hinting(&f->b, false, NULL), 0);
    assert_true(config_at(f, 8) == UINT32_MAX);
    assert_int_equal(balloon_start_hinting(&f->b, false, NULL), 0);
    assert_int_equal(config_at(f, 8), BALLOON_CMD_FIRST);
}

static void test_bad_hints(void **state)
{
    struct fixture *f = *state;

    for (uint32_t len = 1; len < 9; len++) {
        start(f);
        send(f, BALLOON_HINT, len);
        assert_int_equal(stopped(f), len != 4);
        assert_int_equal(used(f, BALLOON_HINT), len == 4);
    }
}

/* Linux moves queues up in place of those it did not negotiate. */
static void test_queues_without_the_ones_before(void **state)
{
    struct fixture *f = *state;

    start_some(f, VIRTIO_F_VERSION_1 | BALLOON_F_PAGE_REPORTING, 3);
    touch(f, 2);
    offer(f, 2, DATA, 4096);
    assert_true(used(f, 2));
    assert_false(is_there(f, 0));
    assert_int_equal(f->b.stats.reported, 1);
    assert_false(balloon_poll_stats(&f->b));
    assert_int_equal(balloon_start_hinting(&f->b, false, NULL), -EOPNOTSUPP);
    /* Nothing is left for a fourth. */
    start_some(f, VIRTIO_F_VERSION_1 | BALLOON_F_PAGE_REPORTING, 4);
    offer(f, 3, DATA + 4096, 4096);
    assert_true(stopped(f));
    assert_true(is_there(f, 1));
    start_some(f,
        VIRTIO_F_VERSION_1 | BALLOON_F_STATS_VQ | BALLOON_F_PAGE_REPORTING, 4);
    offer(f, 3, DATA + 4096, 4096);
    assert_false(stopped(f));
    assert_false(is_there(f, 1));
}

/* The rings themselves may go: that harms nobody but the guest. */
static void test_giving_away_the_rings(void **state)
{
    struct fixture *f = *state;

    start(f);
    put_pfn(f, 0, RINGS >> BALLOON_PFN_SHIFT);
    send(f, BALLOON_INFLATE, 4);
    send(f, BALLOON_DEFLATE, 4);
    assert_int_equal(f->b.stats.inflated, 1);
    start(f);
    assert_false(stopped(f));
}

static void test_reset_in_mid_chain(void **state)
{
    struct fixture *f = *state;

    remake(f, &full_config, true);
    start(f);
    for (uint32_t i = 0; i < 1000; i++)
        put_pfn(f, i, FIRST + i * 2);
    send(f, BALLOON_INFLATE, 4000);
    assert_int_equal(loop_run_once(&f->loop, 0), 0);
    assert_false(used(f, BALLOON_INFLATE));
    assert_true(f->b.state.done[BALLOON_INFLATE] != 0);
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(f->b.state.done[BALLOON_INFLATE], 0);
    start(f);
    put_pfn(f, 0, FIRST);
    touch(f, 1);
    send(f, BALLOON_INFLATE, 4);
    while (!used(f, BALLOON_INFLATE))
        assert_int_equal(loop_run_once(&f->loop, 0), 0);
    assert_false(is_there(f, 0));
}

static void test_save_and_load_in_mid_chain(void **state)
{
    struct fixture *f = *state;
    struct balloon other;
    struct device *dev = &other.virtio.base;
    uint8_t wire[1024];
    struct bytes_writer w;
    struct bytes_reader r;

    remake(f, &full_config, true);
    start(f);
    touch(f, 2000);
    assert_int_equal(balloon_start_hinting(&f->b, true, NULL), 0);
    put_stat(f, 0, BALLOON_S_MEMFREE, 77);
    send(f, BALLOON_STATS, 10);
    assert_int_equal(loop_run_once(&f->loop, 0), 0);
    for (uint32_t i = 0; i < 1000; i++)
        put_pfn(f, i, FIRST + i * 2);
    send(f, BALLOON_INFLATE, 4000);
    assert_int_equal(loop_run_once(&f->loop, 0), 0);
    assert_false(used(f, BALLOON_INFLATE));
    assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
    bytes_writer_init(&w, wire, sizeof(wire));
    state_save(f->dev->ops->state, &f->b.state, &w);
    assert_false(w.failed);
    assert_true(f->b.state.done[BALLOON_INFLATE] != 0);

    make(f, &other, &full_config, false);
    bytes_reader_init(&r, wire, w.pos);
    assert_int_equal(
        state_load(dev->ops->state, dev->ops->state->version, &r, &other.state),
        0);
    assert_null(state_differs(dev->ops->state, &f->b.state, &other.state));
    assert_int_equal(dev->ops->post_load(dev, NULL), 0);
    dev->ops->resume(dev);
    assert_true(used(f, BALLOON_INFLATE));
    assert_int_equal(f->b.stats.inflated + other.stats.inflated, 1000);
    for (uint32_t i = 0; i < 2000; i++)
        assert_int_equal(is_there(f, i), i % 2);
    assert_int_equal(other.state.host_cmd, BALLOON_CMD_FIRST);
    assert_int_equal(other.state.target, 100);
    /* The buffer of statistics is still the device's. */
    assert_int_equal(other.guest.updates, 1);
    assert_true(balloon_poll_stats(&other));
    balloon_fini(&other);
}

static void test_hostile_state(void **state)
{
    struct fixture *f = *state;
    struct balloon_state good;
    struct balloon_state *st = &f->b.state;
    struct err err;

    start(f);
    assert_int_equal(balloon_start_hinting(&f->b, false, NULL), 0);
    assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
    good = *st;
    assert_int_equal(f->dev->ops->post_load(f->dev, NULL), 0);
    for (int i = 0; i < 7; i++) {
        *st = good;
        if (i == 6) {
            /* Refused before the balloon has a look at what is its own. */
            st->virtio.status = UINT32_MAX;
            st->target = PAGES + 1;
            st->reserved = 1;
        } else if (i == 0)
            st->target = PAGES + 1;
        else if (i == 1)
            st->ack_stop = 2;
        else if (i == 2)
            st->host_cmd++;
        else if (i == 3)
            st->reserved = 1;
        else if (i == 4)
            st->virtio.queues[BALLOON_HINT].desc = RAM;
        else
            st->virtio.driver_features |= 1;
        assert_int_equal(f->dev->ops->post_load(f->dev, &err), -EINVAL);
        assert_non_null(strstr(err.text, "balloon"));
        assert_int_equal(st->host_cmd, BALLOON_CMD_STOP);
        assert_int_equal(st->virtio.status, 0);
        assert_true(st->target <= PAGES && st->reserved == 0);
    }
    /* Progress in chains that are not as long is none. */
    *st = good;
    memset(st->done, 0xff, sizeof(st->done));
    st->guest_cmd = UINT32_MAX;
    assert_int_equal(f->dev->ops->post_load(f->dev, NULL), 0);
    f->dev->ops->resume(f->dev);
    touch(f, 1);
    put_pfn(f, 0, FIRST);
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(is_there(f, 0));
        send(f, BALLOON_INFLATE, 4);
        assert_true(used(f, BALLOON_INFLATE));
    }
    assert_false(is_there(f, 0));
    assert_false(stopped(f));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(test_inflated_pages_go_back_to_the_host),
        T(test_adjacent_pages_are_one_call),
        T(test_pages_outside_ram_are_a_violation),
        T(test_malformed_lists_are_violations),
        T(test_long_lists_do_not_hold_the_loop),
        T(test_target_and_actual),
        T(test_configurations_are_checked),
        T(test_statistics),
        T(test_statistics_are_asked_for_at_an_interval),
        T(test_bad_statistics),
        T(test_reported_pages),
        T(test_large_reports_are_done_in_rounds),
        T(test_hinting_run),
        T(test_hinting_ended_by_the_host),
        T(test_bad_hints),
        T(test_queues_without_the_ones_before),
        T(test_giving_away_the_rings),
        T(test_reset_in_mid_chain),
        T(test_save_and_load_in_mid_chain),
        T(test_hostile_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
