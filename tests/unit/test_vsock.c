/* SPDX-License-Identifier: Apache-2.0 */
/* Packets and the states of a connection; volume is in test_vsock_flow.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/vsock_guest.h"
#include "virtio/spec.h"
#include "vmm/base/fd.h"

#define GUEST_PORT 1000u
#define HOST_PORT  77u
#define ROOM       65536u

struct fixture {
    struct vsock_guest g;
    struct vsock_guest_hosts hosts;
    int near; /* ours of a pair that vsock_connect got */
};

static uint32_t established_port;
static unsigned int established_count;

#define COOKIE 77u

static unsigned int closed_count;

static void on_closed(void *opaque, uint32_t cookie)
{
    (void)opaque;
    assert_int_equal(cookie, COOKIE);
    closed_count++;
}

static void on_established(int fd, uint32_t host_port)
{
    established_port = host_port;
    established_count++;
    assert_int_equal(send(fd, "hi", 2, MSG_NOSIGNAL), 2);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    const struct vsock_guest_config config = {
        .connections_max = 8, .rx_buffers = 64, .event_buffers = 8};

    fixture = (struct fixture){.near = -1};
    vsock_guest_start(&fixture.g, &config);
    vsock_set_accept(&fixture.g.vsock, VSOCK_ACCEPT_BACKEND, vsock_guest_accept,
        &fixture.hosts);
    established_count = 0;
    closed_count = 0;
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    vsock_guest_stop(&f->g);
    vsock_guest_close_hosts(&f->hosts);
    fd_closep(&f->near);
    return 0;
}

static void send_op(
    struct fixture *f, enum vsock_op op, uint32_t host_port, uint32_t flags)
{
    struct vsock_header h = vsock_guest_header(GUEST_PORT, host_port, op);

    h.flags = le32_put(flags);
    h.buf_alloc = le32_put(ROOM);
    vsock_guest_send(&f->g, &h, NULL, 0, 0);
    (void)vsock_guest_run(&f->g);
}

static void send_data(struct fixture *f, const char *text)
{
    struct vsock_header h =
        vsock_guest_header(GUEST_PORT, HOST_PORT, VSOCK_OP_RW);

    h.buf_alloc = le32_put(ROOM);
    vsock_guest_send(&f->g, &h, text, (uint32_t)strlen(text), 0);
    (void)vsock_guest_run(&f->g);
}

static void expect_silence(struct fixture *f)
{
    struct vsock_guest_packet p;

    (void)vsock_guest_run(&f->g);
    assert_false(vsock_guest_receive(&f->g, true, &p));
}

static void expect_text(int fd, const char *text)
{
    char got[64];

    assert_int_equal(
        recv(fd, got, sizeof(got), MSG_DONTWAIT), (ssize_t)strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

static void expect_eof(int fd)
{
    char got;

    assert_int_equal(recv(fd, &got, 1, MSG_DONTWAIT), 0);
}

static void expect_nothing(int fd)
{
    char got;

    assert_int_equal(recv(fd, &got, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

static void host_writes(struct fixture *f, int fd, const char *text)
{
    assert_int_equal(
        send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    (void)vsock_guest_run(&f->g);
}

static void open_from_guest(struct fixture *f)
{
    vsock_guest_open(&f->g, GUEST_PORT, HOST_PORT, ROOM);
}

/* The host asks for GUEST_PORT; the REQUEST's host port. */
static uint32_t ask_guest(struct fixture *f)
{
    const struct vsock_caller caller = {
        .established = on_established, .closed = on_closed, .cookie = COOKIE};
    int fds[2];

    vsock_guest_pair(fds);
    f->near = fds[0];
    assert_int_equal(
        vsock_connect(&f->g.vsock, GUEST_PORT, fds[1], &caller), 0);
    (void)vsock_guest_run(&f->g);
    return vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, GUEST_PORT).src_port;
}

static void test_config_space_has_the_cid(void **state)
{
    struct fixture *f = *state;
    struct device *dev = &f->g.vsock.virtio.base;

    assert_int_equal(drive_read(dev, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_VSOCK);
    assert_int_equal(drive_read(dev, VIRTIO_MMIO_CONFIG), VSOCK_GUEST_CID);
    assert_int_equal(drive_read(dev, VIRTIO_MMIO_CONFIG + 4), 0);
    assert_int_equal(drive_read(dev, VIRTIO_MMIO_CONFIG + 8), 0);
}

static void test_config_out_of_range_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct virtio_host host = {.mem = &f->g.mem, .irq = {.fd = -1}};
    const struct vsock_config bad[] = {
        {.id = "v", .guest_cid = 2},
        {.id = "v", .guest_cid = VSOCK_CID_ANY},
        {.id = "v", .guest_cid = 3, .connections_max = 1025},
        {.id = "v", .guest_cid = 3, .buf_alloc = 4095},
        {.id = "v", .guest_cid = 3, .buf_alloc = 1024 * 1024 + 1},
    };
    static struct vsock vsock;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct err err;

        assert_int_equal(vsock_init(&vsock, &bad[i], &host, &err), -EINVAL);
        vsock_fini(&vsock);
    }
}

static void test_guest_connects(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;

    send_op(f, VSOCK_OP_REQUEST, HOST_PORT, 0);
    p = vsock_guest_expect(&f->g, VSOCK_OP_RESPONSE, GUEST_PORT);
    assert_int_equal(p.src_port, HOST_PORT);
    assert_int_equal(p.buf_alloc, VSOCK_BUF_ALLOC_DEFAULT);
    assert_int_equal(p.len, 0);
    assert_int_equal(f->hosts.guest_port, GUEST_PORT);
    assert_int_equal(f->hosts.host_port, HOST_PORT);
    send_data(f, "from the guest");
    expect_text(f->hosts.fds[0], "from the guest");
    host_writes(f, f->hosts.fds[0], "from the host");
    p = vsock_guest_expect(&f->g, VSOCK_OP_RW, GUEST_PORT);
    assert_int_equal(p.len, 13);
    assert_memory_equal(p.data, "from the host", 13);
    assert_int_equal(p.fwd_cnt, 14);
    expect_silence(f);
    assert_int_equal(f->g.vsock.stats.guest_connects, 1);
    assert_int_equal(f->g.vsock.stats.tx_bytes, 14);
    assert_int_equal(f->g.vsock.stats.rx_bytes, 13);
}

static void test_acceptors_are_asked_in_order(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_hosts monitor = {.refusal = VSOCK_NOT_MINE};
    int fd;

    vsock_set_accept(
        &f->g.vsock, VSOCK_ACCEPT_MONITOR, vsock_guest_accept, &monitor);
    open_from_guest(f);
    assert_int_equal(monitor.host_port, HOST_PORT);
    assert_int_equal(f->hosts.count, 1);
    /* One that is its own but refused is not offered to the backend. */
    monitor.refusal = -ECONNREFUSED;
    send_op(f, VSOCK_OP_REQUEST, HOST_PORT + 1, 0);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    assert_int_equal(f->hosts.count, 1);
    monitor.refusal = 0;
    vsock_guest_open(&f->g, GUEST_PORT, HOST_PORT + 2, ROOM);
    assert_int_equal(monitor.count, 1);
    assert_int_equal(f->hosts.count, 1);
    fd = monitor.fds[0];
    host_writes(f, fd, "x");
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RW, GUEST_PORT);
    vsock_guest_close_hosts(&monitor);
    assert_int_equal(f->g.vsock.stats.refused, 1);
}

static void test_request_that_nobody_takes_is_refused(void **state)
{
    struct fixture *f = *state;

    vsock_set_accept(&f->g.vsock, VSOCK_ACCEPT_BACKEND, NULL, NULL);
    send_op(f, VSOCK_OP_REQUEST, HOST_PORT, 0);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    assert_int_equal(f->g.vsock.table.count, 0);
}

static void test_host_connects(void **state)
{
    struct fixture *f = *state;
    uint32_t port = ask_guest(f);
    struct vsock_guest_packet p;
    struct vsock_header h;

    assert_true(port >= VSOCK_HOST_PORT_FIRST);
    /* Written before the guest has answered: waits until then. */
    host_writes(f, f->near, "early");
    expect_silence(f);
    assert_int_equal(established_count, 0);
    send_op(f, VSOCK_OP_RESPONSE, port, 0);
    assert_int_equal(established_count, 1);
    assert_int_equal(established_port, port);
    p = vsock_guest_expect(&f->g, VSOCK_OP_RW, GUEST_PORT);
    assert_int_equal(p.src_port, port);
    assert_memory_equal(p.data, "early", 5);
    h = vsock_guest_header(GUEST_PORT, port, VSOCK_OP_RW);
    vsock_guest_send(&f->g, &h, "answer", 6, 0);
    (void)vsock_guest_run(&f->g);
    expect_text(f->near, "hianswer");
    assert_int_equal(closed_count, 0);
    send_op(f, VSOCK_OP_RST, port, 0);
    assert_int_equal(closed_count, 1);
}

static void test_host_ports_differ(void **state)
{
    struct fixture *f = *state;
    uint32_t first = ask_guest(f);

    fd_closep(&f->near);
    f->g.vsock.state.next_host_port = first;
    /* The port is in use until the guest has been told. */
    assert_int_equal(f->g.vsock.table.count, 1);
    assert_int_not_equal(ask_guest(f), first);
}

static void test_guest_refuses(void **state)
{
    struct fixture *f = *state;
    uint32_t port = ask_guest(f);

    send_op(f, VSOCK_OP_RST, port, 0);
    expect_eof(f->near);
    assert_int_equal(established_count, 0);
    assert_int_equal(closed_count, 1);
    assert_int_equal(f->g.vsock.table.count, 0);
    expect_silence(f);
}

static void test_connect_without_a_driver_fails(void **state)
{
    struct fixture *f = *state;
    int fds[2];

    drive_write(&f->g.vsock.virtio.base, VIRTIO_MMIO_STATUS, 0);
    vsock_guest_pair(fds);
    assert_int_equal(
        vsock_connect(&f->g.vsock, GUEST_PORT, fds[1], NULL), -ENOTCONN);
    /* Still the caller's. */
    assert_int_equal(close(fds[1]), 0);
    f->near = fds[0];
}

static void test_host_withdraws_before_the_answer(void **state)
{
    struct fixture *f = *state;
    uint32_t port = ask_guest(f);
    struct vsock_guest_packet p;

    fd_closep(&f->near);
    (void)vsock_guest_run(&f->g);
    assert_int_equal(closed_count, 1);
    p = vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    assert_int_equal(p.src_port, port);
    assert_int_equal(f->g.vsock.table.count, 0);
    /* The answer comes too late. */
    send_op(f, VSOCK_OP_RESPONSE, port, 0);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
}

static void test_request_withdrawn_unsent_is_never_seen(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;
    int fds[2];

    while (f->g.queues[VSOCK_QUEUE_RX].used_seen < 64) {
        /* Every rx buffer is used up on answers. */
        send_op(f, VSOCK_OP_CREDIT_REQUEST, HOST_PORT, 0);
        assert_true(vsock_guest_receive(&f->g, false, &p));
        (void)vsock_guest_sent(&f->g);
    }
    vsock_guest_pair(fds);
    assert_int_equal(vsock_connect(&f->g.vsock, GUEST_PORT, fds[1], NULL), 0);
    (void)vsock_guest_run(&f->g);
    assert_int_equal(close(fds[0]), 0);
    (void)vsock_guest_run(&f->g);
    assert_int_equal(f->g.vsock.table.count, 0);
    vsock_guest_post_rx(&f->g, 4);
    expect_silence(f);
}

static void test_guest_half_closes(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;
    int fd;

    open_from_guest(f);
    fd = f->hosts.fds[0];
    send_data(f, "last words");
    send_op(f, VSOCK_OP_SHUTDOWN, HOST_PORT, VSOCK_SHUTDOWN_SEND);
    expect_text(fd, "last words");
    expect_eof(fd);
    /* The other direction still works. */
    host_writes(f, fd, "noted");
    p = vsock_guest_expect(&f->g, VSOCK_OP_RW, GUEST_PORT);
    assert_memory_equal(p.data, "noted", 5);
    /* Data after it is a mistake of the guest's. */
    send_data(f, "more");
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    assert_int_equal(f->g.vsock.stats.malformed, 1);
    expect_eof(fd);
}

static void test_both_half_close_guest_first(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;

    open_from_guest(f);
    send_op(f, VSOCK_OP_SHUTDOWN, HOST_PORT, VSOCK_SHUTDOWN_SEND);
    assert_int_equal(send(f->hosts.fds[0], "bye", 3, 0), 3);
    assert_int_equal(shutdown(f->hosts.fds[0], SHUT_WR), 0);
    (void)vsock_guest_run(&f->g);
    p = vsock_guest_expect(&f->g, VSOCK_OP_RW, GUEST_PORT);
    assert_memory_equal(p.data, "bye", 3);
    p = vsock_guest_expect(&f->g, VSOCK_OP_SHUTDOWN, GUEST_PORT);
    assert_int_equal(p.flags, VSOCK_SHUTDOWN_BOTH);
    assert_int_equal(f->g.vsock.table.count, 1);
    send_op(f, VSOCK_OP_RST, HOST_PORT, 0);
    assert_int_equal(f->g.vsock.table.count, 0);
    expect_silence(f);
}

static void test_host_half_closes(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;

    open_from_guest(f);
    assert_int_equal(shutdown(f->hosts.fds[0], SHUT_WR), 0);
    (void)vsock_guest_run(&f->g);
    p = vsock_guest_expect(&f->g, VSOCK_OP_SHUTDOWN, GUEST_PORT);
    assert_int_equal(p.flags, VSOCK_SHUTDOWN_SEND);
    send_data(f, "still here");
    expect_text(f->hosts.fds[0], "still here");
    expect_silence(f);
    send_op(f, VSOCK_OP_SHUTDOWN, HOST_PORT, VSOCK_SHUTDOWN_SEND);
    expect_eof(f->hosts.fds[0]);
    p = vsock_guest_expect(&f->g, VSOCK_OP_SHUTDOWN, GUEST_PORT);
    assert_int_equal(p.flags, VSOCK_SHUTDOWN_BOTH);
    send_op(f, VSOCK_OP_SHUTDOWN, HOST_PORT, VSOCK_SHUTDOWN_BOTH);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    assert_int_equal(f->g.vsock.table.count, 0);
}

static void test_host_closes_after_half_close(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;

    open_from_guest(f);
    assert_int_equal(shutdown(f->hosts.fds[0], SHUT_WR), 0);
    (void)vsock_guest_run(&f->g);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_SHUTDOWN, GUEST_PORT);
    fd_closep(&f->hosts.fds[0]);
    (void)vsock_guest_run(&f->g);
    p = vsock_guest_expect(&f->g, VSOCK_OP_SHUTDOWN, GUEST_PORT);
    assert_int_equal(p.flags, VSOCK_SHUTDOWN_BOTH);
}

static void test_host_closes(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;

    open_from_guest(f);
    assert_int_equal(send(f->hosts.fds[0], "bye", 3, 0), 3);
    fd_closep(&f->hosts.fds[0]);
    (void)vsock_guest_run(&f->g);
    p = vsock_guest_expect(&f->g, VSOCK_OP_RW, GUEST_PORT);
    assert_memory_equal(p.data, "bye", 3);
    p = vsock_guest_expect(&f->g, VSOCK_OP_SHUTDOWN, GUEST_PORT);
    assert_int_equal(p.flags, VSOCK_SHUTDOWN_BOTH);
    /* Data on its way then is of no consequence. */
    send_data(f, "too late");
    send_op(f, VSOCK_OP_CREDIT_UPDATE, HOST_PORT, 0);
    expect_silence(f);
    send_op(f, VSOCK_OP_SHUTDOWN, HOST_PORT, VSOCK_SHUTDOWN_BOTH);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    assert_int_equal(f->g.vsock.table.count, 0);
}

static void test_guest_stops_reading(void **state)
{
    struct fixture *f = *state;
    int fd;

    open_from_guest(f);
    fd = f->hosts.fds[0];
    send_op(f, VSOCK_OP_SHUTDOWN, HOST_PORT, VSOCK_SHUTDOWN_RCV);
    assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
    send_data(f, "onwards");
    expect_text(fd, "onwards");
    expect_silence(f);
    send_op(f, VSOCK_OP_SHUTDOWN, HOST_PORT, VSOCK_SHUTDOWN_SEND);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    expect_eof(fd);
}

static void test_host_stops_reading(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;
    int fd;

    open_from_guest(f);
    fd = f->hosts.fds[0];
    assert_int_equal(shutdown(fd, SHUT_RD), 0);
    send_data(f, "in vain");
    p = vsock_guest_expect(&f->g, VSOCK_OP_SHUTDOWN, GUEST_PORT);
    assert_int_equal(p.flags, VSOCK_SHUTDOWN_RCV);
    assert_int_equal(p.fwd_cnt, 7);
    host_writes(f, fd, "answer");
    p = vsock_guest_expect(&f->g, VSOCK_OP_RW, GUEST_PORT);
    assert_memory_equal(p.data, "answer", 6);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    (void)vsock_guest_run(&f->g);
    p = vsock_guest_expect(&f->g, VSOCK_OP_SHUTDOWN, GUEST_PORT);
    assert_int_equal(p.flags, VSOCK_SHUTDOWN_BOTH);
}

static void test_guest_closes(void **state)
{
    struct fixture *f = *state;

    open_from_guest(f);
    send_data(f, "all");
    send_op(f, VSOCK_OP_SHUTDOWN, HOST_PORT, VSOCK_SHUTDOWN_BOTH);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    expect_text(f->hosts.fds[0], "all");
    expect_eof(f->hosts.fds[0]);
    assert_int_equal(f->g.vsock.table.count, 0);
}

static void test_reset_while_open(void **state)
{
    struct fixture *f = *state;

    open_from_guest(f);
    send_op(f, VSOCK_OP_RST, HOST_PORT, 0);
    expect_eof(f->hosts.fds[0]);
    assert_int_equal(f->g.vsock.table.count, 0);
    expect_silence(f);
}

static void test_port_is_used_again_while_lingering(void **state)
{
    struct fixture *f = *state;

    open_from_guest(f);
    fd_closep(&f->hosts.fds[0]);
    (void)vsock_guest_run(&f->g);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_SHUTDOWN, GUEST_PORT);
    open_from_guest(f);
    assert_int_equal(f->g.vsock.table.count, 1);
    send_data(f, "fresh");
    expect_text(f->hosts.fds[1], "fresh");
}

static void test_answers_out_of_turn_are_reset(void **state)
{
    struct fixture *f = *state;
    uint32_t port;

    open_from_guest(f);
    send_op(f, VSOCK_OP_RESPONSE, HOST_PORT, 0);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    expect_eof(f->hosts.fds[0]);
    open_from_guest(f);
    send_op(f, VSOCK_OP_REQUEST, HOST_PORT, 0);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    expect_eof(f->hosts.fds[1]);
    port = ask_guest(f);
    send_op(f, VSOCK_OP_SHUTDOWN, port, VSOCK_SHUTDOWN_BOTH);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    expect_eof(f->near);
    assert_int_equal(f->g.vsock.table.count, 0);
    assert_int_equal(f->g.vsock.stats.malformed, 3);
}

static void test_unknown_connections_are_reset(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;

    for (unsigned int op = 0; op < 10; op++) {
        if (op == VSOCK_OP_REQUEST || op == VSOCK_OP_RST)
            continue;
        send_op(f, (enum vsock_op)op, HOST_PORT, 0);
        p = vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
        assert_int_equal(p.src_port, HOST_PORT);
    }
    /* Two sides that answer RST with RST would never stop. */
    send_op(f, VSOCK_OP_RST, HOST_PORT, 0);
    expect_silence(f);
}

static void test_unknown_ops_are_reset(void **state)
{
    const unsigned int ops[] = {VSOCK_OP_INVALID, 8, 9, 0xffff};
    struct fixture *f = *state;

    for (unsigned int i = 0; i < ARRAY_SIZE(ops); i++) {
        open_from_guest(f);
        send_op(f, (enum vsock_op)ops[i], HOST_PORT, 0);
        (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
        expect_eof(f->hosts.fds[i]);
    }
    assert_int_equal(f->g.vsock.stats.malformed, ARRAY_SIZE(ops));
    assert_int_equal(f->g.vsock.table.count, 0);
}

static void test_wrong_addresses_and_types(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;
    struct vsock_header h =
        vsock_guest_header(GUEST_PORT, HOST_PORT, VSOCK_OP_REQUEST);

    h.src_cid = le64_put(VSOCK_GUEST_CID + 1);
    vsock_guest_send(&f->g, &h, NULL, 0, 0);
    h.src_cid = le64_put(UINT64_C(1) << 32 | VSOCK_GUEST_CID);
    vsock_guest_send(&f->g, &h, NULL, 0, 0);
    expect_silence(f);
    assert_int_equal(f->g.vsock.stats.malformed, 2);
    h.src_cid = le64_put(VSOCK_GUEST_CID);
    h.dst_cid = le64_put(UINT64_C(5) << 32 | VSOCK_CID_HOST);
    vsock_guest_send(&f->g, &h, NULL, 0, 0);
    (void)vsock_guest_run(&f->g);
    assert_true(vsock_guest_receive(&f->g, true, &p));
    assert_int_equal(p.op, VSOCK_OP_RST);
    assert_true(p.src_cid == (UINT64_C(5) << 32 | VSOCK_CID_HOST));
    assert_int_equal(p.src_port, HOST_PORT);
    assert_int_equal(p.dst_port, GUEST_PORT);
    h.dst_cid = le64_put(VSOCK_CID_HOST);
    h.type = le16_put(2); /* seqpacket */
    vsock_guest_send(&f->g, &h, NULL, 0, 0);
    (void)vsock_guest_run(&f->g);
    assert_true(vsock_guest_receive(&f->g, true, &p));
    assert_int_equal(p.op, VSOCK_OP_RST);
    assert_int_equal(p.type, 2);
    assert_int_equal(f->hosts.count, 0);
    assert_int_equal(f->g.vsock.stats.refused, 2);
}

static void test_length_beyond_the_descriptors_is_reset(void **state)
{
    struct fixture *f = *state;
    struct vsock_header h =
        vsock_guest_header(GUEST_PORT, HOST_PORT, VSOCK_OP_RW);
    struct {
        struct vsock_header h;
        char data[8];
    } packet;

    h.len = le32_put(sizeof(packet.data) + 1);
    packet.h = h;
    memcpy(packet.data, "abcdefgh", sizeof(packet.data));
    open_from_guest(f);
    vsock_guest_send_raw(&f->g, &packet, sizeof(packet), 0);
    (void)vsock_guest_run(&f->g);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    expect_eof(f->hosts.fds[0]);
    /* And where there is no connection. */
    vsock_guest_send_raw(&f->g, &packet, sizeof(packet), 0);
    (void)vsock_guest_run(&f->g);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    assert_int_equal(f->g.vsock.stats.malformed, 2);
    /* Bytes behind the length are not data. */
    packet.h.len = le32_put(3);
    open_from_guest(f);
    vsock_guest_send_raw(&f->g, &packet, sizeof(packet), 0);
    (void)vsock_guest_run(&f->g);
    expect_text(f->hosts.fds[1], "abc");
}

static void test_short_packets_are_dropped(void **state)
{
    struct fixture *f = *state;
    const struct vsock_header h =
        vsock_guest_header(GUEST_PORT, HOST_PORT, VSOCK_OP_REQUEST);

    for (uint32_t len = 0; len < sizeof(h); len++) {
        vsock_guest_send_raw(&f->g, &h, len, 0);
        (void)vsock_guest_run(&f->g);
        assert_int_equal(vsock_guest_sent(&f->g), 1);
    }
    expect_silence(f);
    assert_int_equal(f->g.vsock.stats.malformed, sizeof(h));
    assert_int_equal(f->hosts.count, 0);
}

static void test_packets_split_at_every_byte(void **state)
{
    struct fixture *f = *state;
    struct vsock_header h =
        vsock_guest_header(GUEST_PORT, HOST_PORT, VSOCK_OP_RW);

    open_from_guest(f);
    for (uint32_t cut = 1; cut <= sizeof(h) + 10; cut++) {
        vsock_guest_send(&f->g, &h, "0123456789", 10, cut);
        (void)vsock_guest_run(&f->g);
        expect_text(f->hosts.fds[0], "0123456789");
    }
    assert_int_equal(vsock_guest_sent(&f->g), 1 + (unsigned int)sizeof(h) + 10);
}

static void test_empty_data_is_nothing(void **state)
{
    struct fixture *f = *state;

    open_from_guest(f);
    send_data(f, "");
    expect_nothing(f->hosts.fds[0]);
    expect_silence(f);
    send_data(f, "x");
    expect_text(f->hosts.fds[0], "x");
}

int main(void)
{
#define CASE(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_config_space_has_the_cid),
        CASE(test_config_out_of_range_is_refused),
        CASE(test_guest_connects),
        CASE(test_acceptors_are_asked_in_order),
        CASE(test_request_that_nobody_takes_is_refused),
        CASE(test_host_connects),
        CASE(test_host_ports_differ),
        CASE(test_guest_refuses),
        CASE(test_connect_without_a_driver_fails),
        CASE(test_host_withdraws_before_the_answer),
        CASE(test_request_withdrawn_unsent_is_never_seen),
        CASE(test_guest_half_closes),
        CASE(test_both_half_close_guest_first),
        CASE(test_host_half_closes),
        CASE(test_host_closes_after_half_close),
        CASE(test_host_closes),
        CASE(test_guest_stops_reading),
        CASE(test_host_stops_reading),
        CASE(test_guest_closes),
        CASE(test_reset_while_open),
        CASE(test_port_is_used_again_while_lingering),
        CASE(test_answers_out_of_turn_are_reset),
        CASE(test_unknown_connections_are_reset),
        CASE(test_unknown_ops_are_reset),
        CASE(test_wrong_addresses_and_types),
        CASE(test_length_beyond_the_descriptors_is_reset),
        CASE(test_short_packets_are_dropped),
        CASE(test_packets_split_at_every_byte),
        CASE(test_empty_data_is_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
