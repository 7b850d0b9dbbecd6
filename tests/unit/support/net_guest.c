/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/support/net_guest.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define RAM      (16 * NUM_MIB)
#define RX_RINGS UINT64_C(0x10000)
#define TX_RINGS UINT64_C(0x20000)
#define TX_DATA  UINT64_C(0x100000)
#define RX_DATA  UINT64_C(0x800000)

/* Of a tx frame with its header; two descriptors each. */
#define TX_BYTES 131072u
#define TX_SLOTS (NET_GUEST_SIZE / 2u)

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void count_gone(void *opaque, int code)
{
    struct net_guest *g = opaque;

    require(code < 0);
    g->gone++;
}

void net_guest_init(struct net_guest *g, struct net_backend *backend,
    const struct net_config *config, bool with_loop)
{
    struct net_config c = {0};
    struct virtio_host host = {.mem = &g->mem};

    *g = (struct net_guest){.has_loop = with_loop};
    require(gmem_init(&g->mem, RAM, NULL) == 0);
    g->irq = fd_eventfd();
    require(g->irq >= 0);
    if (with_loop) {
        require(loop_init(&g->loop, NULL) == 0);
        host.loop = &g->loop;
    }
    host.irq.fd = g->irq;
    if (config != NULL)
        c = *config;
    c.id = "eth0";
    c.backend = backend;
    c.queue_size = NET_GUEST_SIZE;
    c.on_gone = count_gone;
    c.opaque = g;
    require(net_init(&g->net, &c, &host, NULL) == 0);
    g->dev = &g->net.virtio.base;
}

void net_guest_fini(struct net_guest *g)
{
    device_lock(g->dev);
    g->dev->ops->reset(g->dev);
    device_unlock(g->dev);
    net_fini(&g->net);
    if (g->has_loop)
        loop_fini(&g->loop);
    fd_closep(&g->irq);
    gmem_fini(&g->mem);
}

void net_guest_start(struct net_guest *g, uint64_t features)
{
    /* Before the rings go: they are the device's until it is reset. */
    drive_write(g->dev, VIRTIO_MMIO_STATUS, 0);
    drive_queue_init(&g->q[NET_QUEUE_RX], &g->mem, RX_RINGS, NET_GUEST_SIZE);
    drive_queue_init(&g->q[NET_QUEUE_TX], &g->mem, TX_RINGS, NET_GUEST_SIZE);
    g->tx_free = TX_SLOTS;
    drive_start(g->dev, features | VIRTIO_F_VERSION_1, g->q, NET_QUEUES);
}

static uint64_t rx_address(uint32_t head)
{
    return RX_DATA + (uint64_t)head * NET_GUEST_RX_BYTES;
}

void net_guest_post(struct net_guest *g, unsigned int count, uint32_t len)
{
    struct drive_queue *d = &g->q[NET_QUEUE_RX];

    require(len <= NET_GUEST_RX_BYTES);
    for (unsigned int i = 0; i < count; i++) {
        const struct drive_buffer buf = {rx_address(d->next_desc), len, true};

        (void)drive_add(d, &buf, 1);
    }
}

bool net_guest_send(struct net_guest *g, const struct net_header *header,
    const void *frame, uint32_t len, uint32_t cut)
{
    struct drive_queue *d = &g->q[NET_QUEUE_TX];
    uint64_t at = TX_DATA + (uint64_t)(d->next_desc / 2u) * TX_BYTES;
    uint32_t total = (uint32_t)sizeof(*header) + len;
    struct drive_buffer bufs[2];

    if (g->tx_free == 0)
        return false;
    g->tx_free--;
    if (cut == 0 || cut > total)
        cut = total;
    require(gmem_write(&g->mem, gpa(at), header, sizeof(*header)) == 0);
    require(gmem_write(&g->mem, gpa(at + sizeof(*header)), frame, len) == 0);
    bufs[0] = (struct drive_buffer){at, cut, false};
    /* An empty one is passed over, but keeps slots and descriptors in step. */
    bufs[1] = (struct drive_buffer){at + cut, total - cut, false};
    (void)drive_add(d, bufs, 2);
    return true;
}

unsigned int net_guest_reap(struct net_guest *g)
{
    unsigned int n = 0;
    uint32_t id;
    uint32_t len;

    while (drive_get_used(&g->q[NET_QUEUE_TX], &id, &len)) {
        require(len == 0);
        n++;
    }
    g->tx_free += n;
    require(g->tx_free <= TX_SLOTS);
    return n;
}

int64_t net_guest_receive(struct net_guest *g, struct net_header *ret_header,
    uint8_t *buf, unsigned int *ret_buffers)
{
    struct drive_queue *d = &g->q[NET_QUEUE_RX];
    uint32_t id;
    uint32_t len;
    uint32_t have;
    unsigned int count;

    if (!drive_get_used(d, &id, &len))
        return -1;
    require(len >= sizeof(*ret_header));
    require(gmem_read(&g->mem, gpa(rx_address(id)), ret_header,
                sizeof(*ret_header)) == 0);
    have = len - (uint32_t)sizeof(*ret_header);
    require(have <= NET_FRAME_MAX);
    require(gmem_read(&g->mem, gpa(rx_address(id) + sizeof(*ret_header)), buf,
                have) == 0);
    count = le16_get(ret_header->num_buffers);
    require(count >= 1 && count <= NET_GUEST_SIZE);
    for (unsigned int i = 1; i < count; i++) {
        /* 5.1.6.4: all of them are there at once. */
        require(drive_get_used(d, &id, &len));
        require(len > 0 && len <= NET_FRAME_MAX - have);
        require(gmem_read(&g->mem, gpa(rx_address(id)), buf + have, len) == 0);
        have += len;
    }
    *ret_buffers = count;
    return have;
}

void net_guest_run(struct net_guest *g, unsigned int rounds)
{
    for (unsigned int i = 0; i < rounds && g->has_loop; i++)
        require(loop_run_once(&g->loop, 0) >= 0);
}

void net_guest_kick(struct net_guest *g, uint32_t queue)
{
    drive_kick(g->dev, queue);
    net_guest_run(g, 3);
}
