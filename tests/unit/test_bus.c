/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/cc.h"
#include "vmm/core/bus.h"

/* Records what arrives; answers reads with `answer` if told to. */
struct probe {
    struct device dev;
    uint8_t nothing;
    struct bus_access last;
    bool was_locked;
    bool answers;
    uint64_t answer;
    uint64_t calls;
};

static void probe_access(struct device *dev, struct bus_access *access)
{
    struct probe *p = container_of(dev, struct probe, dev);

    p->last = *access;
    p->calls++;
    p->was_locked = pthread_mutex_trylock(&dev->lock) == EBUSY;
    if (!access->is_write && p->answers)
        access->value = p->answer;
}

static const struct device_ops probe_ops = {.access = probe_access};

static void probe_init(struct probe *p)
{
    *p = (struct probe){0};
    device_init(&p->dev, &probe_ops, "probe", &p->nothing);
}

static void test_read_reaches_the_device(void **state)
{
    uint8_t data[8];
    struct probe p;
    struct bus bus;

    (void)state;
    probe_init(&p);
    p.answers = true;
    p.answer = 0x1122334455667788;
    bus_init(&bus);
    assert_int_equal(bus_add(&bus, 0x100, 16, &p.dev), 0);
    for (uint32_t len = 1; len <= 8; len *= 2) {
        uint64_t got = 0;

        memset(data, 0x5a, sizeof(data));
        assert_true(bus_access(&bus, 0x104, data, len, false));
        assert_int_equal(p.last.offset, 4);
        assert_int_equal(p.last.len, len);
        assert_false(p.last.is_write);
        assert_true(p.last.value == UINT64_MAX);
        assert_true(p.was_locked);
        memcpy(&got, data, len);
        assert_true(
            got == (len == 8 ? p.answer : p.answer & ((1ull << 8 * len) - 1)));
        for (uint32_t i = len; i < 8; i++)
            assert_int_equal(data[i], 0x5a);
    }
    assert_int_equal(bus.misses, 0);
}

static void test_unanswered_read_is_all_ones(void **state)
{
    uint8_t data[4] = {0};
    struct probe p;
    struct bus bus;

    (void)state;
    probe_init(&p);
    bus_init(&bus);
    assert_int_equal(bus_add(&bus, 0, 4, &p.dev), 0);
    assert_true(bus_access(&bus, 0, data, 2, false));
    assert_int_equal(data[0], 0xff);
    assert_int_equal(data[1], 0xff);
    assert_int_equal(data[2], 0);
}

static void test_write_is_zero_extended(void **state)
{
    uint8_t data[8] = {0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88};
    struct probe p;
    struct bus bus;

    (void)state;
    probe_init(&p);
    bus_init(&bus);
    assert_int_equal(bus_add(&bus, 0x100, 16, &p.dev), 0);
    assert_true(bus_access(&bus, 0x10f, data, 1, true));
    assert_true(p.last.value == 0x11 && p.last.offset == 15);
    assert_true(bus_access(&bus, 0x10e, data, 2, true));
    assert_true(p.last.value == 0x2211);
    assert_true(bus_access(&bus, 0x10c, data, 4, true));
    assert_true(p.last.value == 0x44332211);
    assert_true(bus_access(&bus, 0x108, data, 8, true));
    assert_true(p.last.value == 0x8877665544332211);
    assert_true(p.last.is_write && p.was_locked);
    /* The guest's bytes are not changed by a write. */
    assert_int_equal(data[7], 0x88);
}

static void test_lock_is_free_after_an_access(void **state)
{
    uint8_t data[1] = {0};
    struct probe p;
    struct bus bus;

    (void)state;
    probe_init(&p);
    bus_init(&bus);
    assert_int_equal(bus_add(&bus, 0, 1, &p.dev), 0);
    assert_true(bus_access(&bus, 0, data, 1, false));
    assert_int_equal(pthread_mutex_trylock(&p.dev.lock), 0);
    device_unlock(&p.dev);
}

static void expect_miss(
    struct bus *bus, const struct probe *p, uint64_t address, uint32_t len)
{
    uint64_t calls = p->calls;
    uint64_t misses = bus->misses;
    uint8_t data[8];

    memset(data, 0x5a, sizeof(data));
    assert_false(bus_access(bus, address, data, len, true));
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(data[i], 0x5a);
    assert_false(bus_access(bus, address, data, len, false));
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(data[i], i < len ? 0xff : 0x5a);
    assert_int_equal(p->calls, calls);
    assert_int_equal(bus->misses, misses + 2);
}

static void test_misses(void **state)
{
    struct probe p;
    struct bus bus;

    (void)state;
    probe_init(&p);
    bus_init(&bus);
    expect_miss(&bus, &p, 0, 1);
    assert_int_equal(bus_add(&bus, 0x100, 6, &p.dev), 0);
    expect_miss(&bus, &p, 0xff, 1);
    expect_miss(&bus, &p, 0x106, 1);
    expect_miss(&bus, &p, UINT64_MAX, 1);
    expect_miss(&bus, &p, UINT64_MAX, 8);
    /* Astride the start and the end. */
    expect_miss(&bus, &p, 0xff, 2);
    expect_miss(&bus, &p, 0x105, 2);
    expect_miss(&bus, &p, 0x104, 4);
    expect_miss(&bus, &p, 0x100, 8);
    /* Widths that no instruction has. */
    expect_miss(&bus, &p, 0x100, 3);
    expect_miss(&bus, &p, 0x100, 5);
    expect_miss(&bus, &p, 0x100, 6);
    expect_miss(&bus, &p, 0x100, 7);
}

/* Two neighbours: an access over the border belongs to neither. */
static void test_access_across_neighbours_misses(void **state)
{
    struct probe a;
    struct probe b;
    struct bus bus;

    (void)state;
    probe_init(&a);
    probe_init(&b);
    bus_init(&bus);
    assert_int_equal(bus_add(&bus, 0x108, 8, &b.dev), 0);
    assert_int_equal(bus_add(&bus, 0x100, 8, &a.dev), 0);
    expect_miss(&bus, &a, 0x107, 2);
    expect_miss(&bus, &b, 0x107, 2);
    expect_miss(&bus, &b, 0x104, 8);
}

static void test_overlaps_are_refused(void **state)
{
    struct probe p;
    struct bus bus;

    (void)state;
    probe_init(&p);
    for (uint64_t start = 0; start < 24; start++) {
        for (uint64_t len = 1; len < 24; len++) {
            bool overlaps = (start < 12 && start + len > 8) ||
                            (start < 20 && start + len > 16);

            bus_init(&bus);
            assert_int_equal(bus_add(&bus, 16, 4, &p.dev), 0);
            assert_int_equal(bus_add(&bus, 8, 4, &p.dev), 0);
            assert_int_equal(
                bus_add(&bus, start, len, &p.dev), overlaps ? -EEXIST : 0);
            assert_int_equal(bus.count, overlaps ? 2 : 3);
        }
    }
}

static void test_top_of_the_address_space(void **state)
{
    uint8_t data[8] = {0};
    struct probe p;
    struct bus bus;

    (void)state;
    probe_init(&p);
    bus_init(&bus);
    assert_int_equal(bus_add(&bus, UINT64_MAX - 7, 16, &p.dev), -EINVAL);
    assert_int_equal(bus_add(&bus, UINT64_MAX, UINT64_MAX, &p.dev), -EINVAL);
    assert_int_equal(bus_add(&bus, UINT64_MAX - 16, 16, &p.dev), 0);
    assert_true(bus_access(&bus, UINT64_MAX - 8, data, 8, true));
    assert_int_equal(p.last.offset, 8);
    assert_false(bus_access(&bus, UINT64_MAX - 7, data, 8, true));
}

static void test_table_can_be_filled(void **state)
{
    struct probe p;
    struct bus bus;

    (void)state;
    probe_init(&p);
    bus_init(&bus);
    for (uint64_t i = 0; i < BUS_RANGES_MAX; i++)
        assert_int_equal(bus_add(&bus, (i * 37 % 128) * 16, 16, &p.dev), 0);
    assert_int_equal(bus_add(&bus, 0x10000, 1, &p.dev), -ENOSPC);
    for (unsigned int i = 1; i < bus.count; i++)
        assert_true(bus.ranges[i - 1].start + bus.ranges[i - 1].len <=
                    bus.ranges[i].start);
}

#define SPACE  512u
#define PROBES 12u

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(*seed >> 33);
}

/* owner[] says for each address which probe is there, by trying them all. */
static void check_space(
    struct bus *bus, const struct probe *probes, const int *owner)
{
    for (uint32_t at = 0; at < SPACE; at++) {
        for (uint32_t len = 1; len <= 8; len *= 2) {
            bool one = at + len <= SPACE && owner[at] >= 0;
            uint8_t data[8] = {0};
            uint64_t calls;

            for (uint32_t i = 1; one && i < len; i++)
                one = owner[at + i] == owner[at];
            calls = one ? probes[owner[at]].calls : 0;
            assert_int_equal(bus_access(bus, at, data, len, true), one);
            if (one)
                assert_int_equal(probes[owner[at]].calls, calls + 1);
        }
    }
}

static void test_random_layouts_match_a_linear_model(void **state)
{
    uint64_t seed = 99;

    (void)state;
    for (int round = 0; round < 50; round++) {
        struct probe probes[PROBES];
        int owner[SPACE];
        struct bus bus;

        bus_init(&bus);
        for (uint32_t i = 0; i < SPACE; i++)
            owner[i] = -1;
        for (uint32_t n = 0; n < PROBES; n++) {
            uint32_t len = 1 + next_random(&seed) % 40;
            uint32_t start = next_random(&seed) % (SPACE - len);
            bool is_free = true;

            probe_init(&probes[n]);
            for (uint32_t i = 0; i < len; i++)
                is_free = is_free && owner[start + i] < 0;
            assert_int_equal(bus_add(&bus, start, len, &probes[n].dev),
                is_free ? 0 : -EEXIST);
            for (uint32_t i = 0; is_free && i < len; i++)
                owner[start + i] = (int)n;
        }
        check_space(&bus, probes, owner);
    }
}

#define HITTERS 4
#define HITS    2000

struct hitter {
    struct bus *bus;
};

static void *hit(void *opaque)
{
    const struct hitter *h = opaque;
    uint8_t data[1] = {0};

    for (int i = 0; i < HITS; i++) {
        (void)bus_access(h->bus, 0, data, 1, true);
        (void)bus_access(h->bus, 50, data, 1, true);
    }
    return NULL;
}

static void test_threads_take_turns(void **state)
{
    pthread_t threads[HITTERS];
    struct probe p;
    struct bus bus;
    struct hitter h = {.bus = &bus};

    (void)state;
    probe_init(&p);
    bus_init(&bus);
    assert_int_equal(bus_add(&bus, 0, 1, &p.dev), 0);
    for (int i = 0; i < HITTERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hit, &h), 0);
    for (int i = 0; i < HITTERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(p.calls, HITTERS * HITS);
    assert_int_equal(bus.misses, HITTERS * HITS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_reaches_the_device),
        cmocka_unit_test(test_unanswered_read_is_all_ones),
        cmocka_unit_test(test_write_is_zero_extended),
        cmocka_unit_test(test_lock_is_free_after_an_access),
        cmocka_unit_test(test_misses),
        cmocka_unit_test(test_access_across_neighbours_misses),
        cmocka_unit_test(test_overlaps_are_refused),
        cmocka_unit_test(test_top_of_the_address_space),
        cmocka_unit_test(test_table_can_be_filled),
        cmocka_unit_test(test_random_layouts_match_a_linear_model),
        cmocka_unit_test(test_threads_take_turns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
