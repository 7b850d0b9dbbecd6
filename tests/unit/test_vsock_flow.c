/* SPDX-License-Identifier: Apache-2.0 */
/* Volume: credit, buffers, fairness, and guests or hosts that do not read. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/vsock_guest.h"
#include "virtio/spec.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define GUEST_PORT 2000u
#define HOST_PORT  80u
#define BUF_ALLOC  4096u
#define VOLUME     ((uint32_t)NUM_MIB)

struct fixture {
    struct vsock_guest g;
    struct vsock_guest_hosts hosts;
};

/* The driver's side of one connection, as far as credit goes. */
struct flow {
    struct vsock_guest *g;
    uint32_t buf_alloc;
    uint32_t received;
    uint32_t told; /* what the device knows to be read */
    uint32_t sent;
    uint32_t peer_buf_alloc;
    uint32_t peer_fwd_cnt;
    unsigned int asked; /* CREDIT_REQUESTs seen */
};

static struct fixture fixture;

static void begin(const struct vsock_guest_config *config)
{
    fixture = (struct fixture){0};
    vsock_guest_start(&fixture.g, config);
    vsock_set_accept(&fixture.g.vsock, VSOCK_ACCEPT_BACKEND, vsock_guest_accept,
        &fixture.hosts);
}

static int set_up(void **state)
{
    const struct vsock_guest_config config = {
        .buf_alloc = BUF_ALLOC, .rx_buffers = 64, .event_buffers = 8};

    begin(&config);
    *state = &fixture;
    return 0;
}

static int set_up_event_idx(void **state)
{
    const struct vsock_guest_config config = {.buf_alloc = BUF_ALLOC,
        .rx_buffers = 3,
        .rx_size = 333,
        .features =
            VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC};

    begin(&config);
    *state = &fixture;
    return 0;
}

static int set_up_wide(void **state)
{
    const struct vsock_guest_config config = {
        .buf_alloc = 20011, .rx_buffers = 64, .event_buffers = 8};

    begin(&config);
    *state = &fixture;
    return 0;
}

static int set_up_dry(void **state)
{
    const struct vsock_guest_config config = {
        .buf_alloc = BUF_ALLOC, .rx_buffers = 0};

    begin(&config);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    vsock_guest_stop(&f->g);
    vsock_guest_close_hosts(&f->hosts);
    return 0;
}

/* Byte `i` of a stream that has no period worth the name. */
static uint8_t pattern(uint32_t i)
{
    uint32_t x = i * UINT32_C(2654435761);

    return (uint8_t)(x >> 24 ^ x >> 11);
}

static void fill(uint8_t *buf, uint32_t from, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        buf[i] = pattern(from + i);
}

static void expect_pattern(const uint8_t *buf, uint32_t from, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        if (buf[i] != pattern(from + i))
            fail_msg("byte %u differs", from + i);
    }
}

static struct vsock_header header_of(struct flow *flow, enum vsock_op op)
{
    struct vsock_header h = vsock_guest_header(GUEST_PORT, HOST_PORT, op);

    h.buf_alloc = le32_put(flow->buf_alloc);
    h.fwd_cnt = le32_put(flow->told);
    return h;
}

static void send_op(struct flow *flow, enum vsock_op op)
{
    const struct vsock_header h = header_of(flow, op);

    vsock_guest_send(flow->g, &h, NULL, 0, 0);
    (void)vsock_guest_run(flow->g);
}

static struct flow open_flow(struct fixture *f, uint32_t buf_alloc)
{
    struct flow flow = {.g = &f->g,
        .buf_alloc = buf_alloc,
        .peer_buf_alloc = f->g.vsock.buf_alloc};

    vsock_guest_open(&f->g, GUEST_PORT, HOST_PORT, buf_alloc);
    return flow;
}

/* Takes what the device sent; the data bytes, checked. */
static uint32_t take_packets(struct flow *flow, uint32_t base)
{
    struct vsock_guest_packet p;
    uint32_t got = 0;

    while (vsock_guest_receive(flow->g, true, &p)) {
        assert_true(p.op == VSOCK_OP_RW || p.op == VSOCK_OP_CREDIT_UPDATE ||
                    p.op == VSOCK_OP_CREDIT_REQUEST);
        assert_true(p.op == VSOCK_OP_RW || p.len == 0);
        flow->asked += p.op == VSOCK_OP_CREDIT_REQUEST;
        flow->peer_buf_alloc = p.buf_alloc;
        flow->peer_fwd_cnt = p.fwd_cnt;
        expect_pattern(p.data, flow->received - base, p.len);
        flow->received += p.len;
        got += p.len;
        /* The device may not outrun what it was granted. */
        assert_true(flow->received - flow->told <= flow->buf_alloc);
    }
    return got;
}

/* `VOLUME` bytes from the host to the guest in windows of flow->buf_alloc. */
static void pour_to_guest(struct fixture *f, struct flow *flow)
{
    uint32_t base = flow->received;
    uint8_t chunk[8192];
    uint32_t written = 0;

    while (flow->received - base < VOLUME) {
        uint32_t want = (uint32_t)num_min(VOLUME - written, sizeof(chunk));
        uint32_t before = flow->received;
        ssize_t n;

        fill(chunk, written, want);
        n = send(f->hosts.fds[0], chunk, want, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            written += (uint32_t)n;
        (void)vsock_guest_run(&f->g);
        (void)take_packets(flow, base);
        flow->told = flow->received;
        send_op(flow, VSOCK_OP_CREDIT_UPDATE);
        (void)take_packets(flow, base);
        (void)vsock_guest_sent(&f->g);
        assert_true(flow->received != before);
    }
    assert_int_equal(flow->received - base, VOLUME);
}

/* The other way, the host reading `sip` bytes at a time. */
static void pour_to_host(struct fixture *f, struct flow *flow, uint32_t sip)
{
    static uint8_t chunk[65536];
    uint32_t base = flow->sent;
    uint32_t read = 0;

    while (read < VOLUME) {
        uint32_t left = VOLUME - (flow->sent - base);
        uint32_t room =
            flow->peer_buf_alloc - (flow->sent - flow->peer_fwd_cnt);
        uint32_t len = (uint32_t)num_min(left, room);
        ssize_t n;

        if (len > 0) {
            const struct vsock_header h = header_of(flow, VSOCK_OP_RW);

            fill(chunk, flow->sent - base, len);
            vsock_guest_send(&f->g, &h, chunk, len, 0);
            flow->sent += len;
        }
        (void)vsock_guest_run(&f->g);
        n = recv(f->hosts.fds[0], chunk, sip, MSG_DONTWAIT);
        assert_true(n > 0);
        expect_pattern(chunk, read, (uint32_t)n);
        read += (uint32_t)n;
        (void)vsock_guest_run(&f->g);
        (void)take_packets(flow, 0);
        (void)vsock_guest_sent(&f->g);
    }
    assert_int_equal(flow->sent - base, VOLUME);
}

/* As little as the kernel allows between the device and the host. */
static void shrink_socket(struct fixture *f)
{
    const struct vsock_conn *conn =
        vsock_guest_conn(&f->g, GUEST_PORT, HOST_PORT);
    const int least = 1;

    assert_int_equal(
        setsockopt(conn->fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof(least)), 0);
}

static void test_volume_to_the_guest_in_tiny_windows(void **state)
{
    struct fixture *f = *state;
    struct flow flow = open_flow(f, 311);

    pour_to_guest(f, &flow);
    assert_true(flow.asked > 0);
    assert_int_equal(f->g.vsock.stats.rx_bytes, VOLUME);
    assert_int_equal(f->g.vsock.stats.malformed, 0);
}

static void test_volume_to_the_guest_in_wide_windows(void **state)
{
    struct fixture *f = *state;
    struct flow flow = open_flow(f, 1u << 20);

    pour_to_guest(f, &flow);
    assert_int_equal(flow.asked, 0);
}

static void test_volume_to_the_host(void **state)
{
    struct fixture *f = *state;
    struct flow flow = open_flow(f, 4096);

    pour_to_host(f, &flow, 65536);
    assert_int_equal(f->g.vsock.stats.tx_bytes, VOLUME);
    assert_null(vsock_guest_conn(&f->g, GUEST_PORT, HOST_PORT)->buf);
    assert_int_equal(f->g.vsock.stats.malformed, 0);
}

static void test_volume_to_a_slow_host(void **state)
{
    struct fixture *f = *state;
    struct flow flow = open_flow(f, 4096);
    const struct vsock_conn *conn;

    shrink_socket(f);
    pour_to_host(f, &flow, 997);
    assert_int_equal(f->g.vsock.stats.malformed, 0);
    conn = vsock_guest_conn(&f->g, GUEST_PORT, HOST_PORT);
    assert_int_equal(conn->fwd_cnt, VOLUME);
    assert_null(conn->buf);
}

static void test_volume_with_event_indices(void **state)
{
    struct fixture *f = *state;
    struct flow flow = open_flow(f, 5000);

    shrink_socket(f);
    pour_to_guest(f, &flow);
    pour_to_host(f, &flow, 1500);
}

static void test_counters_wrap(void **state)
{
    struct fixture *f = *state;
    struct flow flow = open_flow(f, 7000);
    struct vsock_conn *conn = vsock_guest_conn(&f->g, GUEST_PORT, HOST_PORT);
    const uint32_t high = UINT32_MAX - VOLUME / 2;

    shrink_socket(f);
    conn->recv_cnt = conn->fwd_cnt = conn->told_fwd_cnt = high;
    conn->sent_cnt = conn->peer_fwd_cnt = high;
    flow.sent = flow.peer_fwd_cnt = high;
    flow.received = flow.told = high;
    pour_to_guest(f, &flow);
    pour_to_host(f, &flow, 4096);
    assert_int_equal(conn->fwd_cnt, high + VOLUME);
    assert_int_equal(conn->sent_cnt, high + VOLUME);
    assert_true(conn->fwd_cnt < high);
}

static void test_more_than_the_credit_is_reset(void **state)
{
    struct fixture *f = *state;
    struct flow flow = open_flow(f, 4096);
    const struct vsock_header h = header_of(&flow, VSOCK_OP_RW);
    static uint8_t data[BUF_ALLOC + 1];
    struct vsock_guest_packet p;

    shrink_socket(f);
    vsock_guest_send(&f->g, &h, data, sizeof(data), 0);
    (void)vsock_guest_run(&f->g);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    assert_int_equal(f->g.vsock.stats.malformed, 1);
    flow = open_flow(f, 4096);
    shrink_socket(f);
    /* The host takes some, the buffer is full in the end. */
    do {
        vsock_guest_send(&f->g, &h, data, 1024, 0);
        (void)vsock_guest_run(&f->g);
        (void)vsock_guest_sent(&f->g);
    } while (!vsock_guest_receive(&f->g, true, &p) ||
             p.op == VSOCK_OP_CREDIT_UPDATE);
    assert_int_equal(p.op, VSOCK_OP_RST);
    assert_null(vsock_guest_conn(&f->g, GUEST_PORT, HOST_PORT));
}

static void test_credit_is_asked_for_and_told(void **state)
{
    struct fixture *f = *state;
    struct flow flow = open_flow(f, 0);
    struct vsock_guest_packet p;

    (void)vsock_guest_expect(&f->g, VSOCK_OP_CREDIT_REQUEST, GUEST_PORT);
    assert_int_equal(send(f->hosts.fds[0], "abc", 3, 0), 3);
    (void)vsock_guest_run(&f->g);
    /* An answer that grants nothing is not asked again. */
    send_op(&flow, VSOCK_OP_CREDIT_UPDATE);
    assert_false(vsock_guest_receive(&f->g, true, &p));
    flow.buf_alloc = 2;
    send_op(&flow, VSOCK_OP_CREDIT_UPDATE);
    p = vsock_guest_expect(&f->g, VSOCK_OP_RW, GUEST_PORT);
    assert_int_equal(p.len, 2);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_CREDIT_REQUEST, GUEST_PORT);
    /* A reader that claims to have read more than was sent gets nothing. */
    flow.told = 100;
    send_op(&flow, VSOCK_OP_CREDIT_UPDATE);
    assert_false(vsock_guest_receive(&f->g, true, &p));
    flow.told = 2;
    send_op(&flow, VSOCK_OP_CREDIT_UPDATE);
    p = vsock_guest_expect(&f->g, VSOCK_OP_RW, GUEST_PORT);
    assert_int_equal(p.len, 1);
    send_op(&flow, VSOCK_OP_CREDIT_REQUEST);
    p = vsock_guest_expect(&f->g, VSOCK_OP_CREDIT_UPDATE, GUEST_PORT);
    assert_int_equal(p.buf_alloc, BUF_ALLOC);
}

/* The buffer is larger than what the socket takes at once: it goes round. */
static void test_buffer_goes_round(void **state)
{
    struct fixture *f = *state;
    struct flow flow = open_flow(f, 4096);

    shrink_socket(f);
    pour_to_host(f, &flow, 701);
    assert_int_equal(f->g.vsock.stats.malformed, 0);
}

/* Fills socket and buffer; the bytes sent. */
static uint32_t stuff(struct fixture *f, struct flow *flow)
{
    uint8_t data[512];

    shrink_socket(f);
    for (;;) {
        const struct vsock_header h = header_of(flow, VSOCK_OP_RW);
        const struct vsock_conn *conn =
            vsock_guest_conn(&f->g, GUEST_PORT, HOST_PORT);

        if (conn->buf_alloc - conn->buffered < sizeof(data))
            return flow->sent;
        fill(data, flow->sent, sizeof(data));
        vsock_guest_send(&f->g, &h, data, sizeof(data), 0);
        flow->sent += (uint32_t)sizeof(data);
        (void)vsock_guest_run(&f->g);
        (void)take_packets(flow, 0);
        (void)vsock_guest_sent(&f->g);
    }
}

/* Reads until end of file; the bytes read, all checked. */
static uint32_t drain_host(struct fixture *f, bool *ret_eof)
{
    uint8_t data[1000];
    uint32_t done = 0;
    ssize_t n;

    while ((n = recv(f->hosts.fds[0], data, sizeof(data), MSG_DONTWAIT)) > 0) {
        expect_pattern(data, done, (uint32_t)n);
        done += (uint32_t)n;
        (void)vsock_guest_run(&f->g);
    }
    *ret_eof = n == 0;
    return done;
}

static void test_close_waits_for_a_slow_host(void **state)
{
    struct fixture *f = *state;
    struct flow flow = open_flow(f, 4096);
    uint32_t sent = stuff(f, &flow);
    struct vsock_header h = header_of(&flow, VSOCK_OP_SHUTDOWN);
    struct vsock_guest_packet p;
    bool eof;

    h.flags = le32_put(VSOCK_SHUTDOWN_BOTH);
    vsock_guest_send(&f->g, &h, NULL, 0, 0);
    (void)vsock_guest_run(&f->g);
    assert_false(vsock_guest_receive(&f->g, true, &p));
    assert_int_equal(drain_host(f, &eof), sent);
    assert_true(eof);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    assert_int_equal(f->g.vsock.table.count, 0);
}

static void test_half_close_waits_for_a_slow_host(void **state)
{
    struct fixture *f = *state;
    struct flow flow = open_flow(f, 4096);
    uint32_t sent = stuff(f, &flow);
    struct vsock_header h = header_of(&flow, VSOCK_OP_SHUTDOWN);
    bool eof;

    h.flags = le32_put(VSOCK_SHUTDOWN_SEND);
    vsock_guest_send(&f->g, &h, NULL, 0, 0);
    (void)vsock_guest_run(&f->g);
    assert_int_equal(drain_host(f, &eof), sent);
    assert_true(eof);
    assert_int_equal(f->g.vsock.table.count, 1);
}

static void test_closed_and_forgotten_data_still_arrives(void **state)
{
    struct fixture *f = *state;
    struct flow flow = open_flow(f, 4096);
    uint32_t sent = stuff(f, &flow);
    struct vsock_header h = header_of(&flow, VSOCK_OP_SHUTDOWN);
    struct vsock_guest_packet p;
    bool eof;

    h.flags = le32_put(VSOCK_SHUTDOWN_BOTH);
    vsock_guest_send(&f->g, &h, NULL, 0, 0);
    send_op(&flow, VSOCK_OP_RST);
    /* The ports are free, the rest is on its way. */
    assert_null(vsock_guest_conn(&f->g, GUEST_PORT, HOST_PORT));
    assert_int_equal(f->g.vsock.table.count, 1);
    flow = open_flow(f, 4096);
    assert_int_equal(drain_host(f, &eof), sent);
    assert_true(eof);
    assert_int_equal(f->g.vsock.table.count, 1);
    assert_false(vsock_guest_receive(&f->g, true, &p));
}

static void test_reset_drops_what_is_kept(void **state)
{
    struct fixture *f = *state;
    struct flow flow = open_flow(f, 4096);
    uint32_t sent = stuff(f, &flow);
    bool eof;

    send_op(&flow, VSOCK_OP_RST);
    assert_true(drain_host(f, &eof) < sent);
    assert_true(eof);
    assert_int_equal(f->g.vsock.table.count, 0);
}

static void test_host_gone_with_data_kept(void **state)
{
    struct fixture *f = *state;
    struct flow flow = open_flow(f, 4096);
    struct vsock_guest_packet p;

    (void)stuff(f, &flow);
    fd_closep(&f->hosts.fds[0]);
    (void)vsock_guest_run(&f->g);
    p = vsock_guest_expect(&f->g, VSOCK_OP_SHUTDOWN, GUEST_PORT);
    assert_int_equal(p.flags, VSOCK_SHUTDOWN_BOTH);
    assert_int_equal(p.fwd_cnt, flow.sent);
    assert_null(vsock_guest_conn(&f->g, GUEST_PORT, HOST_PORT)->buf);
}

static void test_guest_without_buffers_costs_nothing(void **state)
{
    struct fixture *f = *state;
    uint32_t heard[VSOCK_GUEST_HOSTS_MAX] = {0};
    uint32_t total = 0;
    const unsigned int n = VSOCK_GUEST_HOSTS_MAX;
    struct vsock_guest_packet p;
    uint8_t chunk[1000];

    fill(chunk, 0, sizeof(chunk));
    for (unsigned int i = 0; i < n; i++) {
        struct vsock_header h =
            vsock_guest_header(i, HOST_PORT, VSOCK_OP_REQUEST);

        h.buf_alloc = le32_put(100000);
        vsock_guest_send(&f->g, &h, NULL, 0, 0);
        (void)vsock_guest_run(&f->g);
        assert_int_equal(vsock_guest_sent(&f->g), 1);
    }
    for (unsigned int i = 0; i < n; i++) {
        assert_int_equal(
            send(f->hosts.fds[i], chunk, sizeof(chunk), 0), sizeof(chunk));
        /* A hang-up cannot be masked and is worth a round, not a thousand. */
        if (i % 2 == 0)
            fd_closep(&f->hosts.fds[i]);
    }
    /* Each is heard of at most twice. */
    assert_true(vsock_guest_run(&f->g) <= 2 * n);
    assert_int_equal(vsock_guest_run(&f->g), 0);
    for (unsigned int i = 0; i < n; i++) {
        const struct vsock_conn *conn = vsock_guest_conn(&f->g, i, HOST_PORT);

        assert_null(conn->buf);
        assert_int_equal(conn->sent_cnt, 0);
    }
    assert_int_equal(f->g.vsock.stats.rx_packets, 0);
    vsock_guest_post_rx(&f->g, 8);
    (void)vsock_guest_run(&f->g);
    while (vsock_guest_receive(&f->g, true, &p)) {
        if (p.op == VSOCK_OP_RW) {
            expect_pattern(p.data, heard[p.dst_port], p.len);
            heard[p.dst_port] += p.len;
            total += p.len;
        }
        (void)vsock_guest_run(&f->g);
    }
    assert_int_equal(total, n * sizeof(chunk));
}

static void test_connections_take_turns(void **state)
{
    struct fixture *f = *state;
    const unsigned int n = 4;
    static uint8_t chunk[60000];
    struct vsock_guest_packet p;

    for (unsigned int i = 0; i < n; i++) {
        struct vsock_header h =
            vsock_guest_header(i, HOST_PORT, VSOCK_OP_REQUEST);

        h.buf_alloc = le32_put(1 << 20);
        vsock_guest_send(&f->g, &h, NULL, 0, 0);
        (void)vsock_guest_run(&f->g);
    }
    for (unsigned int i = 0; i < n; i++)
        assert_int_equal(
            send(f->hosts.fds[i], chunk, sizeof(chunk), 0), sizeof(chunk));
    (void)vsock_guest_run(&f->g);
    /* One buffer at a time: first the answers, then data, in turns. */
    for (unsigned int i = 0; i < 8 * n; i++) {
        vsock_guest_post_rx(&f->g, 1);
        (void)vsock_guest_run(&f->g);
        assert_true(vsock_guest_receive(&f->g, false, &p));
        assert_int_equal(p.op, i < n ? VSOCK_OP_RESPONSE : VSOCK_OP_RW);
        assert_int_equal(p.dst_port, i % n);
    }
}

static void test_answers_without_buffers_stall_the_guest(void **state)
{
    struct fixture *f = *state;
    const unsigned int flood = VSOCK_RESETS_MAX + 40;
    const struct vsock_header h =
        vsock_guest_header(GUEST_PORT, HOST_PORT, VSOCK_OP_RW);
    unsigned int answers = 0;
    unsigned int taken = 0;
    struct vsock_guest_packet p;

    for (unsigned int i = 0; i < flood; i++) {
        vsock_guest_send(&f->g, &h, NULL, 0, 44);
        (void)vsock_guest_run(&f->g);
        taken += vsock_guest_sent(&f->g);
    }
    assert_int_equal(taken, VSOCK_RESETS_MAX);
    assert_int_equal(vsock_guest_run(&f->g), 0);
    vsock_guest_post_rx(&f->g, 16);
    (void)vsock_guest_run(&f->g);
    while (vsock_guest_receive(&f->g, true, &p)) {
        assert_int_equal(p.op, VSOCK_OP_RST);
        answers++;
        (void)vsock_guest_run(&f->g);
    }
    assert_int_equal(answers, flood);
    assert_int_equal(vsock_guest_sent(&f->g), flood - VSOCK_RESETS_MAX);
}

/* More packets than one go makes, and nothing that happens in between. */
static void test_long_queue_is_worked_off(void **state)
{
    struct fixture *f = *state;
    const uint16_t total = 120;
    unsigned int got = 0;
    struct vsock_guest_packet p;

    for (uint32_t i = 0; i < total; i++) {
        struct vsock_header h =
            vsock_guest_header(i, HOST_PORT, VSOCK_OP_REQUEST);

        h.buf_alloc = le32_put(4096);
        f->hosts.refusal = i % 2 == 0 ? 0 : -ECONNREFUSED;
        vsock_guest_send(&f->g, &h, NULL, 0, 0);
        (void)vsock_guest_run(&f->g);
        assert_int_equal(vsock_guest_sent(&f->g), 1);
    }
    vsock_guest_post_rx(&f->g, total);
    (void)vsock_guest_run(&f->g);
    while (vsock_guest_receive(&f->g, false, &p)) {
        assert_int_equal(
            p.op, p.dst_port % 2 == 0 ? VSOCK_OP_RESPONSE : VSOCK_OP_RST);
        got++;
    }
    assert_int_equal(got, total);
}

/* KVM does not see what the host kernel writes for us. */
static void test_data_is_marked_dirty(void **state)
{
    struct fixture *f = *state;
    const uint64_t header = 0x300000;
    const uint64_t data = 0x302000;
    const struct drive_buffer bufs[] = {
        {.addr = header, .len = sizeof(struct vsock_header), .writable = true},
        {.addr = data, .len = 8192, .writable = true},
    };
    static uint8_t chunk[5000];

    vsock_guest_post_rx(&f->g, 1);
    vsock_guest_open(&f->g, GUEST_PORT, HOST_PORT, 65536);
    /* The RESPONSE's buffer was posted again; use it up. */
    assert_int_equal(send(f->hosts.fds[0], chunk, 1, 0), 1);
    (void)vsock_guest_run(&f->g);
    (void)drive_add(&f->g.queues[VSOCK_QUEUE_RX], bufs, ARRAY_SIZE(bufs));
    drive_kick(&f->g.vsock.virtio.base, VSOCK_QUEUE_RX);
    (void)vsock_guest_run(&f->g);
    bitmap_clear_all(&f->g.mem.dirty);
    assert_int_equal(
        send(f->hosts.fds[0], chunk, sizeof(chunk), 0), sizeof(chunk));
    (void)vsock_guest_run(&f->g);
    assert_true(bitmap_test(&f->g.mem.dirty, header >> NUM_PAGE_SHIFT));
    assert_true(bitmap_test(&f->g.mem.dirty, data >> NUM_PAGE_SHIFT));
    assert_true(bitmap_test(&f->g.mem.dirty, (data >> NUM_PAGE_SHIFT) + 1));
    assert_false(bitmap_test(&f->g.mem.dirty, (data >> NUM_PAGE_SHIFT) + 2));
}

static void test_useless_rx_buffers_are_passed_over(void **state)
{
    struct fixture *f = *state;
    struct drive_queue *rx = &f->g.queues[VSOCK_QUEUE_RX];
    const uint32_t sizes[] = {1, 43, 44};
    uint32_t id;
    uint32_t len;

    for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
        const struct drive_buffer buf = {
            .addr = 0x100000 + rx->next_desc * 0x1000ull,
            .len = sizes[i],
            .writable = true};

        (void)drive_add(rx, &buf, 1);
    }
    vsock_guest_post_rx(&f->g, 4);
    (void)vsock_guest_run(&f->g);
    {
        struct vsock_header h =
            vsock_guest_header(GUEST_PORT, HOST_PORT, VSOCK_OP_REQUEST);

        h.buf_alloc = le32_put(100);
        vsock_guest_send(&f->g, &h, NULL, 0, 0);
        (void)vsock_guest_run(&f->g);
    }
    for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
        assert_true(drive_get_used(rx, &id, &len));
        assert_int_equal(len, 0);
    }
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RESPONSE, GUEST_PORT);
    assert_int_equal(f->g.vsock.stats.malformed, ARRAY_SIZE(sizes));
}

int main(void)
{
#define CASE(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
#define WIDE(t) cmocka_unit_test_setup_teardown(t, set_up_wide, tear_down)
#define DRY(t)  cmocka_unit_test_setup_teardown(t, set_up_dry, tear_down)
#define EVENT_INDEX(t)                                                         \
    cmocka_unit_test_setup_teardown(t, set_up_event_idx, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_volume_to_the_guest_in_tiny_windows),
        CASE(test_volume_to_the_guest_in_wide_windows),
        CASE(test_volume_to_the_host),
        CASE(test_volume_to_a_slow_host),
        EVENT_INDEX(test_volume_with_event_indices),
        CASE(test_counters_wrap),
        CASE(test_more_than_the_credit_is_reset),
        CASE(test_credit_is_asked_for_and_told),
        CASE(test_close_waits_for_a_slow_host),
        CASE(test_half_close_waits_for_a_slow_host),
        CASE(test_closed_and_forgotten_data_still_arrives),
        CASE(test_reset_drops_what_is_kept),
        CASE(test_host_gone_with_data_kept),
        DRY(test_guest_without_buffers_costs_nothing),
        DRY(test_connections_take_turns),
        DRY(test_answers_without_buffers_stall_the_guest),
        WIDE(test_buffer_goes_round),
        DRY(test_long_queue_is_worked_off),
        DRY(test_data_is_marked_dirty),
        DRY(test_useless_rx_buffers_are_passed_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
