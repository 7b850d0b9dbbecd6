/* SPDX-License-Identifier: Apache-2.0 */
/* Link, gates, resets, snapshots, and backends that go away. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/net_guest.h"
#include "virtio/net_stream.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

/* A gate that lets `left` frames through. */
struct turnstile {
    struct net_gate gate;
    unsigned int left;
    uint64_t bytes;
};

struct fixture {
    struct net_stream stream;
    int peer;
    struct turnstile rx;
    struct turnstile tx;
    struct net_guest g;
    uint8_t got[NET_FRAME_MAX];
};

static bool turnstile_is_open(struct net_gate *gate)
{
    return container_of(gate, struct turnstile, gate)->left > 0;
}

static void turnstile_charge(struct net_gate *gate, uint64_t bytes)
{
    struct turnstile *t = container_of(gate, struct turnstile, gate);

    t->left--;
    t->bytes += bytes;
}

static const struct net_header none;
static const uint8_t mac[NET_MAC_BYTES] = {0x52, 0x54, 0, 1, 2, 3};

static int set_up(void **state)
{
    static struct fixture fixture;
    struct fixture *f = &fixture;
    struct net_config config = {.mac = mac,
        .mtu = 1500,
        .rx_gate = &f->rx.gate,
        .tx_gate = &f->tx.gate};
    /* So small that the kernel cuts frames. */
    const int room = 8192;
    int fds[2];

    *f = (struct fixture){0};
    f->rx = (struct turnstile){
        .gate = {turnstile_is_open, turnstile_charge}, .left = 1000000};
    f->tx = f->rx;
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    f->peer = fds[1];
    assert_int_equal(
        setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
    assert_int_equal(fd_set_nonblocking(f->peer, true), 0);
    assert_int_equal(net_stream_init(&f->stream, fds[0], NULL), 0);
    net_guest_init(&f->g, &f->stream.backend, &config, true);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    net_guest_fini(&f->g);
    net_stream_fini(&f->stream);
    fd_closep(&f->peer);
    return 0;
}

/* A frame of 60 bytes `mark` from the peer. */
static void peer_send(struct fixture *f, uint8_t mark)
{
    uint8_t frame[4 + 60] = {0, 0, 0, 60};

    memset(frame + 4, mark, 60);
    assert_int_equal(write(f->peer, frame, sizeof(frame)), sizeof(frame));
}

/* The mark of the next frame at the peer, -1 if there is none. */
static int peer_receive(struct fixture *f)
{
    uint8_t frame[4 + 60];
    ssize_t n = read(f->peer, frame, sizeof(frame));

    if (n < 0)
        return -1;
    assert_int_equal(n, sizeof(frame));
    assert_int_equal(frame[3], 60);
    return frame[4];
}

static void guest_send(struct fixture *f, uint8_t mark)
{
    uint8_t frame[60];

    memset(frame, mark, sizeof(frame));
    assert_true(net_guest_send(&f->g, &none, frame, sizeof(frame), 0));
    net_guest_kick(&f->g, NET_QUEUE_TX);
}

static int guest_receive(struct fixture *f)
{
    struct net_header header;
    unsigned int buffers;
    int64_t n;

    net_guest_run(&f->g, 4);
    n = net_guest_receive(&f->g, &header, f->got, &buffers);
    if (n < 0)
        return -1;
    assert_int_equal(n, 60);
    assert_int_equal(f->got[59], f->got[0]);
    return f->got[0];
}

static void start(struct fixture *f, unsigned int buffers)
{
    net_guest_start(&f->g, NET_F_STATUS | NET_F_MAC | NET_F_MTU |
                               NET_F_MRG_RXBUF | VIRTIO_F_RING_RESET);
    net_guest_post(&f->g, buffers, 2048);
    net_guest_kick(&f->g, NET_QUEUE_RX);
}

static bool guest_link(struct fixture *f)
{
    /* Bytes 4 to 7: the end of the MAC, the status. */
    return (drive_read(f->g.dev, VIRTIO_MMIO_CONFIG + 4) >> 16 & 1u) != 0;
}

static uint32_t generation(struct fixture *f)
{
    return drive_read(f->g.dev, VIRTIO_MMIO_CONFIG_GENERATION);
}

static void test_both_ways(void **state)
{
    struct fixture *f = *state;

    start(f, 8);
    guest_send(f, 0x11);
    assert_int_equal(peer_receive(f), 0x11);
    peer_send(f, 0x22);
    assert_int_equal(guest_receive(f), 0x22);
    assert_int_equal(guest_receive(f), -1);
}

/* Frames may be there, and kicked for, before the driver is up. */
static void test_buffers_before_driver_ok(void **state)
{
    struct fixture *f = *state;

    peer_send(f, 0x33);
    net_guest_start(&f->g, NET_F_MRG_RXBUF);
    net_guest_post(&f->g, 4, 2048);
    assert_int_equal(guest_receive(f), 0x33);
}

/* Without buffers the socket is not even watched. */
static void test_not_polled_without_buffers(void **state)
{
    struct fixture *f = *state;

    start(f, 1);
    assert_int_equal(f->g.net.watched, EPOLLIN);
    peer_send(f, 1);
    peer_send(f, 2);
    assert_int_equal(guest_receive(f), 1);
    assert_int_equal(f->g.net.watched, 0);
    assert_int_equal(guest_receive(f), -1);
    net_guest_post(&f->g, 1, 2048);
    net_guest_kick(&f->g, NET_QUEUE_RX);
    assert_int_equal(guest_receive(f), 2);
}

static void test_gates(void **state)
{
    struct fixture *f = *state;

    start(f, 16);
    f->tx.left = 2;
    f->rx.left = 1;
    for (uint8_t i = 0; i < 4; i++) {
        guest_send(f, i);
        peer_send(f, i);
    }
    assert_int_equal(peer_receive(f), 0);
    assert_int_equal(peer_receive(f), 1);
    assert_int_equal(peer_receive(f), -1);
    assert_int_equal(guest_receive(f), 0);
    assert_int_equal(guest_receive(f), -1);
    assert_int_equal(f->g.net.watched, 0);
    f->tx.left = 10;
    f->rx.left = 10;
    device_lock(f->g.dev);
    net_ready(&f->g.net);
    device_unlock(f->g.dev);
    for (int i = 2; i < 4; i++)
        assert_int_equal(peer_receive(f), i);
    for (int i = 1; i < 4; i++)
        assert_int_equal(guest_receive(f), i);
    assert_int_equal(f->tx.bytes, 240);
    assert_int_equal(f->rx.bytes, 240);
}

static void set_link(struct fixture *f, bool up)
{
    device_lock(f->g.dev);
    net_set_link(&f->g.net, up);
    device_unlock(f->g.dev);
}

static void test_link(void **state)
{
    struct fixture *f = *state;
    uint32_t before;

    start(f, 8);
    assert_true(guest_link(f));
    before = generation(f);
    set_link(f, false);
    set_link(f, false);
    assert_false(guest_link(f));
    assert_int_equal(generation(f), before + 1);
    assert_int_equal(drive_read(f->g.dev, VIRTIO_MMIO_INTERRUPT_STATUS) &
                         VIRTIO_INTERRUPT_CONFIG,
        VIRTIO_INTERRUPT_CONFIG);
    guest_send(f, 1);
    assert_int_equal(peer_receive(f), -1);
    assert_int_equal(f->g.net.stats.tx_dropped, 1);
    assert_int_equal(net_guest_reap(&f->g), 1);
    peer_send(f, 2);
    assert_int_equal(guest_receive(f), -1);
    set_link(f, true);
    assert_true(guest_link(f));
    assert_int_equal(guest_receive(f), 2);
    assert_int_equal(f->g.gone, 0);
}

static void test_peer_gone(void **state)
{
    struct fixture *f = *state;
    uint32_t before;

    start(f, 8);
    before = generation(f);
    peer_send(f, 7);
    fd_closep(&f->peer);
    /* What it sent before still comes. */
    assert_int_equal(guest_receive(f), 7);
    net_guest_run(&f->g, 4);
    assert_false(guest_link(f));
    assert_int_equal(generation(f), before + 1);
    assert_int_equal(f->g.gone, 1);
    assert_int_equal(f->g.net.watched, 0);
    guest_send(f, 1);
    assert_int_equal(net_guest_reap(&f->g), 1);
    set_link(f, true);
    assert_false(guest_link(f));
    assert_int_equal(f->g.gone, 1);
    /* A new driver is told from the start. */
    start(f, 8);
    assert_false(guest_link(f));
}

static void test_peer_gone_seen_by_send(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    fd_closep(&f->peer);
    guest_send(f, 1);
    net_guest_run(&f->g, 4);
    assert_false(guest_link(f));
    assert_int_equal(f->g.gone, 1);
    assert_int_equal(net_guest_reap(&f->g), 1);
}

/* Frames until the peer, which does not read, holds the queue up. */
static unsigned int fill_socket(struct fixture *f)
{
    static uint8_t frame[30000];
    unsigned int n = 0;

    while (!f->g.net.tx_waits) {
        assert_true(net_guest_send(&f->g, &none, frame, sizeof(frame), 0));
        net_guest_kick(&f->g, NET_QUEUE_TX);
        n += net_guest_reap(&f->g);
        assert_in_range(n, 0, 1000);
    }
    return n;
}

static size_t drain_peer(struct fixture *f)
{
    static uint8_t buf[65536];
    size_t total = 0;
    ssize_t n;

    do {
        net_guest_run(&f->g, 4);
        n = read(f->peer, buf, sizeof(buf));
        total += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    return total;
}

static void test_slow_peer(void **state)
{
    struct fixture *f = *state;
    unsigned int sent;

    start(f, 4);
    sent = fill_socket(f);
    assert_true(f->stream.out_len > 0);
    assert_true(f->stream.out_len <= NET_STREAM_OUT_BYTES);
    assert_int_equal(f->g.net.watched, EPOLLIN | EPOLLOUT);
    assert_int_equal(drain_peer(f), (sent + 1) * (size_t)30004);
    assert_int_equal(net_guest_reap(&f->g), 1);
    assert_int_equal(f->g.net.watched, EPOLLIN);
    guest_send(f, 9);
    assert_int_equal(peer_receive(f), 9);
}

/* A frame that is half sent is finished: the peer must find the next one. */
static void test_reset_while_stalled(void **state)
{
    struct fixture *f = *state;

    start(f, 4);
    (void)fill_socket(f);
    peer_send(f, 5);
    start(f, 4);
    assert_false(f->g.net.tx_waits);
    assert_int_equal(drain_peer(f) % 30004, 0);
    guest_send(f, 6);
    assert_int_equal(peer_receive(f), 6);
    assert_int_equal(guest_receive(f), 5);
}

static void test_queue_reset(void **state)
{
    struct fixture *f = *state;

    start(f, 4);
    drive_write(f->g.dev, VIRTIO_MMIO_QUEUE_SEL, NET_QUEUE_RX);
    drive_write(f->g.dev, VIRTIO_MMIO_QUEUE_RESET, 1);
    peer_send(f, 1);
    assert_int_equal(guest_receive(f), -1);
    assert_int_equal(f->g.net.watched, 0);
    drive_queue_init(&f->g.q[NET_QUEUE_RX], &f->g.mem, 0x10000, NET_GUEST_SIZE);
    drive_setup_queue(f->g.dev, NET_QUEUE_RX, &f->g.q[NET_QUEUE_RX]);
    net_guest_post(&f->g, 4, 2048);
    net_guest_kick(&f->g, NET_QUEUE_RX);
    assert_int_equal(guest_receive(f), 1);
}

static int load(struct fixture *f, const struct net_state *s, struct err *err)
{
    f->g.net.state = *s;
    return f->g.dev->ops->post_load(f->g.dev, err);
}

static void test_quiesce_and_load(void **state)
{
    struct fixture *f = *state;
    struct net_state saved;

    start(f, 4);
    assert_int_equal(f->g.dev->ops->quiesce(f->g.dev, NULL), 0);
    saved = f->g.net.state;
    peer_send(f, 1);
    guest_send(f, 2);
    assert_int_equal(guest_receive(f), -1);
    assert_int_equal(peer_receive(f), -1);
    saved.mac[5] = 99;
    saved.mtu = 1400;
    assert_int_equal(load(f, &saved, NULL), 0);
    f->g.dev->ops->resume(f->g.dev);
    assert_int_equal(guest_receive(f), 1);
    assert_int_equal(peer_receive(f), 2);
    assert_int_equal(
        drive_read(f->g.dev, VIRTIO_MMIO_CONFIG + 4) & 0xffff, 99u << 8 | 2u);
    assert_int_equal(drive_read(f->g.dev, VIRTIO_MMIO_CONFIG + 8) >> 16, 1400);
    /* It is the device's own by now. */
    start(f, 4);
    assert_int_equal(drive_read(f->g.dev, VIRTIO_MMIO_CONFIG + 8) >> 16, 1400);
}

/* The peer went away during a snapshot: the state saved is not touched. */
static void test_gone_while_quiesced(void **state)
{
    struct fixture *f = *state;
    struct net_state saved;

    start(f, 4);
    (void)fill_socket(f);
    assert_int_equal(f->g.dev->ops->quiesce(f->g.dev, NULL), 0);
    saved = f->g.net.state;
    fd_closep(&f->peer);
    net_guest_run(&f->g, 4);
    assert_int_equal(f->g.gone, 1);
    assert_memory_equal(&saved, &f->g.net.state, sizeof(saved));
    f->g.dev->ops->resume(f->g.dev);
    net_guest_run(&f->g, 4);
    assert_false(guest_link(f));
}

static void test_load_is_checked(void **state)
{
    struct fixture *f = *state;
    struct net_state good;
    struct net_state bad;
    struct err err;

    start(f, 4);
    assert_int_equal(f->g.dev->ops->quiesce(f->g.dev, NULL), 0);
    good = f->g.net.state;
    bad = good;
    bad.link_up = 2;
    assert_int_equal(load(f, &bad, &err), -EINVAL);
    bad = good;
    bad.unused = 1;
    assert_int_equal(load(f, &bad, &err), -EINVAL);
    bad = good;
    bad.mtu = 0;
    assert_int_equal(load(f, &bad, &err), -EINVAL);
    bad.mtu = NET_MTU_MIN - 1;
    assert_int_equal(load(f, &bad, &err), -EINVAL);
    assert_non_null(strstr(err.text, "MTU"));
    /* Offloads that this backend cannot do. */
    bad = good;
    bad.virtio.driver_features |= NET_F_GUEST_TSO4;
    assert_int_equal(load(f, &bad, &err), -EINVAL);
    assert_int_equal(load(f, &good, &err), 0);
    f->g.dev->ops->resume(f->g.dev);
    peer_send(f, 1);
    assert_int_equal(guest_receive(f), 1);
}

/* Behind a guest that was told no MTU may be what has one. */
static void test_load_without_mtu(void **state)
{
    struct fixture *f = *state;
    struct net_state saved;

    net_guest_start(&f->g, NET_F_STATUS | NET_F_MAC);
    assert_int_equal(f->g.dev->ops->quiesce(f->g.dev, NULL), 0);
    saved = f->g.net.state;
    saved.mtu = 0;
    assert_true((f->g.net.virtio.features & NET_F_MTU) != 0);
    assert_int_equal(load(f, &saved, NULL), 0);
    assert_true((f->g.net.virtio.features & NET_F_MTU) == 0);
    assert_int_equal(f->g.net.mtu, 0);
}

static void test_set_mac(void **state)
{
    static const uint8_t other[] = {2, 1, 1, 1, 1, 9};
    static const uint8_t group[] = {3, 1, 1, 1, 1, 9};
    struct fixture *f = *state;
    uint32_t before;

    start(f, 4);
    before = drive_read(f->g.dev, VIRTIO_MMIO_CONFIG_GENERATION);
    assert_int_equal(net_set_mac(&f->g.net, group, NULL), -EINVAL);
    assert_int_equal(net_set_mac(&f->g.net, f->g.net.mac, NULL), 0);
    assert_int_equal(
        drive_read(f->g.dev, VIRTIO_MMIO_CONFIG_GENERATION), before);
    assert_int_equal(net_set_mac(&f->g.net, other, NULL), 0);
    assert_int_equal(
        drive_read(f->g.dev, VIRTIO_MMIO_CONFIG_GENERATION), before + 1);
    assert_int_equal(drive_read(f->g.dev, VIRTIO_MMIO_CONFIG) >> 24, 1);
    assert_int_equal(
        drive_read(f->g.dev, VIRTIO_MMIO_CONFIG + 4) & 0xffff, 9u << 8 | 1u);
}

/* The guest was told that the link was down when the snapshot was taken. */
static void test_load_tells_of_the_link(void **state)
{
    struct fixture *f = *state;
    struct net_state saved;
    uint32_t before;

    start(f, 4);
    assert_int_equal(f->g.dev->ops->quiesce(f->g.dev, NULL), 0);
    saved = f->g.net.state;
    saved.link_up = 0;
    assert_int_equal(load(f, &saved, NULL), 0);
    before = generation(f);
    assert_false(guest_link(f));
    f->g.dev->ops->resume(f->g.dev);
    assert_true(guest_link(f));
    assert_int_equal(generation(f), before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_both_ways, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_buffers_before_driver_ok, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_not_polled_without_buffers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_gates, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_link, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_peer_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_peer_gone_seen_by_send, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slow_peer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_reset_while_stalled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_queue_reset, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_quiesce_and_load, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_gone_while_quiesced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_load_is_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_load_without_mtu, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_set_mac, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_load_tells_of_the_link, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
