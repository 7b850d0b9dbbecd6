/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream through the socket device, driven by its queues in this process,
 * to a Unix socket beside writing to and reading from such a socket directly,
 * with the same sizes. The difference is what the device model costs, without
 * any guest. What happens at the socket's other end is not timed.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/ring.h"
#include "bench/stats.h"
#include "virtio/spec.h"
#include "virtio/vsock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define QUEUE     ((uint16_t)128)
#define ROUNDS    40u
#define RAM       (16 * NUM_MIB)
#define RINGS     UINT64_C(0x10000)
#define TX_HEADER UINT64_C(0x100000)
#define TX_DATA   UINT64_C(0x200000)
#define RX_DATA   UINT64_C(0x600000)
#define RX_BYTES  4096u /* of a buffer, header and all: as Linux has it */
#define SLOTS     32u   /* of packets to be sent; two descriptors each */
#define SLOT      65536u
#define CID       3u
#define CONNS_MAX 64u
#define PORT      1000u
#define GUEST_BUF (256u * 1024u) /* as Linux has it */

struct kind {
    const char *name;
    bool is_rx; /* to the guest */
    uint32_t bytes;
    uint32_t conns;
    unsigned int batch;
    unsigned int packets; /* of a round */
};

static const struct kind kinds[] = {
    {"tx_64", false, 64, 1, 32, 6400},
    {"tx_4096", false, 4096, 1, 8, 6400},
    {"tx_65536", false, 65536, 1, 1, 800},
    {"rx_64", true, 64, 1, 1, 3200},
    {"rx_4052", true, 4052, 1, 8, 6400},
    {"rx_65536", true, 65536, 1, 1, 800},
    {"tx_4096_64_connections", false, 4096, 64, 32, 6400},
    {"rx_4052_64_connections", true, 4052, 64, 32, 6400},
};

struct conn {
    int fd;   /* the device's end, which the plain loop uses too */
    int peer; /* the host's */
    uint32_t sent;
    uint32_t forwarded; /* of these, by the host */
    uint32_t room;
    uint32_t received;
    bool is_open;
};

struct rig {
    const struct kind *kind;
    struct gmem mem;
    struct loop loop;
    struct vsock vsock;
    struct ring rings[VSOCK_QUEUES];
    int irq;
    struct conn conns[CONNS_MAX];
    uint32_t accepted;
    uint32_t next;    /* connection to be used */
    uint32_t tx_slot; /* to be filled */
    uint32_t tx_busy;
    uint64_t arrived; /* bytes from the host */
    uint8_t buf[SLOT * 4];
};

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "bench_vsock: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int accept_guest(void *opaque, uint32_t guest_port, uint32_t host_port)
{
    struct rig *g = opaque;

    (void)host_port;
    must(guest_port == g->accepted, "order of connections");
    return g->conns[g->accepted++].fd;
}

/* A packet for the device; `bytes` of payload lie in its slot already. */
static void put_packet(
    struct rig *g, uint32_t conn, enum vsock_op op, uint32_t bytes)
{
    struct ring *tx = &g->rings[VSOCK_QUEUE_TX];
    uint32_t slot = g->tx_slot++ % SLOTS;
    uint16_t head = (uint16_t)(2 * slot);
    uint64_t at = TX_HEADER + slot * sizeof(struct vsock_header);
    const struct vsock_header h = {.src_cid = le64_put(CID),
        .dst_cid = le64_put(VSOCK_CID_HOST),
        .src_port = le32_put(conn),
        .dst_port = le32_put(PORT),
        .len = le32_put(bytes),
        .type = le16_put(VSOCK_TYPE_STREAM),
        .op = le16_put((uint16_t)op),
        .buf_alloc = le32_put(GUEST_BUF),
        .fwd_cnt = le32_put(g->conns[conn].received)};

    must(g->tx_busy < SLOTS, "too many packets");
    must(gmem_write(&g->mem, gpa(at), &h, sizeof(h)) == 0, "packet");
    ring_set_desc(tx, head, at, sizeof(h), bytes > 0 ? VIRTQ_DESC_F_NEXT : 0,
        (uint16_t)(head + 1));
    if (bytes > 0)
        ring_set_desc(tx, (uint16_t)(head + 1), TX_DATA + (uint64_t)slot * SLOT,
            bytes, 0, 0);
    ring_put(tx, head);
    g->tx_busy++;
    g->conns[conn].sent += bytes;
}

/* What the device has for the guest; buffers go back at once. */
static void take_packets(struct rig *g)
{
    struct ring *rx = &g->rings[VSOCK_QUEUE_RX];
    uint32_t id;
    uint32_t len;

    while (ring_next(&g->rings[VSOCK_QUEUE_TX], &id, &len))
        g->tx_busy--;
    while (ring_next(rx, &id, &len)) {
        struct vsock_header h;
        struct conn *conn;

        must(gmem_read(&g->mem, gpa(RX_DATA + (uint64_t)id * RX_BYTES), &h,
                 sizeof(h)) == 0 &&
                 le32_get(h.dst_port) < CONNS_MAX,
            "packet");
        conn = &g->conns[le32_get(h.dst_port)];
        must(le16_get(h.op) != VSOCK_OP_RST &&
                 le16_get(h.op) != VSOCK_OP_SHUTDOWN,
            "the connection was lost");
        conn->is_open = true;
        conn->room = le32_get(h.buf_alloc);
        conn->forwarded = le32_get(h.fwd_cnt);
        conn->received += le32_get(h.len);
        g->arrived += le32_get(h.len);
        ring_put(rx, (uint16_t)id);
    }
    ring_publish(rx);
}

static void turn(struct rig *g)
{
    must(loop_run_once(&g->loop, -1) == 0, "loop");
    take_packets(g);
}

static void finish_tx(struct rig *g)
{
    struct ring *tx = &g->rings[VSOCK_QUEUE_TX];

    ring_want_interrupt(tx, (uint16_t)g->tx_busy);
    ring_publish(tx);
    while (g->tx_busy > 0)
        turn(g);
}

static void open_connections(struct rig *g)
{
    for (uint32_t i = 0; i < g->kind->conns; i++) {
        int fds[2];

        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                 fds) == 0,
            "sockets");
        g->conns[i] = (struct conn){.fd = fds[0], .peer = fds[1]};
        put_packet(g, i, VSOCK_OP_REQUEST, 0);
        finish_tx(g);
        while (!g->conns[i].is_open)
            turn(g);
    }
}

static void set_up(struct rig *g, const struct kind *kind)
{
    const struct vsock_config config = {.id = "vsock", .guest_cid = CID};
    struct virtio_host host = {.mem = &g->mem, .loop = &g->loop};
    static const uint16_t sizes[VSOCK_QUEUES] = {
        QUEUE, QUEUE, VSOCK_EVENT_QUEUE_SIZE};
    struct ring *rx = &g->rings[VSOCK_QUEUE_RX];
    struct err err;

    *g = (struct rig){.kind = kind, .irq = fd_eventfd()};
    host.irq.fd = g->irq;
    must(loop_init(&g->loop, &err) == 0, "loop");
    must(gmem_init(&g->mem, RAM, &err) == 0, "memory");
    if (vsock_init(&g->vsock, &config, &host, &err) < 0)
        must(false, err.text);
    vsock_set_accept(&g->vsock, VSOCK_ACCEPT_MONITOR, accept_guest, g);
    for (uint32_t i = 0; i < VSOCK_QUEUES; i++)
        ring_init(&g->rings[i], &g->mem, &g->vsock.virtio.base, i,
            RINGS + i * RING_BYTES, sizes[i]);
    ring_start(&g->vsock.virtio.base, 0, g->rings, VSOCK_QUEUES);
    for (uint16_t i = 0; i < QUEUE; i++) {
        ring_set_desc(rx, i, RX_DATA + (uint64_t)i * RX_BYTES, RX_BYTES,
            VIRTQ_DESC_F_WRITE, 0);
        ring_put(rx, i);
    }
    ring_publish(rx);
    /* Touched, as a guest's memory is that has been used. */
    for (uint32_t i = 0; i < SLOTS; i++)
        must(gmem_write(
                 &g->mem, gpa(TX_DATA + (uint64_t)i * SLOT), g->buf, SLOT) == 0,
            "memory");
    open_connections(g);
}

static void tear_down(struct rig *g)
{
    struct device *dev = &g->vsock.virtio.base;

    for (uint32_t i = 0; i < g->kind->conns; i++)
        fd_closep(&g->conns[i].peer);
    device_lock(dev);
    dev->ops->reset(dev);
    device_unlock(dev);
    vsock_fini(&g->vsock);
    loop_fini(&g->loop);
    fd_closep(&g->irq);
    gmem_fini(&g->mem);
}

static uint32_t conn_at(const struct rig *g, unsigned int i)
{
    return (g->next + i) % g->kind->conns;
}

/* The host's ends: one message for each of a batch, or reading them empty. */
static void feed(struct rig *g)
{
    for (unsigned int i = 0; i < g->kind->batch; i++)
        must(write(g->conns[conn_at(g, i)].peer, g->buf, g->kind->bytes) ==
                 (ssize_t)g->kind->bytes,
            "feed");
}

static void swallow(struct rig *g)
{
    for (unsigned int i = 0; i < g->kind->batch; i++) {
        while (read(g->conns[conn_at(g, i)].peer, g->buf, sizeof(g->buf)) > 0)
            ;
        must(errno == EAGAIN, "swallow");
    }
}

static void *guest_memory(struct rig *g, uint64_t at, uint64_t len)
{
    struct gslice slice;

    must(gmem_slice(&g->mem, gpa(at), len, &slice) == 0, "memory");
    return gslice_iovec(&slice).iov_base;
}

static void plain_send(struct rig *g)
{
    for (unsigned int i = 0; i < g->kind->batch; i++) {
        uint32_t slot = g->tx_slot++ % SLOTS;

        must(write(g->conns[conn_at(g, i)].fd,
                 guest_memory(g, TX_DATA + (uint64_t)slot * SLOT, SLOT),
                 g->kind->bytes) == (ssize_t)g->kind->bytes,
            "plain write");
    }
}

/* Into the memory that the device's buffers are in. */
static void plain_receive(struct rig *g)
{
    for (unsigned int i = 0; i < g->kind->batch; i++) {
        uint32_t slot = g->tx_slot++ % 7;
        size_t left = g->kind->bytes;

        while (left > 0) {
            ssize_t n = read(g->conns[conn_at(g, i)].fd,
                guest_memory(g, RX_DATA + (uint64_t)slot * SLOT, SLOT), left);

            must(n > 0, "plain read");
            left -= (size_t)n;
        }
    }
}

static void device_send(struct rig *g)
{
    for (unsigned int i = 0; i < g->kind->batch; i++) {
        uint32_t c = conn_at(g, i);
        struct conn *conn = &g->conns[c];

        /* Rarely: the device tells of room in time. */
        while (conn->sent - conn->forwarded + g->kind->bytes > conn->room) {
            if (g->tx_busy == 0)
                put_packet(g, c, VSOCK_OP_CREDIT_REQUEST, 0);
            finish_tx(g);
            if (conn->sent - conn->forwarded + g->kind->bytes > conn->room)
                turn(g);
        }
        put_packet(g, c, VSOCK_OP_RW, g->kind->bytes);
    }
    finish_tx(g);
}

static void device_receive(struct rig *g)
{
    uint64_t want = g->arrived + (uint64_t)g->kind->batch * g->kind->bytes;

    ring_want_interrupt(&g->rings[VSOCK_QUEUE_RX], 1);
    while (g->arrived < want)
        turn(g);
    /* Linux tells when half of its buffer was used; this is as often. */
    for (unsigned int i = 0; i < g->kind->batch; i++) {
        uint32_t c = conn_at(g, i);
        struct conn *conn = &g->conns[c];

        if (conn->received - conn->sent < GUEST_BUF / 2)
            continue;
        put_packet(g, c, VSOCK_OP_CREDIT_UPDATE, 0);
        conn->sent = conn->received;
    }
    if (g->tx_busy > 0)
        finish_tx(g);
}

/* Nanoseconds of processor time for each packet. */
static double round_of(struct rig *g, bool is_device)
{
    const struct kind *k = g->kind;
    uint64_t spent = 0;

    for (unsigned int i = 0; i < k->packets; i += k->batch) {
        uint64_t started;

        if (k->is_rx)
            feed(g);
        started = stats_cpu_ns();
        if (k->is_rx && is_device)
            device_receive(g);
        else if (k->is_rx)
            plain_receive(g);
        else if (is_device)
            device_send(g);
        else
            plain_send(g);
        spent += stats_cpu_ns() - started;
        if (!k->is_rx)
            swallow(g);
        g->next = conn_at(g, k->batch);
    }
    return (double)spent / k->packets;
}

static void measure(struct rig *g, const struct kind *kind)
{
    struct stats plain = {0};
    struct stats device = {0};
    double a;
    double b;

    set_up(g, kind);
    (void)round_of(g, true);
    (void)round_of(g, false);
    for (unsigned int i = 0; i < ROUNDS; i++) {
        stats_add(&plain, round_of(g, false));
        stats_add(&device, round_of(g, true));
    }
    a = stats_quantile(&plain, 0.5);
    b = stats_quantile(&device, 0.5);
    (void)printf("{\"bench\": \"vsock\", \"case\": \"%s\", \"bytes\": %u, "
                 "\"connections\": %u, \"batch\": %u, \"packets\": %u, ",
        kind->name, kind->bytes, kind->conns, kind->batch, kind->packets);
    stats_print(&plain, "plain_cpu", "ns/message", stdout);
    (void)printf(", ");
    stats_print(&device, "virtio_vsock_cpu", "ns/message", stdout);
    (void)printf(", \"mb_per_cpu_s\": [%.0f, %.0f], \"us_per_mib\": [%.0f, "
                 "%.0f], \"ratio_p50\": %.3f, \"kicks\": %llu, "
                 "\"interrupts\": %llu, \"rx_packets\": %llu}\n",
        kind->bytes * 1e3 / a, kind->bytes * 1e3 / b,
        a / kind->bytes * 1048.576, b / kind->bytes * 1048.576, a / b,
        (unsigned long long)g->vsock.virtio.stats.kicks,
        (unsigned long long)g->vsock.virtio.stats.interrupts,
        (unsigned long long)g->vsock.stats.rx_packets);
    (void)fflush(stdout);
    stats_free(&plain);
    stats_free(&device);
    tear_down(g);
}

int main(int argc, char **argv)
{
    static struct rig rig;

    if (argc > 2) {
        (void)fputs("usage: bench_vsock [CASE]\n", stderr);
        return 2;
    }
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (argc == 1 || strcmp(argv[1], kinds[i].name) == 0)
            measure(&rig, &kinds[i]);
    }
    return 0;
}
