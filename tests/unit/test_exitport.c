/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "tests/unit/pio.h"
#include "vmm/hw/exitport.h"
#include "vmm/hw/layout.h"

#define PORT LAYOUT_PORT_EXIT

struct fixture {
    struct bus bus;
    struct exitport port;
    uint32_t calls;
    uint8_t status;
};

static void on_end(void *opaque, uint8_t status)
{
    struct fixture *f = opaque;

    f->calls++;
    f->status = status;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    if (f == NULL)
        return -1;
    exitport_init(&f->port, on_end, f);
    bus_init(&f->bus);
    *state = f;
    return bus_add(&f->bus, PORT, EXITPORT_PORTS, &f->port.dev);
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static void test_every_status(void **state)
{
    struct fixture *f = *state;

    for (unsigned int status = 0; status < 256; status++) {
        pio_outb(&f->bus, PORT, (uint8_t)status);
        assert_int_equal(f->status, status);
        assert_int_equal(f->calls, status + 1);
        assert_int_equal(pio_inb(&f->bus, PORT), status);
    }
}

static void test_wide_writes_take_the_low_byte(void **state)
{
    struct fixture *f = *state;

    pio_out(&f->bus, PORT, 4, 0xffffff21);
    assert_int_equal(f->status, 0x21);
    pio_out(&f->bus, PORT, 2, 0xff22);
    assert_int_equal(f->status, 0x22);
    assert_int_equal(f->calls, 2);
    assert_int_equal(pio_in(&f->bus, PORT, 4), 0x22);
}

static void test_other_bytes_do_nothing(void **state)
{
    struct fixture *f = *state;

    pio_outb(&f->bus, PORT + 1, 1);
    pio_out(&f->bus, PORT + 2, 2, 1);
    assert_int_equal(f->calls, 0);
    assert_int_equal(pio_inb(&f->bus, PORT + 3), 0xff);
}

static void test_no_callback_is_allowed(void **state)
{
    struct fixture *f = *state;

    f->port.end = NULL;
    pio_outb(&f->bus, PORT, 7);
    assert_int_equal(f->calls, 0);
    assert_int_equal(pio_inb(&f->bus, PORT), 7);
}

static void test_save_load_and_reset(void **state)
{
    struct fixture *f = *state;
    struct exitport other;

    pio_outb(&f->bus, PORT, 9);
    exitport_init(&other, NULL, NULL);
    assert_int_equal(pio_transfer(&f->port.dev, &other.dev), 0);
    assert_int_equal(other.state.status, 9);
    f->port.dev.ops->reset(&f->port.dev);
    assert_int_equal(pio_inb(&f->bus, PORT), 0);
    assert_int_equal(f->calls, 1);
}

#define EXIT_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EXIT_TEST(test_every_status),
        EXIT_TEST(test_wide_writes_take_the_low_byte),
        EXIT_TEST(test_other_bytes_do_nothing),
        EXIT_TEST(test_no_callback_is_allowed),
        EXIT_TEST(test_save_load_and_reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
