/* SPDX-License-Identifier: Apache-2.0 */
/* The other end of a stream is gone, and the cable pulled for it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/net_guest.h"
#include "virtio/net_stream.h"

static void lose(bool pull_first)
{
    static struct net_guest g;
    struct net_stream s;
    int fds[2];

    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(net_stream_init(&s, fds[0], NULL), 0);
    net_guest_init(&g, &s.backend, NULL, true);
    net_guest_start(&g, NET_F_MRG_RXBUF | NET_F_STATUS);
    net_guest_post(&g, 8, 2000);
    net_guest_kick(&g, NET_QUEUE_RX);
    (void)close(fds[1]);
    if (!pull_first)
        net_guest_run(&g, 4);
    device_lock(g.dev);
    net_set_link(&g.net, false);
    device_unlock(g.dev);
    net_guest_run(&g, 4);
    assert_false(net_link_is_up(&g.net));
    assert_int_equal(g.net.state.link_up, 0);
    net_guest_fini(&g);
    net_stream_fini(&s);
}

static void test_gone_then_pulled(void **state)
{
    (void)state;
    lose(false);
}

static void test_pulled_then_gone(void **state)
{
    (void)state;
    lose(true);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gone_then_pulled),
        cmocka_unit_test(test_pulled_then_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
