/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device in front of a backend in memory, with frames both ways
 * that are mostly well formed, of any cut, and sometimes broken, gates that
 * open and close, and a backend that stalls, fails and goes away. What every
 * device must stand is played and checked by fuzz_guest; here, that the
 * backend never sees a header that the driver has no right to or a frame of a
 * length that it cannot have, and that no closed gate is passed.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/fuzz/support/fuzz_guest.h"
#include "tests/fuzz/support/fuzz_kernel.h"
#include "virtio/net.h"
#include "vmm/base/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BUFS 8u

struct gate {
    struct net_gate gate;
    bool closed;
};

struct rig {
    struct fuzz_guest guest;
    struct net net;
    struct net_backend backend;
    int fds[2]; /* with a loop: the backend's, and its other end */
    int send_result;
    int receive_result;
    int flush_result;
    uint32_t offer_len;
    uint32_t offers;
    bool hung_up; /* after which all calls say so */
    struct gate rx;
    struct gate tx;
    unsigned int goodbyes;
};

static bool is_open(struct net_gate *gate)
{
    return !container_of(gate, struct gate, gate)->closed;
}

static void charge(struct net_gate *gate, uint64_t bytes)
{
    fuzz_require(is_open(gate) && bytes > 0 && bytes <= NET_FRAME_MAX);
}

static void on_gone(void *opaque, int code)
{
    struct rig *g = opaque;

    fuzz_require(code < 0 && g->goodbyes++ == 0);
}

/* With a loop: the descriptor says what the backend would say. */
static void say_full(struct rig *g, bool full)
{
    static uint8_t filler[4096];

    if (g->backend.fd < 0)
        return;
    if (full) {
        while (send(g->fds[0], filler, sizeof(filler),
                   MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
            continue;
    } else {
        while (recv(g->fds[1], filler, sizeof(filler), MSG_DONTWAIT) > 0)
            continue;
    }
}

static void say_frames(struct rig *g, bool any)
{
    uint8_t byte = 0;

    if (g->backend.fd < 0)
        return;
    if (any)
        (void)send(g->fds[1], &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    else
        while (recv(g->fds[0], &byte, 1, MSG_DONTWAIT) > 0)
            continue;
}

static void check_header(
    const struct rig *g, const struct net_header *h, size_t len)
{
    uint64_t f = g->net.state.virtio.driver_features;
    uint32_t csum =
        (uint32_t)le16_get(h->csum_start) + le16_get(h->csum_offset) + 2u;

    fuzz_require((h->flags & ~NET_HDR_F_NEEDS_CSUM) == 0);
    fuzz_require(h->flags == 0 || ((f & NET_F_CSUM) != 0 && csum <= len));
    fuzz_require(h->gso_type == 0 || h->flags != 0);
    fuzz_require(h->gso_type == 0 || le16_get(h->gso_size) > 0);
    fuzz_require(
        (h->gso_type & NET_HDR_GSO_ECN) == 0 || (f & NET_F_HOST_ECN) != 0);
    fuzz_require(le16_get(h->hdr_len) <= len);
}

static int wire_send(
    struct net_backend *b, struct iovec *iov, unsigned int count, size_t len)
{
    struct rig *g = container_of(b, struct rig, backend);
    size_t header = b->has_header ? sizeof(struct net_header) : 0;
    size_t sum = 0;

    fuzz_require(!g->tx.closed && net_link_is_up(&g->net));
    fuzz_require(
        len >= NET_FRAME_MIN + header && len <= NET_FRAME_MAX + header);
    for (unsigned int i = 0; i < count; i++) {
        volatile uint8_t *p = iov[i].iov_base;

        fuzz_require(iov[i].iov_len > 0);
        (void)(p[0] + p[iov[i].iov_len - 1]);
        sum += iov[i].iov_len;
    }
    fuzz_require(sum == len);
    if (b->has_header) {
        struct net_header h;

        fuzz_require(iov[0].iov_len == sizeof(h));
        memcpy(&h, iov[0].iov_base, sizeof(h));
        check_header(g, &h, len - header);
    }
    if (g->hung_up)
        return -ENOTCONN;
    if (g->send_result == -EAGAIN)
        say_full(g, true);
    return g->send_result;
}

static ssize_t wire_receive(
    struct net_backend *b, struct iovec *iov, unsigned int count)
{
    struct rig *g = container_of(b, struct rig, backend);
    size_t left = g->offer_len;
    size_t room = 0;

    fuzz_require(!g->rx.closed && net_link_is_up(&g->net));
    for (unsigned int i = 0; i < count; i++)
        room += iov[i].iov_len;
    fuzz_require(room >= b->frame_max);
    if (g->hung_up)
        return -ENOTCONN;
    if (g->receive_result < 0 && g->receive_result != -EAGAIN)
        return g->receive_result;
    if (g->receive_result < 0 || g->offers == 0) {
        say_frames(g, false);
        return -EAGAIN;
    }
    g->offers--;
    for (unsigned int i = 0; i < count && left > 0; i++) {
        size_t n = (size_t)num_min(left, iov[i].iov_len);

        memset(iov[i].iov_base, 0x5a, n);
        left -= n;
    }
    /* It may be longer than frame_max says. */
    fuzz_require(left == 0 || g->offer_len > b->frame_max);
    return left == 0 ? (ssize_t)g->offer_len : -EMSGSIZE;
}

static int wire_flush(struct net_backend *b)
{
    struct rig *g = container_of(b, struct rig, backend);

    fuzz_require(b->holds_output);
    if (g->hung_up)
        return -ENOTCONN;
    if (g->flush_result == -EAGAIN)
        say_full(g, true);
    else
        b->holds_output = false;
    return g->flush_result;
}

static int wire_set_offloads(struct net_backend *b, uint64_t features)
{
    const struct rig *g = container_of(b, struct rig, backend);

    fuzz_require((features & ~NET_GUEST_OFFLOADS) == 0);
    b->frame_max = (features & NET_GUEST_GSO) != 0 ? NET_FRAME_MAX : 1518;
    return g->receive_result == -EIO ? -EIO : 0;
}

static const struct net_backend_ops wire_ops = {.send = wire_send,
    .receive = wire_receive,
    .flush = wire_flush,
    .set_offloads = wire_set_offloads};

static bool set_up(struct rig *g, const struct virtio_host *host, uint8_t wish)
{
    static const uint8_t mac[NET_MAC_BYTES] = {2, 0, 0, 0, 0, 1};
    bool has_header = (wish & 0x10) == 0;
    const struct net_config config = {.id = "eth0",
        .backend = &g->backend,
        .mac = (wish & 0x20) == 0 ? mac : NULL,
        .mtu = (wish & 0x40) == 0 ? 1500 : 0,
        .queue_size = FUZZ_QUEUE_SIZE,
        .rx_gate = (wish & 0x80) == 0 ? NULL : &g->rx.gate,
        .tx_gate = (wish & 0x80) == 0 ? NULL : &g->tx.gate,
        .on_gone = (wish & 0x08) == 0 ? on_gone : NULL,
        .opaque = g};

    g->send_result = 0;
    g->receive_result = 0;
    g->flush_result = 0;
    g->offers = 0;
    g->goodbyes = 0;
    g->hung_up = false;
    g->rx = (struct gate){.gate = {.is_open = is_open, .charge = charge}};
    g->tx = g->rx;
    g->fds[0] = -1;
    g->fds[1] = -1;
    if (host->loop != NULL)
        fuzz_kernel_pair(g->fds);
    g->backend = (struct net_backend){.ops = &wire_ops,
        .fd = g->fds[0],
        .offloads = has_header ? NET_HOST_OFFLOADS | NET_GUEST_OFFLOADS : 0,
        .frame_max = 1518,
        .has_header = has_header};
    return net_init(&g->net, &config, host, NULL) == 0;
}

/* A frame: its header, cut or not, and up to BUFS - 2 pieces. */
static void transmit(struct rig *g, struct bytes_reader *r)
{
    struct drive_buffer bufs[BUFS];
    struct net_header h = {0};
    uint8_t shape = bytes_get_u8(r);
    uint32_t slot = (shape & 3) * 12u;
    uint8_t cut = shape % 13;
    uint16_t n = 0;

    if ((shape & 0x80) != 0)
        bytes_get(r, &h, 10);
    fuzz_guest_put(&g->guest, slot, &h, sizeof(h));
    bufs[n++] = (struct drive_buffer){FUZZ_TEXT + slot, cut, false};
    bufs[n++] = (struct drive_buffer){FUZZ_TEXT + slot + cut, 12u - cut, false};
    for (uint8_t i = 0; i < (shape >> 4) % 7; i++)
        bufs[n++] = fuzz_guest_buffer(r, false, i < 5 ? 1600 : 70000);
    fuzz_guest_add(&g->guest, NET_QUEUE_TX, bufs, n, (shape & 4) != 0);
}

/* One to four rx buffers of one or two descriptors. */
static void post(struct rig *g, struct bytes_reader *r)
{
    uint8_t shape = bytes_get_u8(r);
    struct drive_buffer bufs[2];

    for (uint8_t i = 0; i <= (shape & 3); i++) {
        bufs[0] = fuzz_guest_buffer(
            r, shape < 0xfc, (shape & 0x80) != 0 ? 70000 : 1700);
        bufs[1] =
            (struct drive_buffer){FUZZ_WRITABLE + 0x60000, 20u + shape, true};
        fuzz_guest_add(&g->guest, NET_QUEUE_RX, bufs,
            (uint16_t)(1 + ((shape >> 2) & 1)), (shape & 8) != 0);
    }
}

static void ready(struct rig *g)
{
    device_lock(g->guest.dev);
    net_ready(&g->net);
    device_unlock(g->guest.dev);
}

static void offer(struct rig *g, struct bytes_reader *r)
{
    uint32_t len = bytes_get_u16(r);

    g->offers = 1 + len % 5;
    g->offer_len = 1 + ((len & 0x8000) != 0 ? len : len % 1700u);
    say_frames(g, true);
    if (g->backend.fd < 0)
        ready(g);
}

static void change_wire(struct rig *g, uint8_t what)
{
    static const int results[] = {0, 0, -EAGAIN, -EIO};

    g->send_result = results[what >> 6];
    g->receive_result = results[what >> 4 & 3];
    g->flush_result = results[what >> 2 & 3];
    if (what >> 3 == 0x1f)
        g->send_result = -ENOTCONN;
    if (what >> 3 == 0x1e)
        g->receive_result = -ENOTCONN;
    if (what >> 3 == 0x1d)
        g->flush_result = -ENOTCONN;
    say_full(g, false);
    if (g->backend.fd < 0)
        ready(g);
}

static void change_host(struct rig *g, uint8_t what)
{
    switch (what >> 3 & 7) {
    case 0:
    case 1:
        device_lock(g->guest.dev);
        net_set_link(&g->net, (what & 8) != 0);
        device_unlock(g->guest.dev);
        break;
    case 2:
        g->rx.closed = g->net.rx_gate != NULL && (what & 0x40) != 0;
        g->tx.closed = g->net.tx_gate != NULL && (what & 0x80) != 0;
        ready(g);
        break;
    case 3:
        g->backend.holds_output = g->backend.fd >= 0 && !g->net.gone;
        ready(g);
        break;
    case 4:
        /* The other end hangs up. */
        if (what == 0xe4 && g->backend.fd >= 0) {
            g->hung_up = true;
            (void)shutdown(g->fds[1], SHUT_RDWR);
        }
        break;
    default:
        ready(g);
        break;
    }
}

static void step(struct rig *g, struct bytes_reader *r)
{
    uint8_t what = bytes_get_u8(r);

    switch (what % 8) {
    case 0:
        transmit(g, r);
        break;
    case 1:
        post(g, r);
        break;
    case 2:
        fuzz_guest_kick(&g->guest, what >> 3 & 1);
        break;
    case 3:
        offer(g, r);
        break;
    case 4:
        change_host(g, what);
        break;
    case 5:
        change_wire(g, bytes_get_u8(r));
        break;
    default:
        fuzz_guest_step(&g->guest, r);
        break;
    }
    fuzz_guest_check(&g->guest, true);
    fuzz_require(g->net.stage.count == 0 && g->net.stage.room == 0 &&
                 g->net.stage.slots == 0);
    fuzz_require(g->goodbyes == 0 || g->net.gone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    struct rig *g = &rig;
    struct virtio_host host;
    struct bytes_reader r;
    uint64_t features;
    uint8_t wish;

    bytes_reader_init(&r, data, size);
    host = fuzz_guest_prepare(&g->guest, bytes_get_u8(&r));
    wish = bytes_get_u8(&r);
    features = NET_F_STATUS | bytes_get_u16(&r);
    if (set_up(g, &host, wish)) {
        fuzz_guest_start(&g->guest, &g->net.virtio, NET_QUEUES, wish, features);
        while (bytes_left(&r) > 0)
            step(g, &r);
        fuzz_guest_finish(&g->guest, data, size);
        net_fini(&g->net);
    }
    fd_closep(&g->fds[0]);
    fd_closep(&g->fds[1]);
    fuzz_guest_end(&g->guest);
    return 0;
}
