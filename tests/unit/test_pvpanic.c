/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "tests/unit/pio.h"
#include "vmm/hw/layout.h"
#include "vmm/hw/pvpanic.h"

#define PORT LAYOUT_PORT_PVPANIC

struct fixture {
    struct bus bus;
    struct pvpanic pvpanic;
    uint8_t events[8];
    uint32_t count;
};

static void on_event(void *opaque, uint8_t event)
{
    struct fixture *f = opaque;

    assert_true(f->count < sizeof(f->events));
    f->events[f->count++] = event;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    if (f == NULL)
        return -1;
    pvpanic_init(&f->pvpanic, on_event, f);
    bus_init(&f->bus);
    *state = f;
    return bus_add(&f->bus, PORT, PVPANIC_PORTS, &f->pvpanic.dev);
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static void test_read_gives_the_supported_events(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(pio_inb(&f->bus, PORT), 3);
    pio_outb(&f->bus, PORT, 1);
    assert_int_equal(pio_inb(&f->bus, PORT), 3);
}

static void test_every_value_reports_its_known_bits(void **state)
{
    struct fixture *f = *state;

    for (unsigned int value = 0; value < 256; value++) {
        uint32_t want = 0;

        f->pvpanic.dev.ops->reset(&f->pvpanic.dev);
        f->count = 0;
        pio_outb(&f->bus, PORT, (uint8_t)value);
        if ((value & 1) != 0)
            assert_int_equal(f->events[want++], PVPANIC_PANICKED);
        if ((value & 2) != 0)
            assert_int_equal(f->events[want++], PVPANIC_CRASH_LOADED);
        assert_int_equal(f->count, want);
    }
}

static void test_each_kind_is_reported_once(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 100; i++)
        pio_outb(&f->bus, PORT, PVPANIC_CRASH_LOADED);
    assert_int_equal(f->count, 1);
    for (int i = 0; i < 100; i++)
        pio_outb(&f->bus, PORT, PVPANIC_EVENTS);
    assert_int_equal(f->count, 2);
    assert_int_equal(f->events[1], PVPANIC_PANICKED);
    f->pvpanic.dev.ops->reset(&f->pvpanic.dev);
    pio_outb(&f->bus, PORT, PVPANIC_PANICKED);
    assert_int_equal(f->count, 3);
}

static void test_no_callback_is_allowed(void **state)
{
    struct fixture *f = *state;

    f->pvpanic.event = NULL;
    pio_outb(&f->bus, PORT, 3);
    assert_int_equal(f->count, 0);
    assert_int_equal(f->pvpanic.state.reported, 3);
}

static void test_save_and_load(void **state)
{
    struct fixture *f = *state;
    struct pvpanic other;

    pvpanic_init(&other, NULL, NULL);
    other.state.reported = PVPANIC_PANICKED;
    assert_int_equal(pio_transfer(&other.dev, &f->pvpanic.dev), 0);
    pio_outb(&f->bus, PORT, 3);
    assert_int_equal(f->count, 1);
    assert_int_equal(f->events[0], PVPANIC_CRASH_LOADED);
}

static void test_hostile_states_are_refused(void **state)
{
    struct fixture *f = *state;
    struct device *dev = &f->pvpanic.dev;

    for (unsigned int reported = 4; reported < 256; reported++) {
        f->pvpanic.state.reported = (uint8_t)reported;
        assert_int_equal(dev->ops->post_load(dev, NULL), -EINVAL);
        assert_int_equal(f->pvpanic.state.reported, 0);
    }
    assert_int_equal(f->count, 0);
}

#define PVPANIC_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PVPANIC_TEST(test_read_gives_the_supported_events),
        PVPANIC_TEST(test_every_value_reports_its_known_bits),
        PVPANIC_TEST(test_each_kind_is_reported_once),
        PVPANIC_TEST(test_no_callback_is_allowed),
        PVPANIC_TEST(test_save_and_load),
        PVPANIC_TEST(test_hostile_states_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
