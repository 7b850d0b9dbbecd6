/* SPDX-License-Identifier: Apache-2.0 */
/* A driver that takes frames and gives buffers while the device is at it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/unit/support/net_guest.h"
#include "vmm/base/cc.h"

#define FRAMES  200u
#define LEN     500u /* with its header in six buffers */
#define BUFFERS 6u
#define BYTES   100u

struct fixture {
    struct net_backend backend;
    struct net_guest g;
    unsigned int offered;
    unsigned int taken;
    uint8_t got[NET_FRAME_MAX];
};

/* As a driver on another CPU would, between two frames. */
static void take_and_refill(struct fixture *f)
{
    struct net_header header;
    unsigned int buffers = 0;
    int64_t n;

    while ((n = net_guest_receive(&f->g, &header, f->got, &buffers)) >= 0) {
        assert_int_equal(n, LEN);
        assert_int_equal(buffers, BUFFERS);
        for (size_t i = 0; i < LEN; i++)
            assert_int_equal(f->got[i], (uint8_t)(f->taken + i));
        f->taken++;
        net_guest_post(&f->g, buffers, BYTES);
    }
}

static ssize_t receive(
    struct net_backend *b, struct iovec *iov, unsigned int count)
{
    struct fixture *f = container_of(b, struct fixture, backend);
    uint8_t frame[LEN];
    size_t done = 0;

    take_and_refill(f);
    if (f->offered == FRAMES)
        return -EAGAIN;
    for (size_t i = 0; i < LEN; i++)
        frame[i] = (uint8_t)(f->offered + i);
    for (unsigned int i = 0; i < count && done < LEN; i++) {
        size_t n = LEN - done < iov[i].iov_len ? LEN - done : iov[i].iov_len;

        memcpy(iov[i].iov_base, frame + done, n);
        done += n;
    }
    assert_int_equal(done, LEN);
    f->offered++;
    return LEN;
}

static int send_none(
    struct net_backend *b, struct iovec *iov, unsigned int count, size_t len)
{
    (void)b;
    (void)iov;
    (void)count;
    (void)len;
    return -EIO;
}

static const struct net_backend_ops ops = {
    .send = send_none, .receive = receive};

/* `backend` has no descriptor and no header; `with_loop`: rounds of the loop.
 */
static void run(bool with_loop, unsigned int posted)
{
    static struct fixture f;

    f = (struct fixture){.backend = {.ops = &ops, .fd = -1, .frame_max = 1518}};
    net_guest_init(&f.g, &f.backend, NULL, with_loop);
    net_guest_start(&f.g, NET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX);
    net_guest_post(&f.g, posted, BYTES);
    net_guest_kick(&f.g, NET_QUEUE_RX);
    /* No batch is so long that others would not have a turn. */
    if (with_loop)
        assert_true(f.offered < FRAMES);
    net_guest_run(&f.g, 20);
    take_and_refill(&f);
    assert_int_equal(f.taken, FRAMES);
    assert_int_equal(f.g.net.stats.rx_frames, FRAMES);
    assert_int_equal(f.g.net.stats.rx_dropped, 0);
    net_guest_fini(&f.g);
}

static void test_refilled_during_a_batch(void **state)
{
    (void)state;
    run(false, 60);
}

static void test_batches_end(void **state)
{
    (void)state;
    run(true, 60);
}

/* With fewer buffers than would let the device read straight into them. */
static void test_refilled_short(void **state)
{
    (void)state;
    run(false, 13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refilled_during_a_batch),
        cmocka_unit_test(test_batches_end),
        cmocka_unit_test(test_refilled_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
