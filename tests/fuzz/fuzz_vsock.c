/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket device under a driver and host programs that do anything.
 *
 * The input is a program of steps: mostly well-formed packets on a few ports,
 * seldom a broken one, with host programs that write, read, close and connect
 * in between, and the resets and loads that can come at any time.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/vsock_guest.h"
#include "virtio/spec.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define HOSTS_MAX   16u
#define STEPS_MAX   300u
#define CONNECTIONS 6u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    struct vsock_guest g;
    struct bytes_reader in;
    int hosts[HOSTS_MAX]; /* -1 or the host's end of a connection */
    uint8_t data[8192];
};

static void require(bool ok)
{
    if (!ok)
        abort();
}

/* Keeps a host's end, in place of the oldest when there are too many. */
static void keep_host(struct run *r, int fd)
{
    fd_closep(&r->hosts[HOSTS_MAX - 1]);
    memmove(&r->hosts[1], &r->hosts[0], sizeof(int) * (HOSTS_MAX - 1));
    r->hosts[0] = fd;
}

static int accept_some(void *opaque, uint32_t guest_port, uint32_t host_port)
{
    struct run *r = opaque;
    const int least = 1;
    int fds[2];

    (void)guest_port;
    if (host_port == 3)
        return VSOCK_NOT_MINE;
    if (host_port == 4)
        return -ECONNREFUSED;
    vsock_guest_pair(fds);
    (void)setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
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

    return (which & 0x80) != 0 ? VSOCK_HOST_PORT_FIRST + (which & 0x0fu)
                               : (which & 0x07u);
}

static void send_packet(struct run *r)
{
    uint8_t op = bytes_get_u8(&r->in);
    uint8_t flaw = bytes_get_u8(&r->in);
    uint32_t guest_port = bytes_get_u8(&r->in) & 3u;
    struct vsock_header h = vsock_guest_header(
        guest_port, pick_host_port(r), (enum vsock_op)(op & 7u));
    uint32_t len =
        (op & 7u) == VSOCK_OP_RW ? bytes_get_u16(&r->in) & 0x1fffu : 0;

    h.flags = le32_put(bytes_get_u8(&r->in));
    h.buf_alloc = le32_put((uint32_t)bytes_get_u8(&r->in) << 6);
    h.fwd_cnt = le32_put(bytes_get_u16(&r->in));
    if (flaw == 1)
        h.src_cid = le64_put(bytes_get_u64(&r->in));
    else if (flaw == 2)
        h.dst_cid = le64_put(bytes_get_u64(&r->in));
    else if (flaw == 3)
        h.type = le16_put(bytes_get_u16(&r->in));
    else if (flaw == 4)
        h.op = le16_put(bytes_get_u16(&r->in));
    h.len = le32_put(flaw == 5 ? bytes_get_u32(&r->in) : len);
    if (flaw == 5)
        vsock_guest_send_raw(&r->g, &h, sizeof(h), 44);
    else
        vsock_guest_send(&r->g, &h, r->data, len,
            flaw == 6 ? (len + 44) / 90 + 1 + (op >> 3) : 0);
}

static void send_bytes(struct run *r)
{
    uint32_t len = (uint32_t)num_min(bytes_get_u8(&r->in), bytes_left(&r->in));
    const uint8_t *bytes = bytes_take(&r->in, len);

    if (bytes != NULL)
        vsock_guest_send_raw(&r->g, bytes, len, 0);
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
    uint32_t guest_port = bytes_get_u8(&r->in) & 3u;
    int fds[2];
    int rc;

    vsock_guest_pair(fds);
    device_lock(&r->g.vsock.virtio.base);
    rc = vsock_connect(&r->g.vsock, guest_port, fds[1], say_hello);
    device_unlock(&r->g.vsock.virtio.base);
    if (rc < 0)
        (void)close(fds[1]);
    keep_host(r, fds[0]);
}

static void lifecycle(struct run *r)
{
    struct device *dev = &r->g.vsock.virtio.base;
    uint8_t what = bytes_get_u8(&r->in);

    if (what < 0x40) {
        device_lock(dev);
        require(dev->ops->quiesce(dev, NULL) == 0);
        device_unlock(dev);
    } else if (what < 0xa0) {
        device_lock(dev);
        dev->ops->resume(dev);
        device_unlock(dev);
    } else if (what < 0xd0) {
        device_lock(dev);
        /* The state as it is: always one that was saved by us. */
        require(dev->ops->quiesce(dev, NULL) == 0);
        require(dev->ops->post_load(dev, NULL) == 0);
        dev->ops->resume(dev);
        device_unlock(dev);
    } else if (what < 0xe0) {
        drive_write(dev, VIRTIO_MMIO_QUEUE_SEL, what & 3u);
        drive_write(dev, VIRTIO_MMIO_QUEUE_RESET, 1);
    } else if (what < 0xf0) {
        drive_write(dev, VIRTIO_MMIO_STATUS, 0);
        vsock_guest_drive(&r->g);
    } else {
        /* A corrupt driver; only a reset helps. */
        drive_set_avail_idx(
            &r->g.queues[what % VSOCK_QUEUES], bytes_get_u16(&r->in));
        drive_kick(dev, what % VSOCK_QUEUES);
        (void)vsock_guest_run(&r->g);
        drive_write(dev, VIRTIO_MMIO_STATUS, 0);
        vsock_guest_drive(&r->g);
    }
}

static void post_buffers(struct run *r)
{
    uint8_t what = bytes_get_u8(&r->in);

    r->g.rx_size = what == 0xff ? bytes_get_u8(&r->in) : 4096;
    if ((what & 0x40) != 0)
        vsock_guest_post_event(&r->g, (what & 1u) != 0 ? 2 : 1);
    else
        vsock_guest_post_rx(&r->g, what & 0x1fu);
    r->g.rx_size = 4096;
}

static void step(struct run *r)
{
    struct vsock_guest_packet p;
    uint8_t what = bytes_get_u8(&r->in);
    uint32_t id;

    switch (what & 15) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        send_packet(r);
        break;
    case 5:
        send_bytes(r);
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
        post_buffers(r);
        break;
    case 11:
    case 12:
        while (vsock_guest_receive(&r->g, (what & 0x10) != 0, &p) &&
               (what & 0x20) == 0)
            (void)vsock_guest_sent(&r->g);
        break;
    case 13:
        (void)vsock_guest_event(&r->g, (what & 0x10) != 0, &id);
        break;
    case 14:
        lifecycle(r);
        break;
    default:
        break;
    }
    if ((what & 0x80) == 0)
        (void)vsock_guest_run(&r->g);
}

static void check_list(const struct vsock_conn_list *list, uint32_t *count)
{
    const struct vsock_conn *conn;

    TAILQ_FOREACH(conn, list, link)
    {
        require(conn->list == list && conn->buffered <= conn->buf_alloc);
        require((conn->buf != NULL) == (conn->buffered > 0));
        require(vsock_conn_uses_fd(conn) == (conn->fd >= 0));
        require(conn->state != VSOCK_CONN_DEAD);
        require(conn->hashed == !conn->orphan);
        (*count)++;
    }
}

static void check(struct run *r)
{
    struct vsock_table *table = &r->g.vsock.table;
    const struct vsock_conn *conn;
    uint32_t count = 0;

    check_list(&table->idle, &count);
    check_list(&table->ready, &count);
    check_list(&table->lingering, &count);
    require(count == table->count && count <= CONNECTIONS);
    TAILQ_FOREACH(conn, &table->ready, link)
    {
        require(vsock_conn_has_packet(conn));
    }
    require(r->g.vsock.reset_count <= VSOCK_RESETS_MAX);
    for (unsigned int i = 0; i < VSOCK_QUEUES; i++)
        require(r->g.vsock.virtio.queues[i].q.inflight == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run run;
    struct vsock_guest_config config = {
        .connections_max = CONNECTIONS, .buf_alloc = VSOCK_BUF_ALLOC_MIN};
    uint8_t mode;

    bytes_reader_init(&run.in, data, size);
    mode = bytes_get_u8(&run.in);
    config.rx_buffers = mode & 0x1f;
    config.event_buffers = (mode & 0x20) != 0 ? 8 : 0;
    config.features = VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET |
                      ((mode & 0x40) != 0 ? VIRTIO_F_EVENT_IDX : 0);
    config.without_loop = mode >= 0xf8;
    for (unsigned int i = 0; i < HOSTS_MAX; i++)
        run.hosts[i] = -1;
    vsock_guest_start(&run.g, &config);
    vsock_set_accept(&run.g.vsock, VSOCK_ACCEPT_BACKEND, accept_some, &run);
    for (unsigned int i = 0; i < STEPS_MAX && bytes_left(&run.in) > 0; i++) {
        step(&run);
        check(&run);
    }
    vsock_guest_stop(&run.g);
    for (unsigned int i = 0; i < HOSTS_MAX; i++)
        fd_closep(&run.hosts[i]);
    return 0;
}
