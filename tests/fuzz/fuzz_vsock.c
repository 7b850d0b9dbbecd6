/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket device under a driver and host programs that do anything.
 *
 * The input is a program of steps: mostly well-formed packets on a few ports,
 * seldom a broken one, with host programs that write, read, close and connect
 * in between, by a socket pair or through the listening socket with its line
 * of text. What every device must stand is played and checked by fuzz_guest;
 * here, that the tables stay consistent and bounded, and that packets to the
 * guest are what they say they are.
 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/fuzz/support/fuzz_guest.h"
#include "tests/fuzz/support/fuzz_kernel.h"
#include "virtio/vsock.h"
#include "virtio/vsock_uds.h"
#include "vmm/base/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOSTS_MAX   16u
#define CONNECTIONS 6u
#define CID         42u

/* Descriptors by which the loop must run before more come. */
#define FDS_ENOUGH 100u

/* Headers at FUZZ_TEXT, buffers at FUZZ_WRITABLE. */
#define SLOTS    16u
#define SLOT     64u
#define RX_PITCH UINT64_C(0x1000)

struct run {
    struct fuzz_guest guest;
    struct vsock vsock;
    struct vsock_uds uds; /* in use if uds.vsock is not NULL */
    struct bytes_reader in;
    int hosts[HOSTS_MAX]; /* -1 or the host's end of a connection */
    uint32_t tx_slot;
    uint32_t rx_slot;
    uint8_t data[8192];
};

/* Keeps a host's end, in place of the oldest when there are too many. */
static void keep_host(struct run *r, int fd)
{
    if (fd < 0)
        return;
    fd_closep(&r->hosts[HOSTS_MAX - 1]);
    memmove(&r->hosts[1], &r->hosts[0], sizeof(int) * (HOSTS_MAX - 1));
    r->hosts[0] = fd;
}

static int accept_some(void *opaque, uint32_t guest_port, uint32_t host_port)
{
    struct run *r = opaque;
    int fds[2];

    (void)guest_port;
    if (host_port == 3)
        return VSOCK_NOT_MINE;
    if (host_port == 4)
        return -ECONNREFUSED;
    fuzz_kernel_pair(fds);
    keep_host(r, fds[0]);
    return fds[1];
}

static void say_hello(int fd, uint32_t host_port)
{
    (void)host_port;
    (void)send(fd, "hello", 5, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static uint32_t pick_host_port(struct run *r)
{
    uint8_t which = bytes_get_u8(&r->in);

    return (which & 0x80) != 0 ? VSOCK_HOST_PORT_FIRST + (which & 0x03u)
                               : (which & 0x07u);
}

static void send_packet(struct run *r, uint8_t what)
{
    uint8_t op = bytes_get_u8(&r->in);
    uint8_t flaw = bytes_get_u8(&r->in);
    uint64_t at = FUZZ_TEXT + (uint64_t)(r->tx_slot++ % SLOTS) * SLOT;
    struct drive_buffer bufs[4];
    uint16_t n = 0;
    uint32_t len = 0;
    uint32_t cut = flaw == 6 ? op : 44;
    struct vsock_header h = {.src_cid = le64_put(CID),
        .dst_cid = le64_put(VSOCK_CID_HOST),
        .src_port = le32_put(bytes_get_u8(&r->in) & 1u),
        .dst_port = le32_put(pick_host_port(r)),
        .type = le16_put(VSOCK_TYPE_STREAM),
        .op = le16_put(op & 7u)};

    h.flags = le32_put(bytes_get_u8(&r->in) & 3u);
    h.buf_alloc = le32_put((uint32_t)bytes_get_u8(&r->in) << 6);
    h.fwd_cnt = le32_put(bytes_get_u16(&r->in));
    if ((op & 7u) == VSOCK_OP_RW)
        len = bytes_get_u16(&r->in) % 0x1f01u;
    cut = (uint32_t)num_min(cut, 44);
    bufs[n++] = (struct drive_buffer){at, cut, false};
    if (cut < 44)
        bufs[n++] = (struct drive_buffer){at + cut, 44 - cut, false};
    if (flaw >= 0xf8) {
        bufs[n] = fuzz_guest_buffer(&r->in, flaw == 0xff, 8192);
        len = bufs[n++].len;
    } else if (len > 0) {
        bufs[n++] = (struct drive_buffer){FUZZ_FIXED + op, len, false};
    }
    if (flaw == 1)
        h.src_cid = le64_put(bytes_get_u64(&r->in));
    else if (flaw == 2)
        h.dst_cid = le64_put(bytes_get_u64(&r->in));
    else if (flaw == 3)
        h.type = le16_put(bytes_get_u16(&r->in));
    else if (flaw == 4)
        h.op = le16_put(bytes_get_u16(&r->in));
    h.len = le32_put(flaw == 5 ? bytes_get_u32(&r->in) : len);
    if (flaw == 7)
        n = 1;
    fuzz_guest_put(&r->guest, (uint32_t)(at - FUZZ_TEXT), &h, sizeof(h));
    fuzz_guest_add(&r->guest, VSOCK_QUEUE_TX, bufs, n, (what & 0x10) != 0);
    fuzz_guest_kick(&r->guest, VSOCK_QUEUE_TX);
}

/* A packet of a driver that keeps to the protocol. */
static void send_good(
    struct run *r, uint32_t guest_port, uint32_t host_port, enum vsock_op op)
{
    uint32_t at = r->tx_slot++ % SLOTS * SLOT;
    const struct vsock_header h = {.src_cid = le64_put(CID),
        .dst_cid = le64_put(VSOCK_CID_HOST),
        .src_port = le32_put(guest_port),
        .dst_port = le32_put(host_port),
        .type = le16_put(VSOCK_TYPE_STREAM),
        .op = le16_put((uint16_t)op),
        .buf_alloc = le32_put(0x4000)};
    const struct drive_buffer buf = {FUZZ_TEXT + at, sizeof(h), false};

    fuzz_guest_put(&r->guest, at, &h, sizeof(h));
    fuzz_guest_add(&r->guest, VSOCK_QUEUE_TX, &buf, 1, false);
    fuzz_guest_kick(&r->guest, VSOCK_QUEUE_TX);
}

/* Answers a packet of the device's as Linux does. */
static void answer(struct run *r, const struct vsock_header *h)
{
    enum vsock_op op;

    switch (le16_get(h->op)) {
    case VSOCK_OP_REQUEST:
        op = VSOCK_OP_RESPONSE;
        break;
    case VSOCK_OP_SHUTDOWN:
        op = VSOCK_OP_RST;
        break;
    case VSOCK_OP_CREDIT_REQUEST:
        op = VSOCK_OP_CREDIT_UPDATE;
        break;
    default:
        return;
    }
    send_good(r, le32_get(h->dst_port), le32_get(h->src_port), op);
}

static void drive_host(struct run *r)
{
    uint8_t what = bytes_get_u8(&r->in);
    int *fd = &r->hosts[what % HOSTS_MAX];
    uint16_t len = bytes_get_u16(&r->in) & 0x1fffu;

    if (*fd < 0)
        return;
    switch (what >> 4 & 7) {
    case 0:
    case 1:
        (void)send(*fd, r->data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case 2:
    case 3:
        (void)recv(*fd, r->data, len, MSG_DONTWAIT);
        break;
    case 4:
        (void)shutdown(*fd, SHUT_WR);
        break;
    case 5:
        (void)shutdown(*fd, SHUT_RD);
        break;
    default:
        fd_closep(fd);
        break;
    }
}

static void connect_from_host(struct run *r)
{
    const struct vsock_caller caller = {.established = say_hello};
    uint32_t guest_port = bytes_get_u8(&r->in) & 1u;
    int fds[2];
    int rc;

    fuzz_kernel_pair(fds);
    device_lock(r->guest.dev);
    rc = vsock_connect(&r->vsock, guest_port, fds[1], &caller);
    device_unlock(r->guest.dev);
    if (rc < 0)
        fd_closep(&fds[1]);
    keep_host(r, fds[0]);
}

/* A caller of the listening socket, with a line that is mostly one. */
static void call(struct run *r)
{
    uint8_t what = bytes_get_u8(&r->in);
    char line[64];
    int n = snprintf(line, sizeof(line), "CONNECT %u\n",
        (what & 0x80) != 0 ? bytes_get_u32(&r->in) : what & 1u);
    int fd;

    fd = fuzz_kernel_call(r->uds.listen_fd);
    if (fd < 0)
        return;
    if ((what & 0x60) == 0x60)
        line[what % (unsigned int)n] = (char)bytes_get_u8(&r->in);
    if ((what & 0x10) != 0)
        n = what & 0x0f;
    (void)send(fd, line, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    keep_host(r, fd);
}

static void post(struct run *r)
{
    uint8_t what = bytes_get_u8(&r->in);
    unsigned int queue =
        (what & 0x40) != 0 ? VSOCK_QUEUE_EVENT : VSOCK_QUEUE_RX;
    unsigned int n = (what & 0x40) != 0 ? what & 3u : what & 0x0fu;

    for (unsigned int i = 0; i < n; i++) {
        struct drive_buffer buf = {
            FUZZ_WRITABLE + RX_PITCH * (r->rx_slot++ % 32), 4096, true};

        if (what == 0xff)
            buf = fuzz_guest_buffer(&r->in, true, 200);
        fuzz_guest_add(&r->guest, queue, &buf, 1, (what & 0x10) != 0);
    }
    fuzz_guest_kick(&r->guest, queue);
}

/* What came for the guest, as long as its buffers are its own. */
static void receive(struct run *r, bool answers)
{
    struct drive_queue *d = &r->guest.queues[VSOCK_QUEUE_RX];
    uint32_t id;
    uint32_t len;

    while (drive_get_used(d, &id, &len)) {
        struct vsock_header h;
        struct virtq_desc desc;

        if (r->guest.wild)
            continue;
        fuzz_require(id < d->size);
        fuzz_require(gmem_read(r->guest.mem, gpa(d->desc + id * sizeof(desc)),
                         &desc, sizeof(desc)) == 0);
        /* Not one that was in a table, or has been given again since. */
        if (len == 0 || le16_get(desc.flags) != VIRTQ_DESC_F_WRITE ||
            le32_get(desc.len) != 4096)
            continue;
        fuzz_require(gmem_read(r->guest.mem, gpa(le64_get(desc.addr)), &h,
                         sizeof(h)) == 0);
        fuzz_require(len >= sizeof(h) && len <= 4096);
        if (answers)
            answer(r, &h);
    }
}

static void receive_event(struct run *r)
{
    uint32_t id;
    uint32_t len;

    while (drive_get_used(&r->guest.queues[VSOCK_QUEUE_EVENT], &id, &len))
        fuzz_require(
            r->guest.wild || len == sizeof(struct vsock_event) || len == 0);
}

static void step(struct run *r)
{
    uint8_t what = bytes_get_u8(&r->in);

    if (fuzz_kernel_count() > FDS_ENOUGH)
        fuzz_guest_run(&r->guest);
    switch (what & 15) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        send_packet(r, what);
        break;
    case 5:
        if (r->uds.vsock != NULL)
            call(r);
        break;
    case 6:
    case 7:
    case 8:
        drive_host(r);
        break;
    case 9:
        connect_from_host(r);
        break;
    case 10:
        post(r);
        break;
    case 11:
        receive(r, (what & 0x10) == 0);
        break;
    case 12:
        if ((what & 0x10) != 0)
            receive_event(r);
        else
            send_good(r, what >> 5 & 1, what >> 6 & 1, VSOCK_OP_REQUEST);
        break;
    default:
        fuzz_guest_step(&r->guest, &r->in);
        break;
    }
    if ((what & 0x80) == 0)
        fuzz_guest_run(&r->guest);
    keep_host(r, fuzz_kernel_called());
}

static void check_list(const struct vsock_conn_list *list, uint32_t *count)
{
    const struct vsock_conn *conn;

    TAILQ_FOREACH(conn, list, link)
    {
        fuzz_require(conn->list == list && conn->buffered <= conn->buf_alloc);
        fuzz_require((conn->buf != NULL) == (conn->buffered > 0));
        fuzz_require(vsock_conn_uses_fd(conn) == (conn->fd >= 0));
        fuzz_require(conn->state != VSOCK_CONN_DEAD);
        fuzz_require(conn->hashed == !conn->orphan);
        (*count)++;
    }
}

static void check(struct run *r)
{
    struct vsock_table *table = &r->vsock.table;
    const struct vsock_conn *conn;
    uint32_t count = 0;

    fuzz_guest_check(&r->guest, true);
    check_list(&table->idle, &count);
    check_list(&table->ready, &count);
    check_list(&table->lingering, &count);
    fuzz_require(count == table->count && count <= CONNECTIONS);
    TAILQ_FOREACH(conn, &table->ready, link)
    {
        fuzz_require(vsock_conn_has_packet(conn));
    }
    fuzz_require(r->vsock.reset_count <= VSOCK_RESETS_MAX);
}

/* Host programs come by socket pairs, or through a listening socket. */
static bool open_host(struct run *r, uint8_t mode)
{
    int fd;

    r->uds.vsock = NULL;
    vsock_set_accept(&r->vsock, VSOCK_ACCEPT_MONITOR,
        (mode & 0x10) == 0 ? accept_some : NULL, r);
    if ((mode & 0x20) == 0 || !r->guest.has_loop)
        return true;
    fd = fuzz_kernel_listen();
    if (vsock_uds_open(&r->uds, &r->vsock, "sock", fd, NULL) == 0)
        return true;
    fd_closep(&fd);
    r->uds.vsock = NULL;
    return false;
}

static void play(struct run *r, uint8_t mode)
{
    fuzz_guest_start(&r->guest, &r->vsock.virtio, VSOCK_QUEUES, mode,
        (mode & 0x40) != 0 ? VSOCK_F_STREAM : 0);
    while (bytes_left(&r->in) > 0) {
        step(r);
        check(r);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run run;
    struct run *r = &run;
    const struct vsock_config config = {.id = "vsock",
        .guest_cid = CID,
        .connections_max = CONNECTIONS,
        .buf_alloc = VSOCK_BUF_ALLOC_MIN};
    struct virtio_host host;
    uint8_t mode;

    bytes_reader_init(&r->in, data, size);
    /* Mostly with a loop: without one there are no connections. */
    mode = bytes_get_u8(&r->in);
    host =
        fuzz_guest_prepare(&r->guest, mode == 0x80 ? 0 : (uint8_t)(mode | 1));
    mode = bytes_get_u8(&r->in);
    for (unsigned int i = 0; i < HOSTS_MAX; i++)
        r->hosts[i] = -1;
    r->tx_slot = 0;
    r->rx_slot = 0;
    if (vsock_init(&r->vsock, &config, &host, NULL) == 0) {
        /* Those of fuzz_kernel are far above this process's own. */
        r->vsock.fd_end = INT_MAX;
        if (open_host(r, mode)) {
            play(r, mode);
            fuzz_guest_finish(&r->guest, data, size);
            vsock_uds_close(&r->uds);
        }
        vsock_fini(&r->vsock);
    }
    keep_host(r, fuzz_kernel_called());
    for (unsigned int i = 0; i < HOSTS_MAX; i++)
        fd_closep(&r->hosts[i]);
    fuzz_guest_end(&r->guest);
    return 0;
}
