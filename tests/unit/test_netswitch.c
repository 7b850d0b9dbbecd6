/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/netswitch.h"

#define PORTS      6u
#define ALL        0xffu /* octet of the address of everybody */
#define ROUNDS     64
#define PLAIN_SIZE 60u

struct fixture {
    struct loop loop;
    struct netswitch sw;
    int peers[PORTS];
    unsigned int closes;
    uint32_t left;
    uint8_t buf[NET_FRAME_MAX];
};

static void on_close(void *opaque, uint32_t ports)
{
    struct fixture *f = opaque;

    f->closes++;
    f->left = ports;
}

static void plug(struct fixture *f, unsigned int i)
{
    int fds[2];

    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fd_set_nonblocking(fds[1], true), 0);
    assert_int_equal(netswitch_add_port(&f->sw, fds[0], NULL), 0);
    f->peers[i] = fds[1];
}

static void start(struct fixture *f, unsigned int count, uint64_t rate)
{
    const struct netswitch_config config = {.ports_max = PORTS,
        .age_ns = 300 * CLOCK_NS_PER_S,
        .hold_ns = 300 * CLOCK_NS_PER_S,
        .rate.bytes = {.size = rate, .refill_ms = rate == 0 ? 0 : 3600000},
        .on_close = on_close,
        .opaque = f};

    assert_int_equal(loop_init(&f->loop, NULL), 0);
    assert_int_equal(netswitch_init(&f->sw, &f->loop, &config, NULL), 0);
    for (unsigned int i = 0; i < count; i++)
        plug(f, i);
}

static int set_up(void **state)
{
    static struct fixture fixture;

    fixture = (struct fixture){0};
    memset(fixture.peers, 0xff, sizeof(fixture.peers));
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    netswitch_fini(&f->sw);
    loop_fini(&f->loop);
    for (unsigned int i = 0; i < PORTS; i++)
        fd_closep(&f->peers[i]);
    return 0;
}

static void run(struct fixture *f)
{
    for (int i = 0; i < ROUNDS; i++)
        assert_int_equal(loop_run_once(&f->loop, 0), 0);
}

static void set_address(uint8_t *p, uint8_t host)
{
    memset(p, host == ALL ? ALL : 0, NET_MAC_BYTES);
    if (host != ALL) {
        p[0] = 2;
        p[5] = host;
    }
}

/* A frame with its prefix; bytes in all. */
static size_t make(
    uint8_t *buf, uint8_t from, uint8_t to, uint32_t len, uint8_t fill)
{
    buf[0] = (uint8_t)(len >> 24);
    buf[1] = (uint8_t)(len >> 16);
    buf[2] = (uint8_t)(len >> 8);
    buf[3] = (uint8_t)len;
    memset(buf + 4, fill, len);
    set_address(buf + 4, to);
    set_address(buf + 4 + NET_MAC_BYTES, from);
    return 4 + len;
}

/* From the peer of port `from - 1`, whose address ends in `from`. */
static void say(
    struct fixture *f, uint8_t from, uint8_t to, uint32_t len, uint8_t fill)
{
    uint8_t frame[4096];
    size_t n = make(frame, from, to, len, fill);

    assert_true(len <= sizeof(frame) - 4);
    assert_int_equal(write(f->peers[from - 1], frame, n), (ssize_t)n);
    run(f);
}

/* What the peer of port `to - 1` has: the frame's fill, or -1. */
static int hear(struct fixture *f, uint8_t to, uint8_t from, uint32_t len)
{
    uint8_t want[4096];
    ssize_t n = read(f->peers[to - 1], f->buf, 4 + (size_t)len);

    if (n < 0) {
        assert_int_equal(errno, EAGAIN);
        return -1;
    }
    assert_int_equal(n, 4 + len);
    (void)make(want, from, to, len, f->buf[4 + len - 1]);
    assert_memory_equal(f->buf, want, 4);
    assert_memory_equal(f->buf + 10, want + 10, len - 6);
    return f->buf[4 + len - 1];
}

static void expect_silence(struct fixture *f, uint8_t to)
{
    assert_int_equal(read(f->peers[to - 1], f->buf, sizeof(f->buf)), -1);
    assert_int_equal(errno, EAGAIN);
}

static struct netswitch_stats *stats(struct fixture *f, uint8_t host)
{
    return &f->sw.ports[host - 1].stats;
}

static void test_unknown_goes_to_all_others(void **state)
{
    struct fixture *f = *state;

    start(f, 3, 0);
    say(f, 1, 2, PLAIN_SIZE, 7);
    assert_int_equal(hear(f, 2, 1, PLAIN_SIZE), 7);
    assert_int_equal(hear(f, 3, 1, PLAIN_SIZE), 7);
    expect_silence(f, 1);
}

static void test_learnt_goes_to_one(void **state)
{
    struct fixture *f = *state;

    start(f, 3, 0);
    say(f, 2, ALL, PLAIN_SIZE, 1);
    assert_int_equal(hear(f, 1, 2, PLAIN_SIZE), 1);
    assert_int_equal(hear(f, 3, 2, PLAIN_SIZE), 1);
    say(f, 1, 2, PLAIN_SIZE, 9);
    assert_int_equal(hear(f, 2, 1, PLAIN_SIZE), 9);
    expect_silence(f, 1);
    expect_silence(f, 3);
    assert_int_equal(stats(f, 1)->rx_frames, 1);
    assert_int_equal(stats(f, 1)->rx_bytes, PLAIN_SIZE);
    assert_int_equal(stats(f, 2)->tx_frames, 1);
    assert_int_equal(stats(f, 3)->tx_frames, 1);
}

static void test_never_back(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[4 + PLAIN_SIZE];
    size_t n;

    start(f, 2, 0);
    say(f, 1, ALL, PLAIN_SIZE, 1);
    assert_int_equal(hear(f, 2, 1, PLAIN_SIZE), 1);
    /* Two addresses behind one port talk to each other. */
    n = make(frame, 5, 1, PLAIN_SIZE, 2);
    assert_int_equal(write(f->peers[0], frame, n), (ssize_t)n);
    run(f);
    expect_silence(f, 1);
    expect_silence(f, 2);
    assert_int_equal(stats(f, 1)->rx_filtered, 1);
}

static void test_reserved_group_stays(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[4 + PLAIN_SIZE];
    size_t n = make(frame, 1, 2, PLAIN_SIZE, 3);

    start(f, 2, 0);
    memcpy(frame + 4, "\x01\x80\xc2\0\0\x0e", 6);
    assert_int_equal(write(f->peers[0], frame, n), (ssize_t)n);
    run(f);
    expect_silence(f, 2);
    assert_int_equal(stats(f, 1)->rx_filtered, 1);
    frame[9] = 0x10;
    assert_int_equal(write(f->peers[0], frame, n), (ssize_t)n);
    run(f);
    assert_int_equal(read(f->peers[1], f->buf, sizeof(f->buf)), (ssize_t)n);
}

static void test_runt_and_impossible_sources(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[4 + PLAIN_SIZE];
    size_t n;

    start(f, 2, 0);
    n = make(frame, 1, ALL, 13, 0);
    assert_int_equal(write(f->peers[0], frame, n), (ssize_t)n);
    n = make(frame, ALL, ALL, PLAIN_SIZE, 0);
    assert_int_equal(write(f->peers[0], frame, n), (ssize_t)n);
    n = make(frame, 1, ALL, PLAIN_SIZE, 0);
    memset(frame + 10, 0, 6);
    assert_int_equal(write(f->peers[0], frame, n), (ssize_t)n);
    run(f);
    expect_silence(f, 2);
    assert_int_equal(stats(f, 1)->rx_runt, 1);
    assert_int_equal(stats(f, 1)->rx_source, 2);
    assert_int_equal(stats(f, 1)->rx_frames, 3);
    /* The shortest that is one passes, and the port goes on. */
    say(f, 1, ALL, 14, 0);
    assert_int_equal(
        read(f->peers[1], f->buf, sizeof(f->buf)), (ssize_t)(4 + 14));
}

static void test_claimed_address(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[4 + PLAIN_SIZE];
    size_t n = make(frame, 1, ALL, PLAIN_SIZE, 4);

    start(f, 3, 0);
    say(f, 1, ALL, PLAIN_SIZE, 1);
    assert_int_equal(hear(f, 2, 1, PLAIN_SIZE), 1);
    assert_int_equal(hear(f, 3, 1, PLAIN_SIZE), 1);
    assert_int_equal(write(f->peers[2], frame, n), (ssize_t)n);
    run(f);
    expect_silence(f, 1);
    expect_silence(f, 2);
    assert_int_equal(stats(f, 3)->rx_stolen, 1);
    say(f, 2, 1, PLAIN_SIZE, 5);
    assert_int_equal(hear(f, 1, 2, PLAIN_SIZE), 5);
    expect_silence(f, 3);
    /* With its port gone it is free. */
    fd_closep(&f->peers[0]);
    run(f);
    assert_int_equal(write(f->peers[2], frame, n), (ssize_t)n);
    run(f);
    assert_int_equal(hear(f, 2, 1, PLAIN_SIZE), 4);
    say(f, 2, 1, PLAIN_SIZE, 6);
    assert_int_equal(read(f->peers[2], f->buf, sizeof(f->buf)), (ssize_t)n);
}

static void test_bad_lengths_close(void **state)
{
    struct fixture *f = *state;
    const uint8_t zero[4] = {0};
    const uint8_t huge[4] = {0, 1, 0, 0x12}; /* NET_FRAME_MAX + 1 */
    uint8_t frame[4 + PLAIN_SIZE + sizeof(zero)];
    size_t n = make(frame, 1, ALL, PLAIN_SIZE, 8);

    start(f, 3, 0);
    memcpy(frame + n, zero, sizeof(zero));
    assert_int_equal(
        write(f->peers[0], frame, sizeof(frame)), (ssize_t)sizeof(frame));
    run(f);
    assert_int_equal(hear(f, 2, 1, PLAIN_SIZE), 8);
    assert_int_equal(hear(f, 3, 1, PLAIN_SIZE), 8);
    assert_int_equal(read(f->peers[0], f->buf, 1), 0);
    assert_int_equal(write(f->peers[1], huge, sizeof(huge)), sizeof(huge));
    run(f);
    assert_int_equal(read(f->peers[1], f->buf, 1), 0);
    assert_int_equal(f->closes, 2);
    assert_int_equal(f->left, 1);
    assert_int_equal(netswitch_total(&f->sw).violations, 2);
    assert_int_equal(f->sw.above, 3);
}

static void test_longest_frame_in_pieces(void **state)
{
    struct fixture *f = *state;
    static uint8_t frame[4 + NET_FRAME_MAX];
    static uint8_t got[4 + NET_FRAME_MAX];
    size_t n = make(frame, 1, ALL, NET_FRAME_MAX, 0x5a);
    size_t have = 0;

    start(f, 2, 0);
    for (size_t at = 0; at < n;) {
        size_t piece = at < 8 ? 1 : 1000;

        piece = piece < n - at ? piece : n - at;
        assert_int_equal(write(f->peers[0], frame + at, piece), (ssize_t)piece);
        at += piece;
        run(f);
        if (at < n)
            expect_silence(f, 2);
    }
    while (have < n) {
        ssize_t r = read(f->peers[1], got + have, sizeof(got) - have);

        assert_true(r > 0);
        have += (size_t)r;
        run(f);
    }
    assert_memory_equal(got, frame, n);
}

/* Reads whole frames until there are none; their number, checked. */
static unsigned int drain(
    struct fixture *f, uint8_t to, uint32_t len, uint64_t *ret_last)
{
    static uint8_t data[1 << 20];
    size_t have = 0;
    unsigned int count = 0;
    uint64_t last = 0;

    for (;;) {
        ssize_t n = read(f->peers[to - 1], data + have, sizeof(data) - have);

        if (n < 0 && errno == EAGAIN)
            break;
        assert_true(n > 0);
        have += (size_t)n;
        run(f);
        while (have >= 4 + (size_t)len) {
            uint64_t seq;

            assert_int_equal(data[2] << 8 | data[3], len);
            memcpy(&seq, data + 4 + 14, sizeof(seq));
            assert_true(count == 0 || seq > last);
            last = seq;
            count++;
            have -= 4 + (size_t)len;
            memmove(data, data + 4 + len, have);
        }
    }
    assert_int_equal(have, 0);
    *ret_last = last;
    return count;
}

static size_t drain_bytes(struct fixture *f, uint8_t to)
{
    size_t have = 0;
    ssize_t n;

    while ((n = read(f->peers[to - 1], f->buf, sizeof(f->buf))) > 0)
        have += (size_t)n;
    return have;
}

static void test_deaf_port_stalls_nobody(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[4 + 1000];
    uint64_t last;
    unsigned int heard = 0;
    unsigned int late;

    start(f, 3, 0);
    for (uint64_t seq = 1; seq <= 4000; seq++) {
        size_t n = make(frame, 1, ALL, 1000, 0);

        memcpy(frame + 4 + 14, &seq, sizeof(seq));
        assert_int_equal(write(f->peers[0], frame, n), (ssize_t)n);
        run(f);
        if (seq % 50 == 0) {
            heard += drain(f, 2, 1000, &last);
            assert_int_equal(last, seq);
        }
    }
    assert_int_equal(heard, 4000);
    assert_int_equal(stats(f, 2)->tx_dropped, 0);
    assert_true(stats(f, 3)->tx_dropped > 0);
    assert_true(f->sw.ports[2].out_len <= NETSWITCH_OUT_BYTES);
    late = drain(f, 3, 1000, &last);
    assert_int_equal(late, stats(f, 3)->tx_frames);
    assert_int_equal(late + stats(f, 3)->tx_dropped, 4000);
    /* And once it reads again it is as any other. */
    assert_int_equal(f->sw.ports[2].out_len, 0);
    say(f, 1, ALL, PLAIN_SIZE, 3);
    assert_int_equal(hear(f, 3, 1, PLAIN_SIZE), 3);
}

static void test_many_at_a_time_keep_order(void **state)
{
    struct fixture *f = *state;
    static uint8_t data[200 * (4 + PLAIN_SIZE)];
    size_t len = 0;

    start(f, 3, 0);
    say(f, 2, ALL, PLAIN_SIZE, 0);
    say(f, 3, ALL, PLAIN_SIZE, 0);
    for (uint8_t i = 1; i <= 3; i++)
        while (read(f->peers[i - 1], f->buf, sizeof(f->buf)) > 0)
            ;
    /* Runs of 1 to 5 frames for one, the other, and all. */
    for (unsigned int i = 0; i < 200; i++) {
        static const uint8_t to[] = {2, 2, 3, 3, 3, ALL, 2, 3, ALL, ALL};

        len += make(data + len, 1, to[i % 10], PLAIN_SIZE, (uint8_t)i);
    }
    assert_int_equal(write(f->peers[0], data, len), (ssize_t)len);
    run(f);
    for (unsigned int i = 0; i < 200; i++) {
        unsigned int k = i % 10;

        if (k != 2 && k != 3 && k != 4 && k != 7)
            assert_int_equal(hear(f, 2, 1, PLAIN_SIZE), i);
        if (k != 0 && k != 1 && k != 6)
            assert_int_equal(hear(f, 3, 1, PLAIN_SIZE), i);
    }
    expect_silence(f, 2);
    expect_silence(f, 3);
}

static void test_port_that_leaves(void **state)
{
    struct fixture *f = *state;

    start(f, 3, 0);
    say(f, 2, ALL, PLAIN_SIZE, 1);
    assert_int_equal(hear(f, 1, 2, PLAIN_SIZE), 1);
    assert_int_equal(hear(f, 3, 2, PLAIN_SIZE), 1);
    fd_closep(&f->peers[1]);
    run(f);
    assert_int_equal(f->closes, 1);
    assert_int_equal(f->sw.open, 2);
    /* Nobody knows any more where it is. */
    say(f, 1, 2, PLAIN_SIZE, 2);
    assert_int_equal(read(f->peers[2], f->buf, sizeof(f->buf)), 4 + PLAIN_SIZE);
    plug(f, 1);
    say(f, 1, 2, PLAIN_SIZE, 3);
    assert_int_equal(hear(f, 2, 1, PLAIN_SIZE), 3);
    assert_int_equal(f->sw.opened, 4);
}

/* Its end is noticed only when something is sent to it. */
static void test_gone_in_the_middle_of_a_flood(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[4 + PLAIN_SIZE];
    size_t n = make(frame, 1, ALL, PLAIN_SIZE, 1);

    start(f, 4, 0);
    assert_int_equal(write(f->peers[0], frame, n), (ssize_t)n);
    fd_closep(&f->peers[1]);
    fd_closep(&f->peers[3]);
    run(f);
    assert_int_equal(hear(f, 3, 1, PLAIN_SIZE), 1);
    assert_int_equal(f->closes, 2);
    assert_int_equal(f->sw.above, 3);
}

static void test_no_port_left(void **state)
{
    struct fixture *f = *state;
    int fds[2];
    struct err err;

    start(f, PORTS, 0);
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(netswitch_add_port(&f->sw, fds[0], &err), -ENOSPC);
    assert_non_null(strstr(err.text, "all 6 ports"));
    /* It is still ours. */
    fd_closep(&f->peers[3]);
    run(f);
    assert_int_equal(netswitch_add_port(&f->sw, fds[0], &err), 0);
    f->peers[3] = fds[1];
}

static void test_no_stream_socket(void **state)
{
    struct fixture *f = *state;
    CC_CLEANUP(fd_closep) int event = fd_eventfd();
    int fds[2];

    start(f, 0, 0);
    assert_int_equal(netswitch_add_port(&f->sw, event, NULL), -ENOTSOCK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(netswitch_add_port(&f->sw, fds[0], NULL), -EINVAL);
    fd_closep(&fds[0]);
    fd_closep(&fds[1]);
}

static void test_rate_pauses_without_loss(void **state)
{
    struct fixture *f = *state;
    uint64_t last;
    uint8_t frame[4 + 1000];

    /* 10 frames now, and the next in six minutes. */
    start(f, 3, 10000);
    for (uint64_t seq = 1; seq <= 20; seq++) {
        size_t n = make(frame, 1, ALL, 1000, 0);

        memcpy(frame + 4 + 14, &seq, sizeof(seq));
        assert_int_equal(write(f->peers[0], frame, n), (ssize_t)n);
    }
    run(f);
    assert_int_equal(drain(f, 2, 1000, &last), 10);
    assert_int_equal(last, 10);
    assert_int_equal(stats(f, 1)->rx_paused, 1);
    assert_true(f->sw.ports[0].resume.armed);
    /* The others have limits of their own. */
    say(f, 2, ALL, PLAIN_SIZE, 5);
    assert_int_equal(hear(f, 1, 2, PLAIN_SIZE), 5);
    assert_int_equal(drain_bytes(f, 3), 10 * (4 + 1000) + 4 + PLAIN_SIZE);
    /* As if time had passed: what was read waits there. */
    f->sw.ports[0].rate_state.bytes.budget = 4000;
    loop_timer_arm(&f->loop, &f->sw.ports[0].resume, 1);
    run(f);
    assert_int_equal(drain(f, 3, 1000, &last), 4);
    assert_int_equal(last, 14);
}

static void test_paused_port_that_leaves(void **state)
{
    struct fixture *f = *state;

    start(f, 2, 100);
    say(f, 1, ALL, PLAIN_SIZE, 1);
    say(f, 1, ALL, PLAIN_SIZE, 2);
    assert_true(f->sw.ports[0].resume.armed);
    fd_closep(&f->peers[0]);
    run(f);
    assert_int_equal(f->closes, 1);
    assert_null(f->loop.timers);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_unknown_goes_to_all_others),
        T(test_learnt_goes_to_one),
        T(test_never_back),
        T(test_reserved_group_stays),
        T(test_runt_and_impossible_sources),
        T(test_claimed_address),
        T(test_bad_lengths_close),
        T(test_longest_frame_in_pieces),
        T(test_deaf_port_stalls_nobody),
        T(test_many_at_a_time_keep_order),
        T(test_port_that_leaves),
        T(test_gone_in_the_middle_of_a_flood),
        T(test_no_port_left),
        T(test_no_stream_socket),
        T(test_rate_pauses_without_loss),
        T(test_paused_port_that_leaves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
