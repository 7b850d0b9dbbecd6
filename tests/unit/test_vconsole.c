/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/vconsole.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define RAM      (16 * NUM_MIB)
#define RX_RINGS UINT64_C(0x10000)
#define TX_RINGS UINT64_C(0x20000)
#define DATA     UINT64_C(0x100000)
#define SIZE     ((uint16_t)VCONSOLE_QUEUE_SIZE)
#define RX       VCONSOLE_QUEUE_RX
#define TX       VCONSOLE_QUEUE_TX
#define F_ALL                                                                  \
    (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |        \
        VCONSOLE_F_SIZE | VCONSOLE_F_EMERG_WRITE)

/* The host's end: keeps what it was given, up to `room`. */
struct sink {
    uint8_t data[1u << 20];
    size_t len;
    size_t room;
    unsigned int calls;
    unsigned int rooms;
};

struct fixture {
    struct gmem mem;
    int irq;
    struct sink sink;
    struct vconsole c;
    struct device *dev;
    struct drive_queue d[VCONSOLE_QUEUES];
};

static size_t sink_write(void *opaque, const uint8_t *data, size_t len)
{
    struct sink *s = opaque;
    size_t n = num_min(len, s->room - s->len);

    memcpy(s->data + s->len, data, n);
    s->len += n;
    s->calls++;
    return n;
}

static void sink_room(void *opaque)
{
    ((struct sink *)opaque)->rooms++;
}

static void make(struct fixture *f, struct vconsole *c, struct loop *loop)
{
    const struct vconsole_host end = {
        .write = sink_write, .room = sink_room, .opaque = &f->sink};
    const struct virtio_host host = {
        .mem = &f->mem, .loop = loop, .irq = {.fd = f->irq}};

    assert_int_equal(vconsole_init(c, "hvc0", &end, &host, NULL), 0);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    struct fixture *f = &fixture;

    *f = (struct fixture){.sink = {.room = sizeof(f->sink.data)}};
    assert_int_equal(gmem_init(&f->mem, RAM, NULL), 0);
    f->irq = fd_eventfd();
    make(f, &f->c, NULL);
    f->dev = &f->c.virtio.base;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    f->dev->ops->reset(f->dev);
    vconsole_fini(&f->c);
    fd_closep(&f->irq);
    gmem_fini(&f->mem);
    return 0;
}

static void start(struct fixture *f, uint64_t features)
{
    drive_queue_init(&f->d[RX], &f->mem, RX_RINGS, SIZE);
    drive_queue_init(&f->d[TX], &f->mem, TX_RINGS, SIZE);
    drive_start(f->dev, features, f->d, VCONSOLE_QUEUES);
}

static void put(struct fixture *f, uint64_t at, const char *text)
{
    assert_int_equal(gmem_write(&f->mem, gpa(at), text, strlen(text)), 0);
}

/* Makes `text` available at `at`, without a kick. */
static void say(struct fixture *f, uint64_t at, const char *text)
{
    const struct drive_buffer buf = {at, (uint32_t)strlen(text), false};

    put(f, at, text);
    (void)drive_add(&f->d[TX], &buf, 1);
}

static void listen_at(struct fixture *f, uint64_t at, uint32_t len)
{
    const struct drive_buffer buf = {at, len, true};

    (void)drive_add(&f->d[RX], &buf, 1);
}

static bool used(struct fixture *f, uint32_t queue, uint32_t expected_len)
{
    uint32_t id;
    uint32_t len = 0;

    if (!drive_get_used(&f->d[queue], &id, &len))
        return false;
    assert_int_equal(len, expected_len);
    return true;
}

static void expect_output(struct fixture *f, const char *text)
{
    assert_int_equal(f->sink.len, strlen(text));
    assert_memory_equal(f->sink.data, text, strlen(text));
}

static bool stopped(struct fixture *f)
{
    return (drive_read(f->dev, VIRTIO_MMIO_STATUS) &
               VIRTIO_STATUS_NEEDS_RESET) != 0;
}

static size_t type(struct fixture *f, const char *text)
{
    return vconsole_receive(&f->c, (const uint8_t *)text, strlen(text));
}

static void test_output(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bufs[] = {
        {DATA + 1, 2, false}, {0, 0, false}, {DATA + 0x2000, 3, false}};

    start(f, F_ALL);
    say(f, DATA + 0x100, "hello ");
    put(f, DATA + 1, "wo");
    put(f, DATA + 0x2000, "rld");
    (void)drive_add(&f->d[TX], bufs, 3);
    drive_kick(f->dev, TX);
    assert_true(used(f, TX, 0));
    assert_true(used(f, TX, 0));
    expect_output(f, "hello world");
    assert_int_equal(f->c.stats.tx_bytes, 11);
    assert_int_equal(fd_eventfd_drain(f->irq), 1);
}

/* One call per VCONSOLE_BOUNCE_BYTES, whatever the descriptors. */
static void test_output_has_no_cost_per_byte(void **state)
{
    struct fixture *f = *state;
    struct drive_buffer bufs[32];

    start(f, F_ALL);
    for (uint32_t i = 0; i < 32; i++)
        bufs[i] = (struct drive_buffer){DATA + i * 0x1000u, 256, false};
    (void)drive_add(&f->d[TX], bufs, 32);
    drive_kick(f->dev, TX);
    assert_true(used(f, TX, 0));
    assert_int_equal(f->sink.len, 32 * 256);
    assert_int_equal(f->sink.calls, 32 * 256 / VCONSOLE_BOUNCE_BYTES);
}

static void test_slow_sink_keeps_the_chain(void **state)
{
    struct fixture *f = *state;

    start(f, F_ALL);
    f->sink.room = 4;
    say(f, DATA, "abcdef");
    say(f, DATA + 16, "ghi");
    drive_kick(f->dev, TX);
    expect_output(f, "abcd");
    assert_false(used(f, TX, 0));
    /* Kicks do not bother the sink. */
    f->sink.calls = 0;
    drive_kick(f->dev, TX);
    assert_int_equal(f->sink.calls, 0);
    vconsole_sink_ready(&f->c);
    assert_false(used(f, TX, 0));
    f->sink.room = 7;
    vconsole_sink_ready(&f->c);
    expect_output(f, "abcdefg");
    assert_true(used(f, TX, 0));
    assert_false(used(f, TX, 0));
    f->sink.room = 100;
    vconsole_sink_ready(&f->c);
    expect_output(f, "abcdefghi");
    assert_true(used(f, TX, 0));
    assert_int_equal(f->c.stats.tx_stalls, 3);
    /* Nor do calls that are not due; and kicks work again. */
    f->sink.calls = 0;
    vconsole_sink_ready(&f->c);
    assert_int_equal(f->sink.calls, 0);
    say(f, DATA, "!");
    drive_kick(f->dev, TX);
    expect_output(f, "abcdefghi!");
}

static void test_chain_changed_while_it_waits(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer shorter = {DATA, 2, false};

    start(f, F_ALL);
    f->sink.room = 4;
    say(f, DATA, "abcdef");
    say(f, DATA + 16, "xyz");
    drive_kick(f->dev, TX);
    drive_set_desc(&f->mem, f->d[TX].desc, 0, &shorter, 0, 0);
    f->sink.room = 100;
    vconsole_sink_ready(&f->c);
    expect_output(f, "abcdxyz");
    assert_true(used(f, TX, 0));
    assert_true(used(f, TX, 0));
    assert_false(stopped(f));
}

static void test_large_output_is_done_in_rounds(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer buf = {DATA, 600u << 10, false};
    struct loop loop;

    vconsole_fini(&f->c);
    assert_int_equal(loop_init(&loop, NULL), 0);
    make(f, &f->c, &loop);
    start(f, F_ALL);
    for (uint32_t i = 0; i < buf.len; i += 4099) {
        uint8_t b = (uint8_t)i;

        assert_int_equal(gmem_write(&f->mem, gpa(DATA + i), &b, 1), 0);
    }
    (void)drive_add(&f->d[TX], &buf, 1);
    drive_kick(f->dev, TX);
    assert_int_equal(loop_run_once(&loop, 0), 0);
    assert_false(used(f, TX, 0));
    assert_in_range(f->sink.len, 1, buf.len - 1);
    while (!used(f, TX, 0))
        assert_int_equal(loop_run_once(&loop, 0), 0);
    assert_int_equal(f->sink.len, buf.len);
    for (uint32_t i = 0; i < buf.len; i += 4099)
        assert_int_equal(f->sink.data[i], (uint8_t)i);
    vconsole_fini(&f->c);
    loop_fini(&loop);
    make(f, &f->c, NULL);
}

static void test_input(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bufs[] = {{DATA, 1, true}, {DATA + 16, 7, true}};
    uint8_t got[8];

    start(f, F_ALL);
    (void)drive_add(&f->d[RX], bufs, 2);
    listen_at(f, DATA + 32, 64);
    bitmap_clear_all(&f->mem.dirty);
    assert_int_equal(type(f, "0123456789"), 10);
    assert_true(used(f, RX, 8));
    assert_true(used(f, RX, 2));
    assert_int_equal(gmem_read(&f->mem, gpa(DATA), got, 1), 0);
    assert_memory_equal(got, "0", 1);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA + 16), got, 7), 0);
    assert_memory_equal(got, "1234567", 7);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA + 32), got, 3), 0);
    assert_memory_equal(got, "89\0", 3);
    assert_true(bitmap_test(&f->mem.dirty, DATA >> NUM_PAGE_SHIFT));
    assert_int_equal(f->c.stats.rx_bytes, 10);
    assert_int_equal(f->sink.rooms, 0);
    assert_int_equal(fd_eventfd_drain(f->irq), 1);
}

static void test_input_waits_for_buffers(void **state)
{
    struct fixture *f = *state;

    /* Nobody there at all; then a driver without buffers. */
    assert_int_equal(type(f, "x"), 0);
    start(f, F_ALL);
    assert_int_equal(f->sink.rooms, 1);
    assert_int_equal(type(f, "abc"), 0);
    listen_at(f, DATA, 2);
    drive_kick(f->dev, RX);
    assert_int_equal(f->sink.rooms, 2);
    assert_int_equal(type(f, "abc"), 2);
    assert_true(used(f, RX, 2));
    /* The device has asked for a kick with the next buffer. */
    assert_int_equal(drive_avail_event(&f->d[RX]), 1);
    listen_at(f, DATA, 2);
    drive_kick(f->dev, RX);
    assert_int_equal(f->sink.rooms, 3);
    listen_at(f, DATA, 2);
    drive_kick(f->dev, RX);
    assert_int_equal(f->sink.rooms, 3);
    assert_int_equal(type(f, ""), 0);
    assert_int_equal(type(f, "c"), 1);
    assert_true(used(f, RX, 1));
}

static void test_buffers_of_the_wrong_kind_are_violations(void **state)
{
    struct fixture *f = *state;
    static const struct drive_buffer rx[][2] = {
        {{DATA, 4, false}, {DATA, 4, true}},
        {{DATA, 4, false}, {DATA, 4, false}}, {{DATA, 0, true}, {0, 0, true}}};
    static const struct drive_buffer tx[][2] = {
        {{DATA, 4, false}, {DATA, 4, true}}, {{DATA, 4, true}, {0, 0, true}}};

    for (int i = 0; i < 3; i++) {
        start(f, F_ALL);
        (void)drive_add(&f->d[RX], rx[i], 2);
        drive_kick(f->dev, RX);
        assert_false(stopped(f));
        assert_int_equal(type(f, "abc"), 0);
        assert_true(stopped(f));
        assert_false(used(f, RX, 0));
    }
    for (int i = 0; i < 2; i++) {
        start(f, F_ALL);
        (void)drive_add(&f->d[TX], tx[i], 2);
        assert_false(stopped(f));
        drive_kick(f->dev, TX);
        assert_true(stopped(f));
        assert_false(used(f, TX, 0));
    }
    assert_int_equal(f->c.virtio.stats.violations, 5);
    assert_int_equal(f->c.virtio.queues[RX].q.inflight, 0);
    assert_int_equal(f->c.virtio.queues[TX].q.inflight, 0);
    assert_int_equal(f->sink.len, 0);
}

static void write_config(
    struct fixture *f, uint64_t offset, uint64_t value, uint8_t len)
{
    struct bus_access a = {.offset = VIRTIO_MMIO_CONFIG + offset,
        .value = value,
        .len = len,
        .is_write = true};

    f->dev->ops->access(f->dev, &a);
}

/* 5.3.4: works before the driver is up, and takes the low byte. */
static void test_emergency_write(void **state)
{
    struct fixture *f = *state;

    write_config(f, 8, 0xffffff61, 4);
    write_config(f, 8, 0x62, 1);
    write_config(f, 8, 0x1163, 2);
    expect_output(f, "abc");
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_CONFIG + 8), 0);
    /* Nothing else there can be written to. */
    write_config(f, 0, 0x61, 4);
    write_config(f, 4, 0x61, 4);
    write_config(f, 9, 0x61, 1);
    write_config(f, 12, 0x61, 4);
    write_config(f, 0xe00, 0x61, 4);
    expect_output(f, "abc");
    f->sink.room = 3;
    write_config(f, 8, 0x64, 4);
    expect_output(f, "abc");
    assert_int_equal(f->c.stats.emerg_bytes, 3);
    assert_int_equal(f->c.stats.emerg_dropped, 1);
}

static void test_size(void **state)
{
    struct fixture *f = *state;

    vconsole_set_size(&f->c, 80, 25);
    start(f, F_ALL);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_CONFIG), 25u << 16 | 80);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_CONFIG + 4), 1);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_CONFIG_GENERATION), 0);
    vconsole_set_size(&f->c, 132, 50);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_CONFIG), 50u << 16 | 132);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_CONFIG_GENERATION), 1);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_INTERRUPT_STATUS),
        VIRTIO_INTERRUPT_CONFIG);
    vconsole_set_size(&f->c, 132, 50);
    assert_int_equal(fd_eventfd_drain(f->irq), 1);
    /* A driver that does not care is not told; the size outlives a reset. */
    start(f, VIRTIO_F_VERSION_1);
    vconsole_set_size(&f->c, 132, 51);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_CONFIG), 51u << 16 | 132);
}

static void test_reset_forgets_what_is_half_out(void **state)
{
    struct fixture *f = *state;

    start(f, F_ALL);
    f->sink.room = 2;
    say(f, DATA, "abcdef");
    drive_kick(f->dev, TX);
    assert_int_equal(f->c.state.tx_done, 2);
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(f->c.state.tx_done, 0);
    vconsole_sink_ready(&f->c);
    f->sink.room = 100;
    start(f, F_ALL);
    say(f, DATA, "ghi");
    drive_kick(f->dev, TX);
    expect_output(f, "abghi");
}

static void test_save_and_load_in_mid_chain(void **state)
{
    struct fixture *f = *state;
    struct vconsole other;
    struct device *dev = &other.virtio.base;
    uint8_t wire[1024];
    struct bytes_writer w;
    struct bytes_reader r;

    start(f, F_ALL);
    vconsole_set_size(&f->c, 100, 30);
    f->sink.room = 2;
    say(f, DATA, "abcdef");
    say(f, DATA + 16, "gh");
    drive_kick(f->dev, TX);
    assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
    assert_int_equal(f->c.virtio.queues[TX].q.inflight, 0);
    bytes_writer_init(&w, wire, sizeof(wire));
    state_save(f->dev->ops->state, &f->c.state, &w);
    assert_false(w.failed);
    f->sink.room = 100;
    vconsole_sink_ready(&f->c);
    expect_output(f, "ab");

    make(f, &other, NULL);
    bytes_reader_init(&r, wire, w.pos);
    assert_int_equal(
        state_load(dev->ops->state, dev->ops->state->version, &r, &other.state),
        0);
    assert_null(state_differs(dev->ops->state, &f->c.state, &other.state));
    assert_int_equal(dev->ops->post_load(dev, NULL), 0);
    assert_int_equal(vconsole_receive(&other, (const uint8_t *)"x", 1), 0);
    dev->ops->resume(dev);
    expect_output(f, "abcdefgh");
    assert_true(used(f, TX, 0));
    assert_true(used(f, TX, 0));
    /* The input refused meanwhile. */
    assert_int_equal(f->sink.rooms, 1);
    assert_int_equal(drive_read(dev, VIRTIO_MMIO_CONFIG), 30u << 16 | 100);

    /* A count beyond any chain swallows one. */
    other.state.tx_done = UINT32_MAX;
    assert_int_equal(dev->ops->post_load(dev, NULL), 0);
    dev->ops->resume(dev);
    say(f, DATA, "lost");
    say(f, DATA + 16, "ij");
    drive_kick(dev, TX);
    expect_output(f, "abcdefghij");
    other.state.virtio.queues[RX].size = 3;
    assert_int_equal(dev->ops->post_load(dev, NULL), -EINVAL);
    assert_int_equal(other.state.tx_done, 0);
    vconsole_fini(&other);
}

/* The same process goes on: what was half out is not repeated. */
static void test_quiesce_and_resume(void **state)
{
    struct fixture *f = *state;

    start(f, F_ALL);
    f->sink.room = 2;
    say(f, DATA, "abcdef");
    drive_kick(f->dev, TX);
    assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
    f->sink.room = 100;
    vconsole_sink_ready(&f->c);
    assert_int_equal(f->sink.len, 2);
    f->dev->ops->resume(f->dev);
    expect_output(f, "abcdef");
    assert_true(used(f, TX, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(test_output),
        T(test_output_has_no_cost_per_byte),
        T(test_slow_sink_keeps_the_chain),
        T(test_chain_changed_while_it_waits),
        T(test_large_output_is_done_in_rounds),
        T(test_input),
        T(test_input_waits_for_buffers),
        T(test_buffers_of_the_wrong_kind_are_violations),
        T(test_emergency_write),
        T(test_size),
        T(test_reset_forgets_what_is_half_out),
        T(test_save_and_load_in_mid_chain),
        T(test_quiesce_and_resume),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
