/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device in front of a backend in memory, with frames both ways
 * that are mostly well formed, of any cut, and sometimes broken, and a backend
 * that stalls, fails and goes away. The backend must never see a header that
 * the driver has no right to, or a frame of a length that it cannot have.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/net.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"
#include "vmm/base/num.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM      NUM_MIB
#define RX_RINGS UINT64_C(0x1000)
#define TX_RINGS UINT64_C(0x3000)
#define TABLE    UINT64_C(0x5000)
#define HEADER   UINT64_C(0x6000)
#define DATA     UINT64_C(0x10000)
#define SIZE     ((uint16_t)16)
#define BUFS     8u

struct wire {
    struct net_backend backend;
    const struct net *net;
    int send_result;
    int receive_result;
    uint32_t offer_len;
    uint32_t offers;
};

struct rig {
    struct gmem mem;
    struct wire wire;
    struct net net;
    struct device *dev;
    struct drive_queue q[NET_QUEUES];
};

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void check_header(
    const struct wire *w, const struct net_header *h, size_t len)
{
    uint64_t f = w->net->state.virtio.driver_features;
    uint32_t csum =
        (uint32_t)le16_get(h->csum_start) + le16_get(h->csum_offset) + 2u;

    require((h->flags & ~NET_HDR_F_NEEDS_CSUM) == 0);
    require(h->flags == 0 || ((f & NET_F_CSUM) != 0 && csum <= len));
    require(h->gso_type == 0 || h->flags != 0);
    require(h->gso_type == 0 || le16_get(h->gso_size) > 0);
    require((h->gso_type & NET_HDR_GSO_ECN) == 0 || (f & NET_F_HOST_ECN) != 0);
    require(le16_get(h->hdr_len) <= len);
}

static int wire_send(
    struct net_backend *b, struct iovec *iov, unsigned int count, size_t len)
{
    const struct wire *w = container_of(b, struct wire, backend);
    size_t header = b->has_header ? sizeof(struct net_header) : 0;
    size_t sum = 0;

    require(len >= NET_FRAME_MIN + header && len <= NET_FRAME_MAX + header);
    for (unsigned int i = 0; i < count; i++) {
        volatile uint8_t *p = iov[i].iov_base;

        require(iov[i].iov_len > 0);
        (void)(p[0] + p[iov[i].iov_len - 1]);
        sum += iov[i].iov_len;
    }
    require(sum == len);
    if (b->has_header) {
        struct net_header h;

        require(iov[0].iov_len == sizeof(h));
        memcpy(&h, iov[0].iov_base, sizeof(h));
        check_header(w, &h, len - header);
    }
    return w->send_result;
}

static ssize_t wire_receive(
    struct net_backend *b, struct iovec *iov, unsigned int count)
{
    struct wire *w = container_of(b, struct wire, backend);
    size_t left = w->offer_len;
    size_t room = 0;

    for (unsigned int i = 0; i < count; i++)
        room += iov[i].iov_len;
    require(room + sizeof(struct net_header) >= NET_BUFFER_BYTES);
    if (w->receive_result < 0)
        return w->receive_result;
    if (w->offers == 0)
        return -EAGAIN;
    w->offers--;
    for (unsigned int i = 0; i < count && left > 0; i++) {
        size_t n = (size_t)num_min(left, iov[i].iov_len);

        memset(iov[i].iov_base, 0x5a, n);
        left -= n;
    }
    require(left == 0);
    return (ssize_t)w->offer_len;
}

static int wire_set_offloads(struct net_backend *b, uint64_t features)
{
    require((features & ~NET_GUEST_OFFLOADS) == 0);
    b->frame_max = (features & NET_GUEST_GSO) != 0 ? NET_FRAME_MAX : 1518;
    return 0;
}

static const struct net_backend_ops wire_ops = {.send = wire_send,
    .receive = wire_receive,
    .set_offloads = wire_set_offloads};

static void set_up(struct rig *g, bool has_header)
{
    static const uint8_t mac[NET_MAC_BYTES] = {2, 0, 0, 0, 0, 1};
    const struct net_config config = {.id = "eth0",
        .backend = &g->wire.backend,
        .mac = mac,
        .mtu = 1500,
        .queue_size = SIZE};
    const struct virtio_host host = {.mem = &g->mem, .irq = {.fd = -1}};

    if (g->mem.host == NULL)
        require(gmem_init(&g->mem, RAM, NULL) == 0);
    g->wire = (struct wire){.net = &g->net,
        .backend = {.ops = &wire_ops,
            .fd = -1,
            .offloads = has_header ? NET_HOST_OFFLOADS | NET_GUEST_OFFLOADS : 0,
            .has_header = has_header}};
    require(net_init(&g->net, &config, &host, NULL) == 0);
    g->dev = &g->net.virtio.base;
}

static void begin(struct rig *g, uint64_t features)
{
    /* Before the rings go: they are the device's until it is reset. */
    drive_write(g->dev, VIRTIO_MMIO_STATUS, 0);
    drive_queue_init(&g->q[NET_QUEUE_RX], &g->mem, RX_RINGS, SIZE);
    drive_queue_init(&g->q[NET_QUEUE_TX], &g->mem, TX_RINGS, SIZE);
    drive_start(g->dev, features & g->net.virtio.features, g->q, NET_QUEUES);
}

/* A frame: its header, cut or not, and up to BUFS - 2 pieces. */
static void transmit(struct rig *g, struct bytes_reader *r)
{
    struct drive_buffer bufs[BUFS];
    struct net_header h = {0};
    uint8_t shape = bytes_get_u8(r);
    uint8_t cut = shape % 13;
    uint16_t n = 0;

    if ((shape & 0x80) != 0)
        bytes_get(r, &h, 10);
    require(gmem_write(&g->mem, gpa(HEADER), &h, sizeof(h)) == 0);
    bufs[n++] = (struct drive_buffer){HEADER, cut, false};
    bufs[n++] = (struct drive_buffer){HEADER + cut, 12u - cut, false};
    for (uint8_t i = 0; i < (shape >> 4) % 7; i++) {
        uint16_t len = bytes_get_u16(r);

        bufs[n++] = (struct drive_buffer){DATA + bytes_get_u8(r) * UINT64_C(64),
            (len & 0x8000) != 0 ? len : len % 1600u, len % 61 == 60};
    }
    if ((shape & 2) != 0)
        (void)drive_add_indirect(&g->q[NET_QUEUE_TX], TABLE, bufs, n);
    else
        (void)drive_add(&g->q[NET_QUEUE_TX], bufs, n);
}

/* One to four rx buffers of one or two descriptors. */
static void post(struct rig *g, struct bytes_reader *r)
{
    uint8_t shape = bytes_get_u8(r);
    uint32_t len = (shape & 0x80) != 0 ? (uint32_t)bytes_get_u16(r)
                                       : 12u + bytes_get_u8(r) * 7u;

    for (uint8_t i = 0; i <= (shape & 3); i++) {
        const struct drive_buffer bufs[2] = {
            {DATA + i * UINT64_C(0x10000), len, (shape & 0x40) == 0},
            {DATA + 0x80000, 20u + shape, true}};

        (void)drive_add(
            &g->q[NET_QUEUE_RX], bufs, (uint16_t)(1 + ((shape >> 2) & 1)));
    }
}

static void offer(struct rig *g, struct bytes_reader *r)
{
    struct wire *w = &g->wire;
    uint32_t len = bytes_get_u16(r);

    w->offers = 1 + len % 3;
    w->offer_len = 1 + ((len & 0x8000) != 0 ? len : len % 1700u);
    device_lock(g->dev);
    w->backend.ready(w->backend.opaque);
    device_unlock(g->dev);
}

static void poke(struct rig *g, struct bytes_reader *r)
{
    uint16_t at = bytes_get_u16(r) % 0x4000;
    uint8_t len = (uint8_t)(bytes_get_u8(r) % 17);
    uint8_t buf[16];

    bytes_get(r, buf, len);
    require(gmem_write(&g->mem, gpa(RX_RINGS + at), buf, len) == 0);
}

static void quiesce(struct rig *g)
{
    require(g->dev->ops->quiesce(g->dev, NULL) == 0);
    require(g->dev->ops->post_load(g->dev, NULL) == 0);
    g->dev->ops->resume(g->dev);
}

static void change_wire(struct rig *g, uint8_t what)
{
    static const int results[] = {0, 0, -EAGAIN, -EIO};

    g->wire.send_result = results[what >> 6];
    g->wire.receive_result = results[what >> 4 & 3];
    if (what >> 3 == 0x1f)
        g->wire.send_result = -ENOTCONN;
    if (what >> 3 == 0x1e)
        g->wire.receive_result = -ENOTCONN;
}

static void step(struct rig *g, struct bytes_reader *r, uint64_t features)
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
        drive_kick(g->dev, what >> 3 & 1);
        break;
    case 3:
        offer(g, r);
        break;
    case 4:
        poke(g, r);
        break;
    case 5:
        change_wire(g, what);
        break;
    case 6:
        if ((what & 0x80) != 0)
            quiesce(g);
        else
            (void)drive_read(g->dev, VIRTIO_MMIO_CONFIG + (what & 0x7cu));
        break;
    default:
        if ((what & 0x80) != 0) {
            begin(g, features);
        } else {
            device_lock(g->dev);
            net_set_link(&g->net, (what & 8) != 0);
            device_unlock(g->dev);
        }
        break;
    }
    require(g->net.stage.count == 0 && g->net.stage.room == 0 &&
            g->net.stage.slots == 0);
    require(g->net.virtio.queues[NET_QUEUE_RX].q.inflight == 0 &&
            g->net.virtio.queues[NET_QUEUE_TX].q.inflight == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    struct rig *g = &rig;
    struct bytes_reader r;
    uint64_t features;
    uint8_t wish;

    bytes_reader_init(&r, data, size);
    wish = bytes_get_u8(&r);
    features = VIRTIO_F_VERSION_1 | bytes_get_u16(&r);
    if ((wish & 1) != 0)
        features |= VIRTIO_F_INDIRECT_DESC;
    if ((wish & 2) != 0)
        features |= VIRTIO_F_EVENT_IDX;
    set_up(g, (wish & 4) == 0);
    begin(g, features);
    while (bytes_left(&r) > 0)
        step(g, &r, features);
    g->dev->ops->reset(g->dev);
    net_fini(&g->net);
    return 0;
}
