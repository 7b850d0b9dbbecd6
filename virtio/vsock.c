/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/vsock.h"

#include <assert.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "virtio/iov.h"
#include "virtio/vsock_rx.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

/* Packets of one go, so that no device keeps the I/O thread to itself. */
#define TX_BATCH 32u
#define RX_BATCH 64u

static const uint16_t queue_sizes[VSOCK_QUEUES] = {
    [VSOCK_QUEUE_RX] = 128,
    [VSOCK_QUEUE_TX] = 128,
    [VSOCK_QUEUE_EVENT] = VSOCK_EVENT_QUEUE_SIZE,
};

static struct vsock *from_virtio(struct virtio_device *v)
{
    return container_of(v, struct vsock, virtio);
}

static void wake(struct vsock *s)
{
    if (s->work_fd >= 0)
        fd_eventfd_signal(s->work_fd);
}

/*
 * Forgets all connections. A reset comes on a vCPU's thread; what has to be
 * done on the loop's thread is left to it.
 */
static void forget_connections(struct vsock *s)
{
    s->reset_count = 0;
    if (vsock_table_doom(&s->table) || s->tx_stalled)
        wake(s);
}

/* Takes what the event queue has, and asks for a kick at the next one. */
static unsigned int take_event_buffers(
    struct vsock *s, struct queue_chain **ret_chains)
{
    struct virtio_device *v = &s->virtio;
    unsigned int n = 0;
    bool more = true;

    while (more) {
        struct queue_chain *chain = virtio_pop(v, VSOCK_QUEUE_EVENT);

        if (chain != NULL) {
            /* The queue has no more than its size in flight. */
            assert(n < VSOCK_EVENT_QUEUE_SIZE);
            ret_chains[n++] = chain;
        } else {
            more = virtio_queue_live(v, VSOCK_QUEUE_EVENT) &&
                   queue_enable_kicks(&v->queues[VSOCK_QUEUE_EVENT].q);
        }
    }
    return n;
}

static void send_event(struct vsock *s, struct queue_chain *chain)
{
    const struct vsock_event event = {
        .id = le32_put(VSOCK_EVENT_TRANSPORT_RESET)};
    struct iov_cursor at = iov_writable(chain);

    if (!iov_write(&at, &event, sizeof(event))) {
        s->stats.malformed++;
        virtio_fail(&s->virtio, "event buffer is too small");
        virtio_push(&s->virtio, VSOCK_QUEUE_EVENT, chain, 0);
        return;
    }
    virtio_push(&s->virtio, VSOCK_QUEUE_EVENT, chain, sizeof(event));
    s->event_phase = VSOCK_EVENT_SENT;
    s->stats.transport_resets++;
}

/*
 * Moves the transport-reset event on. A driver that handles it resets every
 * connection it has, so none may begin between the event and the handling:
 * the rx queue rests until the driver has given an event buffer back. All
 * buffers are looked at because only behind the last one is a kick asked for.
 */
static void serve_events(struct vsock *s)
{
    struct queue_chain *chains[VSOCK_EVENT_QUEUE_SIZE];
    unsigned int n;
    unsigned int sent = 0;
    uint16_t end;

    if (s->event_phase == VSOCK_EVENT_NONE)
        return;
    n = take_event_buffers(s, chains);
    end = s->state.virtio.queues[VSOCK_QUEUE_EVENT].avail_next;
    if (s->event_phase == VSOCK_EVENT_SENT && end != s->event_end)
        s->event_phase = VSOCK_EVENT_NONE;
    while (n > 1)
        virtio_unpop(&s->virtio, VSOCK_QUEUE_EVENT, chains[--n]);
    if (n == 1 && s->event_phase == VSOCK_EVENT_DUE) {
        send_event(s, chains[0]);
        s->event_end = end;
        sent++;
    } else if (n == 1) {
        virtio_unpop(&s->virtio, VSOCK_QUEUE_EVENT, chains[0]);
    }
    if (sent > 0)
        virtio_notify(&s->virtio, VSOCK_QUEUE_EVENT);
}

static void serve_rx(struct vsock *s)
{
    unsigned int sent = 1;
    unsigned int n = 0;

    if (s->event_phase == VSOCK_EVENT_DUE)
        serve_events(s);
    if (s->event_phase == VSOCK_EVENT_SENT)
        return;
    while (sent > 0 &&
           (s->reset_count > 0 || vsock_table_ready(&s->table) != NULL)) {
        /* Without a loop there are only resets, and few. */
        if (n >= RX_BATCH && s->virtio.host.loop != NULL) {
            wake(s);
            break;
        }
        sent = vsock_rx_send(s);
        n += sent;
    }
    if (n > 0)
        virtio_notify(&s->virtio, VSOCK_QUEUE_RX);
}

/* RST to where a packet came from; there is room for one. */
static void answer_reset(struct vsock *s, const struct vsock_header *header)
{
    if (le16_get(header->op) == VSOCK_OP_RST)
        return;
    assert(s->reset_count < VSOCK_RESETS_MAX);
    s->resets[(s->reset_first + s->reset_count) % VSOCK_RESETS_MAX] =
        (struct vsock_reset){.src_cid = le64_get(header->dst_cid),
            .src_port = le32_get(header->dst_port),
            .dst_port = le32_get(header->src_port),
            .type = le16_get(header->type)};
    s->reset_count++;
}

static int ask_acceptors(
    struct vsock *s, uint32_t guest_port, uint32_t host_port)
{
    int fd = VSOCK_NOT_MINE;

    for (unsigned int i = 0; i < VSOCK_ACCEPTORS; i++) {
        if (fd == VSOCK_NOT_MINE && s->acceptors[i].fn != NULL)
            fd = s->acceptors[i].fn(
                s->acceptors[i].opaque, guest_port, host_port);
    }
    return fd;
}

/* What a new connection may have kept for the guest. */
static uint32_t buf_alloc_now(const struct vsock *s)
{
    return s->table.granted + s->buf_alloc <= VSOCK_BUF_TOTAL
               ? s->buf_alloc
               : VSOCK_BUF_ALLOC_MIN;
}

/*
 * The socket keeps some of what its reader does not take, too: 200 KiB as a
 * rule, of the host's kernel. Those with small buffers get little of it.
 */
static void limit_socket(int fd, uint32_t buf_alloc)
{
    const int bytes = VSOCK_BUF_ALLOC_MIN;

    /* What is no Unix socket may have no such limit: so be it. */
    if (buf_alloc == VSOCK_BUF_ALLOC_MIN)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static void open_from_guest(struct vsock *s, const struct vsock_header *header)
{
    uint32_t guest_port = le32_get(header->src_port);
    uint32_t host_port = le32_get(header->dst_port);
    struct vsock_conn *conn = NULL;
    CC_CLEANUP(fd_closep) int fd = -1;

    if (!vsock_table_has_room(&s->table))
        s->stats.full++;
    else if (s->virtio.host.loop != NULL)
        fd = ask_acceptors(s, guest_port, host_port);
    /* The lowest free one is given out, so those below it are in use. */
    if (fd >= s->fd_end)
        s->stats.full++;
    else if (fd >= 0)
        conn = vsock_conn_new(guest_port, host_port, fd, buf_alloc_now(s));
    if (conn != NULL) {
        limit_socket(fd_steal(&fd), conn->buf_alloc);
        vsock_conn_accept(conn, header);
        if (vsock_table_add(&s->table, conn) < 0) {
            vsock_conn_free(conn);
            conn = NULL;
        }
    }
    if (conn == NULL) {
        s->stats.refused++;
        answer_reset(s, header);
        return;
    }
    s->stats.guest_connects++;
    vsock_table_settle(&s->table, conn);
}

/* A packet that is what it says it is: from this guest, to this host. */
static void dispatch(struct vsock *s, const struct vsock_header *header,
    struct iov_cursor *payload, const struct queue_chain *chain)
{
    uint32_t len = le32_get(header->len);
    bool is_request = le16_get(header->op) == VSOCK_OP_REQUEST;
    struct vsock_conn *conn = vsock_table_find(
        &s->table, le32_get(header->src_port), le32_get(header->dst_port));

    if (conn != NULL && is_request && conn->state == VSOCK_CONN_LINGERING) {
        /* The guest uses the port again, so it is done with the old one. */
        vsock_table_remove(&s->table, conn);
        conn = NULL;
    }
    if (len > payload->left) {
        s->stats.malformed++;
        s->virtio.stats.violations++;
        if (conn != NULL)
            vsock_conn_reset(conn);
        else
            answer_reset(s, header);
    } else if (conn == NULL && is_request) {
        open_from_guest(s, header);
    } else if (conn == NULL) {
        answer_reset(s, header);
    } else if (vsock_conn_receive(conn, header, payload, chain->iov,
                   chain->readable_count) < 0) {
        s->stats.malformed++;
        s->virtio.stats.violations++;
    } else if (le16_get(header->op) == VSOCK_OP_RW) {
        s->stats.tx_bytes += len;
        s->virtio.stats.bytes += len;
    }
    if (conn != NULL)
        vsock_table_settle(&s->table, conn);
}

static void receive_packet(struct vsock *s, const struct queue_chain *chain)
{
    struct iov_cursor payload = iov_readable(chain);
    struct vsock_header header;

    s->stats.tx_packets++;
    if (!iov_read(&payload, &header, sizeof(header)) ||
        le64_get(header.src_cid) != s->state.guest_cid) {
        /* There is nobody to answer. */
        s->stats.malformed++;
        s->virtio.stats.violations++;
        return;
    }
    if (le64_get(header.dst_cid) != VSOCK_CID_HOST ||
        le16_get(header.type) != VSOCK_TYPE_STREAM) {
        if (le16_get(header.op) == VSOCK_OP_REQUEST)
            s->stats.refused++;
        answer_reset(s, &header);
        return;
    }
    dispatch(s, &header, &payload, chain);
}

static void serve_tx(struct vsock *s)
{
    struct virtio_device *v = &s->virtio;
    struct queue_chain *chain;
    unsigned int n = 0;

    virtio_begin_batch(v, VSOCK_QUEUE_TX);
    while (n < TX_BATCH) {
        /*
         * A packet may need an answer. When there is no room for one and the
         * driver gives no rx buffers, its tx chains stay where they are
         * (5.10.6.1.1); kicks stay off.
         */
        if (s->reset_count == VSOCK_RESETS_MAX)
            serve_rx(s);
        s->tx_stalled = s->reset_count == VSOCK_RESETS_MAX;
        if (s->tx_stalled)
            break;
        chain = virtio_pop(v, VSOCK_QUEUE_TX);
        if (chain == NULL)
            break;
        receive_packet(s, chain);
        virtio_push(v, VSOCK_QUEUE_TX, chain, 0);
        n++;
    }
    if (n > 0)
        virtio_notify(v, VSOCK_QUEUE_TX);
    serve_rx(s);
    if (!s->tx_stalled)
        virtio_end_batch(v, VSOCK_QUEUE_TX, n == TX_BATCH);
}

/* Goes on wherever it can be gone on after anything changed. */
static void serve(struct vsock *s)
{
    serve_rx(s);
    if (s->tx_stalled && s->reset_count < VSOCK_RESETS_MAX)
        serve_tx(s);
    /* A device that was given up on keeps nobody waiting at the host. */
    if (!virtio_is_live(&s->virtio))
        forget_connections(s);
}

static void on_table_change(void *opaque)
{
    serve(opaque);
}

static void on_work(void *opaque, uint32_t events)
{
    struct vsock *s = opaque;

    (void)events;
    (void)fd_eventfd_drain(s->work_fd);
    vsock_table_free_doomed(&s->table);
    serve(s);
}

static void kick(struct virtio_device *v, unsigned int queue)
{
    struct vsock *s = from_virtio(v);

    if (queue == VSOCK_QUEUE_RX)
        queue_disable_kicks(&v->queues[queue].q);
    else if (queue == VSOCK_QUEUE_EVENT)
        serve_events(s);
    else if (!s->tx_stalled)
        serve_tx(s);
    serve(s);
}

static void read_config(const struct virtio_device *v, uint64_t offset,
    uint8_t *ret_data, uint32_t len)
{
    const struct vsock_state *state = v->base.state;
    const struct vsock_config_space image = {
        .guest_cid = le64_put(state->guest_cid)};

    virtio_config_copy(&image, sizeof(image), offset, ret_data, len);
}

/* Keeps no chain; but a queue that is taken away takes its packets along. */
static void drain(struct virtio_device *v)
{
    if (!v->quiesced)
        forget_connections(from_virtio(v));
}

static void reset(struct virtio_device *v)
{
    struct vsock *s = from_virtio(v);

    forget_connections(s);
    s->event_phase = VSOCK_EVENT_NONE;
    s->state.guest_cid = s->guest_cid;
    s->state.next_host_port = VSOCK_HOST_PORT_FIRST;
}

static bool is_guest_cid(uint32_t cid)
{
    return cid >= VSOCK_CID_GUEST_MIN && cid != VSOCK_CID_ANY;
}

static int post_load(struct virtio_device *v, struct err *err)
{
    struct vsock *s = from_virtio(v);

    if (!is_guest_cid(s->state.guest_cid))
        return err_set(err, EINVAL, "device %s: %u is no CID of a guest",
            v->base.id, s->state.guest_cid);
    if (s->state.next_host_port < VSOCK_HOST_PORT_FIRST)
        return err_set(err, EINVAL, "device %s: next host port %u", v->base.id,
            s->state.next_host_port);
    s->guest_cid = s->state.guest_cid;
    forget_connections(s);
    s->event_phase = virtio_is_live(v) ? VSOCK_EVENT_DUE : VSOCK_EVENT_NONE;
    return 0;
}

static const struct state_field vsock_fields[] = {
    VIRTIO_STATE_FIELDS(struct vsock_state, virtio),
    STATE_SCALAR(struct vsock_state, guest_cid, 1),
    STATE_SCALAR(struct vsock_state, next_host_port, 1),
};

static const struct state_desc vsock_desc =
    STATE_DESC(struct vsock_state, "virtio-vsock", 1, vsock_fields);

static const struct device_ops vsock_device_ops = {
    .state = &vsock_desc, VIRTIO_DEVICE_OPS};

static const struct virtio_ops vsock_ops = {
    .device_id = VIRTIO_ID_VSOCK,
    .queue_count = VSOCK_QUEUES,
    .request_size = sizeof(struct queue_chain),
    .kick = kick,
    .read_config = read_config,
    .drain = drain,
    .reset = reset,
    .post_load = post_load,
};

static int init_work(struct vsock *s, struct err *err)
{
    int rc;

    if (s->virtio.host.loop == NULL)
        return 0;
    s->work_fd = fd_eventfd();
    if (s->work_fd < 0)
        return err_sys(
            err, s->work_fd, "%s: cannot create an eventfd", s->virtio.base.id);
    s->work_source = (struct loop_source){.fd = s->work_fd,
        .handle = on_work,
        .opaque = s,
        .dev = &s->virtio.base};
    rc = loop_add(s->virtio.host.loop, &s->work_source, EPOLLIN);
    return rc < 0 ? err_sys(err, rc, "%s: cannot watch an eventfd",
                        s->virtio.base.id)
                  : 0;
}

void vsock_count_fds(struct vsock *s)
{
    struct rlimit limit;

    s->fd_end = INT_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur <= INT_MAX)
        s->fd_end = (int)(limit.rlim_cur -
                          num_min(VSOCK_FDS_RESERVED, limit.rlim_cur / 4));
}

int vsock_init(struct vsock *s, const struct vsock_config *config,
    const struct virtio_host *host, struct err *err)
{
    const struct virtio_config virtio = {.ops = &vsock_ops,
        .device_ops = &vsock_device_ops,
        .id = config->id,
        .state = &s->state.virtio,
        .features = VSOCK_F_STREAM,
        .queue_sizes = queue_sizes};
    int rc;

    *s = (struct vsock){.work_fd = -1, .guest_cid = config->guest_cid};
    vsock_count_fds(s);
    s->table = (struct vsock_table){.loop = host->loop,
        .dev = &s->virtio.base,
        .changed = on_table_change,
        .opaque = s,
        .max = config->connections_max == 0 ? VSOCK_CONNECTIONS_MAX
                                            : config->connections_max};
    vsock_table_init(&s->table);
    s->buf_alloc =
        config->buf_alloc == 0 ? VSOCK_BUF_ALLOC_DEFAULT : config->buf_alloc;
    if (!is_guest_cid(s->guest_cid))
        return err_set(err, EINVAL,
            "%s: guest CID %u: it must be between 3 and 4294967294", config->id,
            s->guest_cid);
    if (s->table.max > VSOCK_CONNECTIONS_MAX ||
        s->buf_alloc < VSOCK_BUF_ALLOC_MIN ||
        s->buf_alloc > VSOCK_BUF_ALLOC_MAX)
        return err_set(err, EINVAL,
            "%s: %u connections of %u bytes: at most %u, of %u to %u bytes",
            config->id, s->table.max, s->buf_alloc, VSOCK_CONNECTIONS_MAX,
            VSOCK_BUF_ALLOC_MIN, VSOCK_BUF_ALLOC_MAX);
    rc = virtio_init(&s->virtio, &virtio, host, err);
    if (rc < 0)
        return rc;
    s->state.guest_cid = s->guest_cid;
    s->state.next_host_port = VSOCK_HOST_PORT_FIRST;
    rc = init_work(s, err);
    if (rc < 0)
        vsock_fini(s);
    return rc;
}

void vsock_fini(struct vsock *s)
{
    if (s->virtio.ops == NULL)
        return;
    forget_connections(s);
    vsock_table_free_doomed(&s->table);
    if (s->virtio.host.loop != NULL)
        loop_remove(s->virtio.host.loop, &s->work_source);
    fd_closep(&s->work_fd);
    virtio_fini(&s->virtio);
}

void vsock_set_accept(struct vsock *s, enum vsock_acceptor which,
    vsock_accept_fn *fn, void *opaque)
{
    assert(which < VSOCK_ACCEPTORS);
    s->acceptors[which].fn = fn;
    s->acceptors[which].opaque = opaque;
}

/* Ends: there are more ports than connections. */
static uint32_t pick_host_port(struct vsock *s, uint32_t guest_port)
{
    uint32_t port;

    do {
        port = s->state.next_host_port;
        s->state.next_host_port =
            port == UINT32_MAX ? VSOCK_HOST_PORT_FIRST : port + 1;
    } while (vsock_table_find(&s->table, guest_port, port) != NULL);
    return port;
}

int vsock_connect(struct vsock *s, uint32_t guest_port, int fd,
    const struct vsock_caller *caller)
{
    struct vsock_conn *conn;
    int rc;

    if (s->virtio.host.loop == NULL)
        return -EOPNOTSUPP;
    if (!virtio_is_live(&s->virtio))
        return -ENOTCONN;
    if (!vsock_table_has_room(&s->table))
        return -ENOSPC;
    conn = vsock_conn_new(
        guest_port, pick_host_port(s, guest_port), fd, buf_alloc_now(s));
    if (conn == NULL)
        return -ENOMEM;
    vsock_conn_request(conn, caller);
    rc = vsock_table_add(&s->table, conn);
    if (rc < 0) {
        (void)fd_steal(&conn->fd);
        vsock_conn_free(conn);
        return rc;
    }
    s->stats.host_connects++;
    vsock_table_settle(&s->table, conn);
    /* Not served here: the caller may be anywhere in this device. */
    wake(s);
    return 0;
}
