/* SPDX-License-Identifier: Apache-2.0 */
/* A real serial port, driven as a guest drives it, between real pipes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/pio.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/console.h"
#include "vmm/hw/layout.h"

#define DATA 0u
#define FCR  2u
#define LSR  5u

#define FCR_ON   0x01u
#define LSR_DR   0x01u
#define LSR_THRE 0x20u

/* A pipe of two pages is full when the second one is begun. */
#define PIPE_ROOM  4096u
#define ROUNDS_MAX 20000u

struct fixture {
    struct loop loop;
    struct bus bus;
    struct serial serial;
    struct console console;
    int irq;
    int out[2];
    int in[2];
    unsigned int escapes;
};

static void on_escape(void *opaque)
{
    struct fixture *f = opaque;

    f->escapes++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err;

    if (f == NULL || loop_init(&f->loop, &err) < 0 ||
        pipe2(f->out, O_CLOEXEC) < 0 || pipe2(f->in, O_CLOEXEC) < 0 ||
        fcntl(f->out[1], F_SETPIPE_SZ, 2 * PIPE_ROOM) < 0)
        return -1;
    f->irq = fd_eventfd();
    *state = f;
    return f->irq < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    console_fini(&f->console);
    console_fini(&f->console);
    for (int i = 0; i < 2; i++) {
        fd_closep(&f->out[i]);
        fd_closep(&f->in[i]);
    }
    fd_closep(&f->irq);
    loop_fini(&f->loop);
    free(f);
    return 0;
}

/* The port with its FIFOs on, between two descriptors that may be -1. */
static void start(struct fixture *f, int out_fd, int in_fd)
{
    struct serial_host host;
    struct err err;

    console_init(&f->console, &f->loop, out_fd, in_fd);
    host = console_host(&f->console);
    serial_init(&f->serial, &host, (struct irq_line){.fd = f->irq});
    bus_init(&f->bus);
    assert_int_equal(
        bus_add(&f->bus, LAYOUT_PORT_SERIAL, SERIAL_PORTS, &f->serial.dev), 0);
    assert_int_equal(console_attach(&f->console, &f->serial, &err), 0);
    pio_outb(&f->bus, LAYOUT_PORT_SERIAL + FCR, FCR_ON);
}

static void run(struct fixture *f)
{
    struct pollfd pfd = {.fd = f->loop.epoll_fd, .events = POLLIN};

    for (unsigned int i = 0; poll(&pfd, 1, 0) != 0; i++) {
        assert_in_range(i, 0, ROUNDS_MAX);
        assert_int_equal(loop_run_once(&f->loop, 0), 0);
    }
}

static uint8_t lsr(struct fixture *f)
{
    return pio_inb(&f->bus, LAYOUT_PORT_SERIAL + LSR);
}

/* As a driver: waits for an empty THR, false if it does not come. */
static bool put(struct fixture *f, uint8_t byte)
{
    if ((lsr(f) & LSR_THRE) == 0)
        run(f);
    if ((lsr(f) & LSR_THRE) == 0)
        return false;
    pio_outb(&f->bus, LAYOUT_PORT_SERIAL + DATA, byte);
    return true;
}

static void print(struct fixture *f, const char *text)
{
    for (; *text != '\0'; text++)
        assert_true(put(f, (uint8_t)*text));
}

/* What the guest reads until there is nothing more, looking at LSR. */
static size_t receive(struct fixture *f, uint8_t *ret_bytes, size_t size)
{
    size_t n = 0;

    while (n < size && (lsr(f) & LSR_DR) != 0)
        ret_bytes[n++] = pio_inb(&f->bus, LAYOUT_PORT_SERIAL + DATA);
    return n;
}

static void expect_tail(struct fixture *f, size_t size, const char *want)
{
    char *buf = malloc(size + 1);
    size_t n;

    assert_non_null(buf);
    n = console_tail(&f->console, buf, size);
    assert_in_range(n, 0, size);
    buf[n] = '\0';
    assert_string_equal(buf, want);
    free(buf);
}

static void test_tail_alone(void **state)
{
    struct fixture *f = *state;

    start(f, -1, -1);
    expect_tail(f, 100, "");
    print(f, "one\ntwo\nthree");
    expect_tail(f, 100, "one\ntwo\nthree");
    expect_tail(f, 13, "one\ntwo\nthree");
    run(f);
    assert_int_equal(f->serial.tx_dropped, 0);
}

static void test_tail_is_cut_at_lines(void **state)
{
    struct fixture *f = *state;

    start(f, -1, -1);
    print(f, "one\ntwo\nthree\n");
    expect_tail(f, 13, "two\nthree\n");
    expect_tail(f, 11, "two\nthree\n");
    /* Here a line begins: none is lost. */
    expect_tail(f, 10, "two\nthree\n");
    expect_tail(f, 9, "three\n");
    expect_tail(f, 6, "three\n");
    /* Part of a line is better than nothing. */
    expect_tail(f, 5, "hree\n");
    expect_tail(f, 1, "\n");
    expect_tail(f, 0, "");
}

/* Far more than is kept: the last of it, from the start of a line. */
static void test_tail_wraps(void **state)
{
    struct fixture *f = *state;
    char *want = malloc(CONSOLE_TAIL_MAX + 1);
    char *got = malloc(CONSOLE_TAIL_MAX + 1);
    size_t len = 0;
    size_t n;

    assert_non_null(want);
    assert_non_null(got);
    start(f, -1, -1);
    /* Lines of 10 bytes, 8192 of which hold 819 whole ones. */
    for (unsigned int i = 0; i < 3000; i++) {
        char line[16];

        (void)snprintf(line, sizeof(line), "line %04u\n", i);
        print(f, line);
        if (i >= 3000 - CONSOLE_TAIL_MAX / 10) {
            memcpy(want + len, line, 10);
            len += 10;
        }
    }
    n = console_tail(&f->console, got, CONSOLE_TAIL_MAX);
    assert_int_equal(n, len);
    assert_memory_equal(got, want, len);
    expect_tail(f, 25, "line 2998\nline 2999\n");
    free(want);
    free(got);
}

static void test_tail_is_forgotten(void **state)
{
    struct fixture *f = *state;

    start(f, -1, -1);
    print(f, "one\ntwo");
    console_forget(&f->console);
    expect_tail(f, 100, "");
    print(f, "three\n");
    expect_tail(f, 100, "three\n");
}

static void test_tail_of_one_endless_line(void **state)
{
    struct fixture *f = *state;
    char buf[CONSOLE_TAIL_MAX];

    start(f, -1, -1);
    for (unsigned int i = 0; i < CONSOLE_TAIL_MAX + 1000; i++)
        assert_true(put(f, (uint8_t)('a' + i % 26)));
    assert_int_equal(
        console_tail(&f->console, buf, sizeof(buf)), CONSOLE_TAIL_MAX);
    for (unsigned int i = 0; i < CONSOLE_TAIL_MAX; i++)
        assert_int_equal(buf[i], 'a' + (i + 1000) % 26);
}

static void test_output_reaches_the_descriptor(void **state)
{
    struct fixture *f = *state;
    char buf[64] = "";

    assert_true(fcntl(f->out[1], F_SETPIPE_SZ, 65536) >= 0);
    start(f, f->out[1], -1);
    print(f, "hello\n");
    assert_int_equal(read(f->out[0], buf, sizeof(buf)), 6);
    assert_string_equal(buf, "hello\n");
    expect_tail(f, 64, "hello\n");
}

/*
 * A reader that does not read holds the guest back, at the cost of neither
 * bytes nor a busy loop; the tail has what was taken.
 */
static void test_output_that_is_too_fast(void **state)
{
    const struct rate_bucket_config rate = {
        .size = 8, .refill_ms = 3600 * 1000, .burst = 2};
    struct fixture *f = *state;
    char buf[64];

    start(f, f->out[1], -1);
    assert_int_equal(console_set_rate(&f->console, &rate, NULL), 0);
    print(f, "0123456789abcdef");
    run(f);
    assert_int_equal(read(f->out[0], buf, sizeof(buf)), 10);
    assert_memory_equal(buf, "0123456789", 10);
    assert_int_equal(f->console.rate_dropped, 6);
    expect_tail(f, sizeof(buf), "0123456789abcdef");
}

static void test_slow_reader(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[PIPE_ROOM];
    unsigned int sent = 0;
    unsigned int got = 0;

    assert_int_equal(fd_set_nonblocking(f->out[0], true), 0);
    start(f, f->out[1], -1);
    for (int rounds = 0; rounds < 3; rounds++) {
        ssize_t n;

        while (put(f, (uint8_t)(sent % 251))) {
            sent++;
            assert_true(sent < 3 * (PIPE_ROOM + SERIAL_TX_MAX));
        }
        /* One waits in the FIFO; a driver sees that and writes no more. */
        assert_int_equal(f->serial.state.tx_count, 1);
        assert_int_equal(f->serial.tx_dropped, 0);
        run(f);
        n = read(f->out[0], buf, sizeof(buf));
        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal(buf[i], got++ % 251);
        run(f);
        assert_int_equal(f->serial.state.tx_count, 0);
        assert_int_equal(lsr(f) & LSR_THRE, LSR_THRE);
    }
    while (got < sent) {
        ssize_t n = read(f->out[0], buf, sizeof(buf));

        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal(buf[i], got++ % 251);
        run(f);
    }
    assert_int_equal(f->console.tail_count, sent);
}

static void test_reader_that_goes(void **state)
{
    struct fixture *f = *state;

    start(f, f->out[1], -1);
    fd_closep(&f->out[0]);
    /* The guest does not notice, and the tail goes on. */
    for (unsigned int i = 0; i < 2 * PIPE_ROOM; i++)
        assert_true(put(f, 'x'));
    print(f, "\nend\n");
    expect_tail(f, 10, "end\n");
    run(f);
}

static void test_reader_that_goes_while_output_waits(void **state)
{
    struct fixture *f = *state;

    start(f, f->out[1], -1);
    while (put(f, 'x'))
        ;
    fd_closep(&f->out[0]);
    print(f, "\nend\n");
    expect_tail(f, 10, "end\n");
}

static void test_output_to_a_file(void **state)
{
    struct fixture *f = *state;
    int file = memfd_create("out", MFD_CLOEXEC);
    char buf[64] = "";

    assert_true(file >= 0);
    start(f, file, -1);
    print(f, "hello\n");
    assert_int_equal(pread(file, buf, sizeof(buf), 0), 6);
    assert_string_equal(buf, "hello\n");
    run(f);
    fd_closep(&file);
}

static void test_input(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[64];

    start(f, -1, f->in[0]);
    run(f);
    assert_int_equal(receive(f, buf, sizeof(buf)), 0);
    assert_int_equal(fd_write_full(f->in[1], "ls\n", 3), 0);
    run(f);
    assert_int_equal(receive(f, buf, sizeof(buf)), 3);
    assert_memory_equal(buf, "ls\n", 3);
    assert_int_equal(fd_write_full(f->in[1], "x", 1), 0);
    run(f);
    assert_int_equal(receive(f, buf, sizeof(buf)), 1);
    assert_int_equal(buf[0], 'x');
}

/* More than FIFO and buffer take stays in the pipe until there is room. */
static void test_much_input(void **state)
{
    struct fixture *f = *state;
    uint8_t data[5000];
    uint8_t got[5000];
    size_t n = 0;

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i % 251);
    /* Without the way out, its key is one like any other. */
    start(f, -1, f->in[0]);
    assert_int_equal(fd_write_full(f->in[1], data, sizeof(data)), 0);
    run(f);
    assert_int_equal(f->serial.state.rx_count, SERIAL_RX_MAX);
    for (unsigned int chunk = 1; n < sizeof(data); chunk = chunk % 70 + 1) {
        size_t room = num_min(chunk, sizeof(data) - n);
        size_t now = receive(f, got + n, room);

        assert_true(now > 0);
        n += now;
        run(f);
    }
    assert_memory_equal(got, data, sizeof(data));
    assert_int_equal(receive(f, got, 1), 0);
}

/* The port is looped back for a while, as drivers do to find it. */
static void test_input_while_the_port_is_cut_off(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[16];

    start(f, -1, f->in[0]);
    pio_outb(&f->bus, LAYOUT_PORT_SERIAL + 4, 0x10);
    assert_int_equal(fd_write_full(f->in[1], "abc", 3), 0);
    run(f);
    assert_int_equal(receive(f, buf, sizeof(buf)), 0);
    pio_outb(&f->bus, LAYOUT_PORT_SERIAL + 4, 0);
    run(f);
    assert_int_equal(receive(f, buf, sizeof(buf)), 3);
    assert_memory_equal(buf, "abc", 3);
}

static void test_end_of_input(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[200];

    start(f, -1, f->in[0]);
    memset(buf, 'x', sizeof(buf));
    assert_int_equal(fd_write_full(f->in[1], buf, 100), 0);
    fd_closep(&f->in[1]);
    run(f);
    assert_int_equal(receive(f, buf, sizeof(buf)), SERIAL_RX_MAX);
    run(f);
    assert_int_equal(receive(f, buf, sizeof(buf)), 100 - SERIAL_RX_MAX);
    run(f);
    assert_true(f->console.input_ended);
    assert_false(f->console.in_source.added);
}

static void test_input_from_a_file_is_not_typed(void **state)
{
    struct fixture *f = *state;
    int file = memfd_create("in", MFD_CLOEXEC);
    uint8_t buf[16];

    assert_true(file >= 0);
    assert_int_equal(pwrite(file, "abc", 3, 0), 3);
    start(f, -1, file);
    run(f);
    assert_int_equal(receive(f, buf, sizeof(buf)), 0);
    fd_closep(&file);
}

static void test_escape(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[16];

    start(f, -1, f->in[0]);
    console_set_escape(&f->console, on_escape, f);
    assert_int_equal(fd_write_full(f->in[1], "ab", 2), 0);
    run(f);
    assert_int_equal(f->escapes, 0);
    assert_int_equal(fd_write_full(f->in[1],
                         "c\x1d"
                         "d",
                         3),
        0);
    run(f);
    assert_int_equal(f->escapes, 1);
    assert_int_equal(receive(f, buf, sizeof(buf)), 2);
    assert_memory_equal(buf, "ab", 2);
}

/* Posted calls of a console that has gone are not carried out. */
static void test_fini_while_both_ways_wait(void **state)
{
    struct fixture *f = *state;
    uint8_t data[200] = {0};
    uint8_t buf[PIPE_ROOM];

    start(f, f->out[1], f->in[0]);
    assert_int_equal(fd_write_full(f->in[1], data, sizeof(data)), 0);
    run(f);
    while (put(f, 'x'))
        ;
    assert_int_equal(receive(f, buf, 10), 10);
    assert_true(f->console.watch_in.posted);
    console_fini(&f->console);
    assert_int_equal(read(f->out[0], buf, sizeof(buf)), PIPE_ROOM);
    run(f);
    assert_int_equal(f->serial.state.tx_count, 1);
    assert_int_equal(f->serial.state.rx_count, SERIAL_RX_MAX - 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tail_alone),
        cmocka_unit_test(test_tail_is_cut_at_lines),
        cmocka_unit_test(test_tail_wraps),
        cmocka_unit_test(test_tail_is_forgotten),
        cmocka_unit_test(test_tail_of_one_endless_line),
        cmocka_unit_test(test_output_reaches_the_descriptor),
        cmocka_unit_test(test_output_that_is_too_fast),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_reader_that_goes),
        cmocka_unit_test(test_reader_that_goes_while_output_waits),
        cmocka_unit_test(test_output_to_a_file),
        cmocka_unit_test(test_input),
        cmocka_unit_test(test_much_input),
        cmocka_unit_test(test_input_while_the_port_is_cut_off),
        cmocka_unit_test(test_end_of_input),
        cmocka_unit_test(test_input_from_a_file_is_not_typed),
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_fini_while_both_ways_wait),
    };
    struct CMUnitTest with_port[ARRAY_SIZE(tests)];

    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        with_port[i] = tests[i];
        with_port[i].setup_func = setup;
        with_port[i].teardown_func = teardown;
    }
    return cmocka_run_group_tests(with_port, NULL, NULL);
}
