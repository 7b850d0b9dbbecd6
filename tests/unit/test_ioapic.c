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
#include "vmm/hw/ioapic.h"

#define SELECT LAYOUT_IOAPIC
#define WINDOW (LAYOUT_IOAPIC + 0x10)
#define EOI    (LAYOUT_IOAPIC + 0x40)

struct fixture {
    struct bus bus;
    struct ioapic ioapic;
    struct ioapic_route routes[IOAPIC_PINS]; /* as the owner was told */
    uint32_t calls;
    uint32_t last_pin;
};

static void on_route(
    void *opaque, uint32_t pin, bool masked, uint64_t address, uint32_t data)
{
    struct fixture *f = opaque;

    assert_true(pin < IOAPIC_PINS);
    f->routes[pin] = (struct ioapic_route){
        .masked = masked, .address = address, .data = data};
    f->calls++;
    f->last_pin = pin;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    if (f == NULL)
        return -1;
    ioapic_init(&f->ioapic, on_route, NULL, f);
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++)
        f->routes[pin].masked = true;
    bus_init(&f->bus);
    *state = f;
    return bus_add(&f->bus, LAYOUT_IOAPIC, IOAPIC_MMIO_SIZE, &f->ioapic.dev);
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static uint32_t get(struct fixture *f, uint32_t reg)
{
    pio_out(&f->bus, SELECT, 4, reg);
    return (uint32_t)pio_in(&f->bus, WINDOW, 4);
}

static void put(struct fixture *f, uint32_t reg, uint32_t value)
{
    pio_out(&f->bus, SELECT, 4, reg);
    pio_out(&f->bus, WINDOW, 4, value);
}

static void put_low(struct fixture *f, uint32_t pin, uint32_t value)
{
    put(f, 0x10 + 2 * pin, value);
}

static void put_high(struct fixture *f, uint32_t pin, uint32_t value)
{
    put(f, 0x11 + 2 * pin, value);
}

static void expect_route(
    const struct fixture *f, uint32_t pin, uint64_t address, uint32_t data)
{
    assert_false(f->routes[pin].masked);
    assert_true(f->routes[pin].address == address);
    assert_int_equal(f->routes[pin].data, data);
}

static void test_power_on_values(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(get(f, 0), 0);
    assert_int_equal(get(f, 1), 0x003f0020);
    assert_int_equal(get(f, 2), 0);
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++) {
        assert_int_equal(get(f, 0x10 + 2 * pin), 0x10000);
        assert_int_equal(get(f, 0x11 + 2 * pin), 0);
    }
    assert_int_equal(f->calls, 0);
}

static void test_id_register(void **state)
{
    struct fixture *f = *state;

    put(f, 0, 0xffffffff);
    assert_int_equal(get(f, 0), 0x0f000000);
    assert_int_equal(get(f, 2), 0x0f000000);
    put(f, 0, 0x05000000);
    assert_int_equal(get(f, 0), 0x05000000);
    put(f, 1, 0xffffffff);
    assert_int_equal(get(f, 1), 0x003f0020);
}

static void test_table_ends(void **state)
{
    struct fixture *f = *state;

    for (uint32_t reg = 0x10 + 2 * IOAPIC_PINS; reg < 256; reg++) {
        put(f, reg, 0x00000031);
        assert_int_equal(get(f, reg), 0);
    }
    for (uint32_t reg = 3; reg < 0x10; reg++) {
        put(f, reg, 0x00000031);
        assert_int_equal(get(f, reg), 0);
    }
    assert_int_equal(f->calls, 0);
    /* The index is a byte. */
    put(f, 0x100, 0x03000000);
    assert_int_equal(get(f, 0), 0x03000000);
    assert_int_equal(pio_in(&f->bus, SELECT, 4), 0);
}

static void test_reserved_bits_stay_zero(void **state)
{
    struct fixture *f = *state;

    put_high(f, 3, 0xffffffff);
    put_low(f, 3, 0xffffffff);
    /* Neither delivery status (12) nor remote IRR (14) can be written. */
    assert_int_equal(get(f, 0x16), 0x0001afff);
    assert_int_equal(get(f, 0x17), 0xff000000);
    assert_int_equal(f->calls, 0);
}

static void test_linux_programs_an_edge_entry(void **state)
{
    struct fixture *f = *state;

    put_high(f, 4, 0x01000000);
    assert_int_equal(f->calls, 0);
    put_low(f, 4, 0x00000831);
    assert_int_equal(f->calls, 1);
    assert_int_equal(f->last_pin, 4);
    /* Logical destination 1, fixed, vector 0x31. */
    expect_route(f, 4, 0xfee01004, 0x31);
    put_low(f, 4, 0x00010831);
    assert_int_equal(f->calls, 2);
    assert_true(f->routes[4].masked);
}

static void test_translation_of_every_field(void **state)
{
    struct fixture *f = *state;

    for (uint32_t dest = 0; dest < 256; dest += 51) {
        for (uint32_t mode = 0; mode < 8; mode++) {
            for (uint32_t low = 0; low < 4; low++) {
                uint32_t vector = 0x10 + dest % 200;
                uint32_t logical = low & 1;
                uint32_t level = low >> 1;
                bool good = mode == 0 || mode == 1 || mode == 4 || mode == 5;

                put_low(f, 9, 0x10000);
                put_high(f, 9, dest << 24);
                put_low(f, 9, vector | mode << 8 | logical << 11 | level << 15);
                assert_int_equal(f->routes[9].masked, !good);
                if (!good) {
                    assert_true(f->routes[9].address == 0);
                    assert_int_equal(f->routes[9].data, 0);
                    continue;
                }
                /* Level-triggered lines are edges here all the same. */
                expect_route(f, 9,
                    UINT64_C(0xfee00000) | dest << 12 | logical << 2,
                    vector | mode << 8);
            }
        }
    }
}

static void test_illegal_vectors_count_as_masked(void **state)
{
    struct fixture *f = *state;

    for (uint32_t vector = 0; vector < 256; vector++) {
        put_low(f, 1, 0x10000);
        put_low(f, 1, vector);
        assert_int_equal(f->routes[1].masked, vector < 16);
        /* An NMI's vector does not count. */
        put_low(f, 1, 0x10000);
        put_low(f, 1, 0x400 | vector);
        assert_false(f->routes[1].masked);
    }
}

static void test_only_changes_are_announced(void **state)
{
    struct fixture *f = *state;

    put_low(f, 5, 0x00000040);
    assert_int_equal(f->calls, 1);
    put_low(f, 5, 0x00000040);
    /* Polarity and trigger mode make no other message. */
    put_low(f, 5, 0x0000a040);
    put_high(f, 5, 0x00ffffff);
    assert_int_equal(f->calls, 1);
    put_high(f, 5, 0x02000000);
    assert_int_equal(f->calls, 2);
    expect_route(f, 5, 0xfee02000, 0x40);
    put_low(f, 5, 0x00010040);
    assert_int_equal(f->calls, 3);
    /* Changes of a masked entry wait for its unmasking. */
    put_high(f, 5, 0x03000000);
    put_low(f, 5, 0x00010041);
    assert_int_equal(f->calls, 3);
    put_low(f, 5, 0x00000041);
    assert_int_equal(f->calls, 4);
    expect_route(f, 5, 0xfee03000, 0x41);
}

static void test_eoi_register_is_tolerated(void **state)
{
    struct fixture *f = *state;

    put_low(f, 5, 0x00008040);
    f->calls = 0;
    pio_out(&f->bus, EOI, 4, 0x40);
    assert_int_equal(pio_in(&f->bus, EOI, 4), 0);
    assert_int_equal(pio_in(&f->bus, LAYOUT_IOAPIC + 0x20, 4), 0);
    pio_out(&f->bus, LAYOUT_IOAPIC + 0xffc, 4, 0xffffffff);
    assert_int_equal(f->calls, 0);
    assert_int_equal(get(f, 0x1a), 0x00008040);
}

static void test_other_widths_miss(void **state)
{
    struct fixture *f = *state;

    pio_out(&f->bus, SELECT, 4, 0x10);
    pio_out(&f->bus, SELECT, 1, 0x12);
    pio_out(&f->bus, SELECT, 8, 0x14);
    pio_out(&f->bus, WINDOW, 1, 0x40);
    pio_out(&f->bus, WINDOW, 2, 0x40);
    pio_out(&f->bus, WINDOW, 8, 0x40);
    pio_out(&f->bus, WINDOW + 2, 4, 0x40);
    assert_int_equal(f->calls, 0);
    assert_int_equal(pio_in(&f->bus, SELECT, 4), 0x10);
    assert_int_equal(pio_in(&f->bus, WINDOW, 1), 0xff);
    assert_int_equal(pio_in(&f->bus, WINDOW, 4), 0x10000);
}

static void test_reset_masks_and_says_so(void **state)
{
    struct fixture *f = *state;

    put_low(f, 5, 0x40);
    put_low(f, 63, 0x41);
    put(f, 0, 0x05000000);
    f->calls = 0;
    f->ioapic.dev.ops->reset(&f->ioapic.dev);
    assert_int_equal(f->calls, 2);
    assert_true(f->routes[5].masked);
    assert_true(f->routes[63].masked);
    assert_int_equal(get(f, 0), 0);
    assert_int_equal(get(f, 0x1a), 0x10000);
}

static void test_load_announces_every_pin(void **state)
{
    struct fixture *f = *state;
    struct fixture other = {.calls = 0};

    put_high(f, 5, 0x01000000);
    put_low(f, 5, 0x40);
    put_low(f, 63, 0x141);
    put(f, 0, 0x05000000);
    pio_out(&f->bus, SELECT, 4, 0x33);
    ioapic_init(&other.ioapic, on_route, NULL, &other);
    assert_int_equal(pio_transfer(&f->ioapic.dev, &other.ioapic.dev), 0);
    assert_int_equal(other.calls, IOAPIC_PINS);
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++) {
        assert_int_equal(other.routes[pin].masked, pin != 5 && pin != 63);
        assert_true(other.routes[pin].address == f->routes[pin].address);
        assert_int_equal(other.routes[pin].data, f->routes[pin].data);
    }
    /* A second load announces them again, whatever they were. */
    assert_int_equal(pio_transfer(&f->ioapic.dev, &other.ioapic.dev), 0);
    assert_int_equal(other.calls, 2 * IOAPIC_PINS);
    assert_int_equal(other.ioapic.state.index, 0x33);
    assert_int_equal(other.ioapic.state.id, 5);
}

static void expect_refused(struct fixture *f, const struct ioapic_state *bad)
{
    struct device *dev = &f->ioapic.dev;

    put_low(f, 5, 0x40);
    f->calls = 0;
    f->ioapic.state = *bad;
    assert_int_equal(dev->ops->post_load(dev, NULL), -EINVAL);
    assert_int_equal(f->calls, IOAPIC_PINS);
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++)
        assert_true(f->routes[pin].masked);
    assert_int_equal(get(f, 0x1a), 0x10000);
}

static void test_hostile_states_are_refused(void **state)
{
    static const uint64_t bad_bits[] = {UINT64_C(1) << 12, UINT64_C(1) << 14,
        UINT64_C(1) << 17, UINT64_C(1) << 31, UINT64_C(1) << 32,
        UINT64_C(1) << 55};
    struct fixture *f = *state;
    struct ioapic_state bad;

    for (size_t i = 0; i < ARRAY_SIZE(bad_bits); i++) {
        bad = (struct ioapic_state){.index = 1};
        bad.redirection[i * 12] = bad_bits[i];
        expect_refused(f, &bad);
    }
    bad = (struct ioapic_state){.id = 0x10};
    expect_refused(f, &bad);
}

static void test_any_index_is_harmless(void **state)
{
    struct fixture *f = *state;
    struct device *dev = &f->ioapic.dev;

    for (unsigned int index = 0; index < 256; index++) {
        f->ioapic.state.index = (uint8_t)index;
        assert_int_equal(dev->ops->post_load(dev, NULL), 0);
        (void)pio_in(&f->bus, WINDOW, 4);
        pio_out(&f->bus, WINDOW, 4, 0x10000);
    }
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++)
        assert_true(f->routes[pin].masked);
}

static void test_no_callback_is_allowed(void **state)
{
    struct fixture *f = *state;

    f->ioapic.route = NULL;
    put_low(f, 5, 0x40);
    assert_int_equal(f->calls, 0);
    assert_int_equal(get(f, 0x1a), 0x40);
}

#define IOAPIC_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IOAPIC_TEST(test_power_on_values),
        IOAPIC_TEST(test_id_register),
        IOAPIC_TEST(test_table_ends),
        IOAPIC_TEST(test_reserved_bits_stay_zero),
        IOAPIC_TEST(test_linux_programs_an_edge_entry),
        IOAPIC_TEST(test_translation_of_every_field),
        IOAPIC_TEST(test_illegal_vectors_count_as_masked),
        IOAPIC_TEST(test_only_changes_are_announced),
        IOAPIC_TEST(test_eoi_register_is_tolerated),
        IOAPIC_TEST(test_other_widths_miss),
        IOAPIC_TEST(test_reset_masks_and_says_so),
        IOAPIC_TEST(test_load_announces_every_pin),
        IOAPIC_TEST(test_hostile_states_are_refused),
        IOAPIC_TEST(test_any_index_is_harmless),
        IOAPIC_TEST(test_no_callback_is_allowed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
