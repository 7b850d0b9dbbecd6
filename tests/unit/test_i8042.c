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
#include "vmm/hw/i8042.h"
#include "vmm/hw/layout.h"

#define DATA    LAYOUT_PORT_I8042
#define SYSTEM  (LAYOUT_PORT_I8042 + 1)
#define COMMAND (LAYOUT_PORT_I8042 + 4)

#define OBF     0x01u
#define TIMEOUT 0x40u

struct fixture {
    struct bus bus;
    struct i8042 kbc;
    uint32_t resets;
};

static void on_reset(void *opaque)
{
    struct fixture *f = opaque;

    f->resets++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    if (f == NULL)
        return -1;
    i8042_init(&f->kbc, on_reset, f);
    bus_init(&f->bus);
    *state = f;
    return bus_add(&f->bus, LAYOUT_PORT_I8042, I8042_PORTS, &f->kbc.dev);
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

/* A command with an answer, as a polling driver makes it. */
static uint8_t ask(struct fixture *f, uint8_t command)
{
    pio_outb(&f->bus, COMMAND, command);
    assert_int_equal(pio_inb(&f->bus, COMMAND) & OBF, OBF);
    return pio_inb(&f->bus, DATA);
}

static void test_idle_status(void **state)
{
    struct fixture *f = *state;

    /* Not all ones, input buffer free, self-test passed, not locked. */
    assert_int_equal(pio_inb(&f->bus, COMMAND), 0x14);
    assert_int_equal(pio_inb(&f->bus, DATA), 0);
}

static void test_reset_commands(void **state)
{
    struct fixture *f = *state;

    for (unsigned int command = 0; command < 256; command++) {
        bool resets = command >= 0xf0 && command % 2 == 0;

        f->resets = 0;
        pio_outb(&f->bus, COMMAND, (uint8_t)command);
        assert_int_equal(f->resets, resets ? 1 : 0);
        assert_int_equal(pio_inb(&f->bus, COMMAND) & 0x02, 0);
    }
}

static void test_reset_by_the_output_port(void **state)
{
    struct fixture *f = *state;

    /* Enabling A20 keeps the CPU running. */
    pio_outb(&f->bus, COMMAND, 0xd1);
    pio_outb(&f->bus, DATA, 0xdf);
    assert_int_equal(f->resets, 0);
    pio_outb(&f->bus, DATA, 0xfe);
    assert_int_equal(f->resets, 0);
    pio_outb(&f->bus, COMMAND, 0xd1);
    pio_outb(&f->bus, DATA, 0xfe);
    assert_int_equal(f->resets, 1);
}

static void test_no_callback_is_allowed(void **state)
{
    struct fixture *f = *state;

    f->kbc.reset = NULL;
    pio_outb(&f->bus, COMMAND, 0xfe);
    assert_int_equal(f->resets, 0);
}

/* Every question of the Linux driver is answered at once. */
static void test_linux_probe_ends(void **state)
{
    struct fixture *f = *state;
    uint8_t ctr;

    /* Nothing to flush. */
    assert_int_equal(pio_inb(&f->bus, COMMAND) & OBF, 0);
    assert_int_equal(ask(f, 0xaa), 0x55);
    ctr = ask(f, 0x20);
    assert_int_equal(ask(f, 0x20), ctr);
    pio_outb(&f->bus, COMMAND, 0x60);
    pio_outb(&f->bus, DATA, 0x34);
    assert_int_equal(ask(f, 0x20), 0x34);
    /* The loop test comes back, but not from a mouse port (bit 5). */
    pio_outb(&f->bus, COMMAND, 0xd3);
    pio_outb(&f->bus, DATA, 0x5a);
    assert_int_equal(pio_inb(&f->bus, COMMAND) & 0x21, OBF);
    assert_int_equal(pio_inb(&f->bus, DATA), 0x5a);
    /* No success (0, 0xfa, 0xff) for the mouse port's own test. */
    assert_int_equal(ask(f, 0xa9), 0x03);
    assert_int_equal(ask(f, 0xab), 0x00);
}

static void test_enable_bits_of_the_command_byte(void **state)
{
    struct fixture *f = *state;
    uint8_t power_on = ask(f, 0x20);

    assert_int_equal(power_on & 0x30, 0x30);
    pio_outb(&f->bus, COMMAND, 0xae);
    assert_int_equal(ask(f, 0x20), power_on & ~0x10);
    pio_outb(&f->bus, COMMAND, 0xa8);
    assert_int_equal(ask(f, 0x20), power_on & ~0x30);
    pio_outb(&f->bus, COMMAND, 0xad);
    assert_int_equal(ask(f, 0x20), power_on & ~0x20);
    pio_outb(&f->bus, COMMAND, 0xa7);
    assert_int_equal(ask(f, 0x20), power_on);
}

static void test_output_port_and_echo(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, 0xd0) & 0x03, 0x03);
    pio_outb(&f->bus, COMMAND, 0xd2);
    pio_outb(&f->bus, DATA, 0x77);
    assert_int_equal(pio_inb(&f->bus, DATA), 0x77);
}

static void expect_absent(struct fixture *f)
{
    assert_int_equal(
        pio_inb(&f->bus, COMMAND) & (OBF | TIMEOUT), OBF | TIMEOUT);
    assert_int_equal(pio_inb(&f->bus, DATA), 0xfe);
    assert_int_equal(pio_inb(&f->bus, COMMAND) & (OBF | TIMEOUT), 0);
}

static void test_devices_are_absent(void **state)
{
    struct fixture *f = *state;

    pio_outb(&f->bus, DATA, 0xff);
    expect_absent(f);
    pio_outb(&f->bus, COMMAND, 0xd4);
    pio_outb(&f->bus, DATA, 0xff);
    expect_absent(f);
    /* The prefix counts for one byte. */
    pio_outb(&f->bus, COMMAND, 0x60);
    pio_outb(&f->bus, DATA, 0x44);
    pio_outb(&f->bus, DATA, 0x45);
    expect_absent(f);
    assert_int_equal(ask(f, 0x20), 0x44);
}

static void test_answer_replaces_a_stale_byte(void **state)
{
    struct fixture *f = *state;

    pio_outb(&f->bus, DATA, 0xff);
    assert_int_equal(ask(f, 0xaa), 0x55);
    assert_int_equal(pio_inb(&f->bus, COMMAND) & (OBF | TIMEOUT), 0);
}

static void test_command_flag(void **state)
{
    struct fixture *f = *state;

    pio_outb(&f->bus, COMMAND, 0xae);
    assert_int_equal(pio_inb(&f->bus, COMMAND) & 0x08, 0x08);
    pio_outb(&f->bus, DATA, 0x00);
    assert_int_equal(pio_inb(&f->bus, COMMAND) & 0x08, 0x00);
}

static void test_port_61(void **state)
{
    struct fixture *f = *state;
    uint8_t first = pio_inb(&f->bus, SYSTEM);
    uint8_t second = pio_inb(&f->bus, SYSTEM);

    /* No NMI reason, timer 2 done, the refresh bit moves. */
    assert_int_equal(first & 0xe0, 0x20);
    assert_int_equal(second & 0xe0, 0x20);
    assert_int_equal((first ^ second) & 0x10, 0x10);
    pio_outb(&f->bus, SYSTEM, 0xff);
    assert_int_equal(pio_inb(&f->bus, SYSTEM) & 0xef, 0x2f);
    pio_outb(&f->bus, SYSTEM, 0x05);
    assert_int_equal(pio_inb(&f->bus, SYSTEM) & 0xef, 0x25);
}

static void test_other_ports_and_widths(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(pio_inb(&f->bus, DATA + 2), 0xff);
    pio_outb(&f->bus, DATA + 3, 0xfe);
    pio_out(&f->bus, DATA, 4, 0xfefefefe);
    pio_out(&f->bus, DATA, 2, 0xfefe);
    assert_int_equal(pio_in(&f->bus, DATA, 4), 0xffffffff);
    assert_int_equal(f->resets, 0);
    assert_int_equal(pio_inb(&f->bus, COMMAND), 0x14);
}

static void test_save_and_load(void **state)
{
    struct fixture *f = *state;
    struct i8042 other;

    pio_outb(&f->bus, SYSTEM, 0x03);
    pio_outb(&f->bus, DATA, 0xff);
    pio_outb(&f->bus, COMMAND, 0x60);
    i8042_init(&other, NULL, NULL);
    assert_int_equal(pio_transfer(&f->kbc.dev, &other.dev), 0);
    f->kbc.dev.ops->reset(&f->kbc.dev);
    assert_int_equal(pio_transfer(&other.dev, &f->kbc.dev), 0);
    pio_outb(&f->bus, DATA, 0x47);
    expect_absent(f);
    assert_int_equal(ask(f, 0x20), 0x47);
    assert_int_equal(pio_inb(&f->bus, SYSTEM) & 0x0f, 0x03);
}

static void expect_refused(struct fixture *f, struct i8042_state bad)
{
    struct device *dev = &f->kbc.dev;

    f->kbc.state = bad;
    assert_int_equal(dev->ops->post_load(dev, NULL), -EINVAL);
    assert_int_equal(pio_inb(&f->bus, COMMAND), 0x14);
}

static void test_hostile_states_are_refused(void **state)
{
    struct fixture *f = *state;

    expect_refused(f, (struct i8042_state){.status = 0x02});
    expect_refused(f, (struct i8042_state){.status = 0x80});
    expect_refused(f, (struct i8042_state){.port61 = 0x20});
    expect_refused(f, (struct i8042_state){.port61 = 0x80});
    expect_refused(f, (struct i8042_state){.command = 0xfe});
    expect_refused(f, (struct i8042_state){.command = 0x01});
}

#define I8042_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        I8042_TEST(test_idle_status),
        I8042_TEST(test_reset_commands),
        I8042_TEST(test_reset_by_the_output_port),
        I8042_TEST(test_no_callback_is_allowed),
        I8042_TEST(test_linux_probe_ends),
        I8042_TEST(test_enable_bits_of_the_command_byte),
        I8042_TEST(test_output_port_and_echo),
        I8042_TEST(test_devices_are_absent),
        I8042_TEST(test_answer_replaces_a_stale_byte),
        I8042_TEST(test_command_flag),
        I8042_TEST(test_port_61),
        I8042_TEST(test_other_ports_and_widths),
        I8042_TEST(test_save_and_load),
        I8042_TEST(test_hostile_states_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
