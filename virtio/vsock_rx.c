/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/vsock_rx.h"

#include <assert.h>

#include "virtio/iov.h"
#include "vmm/base/num.h"

/*
 * What is read with one system call: several packets, if so much is expected
 * that it pays. The slack is there so that the read is short in the end, which
 * tells that there is no more.
 */
#define BURST_BYTES 2048u
#define BURST_SLACK 1024u
#define BURST_MAX   20u
#define BURST_IOV   32u

/* A buffer of the driver's, or NULL, and then a kick comes with the next. */
static struct queue_chain *pop_rx(struct vsock *s)
{
    struct virtio_device *v = &s->virtio;
    struct queue_chain *chain;

    do {
        chain = virtio_pop(v, VSOCK_QUEUE_RX);
    } while (chain == NULL && virtio_queue_live(v, VSOCK_QUEUE_RX) &&
             queue_enable_kicks(&v->queues[VSOCK_QUEUE_RX].q));
    return chain;
}

static struct vsock_header take_reset(struct vsock *s)
{
    const struct vsock_reset *r = &s->resets[s->reset_first];
    struct vsock_header header = {.src_cid = le64_put(r->src_cid),
        .src_port = le32_put(r->src_port),
        .dst_port = le32_put(r->dst_port),
        .type = le16_put(r->type),
        .op = le16_put(VSOCK_OP_RST)};

    s->reset_first = (s->reset_first + 1) % VSOCK_RESETS_MAX;
    s->reset_count--;
    return header;
}

/* Writes the header of a packet whose data is there, and sends it. */
static void push_packet(
    struct vsock *s, struct queue_chain *chain, struct vsock_header *header)
{
    struct iov_cursor at = iov_writable(chain);
    uint32_t len = le32_get(header->len);
    bool fits;

    header->dst_cid = le64_put(s->state.guest_cid);
    fits = iov_write(&at, header, sizeof(*header));
    assert(fits);
    (void)fits;
    virtio_push(
        &s->virtio, VSOCK_QUEUE_RX, chain, (uint32_t)sizeof(*header) + len);
    s->stats.rx_packets++;
    s->stats.rx_bytes += len;
    s->virtio.stats.bytes += len;
    if (le16_get(header->op) == VSOCK_OP_RST)
        s->stats.resets++;
}

static void address_packet(struct vsock_header *header)
{
    header->src_cid = le64_put(VSOCK_CID_HOST);
    header->type = le16_put(VSOCK_TYPE_STREAM);
}

/* Fills in one buffer of the driver's, or gives it back to the queue. */
static void send_packet(struct vsock *s, struct queue_chain *chain)
{
    struct iov_cursor payload = iov_writable(chain);
    struct vsock_conn *conn = NULL;
    struct vsock_header header;

    if (!iov_skip(&payload, sizeof(header)) || payload.left == 0) {
        s->stats.malformed++;
        s->virtio.stats.violations++;
        virtio_push(&s->virtio, VSOCK_QUEUE_RX, chain, 0);
        return;
    }
    if (s->reset_count > 0) {
        header = take_reset(s);
    } else {
        conn = vsock_table_ready(&s->table);
        if (!vsock_conn_next(
                conn, &payload, chain->iov, chain->writable_count, &header)) {
            virtio_unpop(&s->virtio, VSOCK_QUEUE_RX, chain);
            vsock_table_settle(&s->table, conn);
            return;
        }
        address_packet(&header);
    }
    push_packet(s, chain, &header);
    if (conn != NULL)
        vsock_table_rotate(&s->table, conn);
}

/* Buffers for one read, and what of each the data may take. */
struct burst {
    struct queue_chain *chains[BURST_MAX];
    struct iov_cursor payloads[BURST_MAX];
    uint32_t rooms[BURST_MAX];
    unsigned int count;
    struct iovec iov[BURST_IOV];
    unsigned int iov_count;
    uint64_t room;
};

/* Adds a chain; false, and it is not taken, if it is of no use here. */
static bool add_chain(
    struct burst *b, struct queue_chain *chain, uint64_t limit)
{
    struct iov_cursor payload = iov_writable(chain);
    struct iov_cursor ahead;
    uint64_t bytes;

    if (!iov_skip(&payload, sizeof(struct vsock_header)))
        return false;
    ahead = payload;
    b->iov_count += iov_take(&ahead, limit - b->room, b->iov + b->iov_count,
        BURST_IOV - b->iov_count, &bytes);
    if (bytes == 0)
        return false;
    b->chains[b->count] = chain;
    b->payloads[b->count] = payload;
    b->rooms[b->count] = (uint32_t)bytes;
    b->room += bytes;
    b->count++;
    return true;
}

/* Buffers for `want` bytes and no more than `limit`, as far as there are. */
static void gather(
    struct vsock *s, struct burst *b, uint64_t want, uint64_t limit)
{
    while (b->count < BURST_MAX && b->room < want && b->room < limit) {
        struct queue_chain *chain = pop_rx(s);

        if (chain == NULL)
            return;
        /* One that is malformed is dealt with by itself. */
        if (!add_chain(b, chain, limit)) {
            virtio_unpop(&s->virtio, VSOCK_QUEUE_RX, chain);
            return;
        }
    }
}

/* Several packets of data with one read; the buffers that were filled. */
static unsigned int send_burst(
    struct vsock *s, struct vsock_conn *conn, uint32_t expected)
{
    struct burst b;
    unsigned int sent = 0;
    uint32_t left;

    b.count = 0;
    b.iov_count = 0;
    b.room = 0;
    gather(s, &b, (uint64_t)expected + BURST_SLACK, vsock_conn_credit(conn));
    if (b.count == 0)
        return 0;
    left = vsock_conn_read(conn, b.iov, b.iov_count, b.room);
    while (left > 0) {
        uint32_t len = (uint32_t)num_min(left, b.rooms[sent]);
        struct vsock_header header;

        vsock_conn_data_packet(conn, len, &header);
        address_packet(&header);
        iov_mark_dirty(&b.payloads[sent], len);
        push_packet(s, b.chains[sent], &header);
        left -= len;
        sent++;
    }
    while (b.count > sent)
        virtio_unpop(&s->virtio, VSOCK_QUEUE_RX, b.chains[--b.count]);
    if (sent > 0)
        vsock_table_rotate(&s->table, conn);
    else
        vsock_table_settle(&s->table, conn);
    return sent;
}

unsigned int vsock_rx_send(struct vsock *s)
{
    struct vsock_conn *conn = vsock_table_ready(&s->table);
    uint32_t expected = s->reset_count > 0 ? 0 : vsock_conn_expected(conn);
    struct queue_chain *chain;

    if (expected >= BURST_BYTES) {
        unsigned int sent = send_burst(s, conn, expected);

        /* Nothing: there was less than thought, and something else is next. */
        if (sent > 0 || vsock_table_ready(&s->table) == NULL)
            return sent > 0 ? sent : 1;
    }
    chain = pop_rx(s);
    if (chain == NULL)
        return 0;
    send_packet(s, chain);
    return 1;
}
