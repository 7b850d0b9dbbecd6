/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rate limits of a network device. Buckets here refill either not at all
 * within a test or at once, so that nothing depends on the clock.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/unit/support/net_guest.h"
#include "virtio/net_limit.h"
#include "vmm/base/cc.h"

#define LEN      100u
#define AN_HOUR  UINT64_C(3600000)
#define ROUNDS   1000
#define ROUND_MS 50

struct fixture {
    struct net_backend backend;
    struct net_guest g;
    struct net_limit rx;
    struct net_limit tx;
    unsigned int sent;    /* frames that the guest got rid of */
    unsigned int waiting; /* frames that are there for it */
};

static int send_frame(
    struct net_backend *b, struct iovec *iov, unsigned int count, size_t len)
{
    (void)iov;
    (void)count;
    (void)len;
    container_of(b, struct fixture, backend)->sent++;
    return 0;
}

static ssize_t receive_frame(
    struct net_backend *b, struct iovec *iov, unsigned int count)
{
    struct fixture *f = container_of(b, struct fixture, backend);
    size_t done = 0;

    if (f->waiting == 0)
        return -EAGAIN;
    f->waiting--;
    for (unsigned int i = 0; i < count && done < LEN; i++) {
        size_t n = LEN - done < iov[i].iov_len ? LEN - done : iov[i].iov_len;

        memset(iov[i].iov_base, 0x5a, n);
        done += n;
    }
    return LEN;
}

static const struct net_backend_ops ops = {
    .send = send_frame, .receive = receive_frame};

static void setup(struct fixture *f, const struct rate_config *rx,
    const struct rate_config *tx, unsigned int frames)
{
    static const uint8_t frame[LEN];
    static const struct net_header header;
    struct net_config config = {.rx_gate = &f->rx.gate, .tx_gate = &f->tx.gate};

    f->backend =
        (struct net_backend){.ops = &ops, .fd = -1, .frame_max = NET_FRAME_MAX};
    f->sent = 0;
    f->waiting = frames;
    assert_int_equal(net_limit_init(&f->rx, rx, &f->g.loop, NULL), 0);
    assert_int_equal(net_limit_init(&f->tx, tx, &f->g.loop, NULL), 0);
    net_guest_init(&f->g, &f->backend, &config, true);
    net_limit_attach(&f->rx, &f->g.net);
    net_limit_attach(&f->tx, &f->g.net);
    net_guest_start(&f->g, NET_F_MRG_RXBUF);
    net_guest_post(&f->g, frames, 2048);
    for (unsigned int i = 0; i < frames; i++)
        assert_true(net_guest_send(&f->g, &header, frame, LEN, 0));
    net_guest_kick(&f->g, NET_QUEUE_TX);
    net_guest_kick(&f->g, NET_QUEUE_RX);
    net_guest_run(&f->g, 4);
}

static void teardown(struct fixture *f)
{
    net_limit_fini(&f->rx);
    net_limit_fini(&f->tx);
    net_limit_fini(&f->tx);
    net_guest_fini(&f->g);
}

static void set(struct net_limit *limit, struct rate_change change, int result)
{
    struct err err;

    device_lock(&limit->net->virtio.base);
    assert_int_equal(net_limit_set(limit, &change, &err), result);
    device_unlock(&limit->net->virtio.base);
}

/* Runs until both directions have moved that much; false: they never do. */
static bool run_to(struct fixture *f, uint64_t tx, uint64_t rx)
{
    for (int i = 0; i < ROUNDS; i++) {
        if (f->g.net.stats.tx_frames >= tx && f->g.net.stats.rx_frames >= rx)
            return true;
        assert_int_equal(loop_run_once(&f->g.loop, ROUND_MS), 0);
    }
    return false;
}

static void test_no_limit(void **state)
{
    static const struct rate_config none;
    struct fixture f;

    (void)state;
    setup(&f, &none, &none, 20);
    assert_int_equal(f.sent, 20);
    assert_int_equal(f.g.net.stats.rx_frames, 20);
    assert_int_equal(f.g.net.stats.tx_gated, 0);
    assert_int_equal(f.g.net.stats.rx_gated, 0);
    teardown(&f);
}

static void test_each_way_has_its_own(void **state)
{
    static const struct rate_config three = {.ops = {3, AN_HOUR, 0}};
    static const struct rate_config five = {.ops = {2, AN_HOUR, 3}};
    struct fixture f;

    (void)state;
    setup(&f, &five, &three, 20);
    assert_int_equal(f.sent, 3);
    assert_int_equal(f.g.net.stats.rx_frames, 5);
    assert_true(f.g.net.stats.tx_gated > 0);
    assert_true(f.g.net.stats.rx_gated > 0);
    assert_true(f.tx.timer.armed);
    assert_true(f.rx.timer.armed);
    teardown(&f);
}

/* A frame that is longer than the bucket passes, and the next one pays. */
static void test_bytes_on_credit(void **state)
{
    static const struct rate_config none;
    static const struct rate_config ten = {.bytes = {10, AN_HOUR, 0}};
    static const struct rate_config two = {.bytes = {LEN + 1, AN_HOUR, 0}};
    struct fixture f;

    (void)state;
    setup(&f, &none, &ten, 20);
    assert_int_equal(f.sent, 1);
    assert_int_equal(f.tx.state.bytes.debt, LEN - 10);
    teardown(&f);
    setup(&f, &two, &none, 20);
    assert_int_equal(f.g.net.stats.rx_frames, 2);
    assert_int_equal(f.sent, 20);
    teardown(&f);
}

static void test_opens_by_itself(void **state)
{
    static const struct rate_config one = {.ops = {1, 1, 0}};
    static const struct rate_config bytes = {.bytes = {LEN, 1, 0}};
    struct fixture f;

    (void)state;
    setup(&f, &bytes, &one, 10);
    assert_true(run_to(&f, 10, 10));
    assert_int_equal(f.sent, 10);
    teardown(&f);
}

static void test_set_while_it_waits(void **state)
{
    static const struct rate_config both = {
        .bytes = {10 * LEN, AN_HOUR, 0}, .ops = {3, AN_HOUR, 0}};
    struct fixture f;

    (void)state;
    setup(&f, &both, &both, 20);
    assert_int_equal(f.sent, 3);
    /* A bucket that is not named goes on as it is, empty. */
    set(&f.tx, (struct rate_change){.has_bytes = true}, 0);
    net_guest_run(&f.g, 4);
    assert_int_equal(f.sent, 3);
    assert_int_equal(f.tx.state.ops.budget, 0);
    assert_int_equal(f.tx.rate.config.ops.size, 3);
    assert_int_equal(f.tx.rate.config.bytes.size, 0);
    /* One that is comes full, and what waits goes on at once. */
    set(&f.tx,
        (struct rate_change){
            .has_ops = true, .limits = {.ops = {4, AN_HOUR, 0}}},
        0);
    net_guest_run(&f.g, 4);
    assert_int_equal(f.sent, 7);
    set(&f.tx, (struct rate_change){.has_ops = true}, 0);
    net_guest_run(&f.g, 4);
    assert_int_equal(f.sent, 20);
    /* The other way still has its own. */
    assert_int_equal(f.g.net.stats.rx_frames, 3);
    set(&f.rx, (struct rate_change){.has_ops = true}, 0);
    net_guest_run(&f.g, 4);
    assert_int_equal(f.g.net.stats.rx_frames, 10);
    teardown(&f);
}

static void test_refuses_bad_limits(void **state)
{
    static const struct rate_config none;
    const struct rate_config bad = {.bytes = {1, RATE_REFILL_MS_MAX + 1, 0}};
    struct net_limit limit;
    struct fixture f;

    (void)state;
    assert_int_equal(net_limit_init(&limit, &bad, NULL, NULL), -EINVAL);
    setup(&f, &none, &none, 1);
    set(&f.tx, (struct rate_change){.has_bytes = true, .limits = bad}, -EINVAL);
    assert_int_equal(f.tx.rate.config.bytes.size, 0);
    teardown(&f);
}

/* Nothing would ever open it again. */
static void test_without_a_loop(void **state)
{
    static const struct rate_config one = {.ops = {1, AN_HOUR, 0}};
    struct net_limit limit;

    (void)state;
    assert_int_equal(net_limit_init(&limit, &one, NULL, NULL), 0);
    for (int i = 0; i < 3; i++) {
        assert_true(limit.gate.is_open(&limit.gate));
        limit.gate.charge(&limit.gate, LEN);
    }
    net_limit_fini(&limit);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_each_way_has_its_own),
        cmocka_unit_test(test_bytes_on_credit),
        cmocka_unit_test(test_opens_by_itself),
        cmocka_unit_test(test_set_while_it_waits),
        cmocka_unit_test(test_refuses_bad_limits),
        cmocka_unit_test(test_without_a_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
