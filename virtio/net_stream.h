/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network backend on a connected stream socket: each frame with its length
 * of 32 bits, big-endian, in front. passt speaks this on its Unix socket, and
 * so does qemu's "-netdev stream".
 *
 * Owns the socket, and two buffers that bound what it keeps: bytes read ahead,
 * and what the socket did not take of the one frame that was being sent.
 * Thread rule: as virtio/net.h has it for backends. The peer is not trusted:
 * a length of 0 or above NET_FRAME_MAX ends the connection, as there is no
 * way to find the next frame; the frames themselves are not looked at.
 */
#ifndef VIRTIO_NET_STREAM_H
#define VIRTIO_NET_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "virtio/net.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define NET_STREAM_PREFIX 4u

/* Room for the longest frame, and so many shorter ones that reads are few. */
#define NET_STREAM_IN_BYTES  ((size_t)256 << 10)
#define NET_STREAM_OUT_BYTES (NET_STREAM_PREFIX + (size_t)NET_FRAME_MAX)

struct net_stream {
    struct net_backend backend; /* backend.fd is the socket, non-blocking */
    uint8_t *in;                /* NET_STREAM_IN_BYTES */
    size_t in_start;            /* of what was not handed out yet */
    size_t in_len;
    uint8_t *out;     /* NET_STREAM_OUT_BYTES */
    size_t out_start; /* of what was not written yet */
    size_t out_len;
    bool gone;
};

/*
 * Takes `fd`, a connected stream socket, which is the backend's from then on;
 * on failure it stays the caller's. 0, -ENOMEM, or -ENOTSOCK and -EINVAL for
 * what is no stream socket.
 */
CC_MUST_CHECK int net_stream_init(
    struct net_stream *s, int fd, struct err *err);

/*
 * Connects to the Unix socket at `path`. 0 or -errno; the error says what to
 * start if nobody listens there.
 */
CC_MUST_CHECK int net_stream_connect(
    struct net_stream *s, const char *path, struct err *err);

/* A zeroed struct, or one whose init failed, is let be. */
void net_stream_fini(struct net_stream *s);

#endif
