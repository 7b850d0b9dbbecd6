/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/net_stream.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

_Static_assert(NET_STREAM_IN_BYTES >= NET_STREAM_OUT_BYTES,
    "the longest frame fits, so that reading always goes on");

static struct net_stream *from_backend(struct net_backend *b)
{
    return container_of(b, struct net_stream, backend);
}

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           p[3];
}

static void put_be32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static int lose_peer(struct net_stream *s)
{
    s->gone = true;
    s->out_len = 0;
    s->backend.holds_output = false;
    return -ENOTCONN;
}

/* Bytes written, -EAGAIN for none, -ENOTCONN. */
static ssize_t write_some(
    struct net_stream *s, struct iovec *iov, unsigned int count)
{
    const struct msghdr msg = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t n = sendmsg(s->backend.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n > 0)
        return n;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return -EAGAIN;
    return lose_peer(s);
}

static int flush(struct net_backend *b)
{
    struct net_stream *s = from_backend(b);
    struct iovec iov = {
        .iov_base = s->out + s->out_start, .iov_len = s->out_len};
    ssize_t n;

    if (s->gone)
        return -ENOTCONN;
    if (s->out_len == 0)
        return 0;
    n = write_some(s, &iov, 1);
    if (n < 0)
        return (int)n;
    s->out_start += (size_t)n;
    s->out_len -= (size_t)n;
    b->holds_output = s->out_len > 0;
    return s->out_len > 0 ? -EAGAIN : 0;
}

/* Keeps what lies behind the first `done` bytes of a frame; there is room. */
static void keep_rest(struct net_stream *s, const struct iovec *iov,
    unsigned int count, size_t done)
{
    s->out_start = 0;
    s->out_len = 0;
    for (unsigned int i = 0; i < count; i++) {
        size_t skip = (size_t)num_min(done, iov[i].iov_len);
        size_t n = iov[i].iov_len - skip;

        done -= skip;
        if (n == 0)
            continue;
        assert(n <= NET_STREAM_OUT_BYTES - s->out_len);
        memcpy(s->out + s->out_len, (const uint8_t *)iov[i].iov_base + skip, n);
        s->out_len += n;
    }
    s->backend.holds_output = s->out_len > 0;
}

static int send_frame(
    struct net_backend *b, struct iovec *iov, unsigned int count, size_t len)
{
    struct net_stream *s = from_backend(b);
    struct iovec all[NET_QUEUE_SIZE_MAX + 1];
    uint8_t prefix[NET_STREAM_PREFIX];
    ssize_t n;
    int rc = flush(b);

    if (rc < 0)
        return rc;
    assert(len > 0 && len <= NET_FRAME_MAX && count < ARRAY_SIZE(all));
    put_be32(prefix, (uint32_t)len);
    all[0] = (struct iovec){.iov_base = prefix, .iov_len = sizeof(prefix)};
    memcpy(all + 1, iov, count * sizeof(iov[0]));
    n = write_some(s, all, count + 1);
    if (n < 0)
        return (int)n;
    if ((size_t)n < sizeof(prefix) + len)
        keep_rest(s, all, count + 1, (size_t)n);
    return 0;
}

/* One read, of as much as there is room for: 0 if there was some. */
static int read_ahead(struct net_stream *s)
{
    ssize_t n;

    if (s->in_start > 0) {
        memmove(s->in, s->in + s->in_start, s->in_len);
        s->in_start = 0;
    }
    n = recv(s->backend.fd, s->in + s->in_len, NET_STREAM_IN_BYTES - s->in_len,
        MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return -EAGAIN;
    /* A frame that was cut off by the end is lost with the peer. */
    if (n <= 0)
        return lose_peer(s);
    s->in_len += (size_t)n;
    return 0;
}

/* The bytes of the frame at the front, 0 if it is not all there, -EPROTO. */
static int64_t front_frame(const struct net_stream *s)
{
    uint32_t len;

    if (s->in_len < NET_STREAM_PREFIX)
        return 0;
    len = get_be32(s->in + s->in_start);
    if (len == 0 || len > NET_FRAME_MAX)
        return -EPROTO;
    return s->in_len - NET_STREAM_PREFIX >= len ? (int64_t)len : 0;
}

/*
 * Takes at most one look at the socket, so that a peer that sends byte by
 * byte is waited for by the loop and not here.
 */
static ssize_t receive_frame(
    struct net_backend *b, struct iovec *iov, unsigned int count)
{
    struct net_stream *s = from_backend(b);
    const uint8_t *from;
    int64_t len;
    size_t left;
    int rc;

    if (s->gone)
        return -ENOTCONN;
    len = front_frame(s);
    if (len == 0) {
        rc = read_ahead(s);
        if (rc < 0)
            return rc;
        len = front_frame(s);
    }
    if (len < 0)
        return lose_peer(s);
    if (len == 0)
        return -EAGAIN;
    from = s->in + s->in_start + NET_STREAM_PREFIX;
    left = (size_t)len;
    for (unsigned int i = 0; i < count && left > 0; i++) {
        size_t n = (size_t)num_min(left, iov[i].iov_len);

        memcpy(iov[i].iov_base, from, n);
        from += n;
        left -= n;
    }
    assert(left == 0);
    s->in_start += NET_STREAM_PREFIX + (size_t)len;
    s->in_len -= NET_STREAM_PREFIX + (size_t)len;
    return (ssize_t)len;
}

static const struct net_backend_ops stream_ops = {
    .send = send_frame,
    .receive = receive_frame,
    .flush = flush,
};

int net_stream_init(struct net_stream *s, int fd, struct err *err)
{
    int type = 0;
    socklen_t size = sizeof(type);
    int rc;

    *s = (struct net_stream){.backend.fd = -1};
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
        return err_sys(err, errno, "network: descriptor %d", fd);
    if (type != SOCK_STREAM)
        return err_set(
            err, EINVAL, "network: descriptor %d is no stream socket", fd);
    rc = fd_set_nonblocking(fd, true);
    if (rc < 0)
        return err_sys(err, rc, "network: descriptor %d", fd);
    s->in = malloc(NET_STREAM_IN_BYTES);
    s->out = malloc(NET_STREAM_OUT_BYTES);
    if (s->in == NULL || s->out == NULL) {
        net_stream_fini(s);
        return err_sys(err, ENOMEM, "network: buffers of a stream");
    }
    s->backend = (struct net_backend){
        .ops = &stream_ops, .fd = fd, .frame_max = NET_FRAME_MAX};
    return 0;
}

int net_stream_connect(struct net_stream *s, const char *path, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    CC_CLEANUP(fd_closep) int fd = -1;
    int rc;

    *s = (struct net_stream){.backend.fd = -1};
    if (strlen(path) >= sizeof(addr.sun_path))
        return err_set(err, ENAMETOOLONG,
            "network: socket path of more than %zu bytes: %s",
            sizeof(addr.sun_path) - 1, path);
    memcpy(addr.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(err, errno, "network: cannot create a socket");
    if (connect(fd, (const struct sockaddr *)(const void *)&addr,
            sizeof(addr)) < 0) {
        rc = -errno;
        if (rc == -ENOENT || rc == -ECONNREFUSED)
            return err_sys(err, rc,
                "network: nobody listens at %s; start `passt -f -s %s` first",
                path, path);
        return err_sys(err, rc, "network: cannot connect to %s", path);
    }
    rc = net_stream_init(s, fd, err);
    if (rc == 0)
        (void)fd_steal(&fd);
    return rc;
}

void net_stream_fini(struct net_stream *s)
{
    if (s->backend.ops != NULL)
        fd_closep(&s->backend.fd);
    s->backend.ops = NULL;
    free(s->in);
    free(s->out);
    s->in = NULL;
    s->out = NULL;
}
