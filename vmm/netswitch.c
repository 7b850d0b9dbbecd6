/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/netswitch.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

_Static_assert(NETSWITCH_IN_BYTES >= NETSWITCH_PREFIX + NET_FRAME_MAX,
    "the longest frame fits, so that reading always goes on");
_Static_assert(NETSWITCH_OUT_BYTES >= NETSWITCH_PREFIX + NET_FRAME_MAX,
    "the rest of any frame fits an empty queue");

#define TO_ALL     NETSWITCH_NO_PORT
#define TO_NOBODY  (NETSWITCH_NO_PORT - 1)
#define GROUP_BIT  (UINT64_C(1) << 40)
#define RESERVED   UINT64_C(0x0180c2000000)
#define STATS_EACH (sizeof(struct netswitch_stats) / sizeof(uint64_t))

/* Frames that follow each other in a buffer and go the same way. */
struct run {
    const uint8_t *data; /* with prefixes */
    size_t len;
    uint32_t to;
};

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           p[3];
}

static uint64_t get_mac(const uint8_t *p)
{
    return (uint64_t)p[0] << 40 | (uint64_t)p[1] << 32 | get_be32(p + 2);
}

static void add_stats(
    struct netswitch_stats *sum, const struct netswitch_stats *s)
{
    uint64_t all[STATS_EACH];
    uint64_t one[STATS_EACH];

    memcpy(all, sum, sizeof(all));
    memcpy(one, s, sizeof(one));
    for (size_t i = 0; i < STATS_EACH; i++)
        all[i] += one[i];
    memcpy(sum, all, sizeof(all));
}

static bool is_open(const struct netswitch_port *port)
{
    return port->source.fd >= 0;
}

static void free_port(struct netswitch_port *port)
{
    struct netswitch *sw = port->sw;

    loop_remove(sw->loop, &port->source);
    loop_timer_disarm(sw->loop, &port->resume);
    fd_closep(&port->source.fd);
    free(port->in);
    free(port->out);
    port->in = NULL;
    port->out = NULL;
}

static void close_port(struct netswitch_port *port)
{
    struct netswitch *sw = port->sw;

    free_port(port);
    add_stats(&sw->closed, &port->stats);
    netswitch_macs_forget(&sw->macs, port->index);
    sw->open--;
    while (sw->above > 0 && !is_open(&sw->ports[sw->above - 1]))
        sw->above--;
    if (sw->config.on_close != NULL)
        sw->config.on_close(sw->config.opaque, sw->open);
}

/* Asks for the events that the port's state calls for; false: it was closed. */
static bool watch(struct netswitch_port *port)
{
    uint32_t want =
        (port->resume.armed ? 0 : EPOLLIN) | (port->out_len > 0 ? EPOLLOUT : 0);

    if (want == port->watched)
        return true;
    if (loop_change(port->sw->loop, &port->source, want) < 0) {
        close_port(port);
        return false;
    }
    port->watched = want;
    return true;
}

/* Bytes that the socket took, or -1 if the other end is gone. */
static ssize_t write_some(
    struct netswitch_port *port, struct iovec *iov, size_t count)
{
    const struct msghdr msg = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t n = sendmsg(port->source.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS))
        return 0;
    return n;
}

/* There is room. */
static void enqueue(
    struct netswitch_port *port, const uint8_t *data, size_t len)
{
    size_t end = (port->out_start + port->out_len) % NETSWITCH_OUT_BYTES;
    size_t first = (size_t)num_min(len, NETSWITCH_OUT_BYTES - end);

    assert(len <= NETSWITCH_OUT_BYTES - port->out_len);
    memcpy(port->out + end, data, first);
    memcpy(port->out, data + first, len - first);
    port->out_len += len;
}

/* What the queue holds, as far as the socket takes it; false: closed. */
static bool flush(struct netswitch_port *port)
{
    size_t first =
        (size_t)num_min(port->out_len, NETSWITCH_OUT_BYTES - port->out_start);
    struct iovec iov[2] = {
        {.iov_base = port->out + port->out_start, .iov_len = first},
        {.iov_base = port->out, .iov_len = port->out_len - first}};
    ssize_t n;

    if (port->out_len == 0)
        return true;
    n = write_some(port, iov, 2);
    if (n < 0) {
        close_port(port);
        return false;
    }
    port->out_start = (port->out_start + (size_t)n) % NETSWITCH_OUT_BYTES;
    port->out_len -= (size_t)n;
    if (port->out_len == 0)
        port->out_start = 0;
    return watch(port);
}

/*
 * Counts the frames of a run of which the first `sent` bytes are on their
 * way, and queues the others while there is room. Of a frame that was cut the
 * rest always fits: it was the socket's own queue that was full, ours was
 * empty.
 */
static void account(
    struct netswitch_port *port, const struct run *run, size_t sent)
{
    size_t len;

    for (size_t at = 0; at < run->len; at += len) {
        size_t done = (size_t)num_min(sent, run->len);

        len = NETSWITCH_PREFIX + get_be32(run->data + at);
        if (done < at + len) {
            size_t from = (size_t)num_max(done, at);

            if (at + len - from > NETSWITCH_OUT_BYTES - port->out_len) {
                port->stats.tx_dropped++;
                continue;
            }
            enqueue(port, run->data + from, at + len - from);
        }
        port->stats.tx_frames++;
        port->stats.tx_bytes += len - NETSWITCH_PREFIX;
    }
}

static void send_run(struct netswitch_port *port, const struct run *run)
{
    struct iovec iov = {
        .iov_base = (void *)(uintptr_t)run->data, .iov_len = run->len};
    ssize_t n = 0;

    if (port->out_len == 0)
        n = write_some(port, &iov, 1);
    if (n < 0) {
        close_port(port);
        return;
    }
    account(port, run, (size_t)n);
    (void)watch(port);
}

static void forward_run(struct netswitch_port *from, const struct run *run)
{
    struct netswitch *sw = from->sw;

    if (run->len == 0 || run->to == TO_NOBODY)
        return;
    if (run->to != TO_ALL) {
        /* It may have gone with a frame before. */
        if (is_open(&sw->ports[run->to]))
            send_run(&sw->ports[run->to], run);
        return;
    }
    for (uint32_t i = 0; i < sw->above; i++) {
        if (i != from->index && is_open(&sw->ports[i]))
            send_run(&sw->ports[i], run);
    }
}

/* Where a frame of `len` bytes from `port` goes; learns its source. */
static uint32_t route(struct netswitch_port *port, const uint8_t *frame,
    uint32_t len, uint64_t now_ns)
{
    struct netswitch *sw = port->sw;
    uint64_t to;
    uint64_t from;
    uint32_t at;

    if (len < NET_FRAME_MIN) {
        port->stats.rx_runt++;
        return TO_NOBODY;
    }
    to = get_mac(frame);
    from = get_mac(frame + NET_MAC_BYTES);
    if (from == 0 || (from & GROUP_BIT) != 0) {
        port->stats.rx_source++;
        return TO_NOBODY;
    }
    if (!netswitch_macs_learn(&sw->macs, from, port->index, now_ns)) {
        port->stats.rx_stolen++;
        return TO_NOBODY;
    }
    /* 802.1Q, 8.6.3: these are between neighbours. */
    if ((to & ~UINT64_C(0xf)) == RESERVED) {
        port->stats.rx_filtered++;
        return TO_NOBODY;
    }
    if ((to & GROUP_BIT) != 0)
        return TO_ALL;
    at = netswitch_macs_find(&sw->macs, to, now_ns);
    if (at == port->index) {
        port->stats.rx_filtered++;
        return TO_NOBODY;
    }
    return at == NETSWITCH_NO_PORT ? TO_ALL : at;
}

/* Whether the rate limit lets a frame pass; else the port is paused. */
static bool take_rate(
    struct netswitch_port *port, uint32_t len, uint64_t now_ns)
{
    uint64_t wait_ns = rate_take(&port->rate, now_ns, len, 1);

    if (wait_ns == 0)
        return true;
    port->stats.rx_paused++;
    loop_timer_arm(port->sw->loop, &port->resume, now_ns + wait_ns);
    return false;
}

/*
 * Takes the next frame of `port` into a run: 1, 0 if it is not all there or
 * may not pass yet, -EPROTO. A run ends where one begins that goes elsewhere.
 */
static int take_frame(
    struct netswitch_port *port, struct run *run, uint64_t now_ns)
{
    const uint8_t *p = port->in + port->in_start;
    uint32_t len;
    uint32_t to;

    if (port->in_len < NETSWITCH_PREFIX)
        return 0;
    len = get_be32(p);
    if (len == 0 || len > NET_FRAME_MAX)
        return -EPROTO;
    if (port->in_len - NETSWITCH_PREFIX < len || !take_rate(port, len, now_ns))
        return 0;
    port->stats.rx_frames++;
    port->stats.rx_bytes += len;
    to = route(port, p + NETSWITCH_PREFIX, len, now_ns);
    if (run->len > 0 && run->to != to) {
        forward_run(port, run);
        run->len = 0;
    }
    if (run->len == 0)
        *run = (struct run){.data = p, .to = to};
    run->len += NETSWITCH_PREFIX + len;
    port->in_start += NETSWITCH_PREFIX + len;
    port->in_len -= NETSWITCH_PREFIX + len;
    return 1;
}

/* Forwards all whole frames that were read. */
static void forward(struct netswitch_port *port)
{
    uint64_t now_ns = clock_now_ns();
    struct run run = {0};
    int rc;

    do {
        rc = take_frame(port, &run, now_ns);
    } while (rc > 0);
    forward_run(port, &run);
    if (rc < 0) {
        port->stats.violations++;
        close_port(port);
        return;
    }
    (void)watch(port);
}

/* One read, so that a busy port does not keep others waiting. */
static void receive(struct netswitch_port *port)
{
    ssize_t n;

    if (port->in_start > 0) {
        memmove(port->in, port->in + port->in_start, port->in_len);
        port->in_start = 0;
    }
    n = recv(port->source.fd, port->in + port->in_len,
        NETSWITCH_IN_BYTES - port->in_len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        close_port(port);
        return;
    }
    port->in_len += (size_t)n;
    forward(port);
}

static void on_event(void *opaque, uint32_t events)
{
    struct netswitch_port *port = opaque;

    if ((events & EPOLLOUT) != 0 && !flush(port))
        return;
    if (!port->resume.armed)
        receive(port);
    else if ((events & (EPOLLHUP | EPOLLERR)) != 0)
        /* It would be reported for ever while nothing is read. */
        close_port(port);
}

static void on_resume(void *opaque)
{
    forward(opaque);
}

int netswitch_init(struct netswitch *sw, struct loop *loop,
    const struct netswitch_config *config, struct err *err)
{
    int rc;

    assert(config->ports_max > 0 && config->ports_max <= NETSWITCH_PORTS_MAX);
    *sw = (struct netswitch){.loop = loop, .config = *config};
    sw->ports = calloc(config->ports_max, sizeof(sw->ports[0]));
    if (sw->ports == NULL)
        return err_sys(err, ENOMEM, "switch: ports");
    for (uint32_t i = 0; i < config->ports_max; i++)
        sw->ports[i].source.fd = -1;
    rc = netswitch_macs_init(
        &sw->macs, config->ports_max, config->age_ns, config->hold_ns, err);
    if (rc < 0) {
        free(sw->ports);
        sw->ports = NULL;
    }
    return rc;
}

void netswitch_fini(struct netswitch *sw)
{
    if (sw->ports == NULL)
        return;
    for (uint32_t i = 0; i < sw->above; i++) {
        if (is_open(&sw->ports[i]))
            free_port(&sw->ports[i]);
    }
    netswitch_macs_fini(&sw->macs);
    free(sw->ports);
    *sw = (struct netswitch){0};
}

/* Fills in a free port; the socket is in its source already. */
static int open_port(struct netswitch_port *port, struct err *err)
{
    struct netswitch *sw = port->sw;
    int rc;

    rate_init(&port->rate, &sw->config.rate, &port->rate_state, clock_now_ns());
    port->in = malloc(NETSWITCH_IN_BYTES);
    port->out = malloc(NETSWITCH_OUT_BYTES);
    if (port->in == NULL || port->out == NULL)
        return err_sys(err, ENOMEM, "switch: buffers of a port");
    rc = loop_add(sw->loop, &port->source, EPOLLIN);
    if (rc < 0)
        return err_sys(err, rc, "switch: cannot watch a port");
    port->watched = EPOLLIN;
    return 0;
}

int netswitch_add_port(struct netswitch *sw, int fd, struct err *err)
{
    struct netswitch_port *port = sw->ports;
    int type = 0;
    socklen_t size = sizeof(type);
    int rc;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
        return err_sys(err, errno, "switch: descriptor %d", fd);
    if (type != SOCK_STREAM)
        return err_set(
            err, EINVAL, "switch: descriptor %d is no stream socket", fd);
    if (sw->open == sw->config.ports_max)
        return err_set(err, ENOSPC, "switch: all %u ports are taken", sw->open);
    while (is_open(port))
        port++;
    *port = (struct netswitch_port){.sw = sw,
        .index = (uint32_t)(port - sw->ports),
        .source = {.fd = fd, .handle = on_event, .opaque = port},
        .resume = {.fire = on_resume, .opaque = port}};
    rc = open_port(port, err);
    if (rc < 0) {
        (void)fd_steal(&port->source.fd);
        free_port(port);
        return rc;
    }
    sw->open++;
    sw->opened++;
    sw->above = (uint32_t)num_max(sw->above, port->index + 1);
    return 0;
}

struct netswitch_stats netswitch_total(const struct netswitch *sw)
{
    struct netswitch_stats sum = sw->closed;

    for (uint32_t i = 0; i < sw->above; i++) {
        if (is_open(&sw->ports[i]))
            add_stats(&sum, &sw->ports[i].stats);
    }
    return sum;
}
