/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "tests/unit/pio.h"
#include "vmm/hw/acpi_pm.h"
#include "vmm/hw/layout.h"

#define CONTROL (LAYOUT_PORT_SLEEP + ACPI_PM_CONTROL)
#define STATUS  (LAYOUT_PORT_SLEEP + ACPI_PM_STATUS)

struct fixture {
    struct bus bus;
    struct acpi_pm pm;
    uint32_t offs;
};

static void on_power_off(void *opaque)
{
    struct fixture *f = opaque;

    f->offs++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    if (f == NULL)
        return -1;
    acpi_pm_init(&f->pm, on_power_off, f);
    bus_init(&f->bus);
    *state = f;
    return bus_add(&f->bus, LAYOUT_PORT_SLEEP, ACPI_PM_PORTS, &f->pm.dev);
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static void test_power_on_values(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(pio_inb(&f->bus, CONTROL), 0);
    assert_int_equal(pio_inb(&f->bus, STATUS), 0);
}

/* Every byte there is: one sleep type turns off, the others wake at once. */
static void test_every_control_value(void **state)
{
    struct fixture *f = *state;

    for (unsigned int value = 0; value < 256; value++) {
        bool sleeps = (value & 0x20) != 0;
        bool off = sleeps && (value >> 2 & 7) == 5;

        f->pm.dev.ops->reset(&f->pm.dev);
        f->offs = 0;
        pio_outb(&f->bus, CONTROL, (uint8_t)value);
        assert_int_equal(f->offs, off ? 1 : 0);
        assert_int_equal(pio_inb(&f->bus, CONTROL), value & 0x1c);
        assert_int_equal(pio_inb(&f->bus, STATUS), sleeps && !off ? 0x80 : 0);
    }
}

static void test_wake_status_is_cleared_by_one(void **state)
{
    struct fixture *f = *state;

    pio_outb(&f->bus, CONTROL, 0x24);
    pio_outb(&f->bus, STATUS, 0x7f);
    assert_int_equal(pio_inb(&f->bus, STATUS), 0x80);
    pio_outb(&f->bus, STATUS, 0x80);
    assert_int_equal(pio_inb(&f->bus, STATUS), 0);
    pio_outb(&f->bus, STATUS, 0xff);
    assert_int_equal(pio_inb(&f->bus, STATUS), 0);
}

static void test_wide_accesses_do_nothing(void **state)
{
    struct fixture *f = *state;

    pio_out(&f->bus, CONTROL, 2, 0x3434);
    assert_int_equal(f->offs, 0);
    assert_int_equal(pio_inb(&f->bus, CONTROL), 0);
    assert_int_equal(pio_in(&f->bus, CONTROL, 2), 0xffff);
}

static void test_no_callback_is_allowed(void **state)
{
    struct fixture *f = *state;

    f->pm.power_off = NULL;
    pio_outb(&f->bus, CONTROL, 0x34);
    assert_int_equal(f->offs, 0);
}

static void test_save_and_load(void **state)
{
    struct fixture *f = *state;
    struct acpi_pm other;

    pio_outb(&f->bus, CONTROL, 0x2c);
    acpi_pm_init(&other, NULL, NULL);
    assert_int_equal(pio_transfer(&f->pm.dev, &other.dev), 0);
    assert_int_equal(other.state.control, 0x0c);
    assert_int_equal(other.state.status, 0x80);
}

static void test_hostile_states_are_refused(void **state)
{
    struct fixture *f = *state;
    struct device *dev = &f->pm.dev;

    for (unsigned int value = 0; value < 256; value++) {
        f->pm.state = (struct acpi_pm_state){.control = (uint8_t)value};
        assert_int_equal(dev->ops->post_load(dev, NULL),
            (value & ~0x1cu) == 0 ? 0 : -EINVAL);
        assert_int_equal(f->pm.state.control & ~0x1cu, 0);
        f->pm.state = (struct acpi_pm_state){.status = (uint8_t)value};
        assert_int_equal(dev->ops->post_load(dev, NULL),
            (value & ~0x80u) == 0 ? 0 : -EINVAL);
        assert_int_equal(f->pm.state.status & ~0x80u, 0);
    }
    assert_int_equal(f->offs, 0);
}

#define PM_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PM_TEST(test_power_on_values),
        PM_TEST(test_every_control_value),
        PM_TEST(test_wake_status_is_cleared_by_one),
        PM_TEST(test_wide_accesses_do_nothing),
        PM_TEST(test_no_callback_is_allowed),
        PM_TEST(test_save_and_load),
        PM_TEST(test_hostile_states_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
