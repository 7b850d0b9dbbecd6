/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/support/vsock_guest.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "virtio/spec.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define RAM        (16 * NUM_MIB)
#define RINGS      UINT64_C(0x10000)
#define RING_PITCH UINT64_C(0x2000)
#define EVENTS     UINT64_C(0x20000)
#define RX         UINT64_C(0x100000)
#define RX_PITCH   NUM_PAGE_SIZE
#define TX         UINT64_C(0x200000)
#define TX_PITCH   UINT64_C(0x20000)
#define TX_SLOTS   16u
#define CUTS_MAX   100u

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void add_buffer(
    struct drive_queue *q, uint64_t base, uint64_t pitch, uint32_t len)
{
    const struct drive_buffer buf = {
        .addr = base + q->next_desc * pitch, .len = len, .writable = true};

    (void)drive_add(q, &buf, 1);
}

/* As a driver does it: only where the device asked for it (2.7.10, 2.7.13). */
static void kick(struct vsock_guest *g, unsigned int queue, uint16_t n)
{
    const struct drive_queue *q = &g->queues[queue];
    bool wanted = (drive_used_flags(q) & VIRTQ_USED_F_NO_NOTIFY) == 0;

    if ((g->features & VIRTIO_F_EVENT_IDX) != 0)
        wanted = (uint16_t)(q->avail_idx - drive_avail_event(q) - 1) < n;
    if (wanted)
        drive_kick(&g->vsock.virtio.base, queue);
}

void vsock_guest_add_rx(struct vsock_guest *g, uint16_t n)
{
    for (uint16_t i = 0; i < n; i++)
        add_buffer(&g->queues[VSOCK_QUEUE_RX], RX, RX_PITCH, g->rx_size);
}

void vsock_guest_post_rx(struct vsock_guest *g, uint16_t n)
{
    vsock_guest_add_rx(g, n);
    if (n > 0)
        kick(g, VSOCK_QUEUE_RX, n);
}

void vsock_guest_post_event(struct vsock_guest *g, uint16_t n)
{
    for (uint16_t i = 0; i < n; i++)
        add_buffer(&g->queues[VSOCK_QUEUE_EVENT], EVENTS, 64,
            sizeof(struct vsock_event));
    if (n > 0)
        kick(g, VSOCK_QUEUE_EVENT, n);
}

void vsock_guest_drive(struct vsock_guest *g)
{
    static const uint16_t sizes[VSOCK_QUEUES] = {
        VSOCK_GUEST_SIZE, VSOCK_GUEST_SIZE, VSOCK_EVENT_QUEUE_SIZE};

    for (unsigned int i = 0; i < VSOCK_QUEUES; i++)
        drive_queue_init(
            &g->queues[i], &g->mem, RINGS + i * RING_PITCH, sizes[i]);
    drive_start(&g->vsock.virtio.base, g->features, g->queues, VSOCK_QUEUES);
}

void vsock_guest_start(
    struct vsock_guest *g, const struct vsock_guest_config *config)
{
    struct virtio_host host = {.mem = &g->mem, .irq = {.fd = -1}};
    const struct vsock_config vsock = {.id = "vsock",
        .guest_cid = VSOCK_GUEST_CID,
        .connections_max = config->connections_max,
        .buf_alloc = config->buf_alloc};

    *g = (struct vsock_guest){.features = config->features == 0
                                              ? VIRTIO_F_VERSION_1
                                              : config->features,
        .rx_size = config->rx_size == 0 ? (uint32_t)RX_PITCH : config->rx_size,
        .has_loop = !config->without_loop};
    require(gmem_init(&g->mem, RAM, NULL) == 0);
    require(loop_init(&g->loop, NULL) == 0);
    host.loop = g->has_loop ? &g->loop : NULL;
    require(vsock_init(&g->vsock, &vsock, &host, NULL) == 0);
    vsock_guest_drive(g);
    vsock_guest_post_rx(g, config->rx_buffers);
    vsock_guest_post_event(g, config->event_buffers);
    (void)vsock_guest_run(g);
}

void vsock_guest_stop(struct vsock_guest *g)
{
    vsock_fini(&g->vsock);
    loop_fini(&g->loop);
    gmem_fini(&g->mem);
}

unsigned int vsock_guest_run(struct vsock_guest *g)
{
    struct pollfd due = {.fd = g->loop.epoll_fd, .events = POLLIN};
    unsigned int rounds = 0;

    while (poll(&due, 1, 0) == 1) {
        require(loop_run_once(&g->loop, 0) == 0);
        require(++rounds < VSOCK_GUEST_ROUNDS_MAX);
    }
    return rounds;
}

struct vsock_header vsock_guest_header(
    uint32_t guest_port, uint32_t host_port, enum vsock_op op)
{
    return (struct vsock_header){.src_cid = le64_put(VSOCK_GUEST_CID),
        .dst_cid = le64_put(VSOCK_CID_HOST),
        .src_port = le32_put(guest_port),
        .dst_port = le32_put(host_port),
        .type = le16_put(VSOCK_TYPE_STREAM),
        .op = le16_put((uint16_t)op)};
}

/* Bytes that lie at `at`, as descriptors. */
static void make_available(
    struct vsock_guest *g, uint64_t at, uint32_t len, uint32_t cut)
{
    struct drive_buffer bufs[CUTS_MAX];
    uint16_t n = 0;

    do {
        uint32_t here = (uint32_t)num_min(len, cut);

        require(n < CUTS_MAX);
        bufs[n++] = (struct drive_buffer){.addr = at, .len = here};
        at += here;
        len -= here;
    } while (len > 0);
    (void)drive_add(&g->queues[VSOCK_QUEUE_TX], bufs, n);
    kick(g, VSOCK_QUEUE_TX, 1);
}

static uint64_t next_slot(struct vsock_guest *g)
{
    return TX + TX_PITCH * (g->tx_slot++ % TX_SLOTS);
}

void vsock_guest_send_raw(
    struct vsock_guest *g, const void *bytes, uint32_t len, uint32_t cut)
{
    uint64_t at = next_slot(g);

    require(len <= TX_PITCH && gmem_write(&g->mem, gpa(at), bytes, len) == 0);
    make_available(g, at, len, cut == 0 ? (uint32_t)TX_PITCH : cut);
}

void vsock_guest_send(struct vsock_guest *g, const struct vsock_header *header,
    const void *data, uint32_t len, uint32_t cut)
{
    uint64_t at = next_slot(g);
    struct vsock_header h = *header;

    h.len = le32_put(len);
    require(sizeof(h) + len <= TX_PITCH);
    require(gmem_write(&g->mem, gpa(at), &h, sizeof(h)) == 0);
    if (len > 0)
        require(gmem_write(&g->mem, gpa(at + sizeof(h)), data, len) == 0);
    if (cut == 0)
        cut = len > sizeof(h) ? len : (uint32_t)sizeof(h);
    make_available(g, at, (uint32_t)sizeof(h) + len, cut);
}

unsigned int vsock_guest_sent(struct vsock_guest *g)
{
    unsigned int n = 0;
    uint32_t id;
    uint32_t len;

    while (drive_get_used(&g->queues[VSOCK_QUEUE_TX], &id, &len)) {
        require(len == 0);
        n++;
    }
    return n;
}

bool vsock_guest_receive(
    struct vsock_guest *g, bool again, struct vsock_guest_packet *ret_packet)
{
    struct vsock_header h;
    uint32_t id;
    uint32_t len;

    if (!drive_get_used(&g->queues[VSOCK_QUEUE_RX], &id, &len))
        return false;
    require(id < VSOCK_GUEST_SIZE && len >= sizeof(h) && len <= g->rx_size);
    require(gmem_read(&g->mem, gpa(RX + id * RX_PITCH), &h, sizeof(h)) == 0);
    *ret_packet = (struct vsock_guest_packet){.src_cid = le64_get(h.src_cid),
        .dst_cid = le64_get(h.dst_cid),
        .src_port = le32_get(h.src_port),
        .dst_port = le32_get(h.dst_port),
        .len = le32_get(h.len),
        .type = le16_get(h.type),
        .op = le16_get(h.op),
        .flags = le32_get(h.flags),
        .buf_alloc = le32_get(h.buf_alloc),
        .fwd_cnt = le32_get(h.fwd_cnt)};
    require(ret_packet->len == len - sizeof(h));
    require(gmem_read(&g->mem, gpa(RX + id * RX_PITCH + sizeof(h)),
                ret_packet->data, ret_packet->len) == 0);
    if (again)
        vsock_guest_post_rx(g, 1);
    return true;
}

bool vsock_guest_event(struct vsock_guest *g, bool again, uint32_t *ret_id)
{
    struct vsock_event event;
    uint32_t id;
    uint32_t len;

    if (!drive_get_used(&g->queues[VSOCK_QUEUE_EVENT], &id, &len))
        return false;
    require(id < VSOCK_EVENT_QUEUE_SIZE && len == sizeof(event));
    require(
        gmem_read(&g->mem, gpa(EVENTS + id * 64), &event, sizeof(event)) == 0);
    *ret_id = le32_get(event.id);
    if (again)
        vsock_guest_post_event(g, 1);
    return true;
}

struct vsock_guest_packet vsock_guest_expect(
    struct vsock_guest *g, enum vsock_op op, uint32_t guest_port)
{
    struct vsock_guest_packet p;

    require(vsock_guest_receive(g, true, &p));
    require(p.op == op && p.dst_port == guest_port);
    require(p.src_cid == VSOCK_CID_HOST && p.dst_cid == VSOCK_GUEST_CID &&
            p.type == VSOCK_TYPE_STREAM);
    return p;
}

void vsock_guest_pair(int ret_fds[2])
{
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                ret_fds) == 0);
}

int vsock_guest_accept(void *opaque, uint32_t guest_port, uint32_t host_port)
{
    struct vsock_guest_hosts *hosts = opaque;
    int fds[2];

    hosts->guest_port = guest_port;
    hosts->host_port = host_port;
    if (hosts->refusal != 0)
        return hosts->refusal;
    require(hosts->count < VSOCK_GUEST_HOSTS_MAX);
    vsock_guest_pair(fds);
    hosts->fds[hosts->count++] = fds[0];
    return fds[1];
}

void vsock_guest_close_hosts(struct vsock_guest_hosts *hosts)
{
    for (unsigned int i = 0; i < hosts->count; i++)
        fd_closep(&hosts->fds[i]);
    hosts->count = 0;
}

void vsock_guest_open(struct vsock_guest *g, uint32_t guest_port,
    uint32_t host_port, uint32_t buf_alloc)
{
    struct vsock_header h =
        vsock_guest_header(guest_port, host_port, VSOCK_OP_REQUEST);

    h.buf_alloc = le32_put(buf_alloc);
    vsock_guest_send(g, &h, NULL, 0, 0);
    (void)vsock_guest_run(g);
    (void)vsock_guest_expect(g, VSOCK_OP_RESPONSE, guest_port);
}

struct vsock_conn *vsock_guest_conn(
    struct vsock_guest *g, uint32_t guest_port, uint32_t host_port)
{
    return vsock_table_find(&g->vsock.table, guest_port, host_port);
}
