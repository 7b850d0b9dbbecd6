/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/unit/support/net_guest.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define FRAMES 8u

/* A backend in memory: one frame on offer, the last one sent kept. */
struct wire {
    struct net_backend backend;
    uint8_t sent[NET_BUFFER_BYTES];
    size_t sent_len;
    unsigned int sends;
    int send_result;
    uint8_t offer[NET_BUFFER_BYTES]; /* as receive() hands it out */
    size_t offer_len;
    unsigned int offers; /* times that it can be had */
    unsigned int receives;
    int receive_result;
    uint64_t offloads_set;
    unsigned int iov_count; /* of the last receive */
};

struct fixture {
    struct wire wire;
    struct net_guest g;
    uint8_t frame[NET_FRAME_MAX];
    uint8_t got[NET_FRAME_MAX];
    struct net_header header;
    unsigned int buffers;
};

static int wire_send(
    struct net_backend *b, struct iovec *iov, unsigned int count, size_t len)
{
    struct wire *w = container_of(b, struct wire, backend);

    if (w->send_result < 0)
        return w->send_result;
    w->sends++;
    w->sent_len = 0;
    for (unsigned int i = 0; i < count; i++) {
        memcpy(w->sent + w->sent_len, iov[i].iov_base, iov[i].iov_len);
        w->sent_len += iov[i].iov_len;
    }
    assert_int_equal(w->sent_len, len);
    return 0;
}

static ssize_t wire_receive(
    struct net_backend *b, struct iovec *iov, unsigned int count)
{
    struct wire *w = container_of(b, struct wire, backend);
    size_t done = 0;

    w->receives++;
    w->iov_count = count;
    if (w->receive_result < 0)
        return w->receive_result;
    if (w->offers == 0)
        return -EAGAIN;
    w->offers--;
    for (unsigned int i = 0; i < count && done < w->offer_len; i++) {
        size_t n = (size_t)num_min(w->offer_len - done, iov[i].iov_len);

        memcpy(iov[i].iov_base, w->offer + done, n);
        done += n;
    }
    return done == w->offer_len ? (ssize_t)done : -EMSGSIZE;
}

static int wire_set_offloads(struct net_backend *b, uint64_t features)
{
    struct wire *w = container_of(b, struct wire, backend);

    w->offloads_set = features;
    b->frame_max = (features & NET_GUEST_GSO) != 0 ? NET_FRAME_MAX : 1518;
    return 0;
}

static const struct net_backend_ops wire_ops = {.send = wire_send,
    .receive = wire_receive,
    .set_offloads = wire_set_offloads};

static int set_up_with(void **state, const struct net_config *config)
{
    static struct fixture fixture;
    struct fixture *f = &fixture;

    *f = (struct fixture){0};
    f->wire.backend = (struct net_backend){.ops = &wire_ops,
        .fd = -1,
        .offloads = NET_HOST_OFFLOADS | NET_GUEST_OFFLOADS,
        .has_header = true};
    for (size_t i = 0; i < sizeof(f->frame); i++)
        f->frame[i] = (uint8_t)(i * 7 + (i >> 8));
    net_guest_init(&f->g, &f->wire.backend, config, false);
    *state = f;
    return 0;
}

static int set_up(void **state)
{
    static const uint8_t mac[NET_MAC_BYTES] = {0x02, 1, 2, 3, 4, 5};
    const struct net_config config = {.mac = mac, .mtu = 1400};

    return set_up_with(state, &config);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    net_guest_fini(&f->g);
    return 0;
}

static void send(struct fixture *f, struct net_header header, uint32_t len)
{
    assert_true(net_guest_send(&f->g, &header, f->frame, len, 0));
    net_guest_kick(&f->g, NET_QUEUE_TX);
}

/* What the backend has for the guest: `len` bytes of frame, `times` over. */
static void offer(struct fixture *f, size_t len, unsigned int times)
{
    memset(f->wire.offer, 0, sizeof(struct net_header));
    f->wire.offer[0] = NET_HDR_F_NEEDS_CSUM;
    memcpy(f->wire.offer + sizeof(struct net_header), f->frame, len);
    f->wire.offer_len = sizeof(struct net_header) + len;
    f->wire.offers = times;
    device_lock(f->g.dev);
    f->wire.backend.ready(f->wire.backend.opaque);
    device_unlock(f->g.dev);
}

static int64_t receive(struct fixture *f)
{
    return net_guest_receive(&f->g, &f->header, f->got, &f->buffers);
}

static void expect_frame(struct fixture *f, size_t len, unsigned int buffers)
{
    assert_int_equal(receive(f), (int64_t)len);
    assert_memory_equal(f->got, f->frame, len);
    assert_int_equal(f->buffers, buffers);
    assert_int_equal(f->header.flags, NET_HDR_F_NEEDS_CSUM);
}

static bool stopped(struct fixture *f)
{
    return (drive_read(f->g.dev, VIRTIO_MMIO_STATUS) &
               VIRTIO_STATUS_NEEDS_RESET) != 0;
}

static void test_config_space(void **state)
{
    struct fixture *f = *state;

    net_guest_start(&f->g, NET_F_MAC | NET_F_STATUS | NET_F_MTU);
    assert_int_equal(drive_read(f->g.dev, VIRTIO_MMIO_CONFIG), 0x03020102);
    /* Last of the MAC, link up. */
    assert_int_equal(drive_read(f->g.dev, VIRTIO_MMIO_CONFIG + 4), 0x00010504);
    /* One pair, the MTU. */
    assert_int_equal(
        drive_read(f->g.dev, VIRTIO_MMIO_CONFIG + 8), 1u | 1400u << 16);
    assert_int_equal(drive_read(f->g.dev, VIRTIO_MMIO_CONFIG + 12), 0);
    assert_int_equal(drive_read(f->g.dev, VIRTIO_MMIO_DEVICE_ID), 1);
}

static void test_random_mac(void **state)
{
    const struct net_config config = {0};
    uint8_t first[NET_MAC_BYTES];
    struct fixture *f;

    set_up_with(state, &config);
    f = *state;
    memcpy(first, f->g.net.state.mac, sizeof(first));
    assert_int_equal(first[0] & 3u, 2);
    assert_false((f->g.net.virtio.features & NET_F_MTU) != 0);
    net_guest_fini(&f->g);
    set_up_with(state, &config);
    f = *state;
    assert_memory_not_equal(first, f->g.net.state.mac, sizeof(first));
    net_guest_fini(&f->g);
}

static void test_bad_config(void **state)
{
    struct fixture *f = *state;
    const struct virtio_host host = {.mem = &f->g.mem, .irq = {.fd = -1}};
    static const uint8_t group[NET_MAC_BYTES] = {0x03, 1, 2, 3, 4, 5};
    static const uint8_t zero[NET_MAC_BYTES];
    struct net_config config = {.id = "eth1",
        .backend = &f->wire.backend,
        .queue_size = 64,
        .mac = group};
    static struct net net;
    struct err err;

    assert_int_equal(net_init(&net, &config, &host, &err), -EINVAL);
    assert_non_null(strstr(err.text, "MAC"));
    config.mac = zero;
    assert_int_equal(net_init(&net, &config, &host, &err), -EINVAL);
    config.mac = NULL;
    config.mtu = NET_MTU_MIN - 1;
    assert_int_equal(net_init(&net, &config, &host, &err), -EINVAL);
    assert_non_null(strstr(err.text, "MTU"));
}

static void test_send(void **state)
{
    struct fixture *f = *state;
    static const struct net_header none;
    const uint32_t cuts[] = {0, 12, 5, 13, 100};

    net_guest_start(&f->g, 0);
    for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
        assert_true(net_guest_send(&f->g, &none, f->frame, 200, cuts[i]));
        net_guest_kick(&f->g, NET_QUEUE_TX);
        assert_int_equal(f->wire.sends, i + 1);
        assert_int_equal(f->wire.sent_len, 212);
        assert_memory_equal(f->wire.sent, &none, 12);
        assert_memory_equal(f->wire.sent + 12, f->frame, 200);
        assert_int_equal(net_guest_reap(&f->g), 1);
    }
    assert_int_equal(f->g.net.stats.tx_bytes, 200 * ARRAY_SIZE(cuts));
    assert_true(fd_eventfd_drain(f->g.irq) > 0);
}

static void test_frame_lengths(void **state)
{
    struct fixture *f = *state;
    static const struct net_header none;
    static uint8_t big[NET_FRAME_MAX + 1];

    net_guest_start(&f->g, 0);
    send(f, none, 0);
    send(f, none, NET_FRAME_MIN - 1);
    assert_true(net_guest_send(&f->g, &none, big, sizeof(big), 0));
    net_guest_kick(&f->g, NET_QUEUE_TX);
    assert_int_equal(f->wire.sends, 0);
    assert_int_equal(f->g.net.stats.tx_malformed, 3);
    send(f, none, NET_FRAME_MIN);
    send(f, none, NET_FRAME_MAX);
    assert_int_equal(f->wire.sends, 2);
    assert_int_equal(net_guest_reap(&f->g), 5);
    assert_false(stopped(f));
}

static void test_chain_without_header(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer shorter = {0x100000, 11, false};
    const struct drive_buffer writable = {0x100000, 64, true};

    net_guest_start(&f->g, 0);
    (void)drive_add(&f->g.q[NET_QUEUE_TX], &shorter, 1);
    (void)drive_add(&f->g.q[NET_QUEUE_TX], &writable, 1);
    net_guest_kick(&f->g, NET_QUEUE_TX);
    assert_int_equal(f->wire.sends, 0);
    assert_int_equal(f->g.net.stats.tx_malformed, 2);
    assert_int_equal(f->g.net.virtio.stats.violations, 2);
}

struct header_case {
    uint64_t features;
    uint8_t flags;
    uint8_t gso_type;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
    uint16_t hdr_len;
    bool passes;
};

static const struct header_case header_cases[] = {
    /* Checksums: negotiated or not, within the frame or not. */
    {0, 1, 0, 0, 34, 16, 0, false},
    {NET_F_CSUM, 1, 0, 0, 34, 16, 0, true},
    {NET_F_CSUM, 1, 0, 0, 998, 0, 0, true},
    {NET_F_CSUM, 1, 0, 0, 999, 0, 0, false},
    {NET_F_CSUM, 1, 0, 0, 34, 965, 0, false},
    {NET_F_CSUM, 1, 0, 0, 0xffff, 0xffff, 0, false},
    /* Flags that are not the driver's are passed over. */
    {0, 0xfe, 0, 0, 0, 0, 0, true},
    /* GSO: type negotiated, with what it requires, of a known kind. */
    {NET_F_CSUM | NET_F_HOST_TSO4, 1, 1, 500, 34, 16, 54, true},
    {NET_F_CSUM | NET_F_HOST_TSO6, 1, 1, 500, 34, 16, 54, false},
    {NET_F_CSUM | NET_F_HOST_TSO6, 1, 4, 500, 34, 16, 54, true},
    {NET_F_CSUM | NET_F_HOST_UFO, 1, 3, 500, 34, 6, 42, true},
    {NET_F_CSUM, 1, 1, 500, 34, 16, 54, false},
    {NET_F_HOST_TSO4, 1, 1, 500, 34, 16, 54, false},
    {NET_F_CSUM | NET_F_HOST_TSO4, 0, 1, 500, 34, 16, 54, false},
    {NET_F_CSUM | NET_F_HOST_TSO4, 1, 1, 0, 34, 16, 54, false},
    {NET_HOST_OFFLOADS, 1, 2, 500, 34, 16, 54, false},
    {NET_HOST_OFFLOADS, 1, 5, 500, 34, 16, 54, false},
    {NET_HOST_OFFLOADS, 1, 0x7f, 500, 34, 16, 54, false},
    /* ECN goes with TCP only, and has its own bit. */
    {NET_F_CSUM | NET_F_HOST_TSO4, 1, 0x81, 500, 34, 16, 54, false},
    {NET_HOST_OFFLOADS, 1, 0x81, 500, 34, 16, 54, true},
    {NET_HOST_OFFLOADS, 1, 0x83, 500, 34, 6, 42, false},
    {NET_HOST_OFFLOADS, 1, 0x80, 500, 34, 16, 54, false},
    /* The header length is a hint: cut to the frame. */
    {NET_HOST_OFFLOADS, 1, 1, 500, 34, 16, 0xffff, true},
};

static void test_headers(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(header_cases); i++) {
        const struct header_case *c = &header_cases[i];
        const struct net_header header = {.flags = c->flags,
            .gso_type = c->gso_type,
            .gso_size = le16_put(c->gso_size),
            .csum_start = le16_put(c->csum_start),
            .csum_offset = le16_put(c->csum_offset),
            .hdr_len = le16_put(c->hdr_len),
            .num_buffers = le16_put(0xffff)};
        struct net_header seen;

        net_guest_start(&f->g, c->features);
        f->wire.sends = 0;
        send(f, header, 1000);
        assert_int_equal(f->wire.sends, c->passes);
        assert_int_equal(net_guest_reap(&f->g), 1);
        if (!c->passes)
            continue;
        memcpy(&seen, f->wire.sent, sizeof(seen));
        assert_int_equal(seen.flags, c->flags & 1);
        assert_int_equal(seen.gso_type, c->gso_type);
        assert_int_equal(le16_get(seen.gso_size), c->gso_size);
        assert_int_equal(le16_get(seen.hdr_len), num_min(c->hdr_len, 1000));
        assert_int_equal(le16_get(seen.num_buffers), 0);
    }
}

static void test_receive(void **state)
{
    struct fixture *f = *state;

    net_guest_start(&f->g, 0);
    net_guest_post(&f->g, 4, 1530);
    bitmap_clear_all(&f->g.mem.dirty);
    offer(f, 1514, 1);
    expect_frame(f, 1514, 1);
    assert_true(bitmap_test(&f->g.mem.dirty, 0x800000 >> NUM_PAGE_SHIFT));
    assert_int_equal(f->g.net.stats.rx_copied, 0);
    assert_int_equal(f->g.net.stats.rx_frames, 1);
    assert_int_equal(receive(f), -1);
    /* What was not used is still the driver's to be filled. */
    assert_int_equal(f->g.net.state.virtio.queues[NET_QUEUE_RX].avail_next, 1);
}

/* 5.1.6.3.1: frames of any length over buffers of any, straight into them. */
static void test_mergeable(void **state)
{
    struct fixture *f = *state;
    static const uint32_t lens[] = {1514, 14, 1000, 88, 89, 1500};

    net_guest_start(&f->g, NET_F_MRG_RXBUF);
    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        unsigned int buffers = (12 + lens[i] + 99) / 100;

        net_guest_post(&f->g, buffers + (i % 3 == 0 ? 5 : 0), 100);
        offer(f, lens[i], 1);
        expect_frame(f, lens[i], buffers);
    }
    assert_int_equal(receive(f), -1);
}

static void test_mergeable_gso(void **state)
{
    struct fixture *f = *state;

    net_guest_start(
        &f->g, NET_F_MRG_RXBUF | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4);
    assert_int_equal(f->wire.offloads_set, NET_F_GUEST_CSUM | NET_F_GUEST_TSO4);
    net_guest_post(&f->g, 60, 1536);
    bitmap_clear_all(&f->g.mem.dirty);
    offer(f, NET_FRAME_MAX, 1);
    expect_frame(f, NET_FRAME_MAX, 43);
    for (uint64_t i = 0; i < 60; i++)
        assert_int_equal(
            bitmap_test(&f->g.mem.dirty,
                (0x800000 + i * NET_GUEST_RX_BYTES) >> NUM_PAGE_SHIFT),
            i < 43);
    assert_int_equal(f->g.net.stats.rx_copied, 0);
    /* What is left takes a short one, by way of the held frame. */
    offer(f, 1000, 1);
    expect_frame(f, 1000, 1);
    assert_int_equal(f->g.net.stats.rx_copied, 1);
    drive_write(f->g.dev, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(f->wire.offloads_set, 0);
}

/* Reads that expect short frames as those before are good for long ones too. */
static void test_long_frame_after_short_ones(void **state)
{
    struct fixture *f = *state;

    net_guest_start(
        &f->g, NET_F_MRG_RXBUF | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4);
    net_guest_post(&f->g, 60, 1536);
    for (unsigned int i = 0; i < 200; i++) {
        offer(f, 1000, 1);
        expect_frame(f, 1000, 1);
        net_guest_post(&f->g, 1, 1536);
    }
    /* The first buffer, and room for one that does not fit it. */
    assert_int_equal(f->wire.iov_count, 2);
    assert_int_equal(f->g.net.stats.rx_copied, 0);
    bitmap_clear_all(&f->g.mem.dirty);
    offer(f, 60000, 1);
    expect_frame(f, 60000, 40);
    assert_int_equal(f->g.net.stats.rx_copied, 1);
    net_guest_post(&f->g, 40, 1536);
    offer(f, 60000, 1);
    expect_frame(f, 60000, 40);
    assert_int_equal(f->g.net.stats.rx_copied, 1);
}

/* 5.1.3.1: TSO without checksums is no TSO. */
static void test_offload_without_its_requirement(void **state)
{
    struct fixture *f = *state;

    net_guest_start(&f->g, NET_F_GUEST_TSO4 | NET_F_GUEST_ECN);
    assert_int_equal(f->wire.offloads_set, 0);
    net_guest_start(&f->g, NET_F_GUEST_CSUM | NET_F_GUEST_ECN);
    assert_int_equal(f->wire.offloads_set, NET_F_GUEST_CSUM);
}

/* A frame waits until there are buffers enough, and nothing is lost. */
static void test_frame_waits_for_buffers(void **state)
{
    struct fixture *f = *state;

    net_guest_start(&f->g, NET_F_MRG_RXBUF);
    offer(f, 1000, 2);
    assert_int_equal(f->wire.receives, 0);
    net_guest_post(&f->g, 5, 100);
    net_guest_kick(&f->g, NET_QUEUE_RX);
    assert_int_equal(f->wire.receives, 1);
    assert_int_equal(receive(f), -1);
    net_guest_post(&f->g, 6, 100);
    net_guest_kick(&f->g, NET_QUEUE_RX);
    expect_frame(f, 1000, 11);
    assert_int_equal(f->wire.offers, 1);
    net_guest_post(&f->g, 11, 100);
    net_guest_kick(&f->g, NET_QUEUE_RX);
    expect_frame(f, 1000, 11);
    assert_int_equal(f->g.net.stats.rx_dropped, 0);
}

/* A ring that is full of tiny buffers does not hold the queue up. */
static void test_frame_that_never_fits(void **state)
{
    struct fixture *f = *state;

    net_guest_start(&f->g, NET_F_MRG_RXBUF);
    net_guest_post(&f->g, NET_GUEST_SIZE, 12);
    offer(f, 1000, 2);
    assert_int_equal(f->g.net.stats.rx_dropped, 2);
    assert_int_equal(receive(f), -1);
    offer(f, 60, 1);
    expect_frame(f, 60, 6);
}

static void test_frame_too_long_for_its_buffer(void **state)
{
    struct fixture *f = *state;

    net_guest_start(&f->g, 0);
    net_guest_post(&f->g, 4, 500);
    offer(f, 600, 1);
    assert_int_equal(receive(f), -1);
    assert_int_equal(f->g.net.stats.rx_dropped, 1);
    offer(f, 400, 1);
    expect_frame(f, 400, 1);
}

/* The backend said 1518 and comes with more: lost, but no harm done. */
static void test_frame_beyond_frame_max(void **state)
{
    struct fixture *f = *state;

    net_guest_start(&f->g, NET_F_MRG_RXBUF);
    net_guest_post(&f->g, 4, 1530);
    offer(f, 9000, 1);
    assert_int_equal(receive(f), -1);
    assert_int_equal(f->g.net.stats.rx_dropped, 1);
    offer(f, 1518, 1);
    expect_frame(f, 1518, 1);
}

static void test_rx_buffer_without_room(void **state)
{
    struct fixture *f = *state;

    net_guest_start(&f->g, NET_F_MRG_RXBUF);
    net_guest_post(&f->g, 2, 1600);
    net_guest_post(&f->g, 1, 11);
    offer(f, 1500, 3);
    assert_true(stopped(f));
    assert_int_equal(f->g.net.virtio.queues[NET_QUEUE_RX].q.inflight, 0);
    net_guest_start(&f->g, NET_F_MRG_RXBUF);
    net_guest_post(&f->g, 1, 1600);
    offer(f, 1500, 1);
    expect_frame(f, 1500, 1);
}

/* Nobody goes on polling a backend that does nothing but fail. */
static void test_receive_that_always_fails(void **state)
{
    struct fixture *f = *state;

    net_guest_start(&f->g, NET_F_STATUS);
    net_guest_post(&f->g, 4, 1530);
    f->wire.receive_result = -EIO;
    offer(f, 100, 1);
    assert_int_equal(f->wire.receives, NET_FAILURES_MAX);
    assert_int_equal(f->g.gone, 1);
    assert_int_equal(drive_read(f->g.dev, VIRTIO_MMIO_CONFIG + 4), 0x00000504);
}

static void test_send_stalls_and_goes_on(void **state)
{
    struct fixture *f = *state;
    static const struct net_header none;

    net_guest_start(&f->g, 0);
    f->wire.send_result = -EAGAIN;
    for (unsigned int i = 0; i < FRAMES; i++)
        send(f, none, 100 + i);
    assert_int_equal(net_guest_reap(&f->g), 0);
    assert_true(f->g.net.tx_waits);
    f->wire.send_result = 0;
    offer(f, 0, 0);
    assert_int_equal(f->wire.sends, FRAMES);
    assert_int_equal(f->wire.sent_len, 12 + 100 + FRAMES - 1);
    assert_int_equal(net_guest_reap(&f->g), FRAMES);
}

static void test_send_errors_lose_one_frame(void **state)
{
    struct fixture *f = *state;
    static const struct net_header none;

    net_guest_start(&f->g, 0);
    f->wire.send_result = -EIO;
    send(f, none, 100);
    assert_int_equal(f->g.net.stats.tx_dropped, 1);
    f->wire.send_result = 0;
    send(f, none, 100);
    assert_int_equal(f->wire.sends, 1);
    assert_int_equal(net_guest_reap(&f->g), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_config_space, set_up, tear_down),
        cmocka_unit_test(test_random_mac),
        cmocka_unit_test_setup_teardown(test_bad_config, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_send, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_frame_lengths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_chain_without_header, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_headers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_receive, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mergeable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mergeable_gso, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_offload_without_its_requirement, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_frame_waits_for_buffers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_frame_that_never_fits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_frame_too_long_for_its_buffer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_frame_beyond_frame_max, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_long_frame_after_short_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_rx_buffer_without_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_receive_that_always_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_send_stalls_and_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_send_errors_lose_one_frame, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
