/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/vsock_conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

/* Longer runs of data are not told from each other. */
#define RUN_MAX (16u * VSOCK_PACKET_MAX)

struct vsock_conn *vsock_conn_new(
    uint32_t guest_port, uint32_t host_port, int fd, uint32_t buf_alloc)
{
    struct vsock_conn *conn = calloc(1, sizeof(*conn));

    if (conn == NULL)
        return NULL;
    conn->guest_port = guest_port;
    conn->host_port = host_port;
    conn->fd = fd;
    conn->buf_alloc = buf_alloc;
    return conn;
}

static void drop_buffer(struct vsock_conn *conn)
{
    free(conn->buf);
    conn->buf = NULL;
    conn->buf_head = 0;
    conn->buffered = 0;
}

void vsock_conn_close_fd(struct vsock_conn *conn)
{
    if (conn->fd < 0)
        return;
    fd_closep(&conn->fd);
    if (conn->caller.closed != NULL)
        conn->caller.closed(conn->caller.opaque, conn->caller.cookie);
}

void vsock_conn_free(struct vsock_conn *conn)
{
    assert(!conn->source.added);
    drop_buffer(conn);
    vsock_conn_close_fd(conn);
    free(conn);
}

uint32_t vsock_conn_credit(const struct vsock_conn *conn)
{
    uint32_t inflight = conn->sent_cnt - conn->peer_fwd_cnt;

    return inflight < conn->peer_buf_alloc ? conn->peer_buf_alloc - inflight
                                           : 0;
}

static void update_credit(
    struct vsock_conn *conn, const struct vsock_header *header)
{
    conn->peer_buf_alloc = le32_get(header->buf_alloc);
    conn->peer_fwd_cnt = le32_get(header->fwd_cnt);
}

/*
 * When credit has just run out, or there was none to begin with: a driver
 * need not volunteer it, but it must answer (5.10.6.3).
 */
static void ask_for_credit(struct vsock_conn *conn)
{
    if (vsock_conn_credit(conn) == 0)
        conn->pending |= VSOCK_PENDING_CREDIT_REQUEST;
}

/*
 * The guest hears of progress before it runs dry: as soon as it must think
 * that half of the buffer is taken.
 */
static void offer_credit(struct vsock_conn *conn)
{
    uint32_t assumed = conn->recv_cnt - conn->told_fwd_cnt;

    if (assumed > conn->buf_alloc / 2 && conn->fwd_cnt != conn->told_fwd_cnt)
        conn->pending |= VSOCK_PENDING_CREDIT_UPDATE;
}

void vsock_conn_request(
    struct vsock_conn *conn, const struct vsock_caller *caller)
{
    conn->state = VSOCK_CONN_REQUESTED;
    conn->pending = VSOCK_PENDING_REQUEST;
    if (caller != NULL)
        conn->caller = *caller;
}

void vsock_conn_accept(
    struct vsock_conn *conn, const struct vsock_header *request)
{
    conn->state = VSOCK_CONN_OPEN;
    conn->pending = VSOCK_PENDING_RESPONSE;
    update_credit(conn, request);
    ask_for_credit(conn);
}

void vsock_conn_reset(struct vsock_conn *conn)
{
    bool unheard_of = (conn->pending & VSOCK_PENDING_REQUEST) != 0;

    drop_buffer(conn);
    conn->pending = unheard_of || conn->orphan ? 0 : VSOCK_PENDING_RST;
    conn->state = conn->pending == 0 ? VSOCK_CONN_DEAD : VSOCK_CONN_ENDING;
}

/* After any change to who still sends or reads: is it over? */
static void settle(struct vsock_conn *conn)
{
    bool from_guest = !conn->host_reads_no_more &&
                      (!conn->guest_sends_no_more || conn->buffered > 0);
    bool to_guest = !conn->host_sends_no_more && !conn->guest_reads_no_more;

    switch (conn->state) {
    case VSOCK_CONN_OPEN:
        if (from_guest || to_guest)
            return;
        /*
         * Not RST: it would cost the guest what it has not read yet. It
         * answers with RST itself when it has closed (5.10.6.5).
         */
        drop_buffer(conn);
        conn->host_sends_no_more = true;
        conn->host_reads_no_more = true;
        conn->pending |= VSOCK_PENDING_SHUTDOWN;
        conn->pending &= ~VSOCK_PENDING_CREDIT_REQUEST;
        conn->state = VSOCK_CONN_ENDING;
        return;
    case VSOCK_CONN_CLOSING:
        if (!from_guest)
            vsock_conn_reset(conn);
        return;
    case VSOCK_CONN_REQUESTED:
    case VSOCK_CONN_ENDING:
    case VSOCK_CONN_LINGERING:
    case VSOCK_CONN_DEAD:
        return;
    }
}

/* Nobody at the host reads any more: what the guest sends goes nowhere. */
static void host_stopped_reading(struct vsock_conn *conn)
{
    conn->host_reads_no_more = true;
    drop_buffer(conn);
    conn->fwd_cnt = conn->recv_cnt;
}

/* The guest sends to nobody; it need not go on. */
static void refuse_data(struct vsock_conn *conn)
{
    host_stopped_reading(conn);
    if (conn->state == VSOCK_CONN_OPEN && !conn->guest_sends_no_more)
        conn->pending |= VSOCK_PENDING_SHUTDOWN;
}

/* One non-blocking write; bytes taken, 0 if none, or -errno. */
static ssize_t send_to_host(
    const struct vsock_conn *conn, struct iovec *iov, unsigned int count)
{
    const struct msghdr msg = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t n = sendmsg(conn->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    return n;
}

/* The write side of the socket is closed once everything is through. */
static void pass_on_shutdown(struct vsock_conn *conn)
{
    if (conn->guest_sends_no_more && conn->buffered == 0 &&
        !conn->host_reads_no_more)
        (void)shutdown(conn->fd, SHUT_WR);
}

static void flush(struct vsock_conn *conn)
{
    uint32_t first =
        (uint32_t)num_min(conn->buffered, conn->buf_alloc - conn->buf_head);
    struct iovec iov[2];
    ssize_t n;

    if (conn->buffered == 0)
        return;
    iov[0] = (struct iovec){
        .iov_base = conn->buf + conn->buf_head, .iov_len = first};
    iov[1] = (struct iovec){
        .iov_base = conn->buf, .iov_len = conn->buffered - first};
    n = send_to_host(conn, iov, conn->buffered > first ? 2 : 1);
    if (n < 0) {
        refuse_data(conn);
        return;
    }
    conn->buf_head = (uint32_t)((conn->buf_head + (size_t)n) % conn->buf_alloc);
    conn->buffered -= (uint32_t)n;
    conn->fwd_cnt += (uint32_t)n;
    offer_credit(conn);
    if (conn->buffered == 0) {
        drop_buffer(conn);
        pass_on_shutdown(conn);
    }
}

/* Copies what the host does not take now; there is room. */
static int keep(
    struct vsock_conn *conn, struct iov_cursor *payload, uint32_t len)
{
    bool complete = true;

    assert(len <= conn->buf_alloc - conn->buffered);
    if (conn->buf == NULL)
        conn->buf = malloc(conn->buf_alloc);
    if (conn->buf == NULL)
        return -ENOMEM;
    while (len > 0) {
        uint32_t tail = (uint32_t)(((uint64_t)conn->buf_head + conn->buffered) %
                                   conn->buf_alloc);
        uint32_t n = (uint32_t)num_min(len, conn->buf_alloc - tail);

        complete = iov_read(payload, conn->buf + tail, n) && complete;
        conn->buffered += n;
        len -= n;
    }
    assert(complete);
    return 0;
}

static int receive_data(struct vsock_conn *conn, uint32_t len,
    struct iov_cursor *payload, struct iovec *iov, unsigned int iov_max)
{
    ssize_t n = 0;

    /* The guest knows of no more room than there is (5.10.6.3.1). */
    if (len > conn->buf_alloc - conn->buffered)
        return -EPROTO;
    conn->recv_cnt += len;
    if (conn->host_reads_no_more) {
        refuse_data(conn);
        return 0;
    }
    if (len == 0)
        return 0;
    if (conn->buffered == 0) {
        struct iov_cursor ahead = *payload;
        uint64_t bytes;
        unsigned int count = iov_take(&ahead, len, iov, iov_max, &bytes);

        n = send_to_host(conn, iov, count);
    }
    if (n < 0) {
        refuse_data(conn);
    } else {
        bool skipped = iov_skip(payload, (uint64_t)n);

        assert(skipped);
        (void)skipped;
        conn->fwd_cnt += (uint32_t)n;
        /* Lost data would be worse than a lost connection. */
        if ((uint32_t)n < len && keep(conn, payload, len - (uint32_t)n) < 0)
            vsock_conn_reset(conn);
    }
    offer_credit(conn);
    return 0;
}

static void receive_shutdown(struct vsock_conn *conn, uint32_t flags)
{
    bool sends_no_more = conn->guest_sends_no_more;
    bool reads_no_more = conn->guest_reads_no_more;

    conn->guest_sends_no_more |= (flags & VSOCK_SHUTDOWN_SEND) != 0;
    conn->guest_reads_no_more |= (flags & VSOCK_SHUTDOWN_RCV) != 0;
    if (conn->state == VSOCK_CONN_OPEN) {
        if (conn->guest_sends_no_more && !sends_no_more)
            pass_on_shutdown(conn);
        if (conn->guest_reads_no_more && !reads_no_more) {
            conn->readable = false;
            conn->pending &= ~VSOCK_PENDING_CREDIT_REQUEST;
            (void)shutdown(conn->fd, SHUT_RD);
        }
    }
    if (!conn->guest_sends_no_more || !conn->guest_reads_no_more)
        return;
    /* Closed: RST says that all is done with (5.10.6.5). */
    if (conn->state == VSOCK_CONN_OPEN) {
        conn->state = VSOCK_CONN_CLOSING;
        conn->pending = 0;
    } else if (conn->state == VSOCK_CONN_ENDING ||
               conn->state == VSOCK_CONN_LINGERING) {
        vsock_conn_reset(conn);
    }
}

/* The guest has forgotten the connection, or never wanted it. */
static void receive_reset(struct vsock_conn *conn)
{
    conn->pending = 0;
    /* It closed in good order; what it sent before is still delivered. */
    if (conn->state == VSOCK_CONN_CLOSING)
        conn->orphan = true;
    else
        conn->state = VSOCK_CONN_DEAD;
}

static int receive_response(struct vsock_conn *conn)
{
    if (conn->state != VSOCK_CONN_REQUESTED ||
        (conn->pending & VSOCK_PENDING_REQUEST) != 0)
        return -EPROTO;
    conn->state = VSOCK_CONN_OPEN;
    ask_for_credit(conn);
    if (conn->caller.established != NULL)
        conn->caller.established(conn->fd, conn->host_port);
    return 0;
}

static int receive_open(struct vsock_conn *conn,
    const struct vsock_header *header, struct iov_cursor *payload,
    struct iovec *iov, unsigned int iov_max)
{
    switch (le16_get(header->op)) {
    case VSOCK_OP_RESPONSE:
        return receive_response(conn);
    case VSOCK_OP_SHUTDOWN:
        if (conn->state == VSOCK_CONN_REQUESTED)
            return -EPROTO;
        receive_shutdown(conn, le32_get(header->flags));
        return 0;
    case VSOCK_OP_RW:
        if (conn->state != VSOCK_CONN_OPEN || conn->guest_sends_no_more)
            return -EPROTO;
        return receive_data(conn, le32_get(header->len), payload, iov, iov_max);
    case VSOCK_OP_CREDIT_UPDATE:
        return 0;
    case VSOCK_OP_CREDIT_REQUEST:
        conn->pending |= VSOCK_PENDING_CREDIT_UPDATE;
        return 0;
    default:
        return -EPROTO;
    }
}

int vsock_conn_receive(struct vsock_conn *conn,
    const struct vsock_header *header, struct iov_cursor *payload,
    struct iovec *iov, unsigned int iov_max)
{
    uint16_t op = le16_get(header->op);
    int rc = 0;

    assert(conn->state != VSOCK_CONN_DEAD && !conn->orphan);
    update_credit(conn, header);
    if (op == VSOCK_OP_RST) {
        receive_reset(conn);
    } else if (conn->state == VSOCK_CONN_ENDING ||
               conn->state == VSOCK_CONN_LINGERING) {
        /* What was under way when it ended is of no consequence. */
        if (op == VSOCK_OP_SHUTDOWN)
            receive_shutdown(conn, le32_get(header->flags));
        else if (op == VSOCK_OP_REQUEST)
            rc = -EPROTO;
    } else {
        rc = receive_open(conn, header, payload, iov, iov_max);
    }
    if (rc < 0)
        vsock_conn_reset(conn);
    settle(conn);
    return rc;
}

void vsock_conn_host_event(struct vsock_conn *conn, uint32_t events)
{
    bool hung_up = (events & (EPOLLHUP | EPOLLERR)) != 0;

    if (conn->state == VSOCK_CONN_REQUESTED) {
        if (hung_up)
            vsock_conn_reset(conn);
        return;
    }
    /* After a hang-up there may be data, and certainly end of file. */
    if ((events & EPOLLIN) != 0 || hung_up)
        conn->readable =
            !conn->host_sends_no_more && !conn->guest_reads_no_more;
    /* The guest hears of it when end of file is read, or when it sends. */
    if (hung_up && !conn->host_reads_no_more)
        host_stopped_reading(conn);
    if ((events & EPOLLOUT) != 0)
        flush(conn);
    settle(conn);
}

static bool has_data(const struct vsock_conn *conn)
{
    return conn->state == VSOCK_CONN_OPEN && conn->readable &&
           vsock_conn_credit(conn) > 0;
}

bool vsock_conn_has_packet(const struct vsock_conn *conn)
{
    return conn->pending != 0 || has_data(conn);
}

uint32_t vsock_conn_expected(const struct vsock_conn *conn)
{
    if (conn->pending != 0 || !has_data(conn))
        return 0;
    /* As much as last time, and once that has come as much again. */
    return conn->run < conn->last_run ? conn->last_run - conn->run : conn->run;
}

/* Nothing is left to be read for now: the next read starts a run. */
static void end_run(struct vsock_conn *conn)
{
    conn->readable = false;
    conn->last_run = conn->run;
    conn->run = 0;
}

uint32_t vsock_conn_read(struct vsock_conn *conn, struct iovec *iov,
    unsigned int count, uint64_t room)
{
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t n = recvmsg(conn->fd, &msg, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        end_run(conn);
        return 0;
    }
    if (n <= 0) {
        end_run(conn);
        conn->host_sends_no_more = true;
        conn->pending |= VSOCK_PENDING_SHUTDOWN;
        if (n < 0)
            host_stopped_reading(conn);
        settle(conn);
        return 0;
    }
    conn->run = (uint32_t)num_min(conn->run + (uint64_t)n, RUN_MAX);
    /* Less than asked for is all there was; epoll tells of more. */
    if ((uint64_t)n < room)
        end_run(conn);
    conn->sent_cnt += (uint32_t)n;
    ask_for_credit(conn);
    return (uint32_t)n;
}

/* Reads from the host into the guest; bytes, 0 if there was nothing. */
static uint32_t read_data(struct vsock_conn *conn, struct iov_cursor *payload,
    struct iovec *iov, unsigned int iov_max)
{
    struct iov_cursor ahead = *payload;
    uint64_t room;
    unsigned int count =
        iov_take(&ahead, num_min(vsock_conn_credit(conn), VSOCK_PACKET_MAX),
            iov, iov_max, &room);
    uint32_t n = vsock_conn_read(conn, iov, count, room);

    iov_mark_dirty(payload, n);
    return n;
}

/* The first control packet that is pending, VSOCK_OP_INVALID if none is. */
static enum vsock_op take_control(struct vsock_conn *conn)
{
    static const struct {
        uint32_t bit;
        enum vsock_op op;
    } order[] = {
        {VSOCK_PENDING_RST, VSOCK_OP_RST},
        {VSOCK_PENDING_REQUEST, VSOCK_OP_REQUEST},
        {VSOCK_PENDING_RESPONSE, VSOCK_OP_RESPONSE},
        {VSOCK_PENDING_SHUTDOWN, VSOCK_OP_SHUTDOWN},
        {VSOCK_PENDING_CREDIT_REQUEST, VSOCK_OP_CREDIT_REQUEST},
        {VSOCK_PENDING_CREDIT_UPDATE, VSOCK_OP_CREDIT_UPDATE},
    };

    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        if ((conn->pending & order[i].bit) != 0) {
            conn->pending &= ~order[i].bit;
            return order[i].op;
        }
    }
    return VSOCK_OP_INVALID;
}

/* What follows from having told the guest. */
static void sent_control(struct vsock_conn *conn, enum vsock_op op)
{
    if (op == VSOCK_OP_RST)
        conn->state = VSOCK_CONN_DEAD;
    else if (op == VSOCK_OP_SHUTDOWN && conn->state == VSOCK_CONN_ENDING)
        conn->state = VSOCK_CONN_LINGERING;
}

static uint32_t shutdown_flags(const struct vsock_conn *conn)
{
    return (conn->host_reads_no_more ? VSOCK_SHUTDOWN_RCV : 0) |
           (conn->host_sends_no_more ? VSOCK_SHUTDOWN_SEND : 0);
}

/* A packet of this connection; it tells of all the credit that there is. */
static struct vsock_header make_header(
    struct vsock_conn *conn, enum vsock_op op, uint32_t len)
{
    conn->told_fwd_cnt = conn->fwd_cnt;
    conn->pending &= ~VSOCK_PENDING_CREDIT_UPDATE;
    return (struct vsock_header){.src_port = le32_put(conn->host_port),
        .dst_port = le32_put(conn->guest_port),
        .len = le32_put(len),
        .op = le16_put((uint16_t)op),
        .flags = le32_put(op == VSOCK_OP_SHUTDOWN ? shutdown_flags(conn) : 0),
        .buf_alloc = le32_put(conn->buf_alloc),
        .fwd_cnt = le32_put(conn->fwd_cnt)};
}

void vsock_conn_data_packet(
    struct vsock_conn *conn, uint32_t len, struct vsock_header *ret_header)
{
    *ret_header = make_header(conn, VSOCK_OP_RW, len);
}

bool vsock_conn_next(struct vsock_conn *conn, struct iov_cursor *payload,
    struct iovec *iov, unsigned int iov_max, struct vsock_header *ret_header)
{
    enum vsock_op op = take_control(conn);
    uint32_t len = 0;

    if (op == VSOCK_OP_INVALID && has_data(conn)) {
        len = read_data(conn, payload, iov, iov_max);
        /* Nothing read may have been end of file, which has a packet. */
        op = len > 0 ? VSOCK_OP_RW : take_control(conn);
    }
    if (op == VSOCK_OP_INVALID)
        return false;
    *ret_header = make_header(conn, op, len);
    sent_control(conn, op);
    return true;
}

bool vsock_conn_uses_fd(const struct vsock_conn *conn)
{
    return conn->state == VSOCK_CONN_REQUESTED ||
           conn->state == VSOCK_CONN_OPEN || conn->state == VSOCK_CONN_CLOSING;
}

uint32_t vsock_conn_events(const struct vsock_conn *conn)
{
    uint32_t events = 0;

    if (conn->state == VSOCK_CONN_OPEN && !conn->readable &&
        !conn->host_sends_no_more && !conn->guest_reads_no_more &&
        vsock_conn_credit(conn) > 0)
        events |= EPOLLIN;
    if (conn->buffered > 0)
        events |= EPOLLOUT;
    /* A hang-up cannot be masked: once known, it must not be reported. */
    if (!vsock_conn_uses_fd(conn) || (events == 0 && conn->host_reads_no_more))
        return VSOCK_CONN_UNWATCHED;
    return events;
}
