/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of small devices share: accesses through a bus, as a vCPU
 * makes them, and state that goes through its wire form.
 */
#ifndef TESTS_UNIT_PIO_H
#define TESTS_UNIT_PIO_H

#include <stdint.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"
#include "vmm/core/bus.h"
#include "vmm/core/device.h"

#define PIO_WIRE_MAX 4096u

CC_UNUSED static uint64_t pio_in(struct bus *bus, uint64_t port, uint32_t len)
{
    uint8_t data[8] = {0};
    uint64_t value;

    assert_true(bus_access(bus, port, data, len, false));
    memcpy(&value, data, sizeof(value));
    return value;
}

CC_UNUSED static void pio_out(
    struct bus *bus, uint64_t port, uint32_t len, uint64_t value)
{
    uint8_t data[8];

    memcpy(data, &value, sizeof(data));
    assert_true(bus_access(bus, port, data, len, true));
}

CC_UNUSED static uint8_t pio_inb(struct bus *bus, uint64_t port)
{
    return (uint8_t)pio_in(bus, port, 1);
}

CC_UNUSED static void pio_outb(struct bus *bus, uint64_t port, uint8_t value)
{
    pio_out(bus, port, 1, value);
}

/* Saves `from`, loads that into `to`, and says what its post_load said. */
CC_UNUSED static int pio_transfer(const struct device *from, struct device *to)
{
    const struct state_desc *desc = from->ops->state;
    uint8_t wire[PIO_WIRE_MAX];
    struct bytes_writer w;
    struct bytes_reader r;
    struct err err;

    bytes_writer_init(&w, wire, sizeof(wire));
    state_save(desc, from->state, &w);
    assert_false(w.failed);
    assert_int_equal(w.pos, state_wire_size(desc, desc->version));
    bytes_reader_init(&r, wire, w.pos);
    assert_int_equal(state_load(desc, desc->version, &r, to->state), 0);
    assert_null(state_differs(desc, from->state, to->state));
    return to->ops->post_load != NULL ? to->ops->post_load(to, &err) : 0;
}

#endif
