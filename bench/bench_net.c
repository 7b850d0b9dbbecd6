/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames through the network device, driven by its queues in this process,
 * beside a plain loop of system calls on the same tap or socket. The
 * difference is what the device model costs, without any guest.
 *
 * The tap is in a network namespace of its own, which takes root. What comes
 * out of it is thrown away by the kernel, what goes in is sent by a packet
 * socket; that and the reading of the socket's other end are not timed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/ring.h"
#include "bench/stats.h"
#include "virtio/net.h"
#include "virtio/net_stream.h"
#include "virtio/net_tap.h"
#include "virtio/spec.h"
#include "vmm/base/fd.h"

#define QUEUE    ((uint16_t)256)
#define ROUNDS   40u
#define RAM      (16 * NUM_MIB)
#define RX_RINGS UINT64_C(0x10000)
#define TX_RINGS UINT64_C(0x20000)
#define RX_DATA  UINT64_C(0x100000)
#define TX_DATA  UINT64_C(0x400000)
#define RX_BYTES 4096u  /* of a receive buffer, as a driver's page */
#define TX_SLOT  69632u /* bytes between frames to be sent */
#define TX_PIECE 4096u  /* of a descriptor */

#define PLAIN_FRAME 1514u
#define GSO_SIZE    1448u
#define GSO_HEADERS 54u
#define GSO_FRAME   (GSO_HEADERS + 45u * GSO_SIZE)

struct kind {
    const char *name;
    bool is_tap;
    bool is_rx;
    uint32_t frame; /* bytes */
    uint64_t features;
    unsigned int batch;  /* frames that are there at once */
    unsigned int frames; /* of a round */
};

#define TSO (NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_HOST_TSO4 | NET_F_GUEST_TSO4)

static const struct kind kinds[] = {
    {"tap_tx_1514", true, false, PLAIN_FRAME, 0, 64, 6400},
    {"tap_rx_1514", true, true, PLAIN_FRAME, 0, 64, 6400},
    {"tap_tx_1514_offloads", true, false, PLAIN_FRAME, TSO, 64, 6400},
    {"tap_rx_1514_offloads", true, true, PLAIN_FRAME, TSO, 64, 6400},
    {"tap_tx_1514_single", true, false, PLAIN_FRAME, 0, 1, 3200},
    {"tap_rx_1514_single", true, true, PLAIN_FRAME, 0, 1, 3200},
    {"tap_tx_gso", true, false, GSO_FRAME, TSO, 8, 800},
    {"tap_rx_gso", true, true, GSO_FRAME, TSO, 8, 800},
    {"stream_tx_1514", false, false, PLAIN_FRAME, 0, 32, 6400},
    {"stream_rx_1514", false, true, PLAIN_FRAME, 0, 32, 6400},
    {"stream_tx_65535", false, false, 65535, 0, 2, 800},
    {"stream_rx_65535", false, true, 65535, 0, 2, 800},
};

struct rig {
    const struct kind *kind;
    struct gmem mem;
    struct loop loop;
    struct net net;
    struct ring rings[NET_QUEUES];
    struct net_tap tap;
    struct net_stream stream;
    int fd;   /* the tap, or the device's end of the socket */
    int peer; /* what sends to the tap, or the socket's other end */
    int irq;
    uint64_t plain_at; /* where the plain loop reads to, from RX_DATA */
    struct net_header header;
    uint8_t frame[NET_FRAME_MAX];
    uint8_t buf[NET_STREAM_IN_BYTES];
};

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "bench_net: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void put16(uint8_t *p, unsigned int v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* A frame that nobody asks for; a segment to be cut where it is a GSO one. */
static void make_frame(struct rig *g)
{
    uint8_t *p = g->frame;
    uint32_t sum = 0;

    memset(p, 0, sizeof(g->frame));
    g->header = (struct net_header){0};
    p[0] = 2;
    p[5] = 1;
    p[6] = 2;
    p[11] = 2;
    put16(p + 12, 0x88b5);
    if (g->kind->frame != GSO_FRAME)
        return;
    put16(p + 12, ETH_P_IP);
    p[14] = 0x45;
    put16(p + 16, GSO_FRAME - 14);
    p[22] = 64;
    p[23] = IPPROTO_TCP;
    memcpy(p + 26, "\x0a\0\0\1\x0a\0\0\2", 8);
    for (unsigned int i = 14; i < 34; i += 2)
        sum += (uint32_t)p[i] << 8 | p[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    put16(p + 24, ~sum & 0xffff);
    p[46] = 0x50;
    p[47] = 0x10;
    g->header = (struct net_header){.flags = NET_HDR_F_NEEDS_CSUM,
        .gso_type = NET_HDR_GSO_TCPV4,
        .hdr_len = le16_put(GSO_HEADERS),
        .gso_size = le16_put(GSO_SIZE),
        .csum_start = le16_put(34),
        .csum_offset = le16_put(16)};
}

static void set_interface(const char *name)
{
    CC_CLEANUP(fd_closep) int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CC_CLEANUP(fd_closep)
    int v6 = open("/proc/sys/net/ipv6/conf/all/disable_ipv6", O_WRONLY);
    struct ifreq ifr = {0};

    /* Or it would send solicitations of its own. */
    if (v6 >= 0)
        must(write(v6, "1", 1) == 1, "disable_ipv6");
    (void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    ifr.ifr_flags = IFF_UP | IFF_NOARP;
    must(ioctl(fd, SIOCSIFFLAGS, &ifr) == 0, "interface up");
}

/* The sender into the tap; with headers of 10 bytes, as the kernel has them. */
static void open_packet_socket(struct rig *g, const char *name)
{
    struct sockaddr_ll addr = {
        .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name)};
    int one = 1;

    g->peer = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    must(g->peer >= 0, "packet socket");
    must(setsockopt(g->peer, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) ==
                 0 &&
             setsockopt(g->peer, SOL_PACKET, PACKET_QDISC_BYPASS, &one,
                 sizeof(one)) == 0 &&
             bind(g->peer, (const struct sockaddr *)(const void *)&addr,
                 sizeof(addr)) == 0,
        "packet socket");
}

static void open_backend(struct rig *g, struct net_backend **ret_backend)
{
    struct ifreq ifr = {
        .ifr_name = "bench0", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    struct err err;
    int fds[2];

    if (!g->kind->is_tap) {
        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0,
            "sockets");
        g->fd = fds[0];
        g->peer = fds[1];
        must(fd_set_nonblocking(g->peer, true) == 0, "sockets");
        if (net_stream_init(&g->stream, g->fd, &err) < 0)
            must(false, err.text);
        *ret_backend = &g->stream.backend;
        return;
    }
    g->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    must(g->fd >= 0 && ioctl(g->fd, TUNSETIFF, &ifr) == 0, "tap");
    set_interface(ifr.ifr_name);
    open_packet_socket(g, ifr.ifr_name);
    if (net_tap_init(&g->tap, g->fd, &err) < 0)
        must(false, err.text);
    *ret_backend = &g->tap.backend;
}

/* Frames to send lie in their places, one chain each; the rest is posted. */
static void lay_out(struct rig *g)
{
    struct ring *tx = &g->rings[NET_QUEUE_TX];
    struct ring *rx = &g->rings[NET_QUEUE_RX];
    uint32_t total = (uint32_t)sizeof(g->header) + g->kind->frame;
    uint16_t d = 0;

    for (unsigned int i = 0; i < g->kind->batch; i++) {
        uint64_t at = TX_DATA + (uint64_t)i * TX_SLOT;

        must(gmem_write(&g->mem, gpa(at), &g->header, sizeof(g->header)) == 0 &&
                 gmem_write(&g->mem, gpa(at + sizeof(g->header)), g->frame,
                     g->kind->frame) == 0,
            "frame");
        for (uint32_t done = 0; done < total; done += TX_PIECE) {
            bool is_last = total - done <= TX_PIECE;

            ring_set_desc(tx, d, at + done, is_last ? total - done : TX_PIECE,
                (uint16_t)(is_last ? 0 : VIRTQ_DESC_F_NEXT), (uint16_t)(d + 1));
            d++;
        }
    }
    for (uint16_t i = 0; i < QUEUE; i++) {
        ring_set_desc(rx, i, RX_DATA + (uint64_t)i * RX_BYTES, RX_BYTES,
            VIRTQ_DESC_F_WRITE, 0);
        ring_put(rx, i);
    }
    ring_publish(rx);
    while (loop_run_once(&g->loop, 0) == 0 && g->net.stats.rx_starved == 0 &&
           !g->net.rx_waits)
        ;
}

static void set_up(struct rig *g, const struct kind *kind)
{
    struct net_backend *backend;
    struct net_config config = {.id = "eth0", .queue_size = QUEUE};
    struct virtio_host host = {.mem = &g->mem, .loop = &g->loop};
    struct err err;

    *g = (struct rig){.kind = kind};
    make_frame(g);
    g->irq = fd_eventfd();
    host.irq.fd = g->irq;
    must(loop_init(&g->loop, &err) == 0, "loop");
    must(gmem_init(&g->mem, RAM, &err) == 0, "memory");
    open_backend(g, &backend);
    config.backend = backend;
    if (net_init(&g->net, &config, &host, &err) < 0)
        must(false, err.text);
    ring_init(&g->rings[NET_QUEUE_RX], &g->mem, &g->net.virtio.base,
        NET_QUEUE_RX, RX_RINGS, QUEUE);
    ring_init(&g->rings[NET_QUEUE_TX], &g->mem, &g->net.virtio.base,
        NET_QUEUE_TX, TX_RINGS, QUEUE);
    ring_start(&g->net.virtio.base, kind->features | NET_F_MRG_RXBUF, g->rings,
        NET_QUEUES);
    lay_out(g);
}

static void tear_down(struct rig *g)
{
    struct device *dev = &g->net.virtio.base;

    device_lock(dev);
    dev->ops->reset(dev);
    device_unlock(dev);
    net_fini(&g->net);
    net_tap_fini(&g->tap);
    net_stream_fini(&g->stream);
    fd_closep(&g->peer);
    fd_closep(&g->irq);
    loop_fini(&g->loop);
    gmem_fini(&g->mem);
}

/* `batch` frames from outside, for the device or the plain loop to read. */
static void feed(struct rig *g)
{
    uint8_t prefix[NET_STREAM_PREFIX] = {
        0, 0, (uint8_t)(g->kind->frame >> 8), (uint8_t)g->kind->frame};
    /* The packet socket's header has no num_buffers. */
    struct iovec iov[2] = {
        {prefix, sizeof(prefix)}, {g->frame, g->kind->frame}};

    if (g->kind->is_tap)
        iov[0] = (struct iovec){&g->header, sizeof(g->header) - 2};
    for (unsigned int i = 0; i < g->kind->batch; i++) {
        const struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
        ssize_t n = sendmsg(g->peer, &msg, 0);

        must(n == (ssize_t)(iov[0].iov_len + iov[1].iov_len), "feed");
    }
}

/* Empties the other end of the socket. */
static void swallow(struct rig *g)
{
    if (g->kind->is_tap)
        return;
    while (read(g->peer, g->buf, sizeof(g->buf)) > 0)
        ;
    must(errno == EAGAIN, "swallow");
}

/*
 * The plain loop works on the memory that the device works on, so that the
 * caches make no difference.
 */
static struct iovec guest_memory(struct rig *g, uint64_t at, uint64_t len)
{
    struct gslice slice;

    must(gmem_slice(&g->mem, gpa(at), len, &slice) == 0, "memory");
    return gslice_iovec(&slice);
}

static void plain_send(struct rig *g)
{
    uint8_t prefix[NET_STREAM_PREFIX] = {
        0, 0, (uint8_t)(g->kind->frame >> 8), (uint8_t)g->kind->frame};
    struct iovec iov[2] = {{prefix, sizeof(prefix)}};

    if (g->kind->is_tap)
        iov[0] = (struct iovec){&g->header, sizeof(g->header)};
    for (unsigned int i = 0; i < g->kind->batch; i++) {
        iov[1] =
            guest_memory(g, TX_DATA + (uint64_t)i * TX_SLOT + sizeof(g->header),
                g->kind->frame);
        must(
            writev(g->fd, iov, 2) == (ssize_t)(iov[0].iov_len + iov[1].iov_len),
            "plain write");
    }
}

static void plain_receive(struct rig *g)
{
    size_t each = g->kind->frame +
                  (g->kind->is_tap ? sizeof(g->header) : NET_STREAM_PREFIX);
    size_t want = each * g->kind->batch;

    while (want > 0) {
        uint64_t room = g->kind->is_tap ? num_align_up(each, RX_BYTES)
                                        : NET_STREAM_IN_BYTES;
        struct iovec iov;
        ssize_t n;

        if (g->plain_at + room > QUEUE * (uint64_t)RX_BYTES)
            g->plain_at = 0;
        iov = guest_memory(g, RX_DATA + g->plain_at, room);
        g->plain_at += room;
        n = read(g->fd, iov.iov_base, iov.iov_len);
        if (n < 0 && errno == EAGAIN)
            continue;
        must(n > 0 && (!g->kind->is_tap || (size_t)n == each), "plain read");
        want -= (size_t)n;
    }
}

static void device_send(struct rig *g)
{
    struct ring *tx = &g->rings[NET_QUEUE_TX];
    uint32_t total = (uint32_t)sizeof(g->header) + g->kind->frame;
    uint16_t descs = (uint16_t)((total + TX_PIECE - 1) / TX_PIECE);
    unsigned int done = 0;
    uint32_t id;
    uint32_t len;

    ring_want_interrupt(tx, (uint16_t)g->kind->batch);
    for (unsigned int i = 0; i < g->kind->batch; i++)
        ring_put(tx, (uint16_t)(i * descs));
    ring_publish(tx);
    while (done < g->kind->batch) {
        must(loop_run_once(&g->loop, -1) == 0, "loop");
        while (ring_next(tx, &id, &len))
            done++;
    }
}

static void device_receive(struct rig *g)
{
    struct ring *rx = &g->rings[NET_QUEUE_RX];
    unsigned int done = 0;
    uint32_t id;
    uint32_t len;

    ring_want_interrupt(rx, 1);
    while (done < g->kind->batch) {
        unsigned int buffers = 0;

        must(loop_run_once(&g->loop, -1) == 0, "loop");
        while (ring_next(rx, &id, &len)) {
            struct net_header h;

            if (buffers == 0) {
                must(gmem_read(&g->mem, gpa(RX_DATA + (uint64_t)id * RX_BYTES),
                         &h, sizeof(h)) == 0,
                    "header");
                buffers = le16_get(h.num_buffers);
                done++;
            }
            buffers--;
            ring_put(rx, (uint16_t)id);
        }
        must(buffers == 0, "part of a frame");
        ring_publish(rx);
    }
}

/* Nanoseconds of processor time for each frame. */
static double round_of(struct rig *g, bool is_device)
{
    uint64_t spent = 0;

    for (unsigned int i = 0; i < g->kind->frames; i += g->kind->batch) {
        uint64_t started;

        if (g->kind->is_rx)
            feed(g);
        started = stats_cpu_ns();
        if (g->kind->is_rx && is_device)
            device_receive(g);
        else if (g->kind->is_rx)
            plain_receive(g);
        else if (is_device)
            device_send(g);
        else
            plain_send(g);
        spent += stats_cpu_ns() - started;
        if (!g->kind->is_rx)
            swallow(g);
    }
    return (double)spent / g->kind->frames;
}

static void measure(struct rig *g, const struct kind *kind)
{
    struct stats plain = {0};
    struct stats device = {0};
    double a;
    double b;

    set_up(g, kind);
    (void)round_of(g, false);
    (void)round_of(g, true);
    for (unsigned int i = 0; i < ROUNDS; i++) {
        stats_add(&plain, round_of(g, false));
        stats_add(&device, round_of(g, true));
    }
    a = stats_quantile(&plain, 0.5);
    b = stats_quantile(&device, 0.5);
    (void)printf("{\"bench\": \"net\", \"case\": \"%s\", \"frame\": %u, "
                 "\"batch\": %u, \"frames\": %u, ",
        kind->name, kind->frame, kind->batch, kind->frames);
    stats_print(&plain, "plain_cpu", "ns/frame", stdout);
    (void)printf(", ");
    stats_print(&device, "virtio_net_cpu", "ns/frame", stdout);
    (void)printf(", \"frames_per_cpu_s\": [%.0f, %.0f], "
                 "\"mb_per_cpu_s\": [%.0f, %.0f], \"ratio_p50\": %.3f, "
                 "\"kicks\": %llu, \"interrupts\": %llu, \"copied\": %llu}\n",
        1e9 / a, 1e9 / b, kind->frame * 1e3 / a, kind->frame * 1e3 / b, a / b,
        (unsigned long long)g->net.virtio.stats.kicks,
        (unsigned long long)g->net.virtio.stats.interrupts,
        (unsigned long long)g->net.stats.rx_copied);
    (void)fflush(stdout);
    stats_free(&plain);
    stats_free(&device);
    tear_down(g);
}

int main(int argc, char **argv)
{
    static struct rig rig;
    bool has_tap = unshare(CLONE_NEWNET) == 0;

    if (argc > 2) {
        (void)fputs("usage: bench_net [CASE]\n", stderr);
        return 2;
    }
    if (!has_tap)
        (void)fprintf(stderr, "bench_net: no tap: %s\n", strerror(errno));
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (argc == 2 && strcmp(argv[1], kinds[i].name) != 0)
            continue;
        if (has_tap || !kinds[i].is_tap)
            measure(&rig, &kinds[i]);
    }
    return 0;
}
