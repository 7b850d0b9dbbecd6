/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data for the guest that is read into several buffers at a time, which
 * happens once a connection has brought as much before.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "tests/unit/support/vsock_guest.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define GUEST_PORT 2000u
#define HOST_PORT  80u
#define MESSAGE    30000u
#define PACKET     (4096u - 44u)
#define PACKETS    ((MESSAGE + PACKET - 1) / PACKET)

struct fixture {
    struct vsock_guest g;
    struct vsock_guest_hosts hosts;
    uint32_t received;
    uint8_t data[MESSAGE];
};

static int set_up(void **state)
{
    static struct fixture f;
    const struct vsock_guest_config config = {
        .rx_buffers = 64, .event_buffers = 8};

    f = (struct fixture){0};
    for (uint32_t i = 0; i < MESSAGE; i++)
        f.data[i] = (uint8_t)(i * UINT32_C(2654435761) >> 24);
    vsock_guest_start(&f.g, &config);
    vsock_set_accept(
        &f.g.vsock, VSOCK_ACCEPT_BACKEND, vsock_guest_accept, &f.hosts);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    vsock_guest_stop(&f->g);
    vsock_guest_close_hosts(&f->hosts);
    return 0;
}

static void say(struct fixture *f, uint32_t len)
{
    assert_int_equal(write(f->hosts.fds[0], f->data, len), (ssize_t)len);
    (void)vsock_guest_run(&f->g);
}

/* `len` bytes of a message from `at` on; the packets that they came in. */
static unsigned int hear(struct fixture *f, uint32_t at, uint32_t len)
{
    struct vsock_guest_packet p;
    unsigned int count = 0;

    for (uint32_t done = 0; done < len; done += p.len) {
        assert_true(vsock_guest_receive(&f->g, true, &p));
        assert_int_equal(p.op, VSOCK_OP_RW);
        assert_int_equal(p.type, VSOCK_TYPE_STREAM);
        assert_int_equal(p.src_cid, VSOCK_CID_HOST);
        assert_int_equal(p.dst_cid, VSOCK_GUEST_CID);
        assert_int_equal(p.src_port, HOST_PORT);
        assert_int_equal(p.dst_port, GUEST_PORT);
        assert_true(p.len > 0 && p.len <= len - done);
        assert_memory_equal(p.data, f->data + at + done, p.len);
        count++;
    }
    f->received += len;
    return count;
}

static void tell_credit(struct fixture *f, uint32_t buf_alloc)
{
    struct vsock_header h =
        vsock_guest_header(GUEST_PORT, HOST_PORT, VSOCK_OP_CREDIT_UPDATE);

    h.buf_alloc = le32_put(buf_alloc);
    h.fwd_cnt = le32_put(f->received);
    vsock_guest_send(&f->g, &h, NULL, 0, 0);
    (void)vsock_guest_run(&f->g);
    assert_int_equal(vsock_guest_sent(&f->g), 1);
}

static void open_wide(struct fixture *f)
{
    vsock_guest_open(&f->g, GUEST_PORT, HOST_PORT, 1u << 20);
    (void)vsock_guest_sent(&f->g);
    say(f, MESSAGE);
    assert_int_equal(hear(f, 0, MESSAGE), PACKETS);
}

static void test_messages_of_all_lengths(void **state)
{
    static const uint32_t lens[] = {MESSAGE, PACKET, MESSAGE, 4 * PACKET,
        4 * PACKET, 1, MESSAGE, 2 * PACKET + 1, PACKET - 1, MESSAGE};
    struct fixture *f = *state;
    struct vsock_guest_packet p;
    uint16_t before;

    open_wide(f);
    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        unsigned int least = (lens[i] + PACKET - 1) / PACKET;

        before = f->g.vsock.state.virtio.queues[VSOCK_QUEUE_RX].avail_next;
        say(f, lens[i]);
        assert_int_equal(hear(f, 0, lens[i]), least);
        assert_false(vsock_guest_receive(&f->g, true, &p));
        /* What was taken for more that did not come is back. */
        assert_int_equal(
            f->g.vsock.state.virtio.queues[VSOCK_QUEUE_RX].avail_next,
            (uint16_t)(before + least));
        assert_int_equal(
            f->g.vsock.virtio.queues[VSOCK_QUEUE_RX].q.inflight, 0);
        tell_credit(f, 1u << 20);
    }
}

static void test_no_more_than_the_credit(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;

    open_wide(f);
    tell_credit(f, 10000);
    say(f, MESSAGE);
    (void)hear(f, 0, 10000);
    assert_true(vsock_guest_receive(&f->g, true, &p));
    assert_int_equal(p.op, VSOCK_OP_CREDIT_REQUEST);
    assert_false(vsock_guest_receive(&f->g, true, &p));
    tell_credit(f, 1u << 20);
    (void)hear(f, 10000, MESSAGE - 10000);
}

static void test_end_behind_a_message(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;

    open_wide(f);
    assert_int_equal(
        write(f->hosts.fds[0], f->data, 4 * PACKET), (ssize_t)(4 * PACKET));
    fd_closep(&f->hosts.fds[0]);
    (void)vsock_guest_run(&f->g);
    (void)hear(f, 0, 4 * PACKET);
    assert_true(vsock_guest_receive(&f->g, true, &p));
    assert_int_equal(p.op, VSOCK_OP_SHUTDOWN);
    assert_int_equal(p.flags, VSOCK_SHUTDOWN_BOTH);
}

/* Too few buffers, and one among them that has no room for data. */
static void test_what_the_driver_has(void **state)
{
    struct fixture *f = *state;
    struct drive_queue *rx = &f->g.queues[VSOCK_QUEUE_RX];
    struct vsock_guest_packet p;
    uint32_t id;
    uint32_t len;

    open_wide(f);
    /* All buffers but four go. */
    for (unsigned int i = 0; i < 60; i++) {
        say(f, 1);
        assert_true(vsock_guest_receive(&f->g, false, &p));
    }
    say(f, MESSAGE);
    for (uint32_t at = 0; at < 4 * PACKET; at += PACKET) {
        assert_true(vsock_guest_receive(&f->g, false, &p));
        assert_int_equal(p.len, PACKET);
        assert_memory_equal(p.data, f->data + at, PACKET);
    }
    assert_false(vsock_guest_receive(&f->g, false, &p));
    vsock_guest_add_rx(&f->g, 1);
    {
        const struct drive_buffer useless = {
            .addr = 0x100000 + rx->next_desc * 0x1000ull,
            .len = 44,
            .writable = true};

        (void)drive_add(rx, &useless, 1);
    }
    vsock_guest_post_rx(&f->g, 20);
    (void)vsock_guest_run(&f->g);
    assert_true(vsock_guest_receive(&f->g, false, &p));
    assert_memory_equal(p.data, f->data + 4 * PACKET, PACKET);
    assert_true(drive_get_used(rx, &id, &len));
    assert_int_equal(len, 0);
    (void)hear(f, 5 * PACKET, MESSAGE - 5 * PACKET);
    assert_int_equal(f->g.vsock.stats.malformed, 1);
}

int main(void)
{
#define CASE(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_messages_of_all_lengths),
        CASE(test_no_more_than_the_credit),
        CASE(test_end_behind_a_message),
        CASE(test_what_the_driver_has),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
