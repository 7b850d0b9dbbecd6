/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/pio.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/hw/layout.h"
#include "vmm/hw/serial.h"

/* 8250 register names as drivers know them. */
#define RBR 0u
#define THR 0u
#define IER 1u
#define IIR 2u
#define FCR 2u
#define LCR 3u
#define MCR 4u
#define LSR 5u
#define MSR 6u
#define SCR 7u

struct fixture {
    struct bus bus;
    struct serial serial;
    int irq_fd;
    uint8_t out[4096];
    size_t out_len;
    size_t sink_room; /* how much the sink takes until told otherwise */
    uint32_t sink_calls;
    uint32_t room_calls;
};

static size_t sink(void *opaque, const uint8_t *data, size_t len)
{
    struct fixture *f = opaque;
    size_t n = len < f->sink_room ? len : f->sink_room;

    assert_true(f->out_len + n <= sizeof(f->out));
    memcpy(f->out + f->out_len, data, n);
    f->out_len += n;
    f->sink_room -= n;
    f->sink_calls++;
    return n;
}

static void on_room(void *opaque)
{
    struct fixture *f = opaque;

    f->room_calls++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct serial_host host = {.write = sink, .room = on_room, .opaque = f};

    if (f == NULL)
        return -1;
    f->irq_fd = fd_eventfd();
    f->sink_room = SIZE_MAX;
    serial_init(&f->serial, &host, (struct irq_line){.fd = f->irq_fd});
    bus_init(&f->bus);
    *state = f;
    return bus_add(&f->bus, LAYOUT_PORT_SERIAL, SERIAL_PORTS, &f->serial.dev);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fd_closep(&f->irq_fd);
    free(f);
    return 0;
}

static uint8_t in(struct fixture *f, uint32_t reg)
{
    return pio_inb(&f->bus, LAYOUT_PORT_SERIAL + reg);
}

static void out(struct fixture *f, uint32_t reg, uint8_t value)
{
    pio_outb(&f->bus, LAYOUT_PORT_SERIAL + reg, value);
}

static uint64_t edges(const struct fixture *f)
{
    return fd_eventfd_drain(f->irq_fd);
}

static void expect_out(const struct fixture *f, const char *text)
{
    assert_int_equal(f->out_len, strlen(text));
    assert_memory_equal(f->out, text, f->out_len);
}

static size_t type(struct fixture *f, const char *text)
{
    return serial_receive(&f->serial, (const uint8_t *)text, strlen(text));
}

static void test_power_on_values(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(in(f, IER), 0);
    assert_int_equal(in(f, IIR), 0x01);
    assert_int_equal(in(f, LCR), 0);
    assert_int_equal(in(f, MCR), 0);
    assert_int_equal(in(f, LSR), 0x60);
    assert_int_equal(in(f, MSR), 0xb0);
    assert_int_equal(in(f, RBR), 0);
    assert_int_equal(edges(f), 0);
}

/* The order of reads and writes by which Linux tells a 16550A. */
static void test_linux_autodetects_a_16550a(void **state)
{
    struct fixture *f = *state;
    uint8_t saved_mcr;

    out(f, IER, 0);
    assert_int_equal(in(f, IER) & 0x0f, 0);
    out(f, IER, 0x0f);
    assert_int_equal(in(f, IER) & 0x0f, 0x0f);
    out(f, IER, 0);

    saved_mcr = in(f, MCR);
    out(f, MCR, 0x10 | 0x0a);
    assert_int_equal(in(f, MSR) & 0xf0, 0x90);
    out(f, MCR, saved_mcr);

    /* FIFO control is reached whatever LCR says. */
    out(f, LCR, 0xbf);
    out(f, FCR, 0x01);
    assert_int_equal(in(f, IIR) >> 6, 3);
    /* No enhanced feature register of later chips behind IIR. */
    out(f, LCR, 0x80);
    assert_int_not_equal(in(f, IIR), 0);
    out(f, LCR, 0);
    /* No 64-byte FIFO of a 16750, with or without DLAB. */
    out(f, FCR, 0x21);
    assert_int_equal(in(f, IIR) & 0xe0, 0xc0);
    out(f, LCR, 0x80);
    out(f, FCR, 0x21);
    assert_int_equal(in(f, IIR) & 0xe0, 0xc0);
    out(f, LCR, 0);
    out(f, FCR, 0);
    assert_int_equal(in(f, IIR) & 0xc0, 0);
    /* No unit-enable bit of an XScale port. */
    out(f, IER, 0x40);
    assert_int_equal(in(f, IER), 0);
    /* The FIFO that loopback measures is one of 16 bytes. */
    out(f, FCR, 0x07);
    out(f, MCR, 0x10);
    for (int i = 0; i < 256; i++)
        out(f, THR, (uint8_t)i);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(in(f, LSR) & 0x01, 0x01);
        assert_int_equal(in(f, RBR), i);
    }
    assert_int_equal(in(f, LSR) & 0x01, 0);
    assert_int_equal(f->out_len, 0);
}

/* Linux's start-up test for ports that do not reassert THRE. */
static void test_linux_thre_probe(void **state)
{
    struct fixture *f = *state;

    out(f, IER, 0x02);
    assert_int_equal(in(f, IIR) & 0x0f, 0x02);
    out(f, IER, 0);
    out(f, IER, 0x02);
    assert_int_equal(in(f, IIR) & 0x0f, 0x02);
    out(f, IER, 0);
    /* And the one for a transmitter that needs a kick. */
    out(f, IER, 0x02);
    assert_int_equal(in(f, LSR) & 0x40, 0x40);
    assert_int_equal(in(f, IIR) & 0x01, 0);
}

static void test_divisor_latch(void **state)
{
    struct fixture *f = *state;

    out(f, LCR, 0x83);
    assert_int_equal(in(f, 0), 12);
    assert_int_equal(in(f, 1), 0);
    out(f, 0, 0x34);
    out(f, 1, 0x12);
    out(f, LCR, 0x03);
    assert_int_equal(in(f, IER), 0);
    assert_int_equal(f->out_len, 0);
    out(f, LCR, 0x80);
    assert_int_equal(in(f, 0), 0x34);
    assert_int_equal(in(f, 1), 0x12);
    assert_int_equal(in(f, LCR), 0x80);
}

static void test_scratch_and_unwritable_registers(void **state)
{
    struct fixture *f = *state;

    out(f, SCR, 0xa5);
    assert_int_equal(in(f, SCR), 0xa5);
    out(f, LSR, 0);
    assert_int_equal(in(f, LSR), 0x60);
    out(f, MSR, 0xff);
    assert_int_equal(in(f, MSR), 0xb0);
    out(f, MCR, 0xff);
    assert_int_equal(in(f, MCR), 0x1f);
}

static void test_output_reaches_the_sink(void **state)
{
    struct fixture *f = *state;

    for (const char *p = "hello"; *p != '\0'; p++) {
        assert_int_equal(in(f, LSR) & 0x60, 0x60);
        out(f, THR, (uint8_t)*p);
    }
    expect_out(f, "hello");
    assert_int_equal(edges(f), 0);
}

static void test_blocked_sink_holds_the_driver_back(void **state)
{
    struct fixture *f = *state;

    out(f, FCR, 0x01);
    f->sink_room = 3;
    for (const char *p = "abcde"; *p != '\0'; p++)
        out(f, THR, (uint8_t)*p);
    expect_out(f, "abc");
    assert_int_equal(in(f, LSR) & 0x60, 0);
    out(f, IER, 0x02);
    assert_int_equal(in(f, IIR) & 0x01, 0x01);
    assert_int_equal(edges(f), 0);
    /* A later byte does not overtake those that wait. */
    f->sink_room = 1;
    out(f, THR, 'f');
    expect_out(f, "abc");
    serial_sink_ready(&f->serial);
    expect_out(f, "abcd");
    assert_int_equal(in(f, LSR) & 0x60, 0);
    assert_int_equal(edges(f), 0);
    f->sink_room = SIZE_MAX;
    serial_sink_ready(&f->serial);
    expect_out(f, "abcdef");
    assert_int_equal(in(f, LSR) & 0x60, 0x60);
    assert_int_equal(edges(f), 1);
    assert_int_equal(in(f, IIR) & 0x0f, 0x02);
    assert_int_equal(in(f, IIR) & 0x0f, 0x01);
    serial_sink_ready(&f->serial);
    assert_int_equal(edges(f), 0);
    assert_int_equal(f->serial.tx_dropped, 0);
}

static void test_overrun_transmit_fifo_drops_the_newest(void **state)
{
    struct fixture *f = *state;

    out(f, FCR, 0x01);
    f->sink_room = 0;
    for (int i = 0; i < 20; i++)
        out(f, THR, (uint8_t)('a' + i));
    assert_int_equal(f->serial.tx_dropped, 4);
    f->sink_room = SIZE_MAX;
    serial_sink_ready(&f->serial);
    expect_out(f, "abcdefghijklmnop");
    /* Without FIFO there is one byte. */
    out(f, FCR, 0x00);
    f->sink_room = 0;
    out(f, THR, 'x');
    out(f, THR, 'y');
    assert_int_equal(f->serial.tx_dropped, 5);
    f->sink_room = SIZE_MAX;
    serial_sink_ready(&f->serial);
    expect_out(f, "abcdefghijklmnopx");
}

static void test_port_without_a_sink_swallows(void **state)
{
    struct fixture *f = *state;

    f->serial.host = (struct serial_host){0};
    out(f, THR, 'a');
    assert_int_equal(in(f, LSR) & 0x60, 0x60);
    assert_int_equal(type(f, "ab"), 1);
    assert_int_equal(in(f, RBR), 'a');
    assert_int_equal(f->room_calls, 0);
}

static void test_write_run_is_one_call(void **state)
{
    struct fixture *f = *state;

    out(f, FCR, 0x01);
    out(f, IER, 0x02);
    (void)in(f, IIR);
    (void)edges(f);
    f->sink_calls = 0;
    serial_write_run(&f->serial, (const uint8_t *)"a longer text", 13);
    expect_out(f, "a longer text");
    assert_int_equal(f->sink_calls, 1);
    assert_int_equal(edges(f), 1);
    serial_write_run(&f->serial, (const uint8_t *)"", 0);
    assert_int_equal(f->sink_calls, 1);
}

static void prepare_mode(struct fixture *f, unsigned int mode, size_t room)
{
    f->serial.dev.ops->reset(&f->serial.dev);
    f->serial.tx_dropped = 0;
    f->out_len = 0;
    f->sink_room = room;
    out(f, FCR, (mode & 1) != 0 ? 0x01 : 0x00);
    out(f, MCR, (mode & 2) != 0 ? 0x10 : 0x00);
    out(f, LCR, (mode & 4) != 0 ? 0x83 : 0x03);
}

static void expect_run_equals_singles(
    struct fixture *f, unsigned int mode, size_t room)
{
    uint8_t data[40];
    uint8_t single_out[sizeof(data)];
    struct serial_state single;
    uint64_t dropped;
    size_t len;

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i + 1);
    prepare_mode(f, mode, room);
    for (size_t i = 0; i < sizeof(data); i++)
        out(f, THR, data[i]);
    single = f->serial.state;
    dropped = f->serial.tx_dropped;
    len = f->out_len;
    memcpy(single_out, f->out, len);
    prepare_mode(f, mode, room);
    serial_write_run(&f->serial, data, sizeof(data));
    assert_null(
        state_differs(f->serial.dev.ops->state, &single, &f->serial.state));
    assert_int_equal(f->serial.tx_dropped, dropped);
    assert_int_equal(f->out_len, len);
    assert_memory_equal(f->out, single_out, len);
}

/* Whatever the mode, a run leaves what single writes would have. */
static void test_write_run_equals_single_writes(void **state)
{
    for (unsigned int mode = 0; mode < 8; mode++) {
        for (size_t room = 0; room <= 40; room++)
            expect_run_equals_singles(*state, mode, room);
    }
}

static void test_input_and_trigger_levels(void **state)
{
    static const uint8_t levels[] = {1, 4, 8, 14};
    struct fixture *f = *state;

    out(f, IER, 0x01);
    for (uint8_t i = 0; i < 4; i++) {
        out(f, FCR, (uint8_t)(0x03 | i << 6));
        (void)edges(f);
        for (uint8_t n = 1; n <= levels[i]; n++) {
            assert_int_equal(type(f, "x"), 1);
            /* Below the level the character time-out reports it. */
            assert_int_equal(in(f, IIR) & 0x0f, n < levels[i] ? 0x0c : 0x04);
        }
        assert_int_equal(edges(f), levels[i]);
        for (uint8_t n = levels[i]; n > 0; n--) {
            assert_int_equal(in(f, LSR) & 0x01, 0x01);
            assert_int_equal(in(f, RBR), 'x');
        }
        assert_int_equal(in(f, IIR) & 0x0f, 0x01);
        assert_int_equal(edges(f), 0);
    }
}

static void test_receive_fills_and_asks_again(void **state)
{
    char text[101];
    struct fixture *f = *state;

    memset(text, 'x', sizeof(text) - 1);
    text[100] = '\0';
    out(f, FCR, 0x01);
    assert_int_equal(type(f, text), SERIAL_RX_MAX);
    assert_int_equal(type(f, text), 0);
    assert_int_equal(f->room_calls, 0);
    assert_int_equal(in(f, RBR), 'x');
    assert_int_equal(f->room_calls, 1);
    assert_int_equal(in(f, RBR), 'x');
    assert_int_equal(f->room_calls, 1);
    assert_int_equal(type(f, "ab"), 2);
    for (int i = 0; i < 62; i++)
        assert_int_equal(in(f, RBR), 'x');
    assert_int_equal(in(f, RBR), 'a');
    assert_int_equal(in(f, RBR), 'b');
    assert_int_equal(in(f, LSR) & 0x03, 0);
    assert_int_equal(f->room_calls, 1);
}

static void test_receive_without_fifo(void **state)
{
    struct fixture *f = *state;

    out(f, IER, 0x01);
    assert_int_equal(type(f, "ab"), 1);
    assert_int_equal(edges(f), 1);
    assert_int_equal(in(f, IIR), 0x04);
    assert_int_equal(in(f, RBR), 'a');
    assert_int_equal(in(f, IIR), 0x01);
    assert_int_equal(f->room_calls, 1);
}

/* A guest that missed an edge is told again by the next byte. */
static void test_fresh_input_raises_again(void **state)
{
    struct fixture *f = *state;

    out(f, FCR, 0x01);
    out(f, IER, 0x01);
    assert_int_equal(type(f, "a"), 1);
    assert_int_equal(edges(f), 1);
    assert_int_equal(type(f, "b"), 1);
    assert_int_equal(edges(f), 1);
    out(f, IER, 0);
    assert_int_equal(type(f, "c"), 1);
    assert_int_equal(edges(f), 0);
    out(f, IER, 0x01);
    assert_int_equal(edges(f), 1);
}

static void test_fifo_control_clears(void **state)
{
    struct fixture *f = *state;

    out(f, FCR, 0x01);
    f->sink_room = 0;
    out(f, THR, 'a');
    assert_int_equal(type(f, "b"), 1);
    out(f, FCR, 0x03);
    assert_int_equal(in(f, LSR), 0);
    assert_int_equal(type(f, "b"), 1);
    out(f, FCR, 0x05);
    assert_int_equal(in(f, LSR), 0x61);
    out(f, THR, 'a');
    out(f, FCR, 0xc1);
    assert_int_equal(in(f, LSR), 0x01);
    /* Switching the FIFOs off or on empties both. */
    out(f, FCR, 0x00);
    assert_int_equal(in(f, LSR), 0x60);
    assert_int_equal(type(f, "c"), 1);
    out(f, THR, 'a');
    out(f, FCR, 0x01);
    assert_int_equal(in(f, LSR), 0x60);
    f->sink_room = SIZE_MAX;
    serial_sink_ready(&f->serial);
    assert_int_equal(f->out_len, 0);
}

static void test_clearing_input_makes_room(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(type(f, "ab"), 1);
    assert_int_equal(f->room_calls, 0);
    out(f, FCR, 0x01);
    assert_int_equal(f->room_calls, 1);
}

static void test_thre_edges(void **state)
{
    struct fixture *f = *state;

    out(f, FCR, 0x01);
    out(f, IER, 0x02);
    assert_int_equal(edges(f), 1);
    /* Not acknowledged: the handler is still to come and will see it. */
    out(f, THR, 'a');
    assert_int_equal(edges(f), 0);
    assert_int_equal(in(f, IIR) & 0x0f, 0x02);
    assert_int_equal(in(f, IIR) & 0x0f, 0x01);
    out(f, THR, 'b');
    assert_int_equal(edges(f), 1);
    out(f, THR, 'c');
    assert_int_equal(edges(f), 0);
    assert_int_equal(in(f, IIR) & 0x0f, 0x02);
    out(f, IER, 0x02);
    assert_int_equal(edges(f), 0);
    out(f, IER, 0x00);
    out(f, THR, 'd');
    assert_int_equal(edges(f), 0);
    out(f, IER, 0x02);
    assert_int_equal(edges(f), 1);
}

static void test_iir_priorities(void **state)
{
    struct fixture *f = *state;

    out(f, FCR, 0x81);
    out(f, MCR, 0x10);
    (void)in(f, MSR);
    /* Overrun, input above the level, empty THR, a modem line moved. */
    for (int i = 0; i < 17; i++)
        out(f, THR, (uint8_t)i);
    out(f, MCR, 0x12);
    (void)edges(f);
    out(f, IER, 0x0f);
    assert_int_equal(edges(f), 1);
    assert_int_equal(in(f, IIR), 0xc6);
    assert_int_equal(in(f, IIR), 0xc6);
    assert_int_equal(in(f, LSR), 0x63);
    assert_int_equal(in(f, LSR), 0x61);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(in(f, IIR), i <= 8 ? 0xc4 : 0xcc);
        assert_int_equal(in(f, RBR), i);
    }
    assert_int_equal(in(f, IIR), 0xc2);
    assert_int_equal(in(f, IIR), 0xc0);
    assert_int_equal(in(f, IIR), 0xc0);
    assert_int_equal(in(f, MSR), 0x11);
    assert_int_equal(in(f, IIR), 0xc1);
    assert_int_equal(edges(f), 0);
}

/* THRE is acknowledged only by a read of IIR that reported it. */
static void test_higher_priority_does_not_acknowledge_thre(void **state)
{
    struct fixture *f = *state;

    out(f, IER, 0x03);
    assert_int_equal(type(f, "a"), 1);
    assert_int_equal(in(f, IIR), 0x04);
    assert_int_equal(in(f, RBR), 'a');
    assert_int_equal(in(f, IIR), 0x02);
    assert_int_equal(in(f, IIR), 0x01);
}

struct driver {
    const char *text;
    size_t sent;
    size_t got;
};

/* An interrupt handler that serves until IIR is clean. */
static void serve(struct fixture *f, struct driver *d)
{
    for (uint8_t iir = in(f, IIR); (iir & 1) == 0; iir = in(f, IIR)) {
        while ((in(f, LSR) & 0x01) != 0)
            assert_int_equal(in(f, RBR), d->text[d->got++]);
        if ((in(f, LSR) & 0x20) == 0)
            continue;
        for (int n = 0; n < 16 && d->text[d->sent] != '\0'; n++)
            out(f, THR, (uint8_t)d->text[d->sent++]);
    }
}

/* With edges alone it misses neither output nor input. */
static void test_edge_driven_driver_gets_everything(void **state)
{
    struct driver d = {
        .text = "The quick brown fox jumps over the lazy dog, twice."};
    const size_t len = strlen(d.text);
    struct fixture *f = *state;
    size_t typed = 0;
    uint64_t seed = 3;

    out(f, FCR, 0x81);
    out(f, IER, 0x03);
    for (int i = 0; i < 5000 && f->out_len + d.got < 2 * len; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        f->sink_room = seed >> 60;
        serial_sink_ready(&f->serial);
        typed += serial_receive(&f->serial, (const uint8_t *)d.text + typed,
            num_min((uint64_t)i % 3, len - typed));
        if (edges(f) > 0)
            serve(f, &d);
    }
    expect_out(f, d.text);
    assert_int_equal(d.got, len);
    assert_int_equal(f->serial.tx_dropped, 0);
}

static void test_loopback(void **state)
{
    struct fixture *f = *state;

    out(f, MCR, 0x10);
    assert_int_equal(in(f, MSR), 0x0b);
    out(f, THR, 'z');
    assert_int_equal(f->out_len, 0);
    assert_int_equal(in(f, LSR), 0x61);
    /* Without FIFO the second byte is an overrun. */
    out(f, THR, 'y');
    assert_int_equal(in(f, LSR), 0x63);
    assert_int_equal(in(f, RBR), 'z');
    /* The cable is cut off. */
    assert_int_equal(type(f, "a"), 0);
    assert_int_equal(f->room_calls, 0);
    out(f, MCR, 0x00);
    assert_int_equal(f->room_calls, 1);
    assert_int_equal(type(f, "a"), 1);
    assert_int_equal(in(f, RBR), 'a');
}

static void test_modem_lines_in_loopback(void **state)
{
    struct fixture *f = *state;

    for (uint8_t lines = 0; lines < 16; lines++) {
        unsigned int want = 0;

        want |= (lines & 0x01u) != 0 ? 0x20u : 0; /* DTR: DSR */
        want |= (lines & 0x02u) != 0 ? 0x10u : 0; /* RTS: CTS */
        want |= (lines & 0x04u) != 0 ? 0x40u : 0; /* OUT1: RI */
        want |= (lines & 0x08u) != 0 ? 0x80u : 0; /* OUT2: DCD */
        out(f, MCR, 0x10 | lines);
        (void)in(f, MSR);
        assert_int_equal(in(f, MSR), want);
        assert_int_equal(in(f, MCR), 0x10 | lines);
    }
}

static void test_modem_deltas(void **state)
{
    struct fixture *f = *state;

    out(f, MCR, 0x10);
    (void)in(f, MSR);
    out(f, IER, 0x08);
    assert_int_equal(edges(f), 0);
    out(f, MCR, 0x14);
    /* The ring indicator tells of its end only. */
    assert_int_equal(edges(f), 0);
    assert_int_equal(in(f, MSR), 0x40);
    out(f, MCR, 0x10);
    assert_int_equal(edges(f), 1);
    assert_int_equal(in(f, IIR), 0x00);
    assert_int_equal(in(f, MSR), 0x04);
    assert_int_equal(in(f, IIR), 0x01);
    out(f, MCR, 0x19);
    out(f, MCR, 0x10);
    assert_int_equal(edges(f), 1);
    assert_int_equal(in(f, MSR), 0x0a);
}

/* As on ISA: a 16-bit access is one of two neighbours. */
static void test_wide_accesses(void **state)
{
    struct fixture *f = *state;

    pio_out(&f->bus, LAYOUT_PORT_SERIAL + LCR, 1, 0x80);
    pio_out(&f->bus, LAYOUT_PORT_SERIAL, 2, 0x1234);
    assert_int_equal(in(f, 0), 0x34);
    assert_int_equal(in(f, 1), 0x12);
    assert_int_equal(pio_in(&f->bus, LAYOUT_PORT_SERIAL, 2), 0x1234);
    out(f, SCR, 0x77);
    assert_true(
        pio_in(&f->bus, LAYOUT_PORT_SERIAL, 8) == UINT64_C(0x77b0600080011234));
}

static void test_save_and_load(void **state)
{
    struct fixture *f = *state;
    struct serial_host host = {.write = sink, .room = on_room, .opaque = f};
    struct serial other;

    out(f, FCR, 0x81);
    out(f, IER, 0x03);
    out(f, SCR, 0x42);
    f->sink_room = 0;
    out(f, THR, 'p');
    out(f, THR, 'q');
    assert_int_equal(type(f, "in"), 2);
    serial_init(&other, &host, (struct irq_line){.fd = f->irq_fd});
    assert_int_equal(pio_transfer(&f->serial.dev, &other.dev), 0);
    (void)edges(f);
    f->sink_room = SIZE_MAX;
    other.dev.ops->resume(&other.dev);
    expect_out(f, "pq");
    assert_true(edges(f) > 0);
    assert_int_equal(other.state.scr, 0x42);
    assert_int_equal(other.state.rx_count, 2);
    assert_memory_equal(other.state.rx, "in", 2);
}

static void test_resume_of_an_idle_port_is_silent(void **state)
{
    struct fixture *f = *state;

    out(f, IER, 0x03);
    (void)in(f, IIR);
    (void)edges(f);
    f->serial.dev.ops->resume(&f->serial.dev);
    assert_int_equal(edges(f), 0);
    assert_int_equal(f->sink_calls, 0);
}

static void expect_refused(struct fixture *f, const struct serial_state *bad)
{
    struct device *dev = &f->serial.dev;
    struct serial_state fresh;
    struct err err;

    dev->ops->reset(dev);
    fresh = f->serial.state;
    f->serial.state = *bad;
    assert_int_equal(dev->ops->post_load(dev, &err), -EINVAL);
    assert_null(state_differs(dev->ops->state, &fresh, &f->serial.state));
}

static void test_hostile_states_are_refused(void **state)
{
    struct fixture *f = *state;
    const struct serial_state base = {.fcr = 0x01};
    struct serial_state bad;

#define EXPECT_REFUSED(field, value)                                           \
    do {                                                                       \
        bad = base;                                                            \
        bad.field = (value);                                                   \
        expect_refused(f, &bad);                                               \
    } while (0)
    EXPECT_REFUSED(ier, 0x10);
    EXPECT_REFUSED(fcr, 0x03);
    EXPECT_REFUSED(fcr, 0xc0);
    EXPECT_REFUSED(mcr, 0x20);
    EXPECT_REFUSED(msr_delta, 0x10);
    EXPECT_REFUSED(overrun, 2);
    EXPECT_REFUSED(thre_pending, 2);
    EXPECT_REFUSED(rx_count, SERIAL_RX_MAX + 1);
    EXPECT_REFUSED(rx_count, 255);
    EXPECT_REFUSED(tx_count, SERIAL_TX_MAX + 1);
    EXPECT_REFUSED(tx_count, 255);
    EXPECT_REFUSED(rx[0], 1);
    EXPECT_REFUSED(tx[15], 1);
#undef EXPECT_REFUSED
    bad = (struct serial_state){.rx_count = 2};
    expect_refused(f, &bad);
    bad = (struct serial_state){.tx_count = 2};
    expect_refused(f, &bad);
    bad = (struct serial_state){.tx_count = 1, .thre_pending = 1};
    expect_refused(f, &bad);
    f->serial.state = base;
    assert_int_equal(f->serial.dev.ops->post_load(&f->serial.dev, NULL), 0);
}

static void test_reset_makes_room(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(type(f, "ab"), 1);
    f->serial.dev.ops->reset(&f->serial.dev);
    assert_int_equal(f->room_calls, 1);
    assert_int_equal(in(f, LSR), 0x60);
}

#define SERIAL_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERIAL_TEST(test_power_on_values),
        SERIAL_TEST(test_linux_autodetects_a_16550a),
        SERIAL_TEST(test_linux_thre_probe),
        SERIAL_TEST(test_divisor_latch),
        SERIAL_TEST(test_scratch_and_unwritable_registers),
        SERIAL_TEST(test_output_reaches_the_sink),
        SERIAL_TEST(test_blocked_sink_holds_the_driver_back),
        SERIAL_TEST(test_overrun_transmit_fifo_drops_the_newest),
        SERIAL_TEST(test_port_without_a_sink_swallows),
        SERIAL_TEST(test_write_run_is_one_call),
        SERIAL_TEST(test_write_run_equals_single_writes),
        SERIAL_TEST(test_input_and_trigger_levels),
        SERIAL_TEST(test_receive_fills_and_asks_again),
        SERIAL_TEST(test_receive_without_fifo),
        SERIAL_TEST(test_fresh_input_raises_again),
        SERIAL_TEST(test_fifo_control_clears),
        SERIAL_TEST(test_clearing_input_makes_room),
        SERIAL_TEST(test_thre_edges),
        SERIAL_TEST(test_iir_priorities),
        SERIAL_TEST(test_higher_priority_does_not_acknowledge_thre),
        SERIAL_TEST(test_edge_driven_driver_gets_everything),
        SERIAL_TEST(test_loopback),
        SERIAL_TEST(test_modem_lines_in_loopback),
        SERIAL_TEST(test_modem_deltas),
        SERIAL_TEST(test_wide_accesses),
        SERIAL_TEST(test_save_and_load),
        SERIAL_TEST(test_resume_of_an_idle_port_is_silent),
        SERIAL_TEST(test_hostile_states_are_refused),
        SERIAL_TEST(test_reset_makes_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
