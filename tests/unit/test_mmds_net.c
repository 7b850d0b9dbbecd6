/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata service behind a network device, in front of a backend. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support/mmds_client.h"
#include "tests/unit/support/net_guest.h"
#include "vmm/base/cc.h"
#include "vmm/base/num.h"
#include "vmm/config.h"
#include "vmm/mmds_net.h"

#define SYN_ACK_BYTES 58

struct fixture {
    struct net_backend inner;
    unsigned int passed; /* frames that the inner backend was given */
    uint8_t last[NET_BUFFER_BYTES];
    size_t last_len;
    unsigned int offers; /* frames that it has for the guest, of 60 bytes */
    struct mmds mmds;
    struct mmds_net net;
    struct net_guest g;
    uint8_t got[NET_FRAME_MAX];
};

static int take(
    struct net_backend *b, struct iovec *iov, unsigned int count, size_t len)
{
    struct fixture *f = container_of(b, struct fixture, inner);

    f->last_len = 0;
    for (unsigned int i = 0; i < count; i++) {
        memcpy(f->last + f->last_len, iov[i].iov_base, iov[i].iov_len);
        f->last_len += iov[i].iov_len;
    }
    assert_int_equal(f->last_len, len);
    f->passed++;
    return 0;
}

static ssize_t give(
    struct net_backend *b, struct iovec *iov, unsigned int count)
{
    struct fixture *f = container_of(b, struct fixture, inner);
    size_t left = 60 + (b->has_header ? sizeof(struct net_header) : 0);
    size_t len = left;

    if (f->offers == 0)
        return -EAGAIN;
    f->offers--;
    for (unsigned int i = 0; i < count && left > 0; i++) {
        size_t n = num_min(left, iov[i].iov_len);

        memset(iov[i].iov_base, 0, n);
        left -= n;
    }
    return (ssize_t)len;
}

static const struct net_backend_ops ops = {.send = take, .receive = give};

static struct fixture *set_up(bool has_header, bool with_loop)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->inner = (struct net_backend){.ops = &ops,
        .fd = -1,
        .frame_max = 1300,
        .has_header = has_header,
        .offloads = has_header ? NET_HOST_OFFLOADS : 0};
    mmds_init(&f->mmds);
    f->mmds.address = CONFIG_MMDS_ADDRESS;
    mmds_net_init(&f->net, &f->inner, &f->mmds);
    net_guest_init(&f->g, &f->net.backend, NULL, with_loop);
    return f;
}

static void tear_down(struct fixture *f)
{
    net_guest_fini(&f->g);
    mmds_net_fini(&f->net);
    mmds_fini(&f->mmds);
    free(f);
}

static size_t make_syn(const struct fixture *f, uint16_t port, uint8_t *frame)
{
    const struct mmds_client_segment syn = {
        .port = port, .seq = 5, .flags = TCP_SYN, .window = 1000, .mss = 1460};

    return mmds_client_make(&f->net.tcp, &syn, frame);
}

static void send(struct fixture *f, const struct net_header *header,
    const uint8_t *frame, size_t len, uint32_t cut)
{
    assert_true(net_guest_send(&f->g, header, frame, (uint32_t)len, cut));
    net_guest_kick(&f->g, NET_QUEUE_TX);
    net_guest_run(&f->g, 4);
    assert_int_equal(net_guest_reap(&f->g), 1);
}

static int64_t receive(struct fixture *f)
{
    struct net_header header;
    unsigned int buffers = 0;
    int64_t n = net_guest_receive(&f->g, &header, f->got, &buffers);

    if (n >= 0) {
        assert_int_equal(header.flags, 0);
        assert_int_equal(header.gso_type, 0);
    }
    return n;
}

static unsigned int flags_of(const struct fixture *f)
{
    return f->got[ETH_BYTES + IP_BYTES + TCP_FLAGS];
}

/* In buffers of any size, however the frame is cut. */
static void answers(bool has_header, bool with_loop)
{
    static const uint32_t cuts[] = {0, 1, 12, 13, 26, 40, 54, 60};
    static const struct net_header none;
    struct fixture *f = set_up(has_header, with_loop);
    uint8_t frame[128];

    net_guest_start(&f->g, NET_F_MRG_RXBUF);
    for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
        size_t len = make_syn(f, (uint16_t)(1 + i), frame);

        net_guest_post(&f->g, 2, 64);
        send(f, &none, frame, len, cuts[i]);
        assert_int_equal(receive(f), SYN_ACK_BYTES);
        assert_int_equal(flags_of(f), TCP_SYN | TCP_ACKED);
        assert_memory_equal(f->got, MMDS_CLIENT_MAC, MMDS_MAC_BYTES);
        assert_int_equal(receive(f), -1);
    }
    assert_int_equal(f->passed, 0);
    tear_down(f);
}

static void test_answers(void **state)
{
    (void)state;
    answers(false, false);
    answers(true, false);
    answers(false, true);
    answers(true, true);
}

static void test_others_pass(void **state)
{
    static const struct net_header none;

    (void)state;
    for (unsigned int round = 0; round < 4; round++) {
        struct fixture *f = set_up(round % 2 == 1, round >= 2);
        size_t skip = round % 2 == 1 ? sizeof(none) : 0;
        uint8_t frame[1200];
        size_t len;

        memset(frame, 0x5a, sizeof(frame));
        len = make_syn(f, 1, frame);
        net_guest_start(&f->g, NET_F_MRG_RXBUF);
        /* To its neighbour, of another kind, and shorter than an address. */
        for (unsigned int i = 0; i < 3; i++) {
            if (i == 0)
                frame[ETH_BYTES + IP_DST + 3] ^= 1;
            if (i == 1)
                mmds_put16(frame + ETH_TYPE, 0x86dd);
            if (i == 2)
                len = 20;
            send(f, &none, frame, i == 1 ? sizeof(frame) : len, 13 + i);
            assert_int_equal(f->passed, i + 1);
            assert_int_equal(f->last_len - skip, i == 1 ? 1200 : len);
            assert_memory_equal(f->last + skip, frame, f->last_len - skip);
        }
        /* And what the backend has comes through. */
        f->offers = 3;
        net_guest_post(&f->g, 8, 2048);
        net_guest_kick(&f->g, NET_QUEUE_RX);
        net_guest_run(&f->g, 4);
        for (unsigned int i = 0; i < 3; i++)
            assert_int_equal(receive(f), 60);
        assert_int_equal(receive(f), -1);
        tear_down(f);
    }
}

static void test_waits_for_buffers(void **state)
{
    static const struct net_header none;
    struct fixture *f = set_up(false, true);
    uint8_t frame[128];
    size_t len;

    (void)state;
    net_guest_start(&f->g, NET_F_MRG_RXBUF);
    for (uint16_t i = 0; i < 3; i++) {
        len = make_syn(f, i, frame);
        send(f, &none, frame, len, 0);
        assert_int_equal(receive(f), -1);
    }
    for (uint16_t i = 0; i < 3; i++) {
        net_guest_post(&f->g, 1, 2048);
        net_guest_kick(&f->g, NET_QUEUE_RX);
        net_guest_run(&f->g, 4);
        assert_int_equal(receive(f), SYN_ACK_BYTES);
        assert_int_equal(receive(f), -1);
    }
    tear_down(f);
}

static void test_sums_that_are_left_to_the_device(void **state)
{
    const struct net_header partial = {.flags = NET_HDR_F_NEEDS_CSUM,
        .csum_start = le16_put(ETH_BYTES + IP_BYTES),
        .csum_offset = le16_put(TCP_SUM)};
    static const struct net_header none;
    struct fixture *f = set_up(true, false);
    uint8_t frame[128];
    size_t len;

    (void)state;
    net_guest_start(&f->g, NET_F_MRG_RXBUF | NET_F_CSUM);
    net_guest_post(&f->g, 8, 2048);
    len = make_syn(f, 1, frame);
    mmds_put16(frame + ETH_BYTES + IP_BYTES + TCP_SUM, 0x1234);
    send(f, &none, frame, len, 0);
    assert_int_equal(receive(f), -1);
    send(f, &partial, frame, len, 0);
    assert_int_equal(receive(f), SYN_ACK_BYTES);
    assert_int_equal(f->passed, 0);
    tear_down(f);
}

static void test_a_new_driver_has_no_connections(void **state)
{
    static const struct net_header none;
    struct fixture *f = set_up(false, false);
    uint8_t frame[128];
    size_t len = make_syn(f, 1, frame);
    const struct mmds_client_segment ack = {
        .port = 1, .seq = 6, .ack = 77, .flags = TCP_ACKED};

    (void)state;
    net_guest_start(&f->g, NET_F_MRG_RXBUF);
    net_guest_post(&f->g, 4, 2048);
    send(f, &none, frame, len, 0);
    assert_int_equal(receive(f), SYN_ACK_BYTES);
    net_guest_start(&f->g, NET_F_MRG_RXBUF);
    net_guest_post(&f->g, 4, 2048);
    assert_int_equal(f->net.tcp.stats.connections_destroyed, 1);
    len = mmds_client_make(&f->net.tcp, &ack, frame);
    send(f, &none, frame, len, 0);
    assert_int_equal(receive(f), SYN_ACK_BYTES - 4);
    assert_int_equal(flags_of(f), TCP_RST);
    tear_down(f);
}

static void test_what_is_too_long_goes_nowhere(void **state)
{
    static const struct net_header none;
    struct fixture *f = set_up(false, false);
    uint8_t frame[MMDS_FRAME_IN_MAX + 1] = {0};

    (void)state;
    net_guest_start(&f->g, NET_F_MRG_RXBUF);
    net_guest_post(&f->g, 4, 2048);
    (void)make_syn(f, 1, frame);
    send(f, &none, frame, sizeof(frame), 0);
    assert_int_equal(receive(f), -1);
    assert_int_equal(f->passed, 0);
    assert_int_equal(f->net.tcp.stats.rx_count, 0);
    tear_down(f);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_others_pass),
        cmocka_unit_test(test_waits_for_buffers),
        cmocka_unit_test(test_sums_that_are_left_to_the_device),
        cmocka_unit_test(test_a_new_driver_has_no_connections),
        cmocka_unit_test(test_what_is_too_long_goes_nowhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
