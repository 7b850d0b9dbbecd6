/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tap backend, on an interface in a network namespace of its own: for
 * root only. Frames of the host come and go through a packet socket.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/net_guest.h"
#include "virtio/net_tap.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define NAME      "spore0"
#define ETHERTYPE 0x88b5 /* IEEE 802: for experiments */

struct fixture {
    struct net_tap tap;
    struct net_guest g;
    int packet;
    uint8_t frame[NET_FRAME_MAX];
    uint8_t got[NET_FRAME_MAX];
};

/* A descriptor attached to the interface, which it makes; -1 and errno. */
static int attach(const char *name, short flags)
{
    struct ifreq ifr = {.ifr_flags = flags};
    CC_CLEANUP(fd_closep)
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    memcpy(ifr.ifr_name, name, strlen(name));
    if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0)
        return -1;
    return fd_steal(&fd);
}

static void set_persistent(int fd, bool on)
{
    assert_int_equal(ioctl(fd, TUNSETPERSIST, on ? 1UL : 0UL), 0);
}

static void make_interface(void)
{
    int fd = attach(NAME, IFF_TAP | IFF_NO_PI);

    assert_true(fd >= 0);
    set_persistent(fd, true);
    fd_closep(&fd);
}

static void remove_interface(void)
{
    int fd = attach(NAME, IFF_TAP | IFF_NO_PI);

    assert_true(fd >= 0);
    set_persistent(fd, false);
    fd_closep(&fd);
}

static void set_up_interface(int fd, bool up, int mtu)
{
    struct ifreq ifr = {.ifr_name = NAME};

    ifr.ifr_mtu = mtu;
    assert_int_equal(ioctl(fd, SIOCSIFMTU, &ifr), 0);
    assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &ifr), 0);
    ifr.ifr_flags =
        (short)(up ? ifr.ifr_flags | IFF_UP : ifr.ifr_flags & ~IFF_UP);
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
}

/* Until the kernel has got round to it that there is a carrier. */
static void await_running(int fd)
{
    struct ifreq ifr = {.ifr_name = NAME};
    unsigned int tries = 0;
    socklen_t size = sizeof(int);
    int error;

    do {
        assert_int_equal(poll(NULL, 0, tries > 0 ? 10 : 0), 0);
        assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &ifr), 0);
        assert_in_range(++tries, 1, 1000);
    } while ((ifr.ifr_flags & IFF_RUNNING) == 0);
    /* ENETDOWN from before. */
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size), 0);
}

/* What the host's side of the interface gets next. */
static ssize_t host_receive(struct fixture *f)
{
    struct pollfd p = {.fd = f->packet, .events = POLLIN};

    assert_int_equal(poll(&p, 1, 10000), 1);
    return recv(f->packet, f->got, sizeof(f->got), 0);
}

static int open_packet(void)
{
    const struct sockaddr_ll at = {.sll_family = AF_PACKET,
        .sll_protocol = htons(ETHERTYPE),
        .sll_ifindex = (int)if_nametoindex(NAME)};
    int fd = socket(
        AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETHERTYPE));

    assert_true(fd >= 0);
    assert_int_equal(
        bind(fd, (const struct sockaddr *)(const void *)&at, sizeof(at)), 0);
    return fd;
}

static int set_up(void **state)
{
    static struct fixture fixture;
    struct fixture *f = &fixture;
    struct err err;

    *f = (struct fixture){.packet = -1};
    make_interface();
    if (net_tap_open(&f->tap, NAME, &err) < 0)
        fail_msg("%s", err.text);
    f->packet = open_packet();
    set_up_interface(f->packet, true, 1500);
    await_running(f->packet);
    net_guest_init(&f->g, &f->tap.backend, NULL, true);
    memset(f->frame, 0xff, 6);
    f->frame[12] = ETHERTYPE >> 8;
    f->frame[13] = ETHERTYPE & 0xff;
    for (size_t i = 14; i < sizeof(f->frame); i++)
        f->frame[i] = (uint8_t)(i * 7 + (i >> 8));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    net_guest_fini(&f->g);
    net_tap_fini(&f->tap);
    fd_closep(&f->packet);
    if (if_nametoindex(NAME) != 0)
        remove_interface();
    return 0;
}

static void start(struct fixture *f, uint64_t features)
{
    net_guest_start(&f->g, features);
    net_guest_post(&f->g, 60, 1600);
    net_guest_kick(&f->g, NET_QUEUE_RX);
}

/* The next frame with our ethertype; there may be others of the kernel's. */
static int64_t guest_receive(struct fixture *f)
{
    struct net_header header;
    unsigned int buffers;

    for (unsigned int rounds = 0; rounds < 1000; rounds++) {
        int64_t n = net_guest_receive(&f->g, &header, f->got, &buffers);

        if (n >= 0 && memcmp(f->got + 12, f->frame + 12, 2) == 0)
            return n;
        if (n < 0)
            assert_true(loop_run_once(&f->g.loop, 10) >= 0);
    }
    return -1;
}

static void test_frames_both_ways(void **state)
{
    struct fixture *f = *state;
    static const struct net_header none;
    static const uint32_t lens[] = {60, 1000, 1514};

    start(f, NET_F_MRG_RXBUF);
    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        assert_true(net_guest_send(&f->g, &none, f->frame, lens[i], 12));
        net_guest_kick(&f->g, NET_QUEUE_TX);
        assert_int_equal(host_receive(f), lens[i]);
        assert_memory_equal(f->got, f->frame, lens[i]);
        assert_int_equal(
            send(f->packet, f->frame, lens[i], 0), (ssize_t)lens[i]);
        assert_int_equal(guest_receive(f), lens[i]);
        assert_memory_equal(f->got, f->frame, lens[i]);
    }
    assert_int_equal(f->g.net.stats.rx_copied, 0);
}

static void test_offloads(void **state)
{
    struct fixture *f = *state;
    const uint64_t least = NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_HOST_TSO4 |
                           NET_F_GUEST_TSO4 | NET_F_HOST_TSO6 |
                           NET_F_GUEST_TSO6;

    assert_true(f->tap.backend.has_header);
    assert_int_equal(f->tap.backend.offloads & least, least);
    start(f, NET_F_MRG_RXBUF);
    assert_int_equal(f->tap.backend.frame_max, 1518);
    start(f, NET_F_MRG_RXBUF | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4);
    assert_int_equal(f->tap.backend.frame_max, NET_FRAME_MAX);
}

/* The kernel reads the same header that the device writes. */
static void test_checksum_offload(void **state)
{
    struct fixture *f = *state;
    struct net_header header = {.flags = NET_HDR_F_NEEDS_CSUM,
        .csum_start = le16_put(34),
        .csum_offset = le16_put(2)};

    start(f, NET_F_MRG_RXBUF | NET_F_CSUM);
    assert_true(net_guest_send(&f->g, &header, f->frame, 100, 0));
    net_guest_kick(&f->g, NET_QUEUE_TX);
    assert_int_equal(host_receive(f), 100);
    assert_int_equal(f->g.net.stats.tx_frames, 1);
    assert_int_equal(f->g.net.stats.tx_dropped, 0);
    /* And refuses what it finds wrong, which costs one frame. */
    header.csum_start = le16_put(98);
    assert_true(net_guest_send(&f->g, &header, f->frame, 80, 0));
    header.csum_start = le16_put(14);
    assert_true(net_guest_send(&f->g, &header, f->frame, 100, 0));
    net_guest_kick(&f->g, NET_QUEUE_TX);
    assert_int_equal(f->g.net.stats.tx_malformed, 1);
    assert_int_equal(net_guest_reap(&f->g), 3);
}

static void test_large_mtu(void **state)
{
    struct fixture *f = *state;

    net_guest_fini(&f->g);
    net_tap_fini(&f->tap);
    set_up_interface(f->packet, true, 9000);
    assert_int_equal(net_tap_open(&f->tap, NAME, NULL), 0);
    await_running(f->packet);
    net_guest_init(&f->g, &f->tap.backend, NULL, true);
    start(f, NET_F_MRG_RXBUF);
    assert_int_equal(f->tap.backend.frame_max, 9018);
    assert_int_equal(send(f->packet, f->frame, 9014, 0), 9014);
    assert_int_equal(guest_receive(f), 9014);
    assert_memory_equal(f->got, f->frame, 9014);
}

/* While the interface is down frames are lost, and it is no end. */
static void test_interface_down(void **state)
{
    struct fixture *f = *state;
    static const struct net_header none;

    start(f, NET_F_MRG_RXBUF);
    set_up_interface(f->packet, false, 1500);
    assert_true(net_guest_send(&f->g, &none, f->frame, 100, 0));
    net_guest_kick(&f->g, NET_QUEUE_TX);
    assert_int_equal(net_guest_reap(&f->g), 1);
    assert_int_equal(f->g.net.stats.tx_dropped, 1);
    set_up_interface(f->packet, true, 1500);
    await_running(f->packet);
    assert_int_equal(f->g.gone, 0);
    assert_int_equal(send(f->packet, f->frame, 100, 0), 100);
    assert_int_equal(guest_receive(f), 100);
}

static void test_interface_removed(void **state)
{
    struct fixture *f = *state;

    start(f, NET_F_MRG_RXBUF);
    assert_int_equal(system("ip link delete " NAME), 0);
    net_guest_run(&f->g, 8);
    assert_int_equal(f->g.gone, 1);
    assert_int_equal(f->g.net.watched, 0);
    assert_int_equal(f->g.net.state.link_up, 0);
}

static void test_busy(void **state)
{
    struct net_tap other;
    struct err err;

    (void)state;
    assert_int_equal(net_tap_open(&other, NAME, &err), -EBUSY);
    assert_non_null(strstr(err.text, "in use"));
    net_tap_fini(&other);
}

static void test_bad_names(void **state)
{
    struct net_tap tap;
    struct err err;

    (void)state;
    assert_int_equal(net_tap_open(&tap, "spore9", &err), -ENODEV);
    assert_non_null(strstr(err.text, "ip tuntap add spore9 mode tap"));
    assert_int_equal(if_nametoindex("spore9"), 0);
    assert_int_equal(net_tap_open(&tap, "", &err), -EINVAL);
    assert_int_equal(
        net_tap_open(&tap, "a-name-that-is-too-long", &err), -EINVAL);
    /* Loopback is there, and no tap. */
    assert_int_equal(net_tap_open(&tap, "lo", &err), -EINVAL);
    assert_non_null(strstr(err.text, "no tap interface"));
}

static void test_no_permission(void **state)
{
    struct net_tap tap;
    struct err err;
    int rc;

    (void)state;
    assert_int_equal(seteuid(65534), 0);
    rc = net_tap_open(&tap, NAME, &err);
    assert_int_equal(seteuid(0), 0);
    /* Of the device node or of the interface. */
    assert_true(rc == -EPERM || rc == -EACCES);
    assert_non_null(strstr(err.text, "user"));
}

static void test_inherited(void **state)
{
    struct net_tap tap;
    struct err err;
    int fd = attach("spore1", IFF_TAP | IFF_NO_PI);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(net_tap_init(&tap, fd, &err), 0);
    assert_false(tap.backend.has_header);
    assert_int_equal(tap.backend.offloads, 0);
    assert_string_equal(tap.name, "spore1");
    net_tap_fini(&tap);
    fd = attach("spore1", IFF_TUN | IFF_NO_PI);
    assert_int_equal(net_tap_init(&tap, fd, &err), -EINVAL);
    fd_closep(&fd);
    fd = fd_eventfd();
    assert_true(net_tap_init(&tap, fd, &err) < 0);
    assert_non_null(strstr(err.text, "not attached"));
    fd_closep(&fd);
}

/* Whether all that the tests need is here; else the reason is printed. */
static bool can_run(void)
{
    int fd;

    if (unshare(CLONE_NEWNET) < 0) {
        (void)printf("skipped: no network namespace: %s\n", strerror(errno));
        return false;
    }
    fd = attach("spore1", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    if (fd < 0) {
        (void)printf("skipped: no tap interface: %s\n", strerror(errno));
        return false;
    }
    fd_closep(&fd);
    return true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_frames_both_ways, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_offloads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_checksum_offload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_mtu, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interface_down, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_interface_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_busy, set_up, tear_down),
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test_setup_teardown(test_no_permission, set_up, tear_down),
        cmocka_unit_test(test_inherited),
    };

    if (!can_run())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
