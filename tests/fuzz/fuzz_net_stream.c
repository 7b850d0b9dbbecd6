/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream backend against a peer that sends anything, cut anywhere, reads
 * when it likes and goes away.
 *
 * Input: steps. What comes out is compared with a plain reading of the same
 * bytes, and what goes in is read back whole, frame by frame.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/fuzz/support/fuzz_guest.h"
#include "tests/fuzz/support/fuzz_kernel.h"
#include "virtio/net_stream.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TOTAL_MAX ((size_t)1 << 20)
#define PREFIX    4u

struct run {
    struct net_stream s;
    int peer;
    uint8_t *bytes; /* all that the peer sent */
    size_t have;
    size_t read; /* of these, up to the next frame */
    uint8_t frame[NET_FRAME_MAX];
    uint8_t *back;    /* all that the peer read */
    size_t back_have; /* bytes */
    size_t back_read; /* of these, whole frames */
    uint64_t sent;    /* frames that were taken */
    uint64_t came;    /* of these, read whole */
    bool over;        /* the backend has said that the peer is gone */
};

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           p[3];
}

/* What the next frame must be: its length, 0 not yet, -1 refused. */
static int64_t expected(const struct run *r)
{
    const uint8_t *p = r->bytes + r->read;
    uint32_t len;

    if (r->have - r->read < PREFIX)
        return 0;
    len = get_be32(p);
    if (len == 0 || len > NET_FRAME_MAX)
        return -1;
    return r->have - r->read - PREFIX >= len ? (int64_t)len : 0;
}

/* Takes all frames that are there. */
static void take_frames(struct run *r, size_t cut)
{
    struct net_backend *b = &r->s.backend;
    unsigned int looks = 0;

    while (!r->over) {
        struct iovec iov[2] = {{.iov_base = r->frame, .iov_len = cut},
            {.iov_base = r->frame + cut, .iov_len = sizeof(r->frame) - cut}};
        int64_t want = expected(r);
        ssize_t n = b->ops->receive(b, iov, 2);

        fuzz_require(r->s.in_start + r->s.in_len <= NET_STREAM_IN_BYTES);
        if (n == -EAGAIN) {
            /* One look at the socket may not be enough for a long frame. */
            if (want == 0)
                return;
            fuzz_require(++looks < 8);
            continue;
        }
        if (n == -ENOTCONN) {
            /* The peer sent what is no frame, or ended, or a call failed. */
            r->over = true;
            return;
        }
        fuzz_require(n > 0 && n == want);
        fuzz_require(
            memcmp(r->frame, r->bytes + r->read + PREFIX, (size_t)n) == 0);
        r->read += PREFIX + (size_t)n;
    }
}

/* The peer sends, as much of it as there is room for. */
static void speak(struct run *r, struct bytes_reader *in)
{
    uint8_t shape = bytes_get_u8(in);
    uint32_t len = bytes_get_u16(in);
    size_t want = len % 0x180u;
    size_t start = r->have;
    ssize_t n;

    if (TOTAL_MAX - r->have < NET_FRAME_MAX + PREFIX || r->peer < 0)
        return;
    if ((shape & 0x80) == 0) {
        /* A frame with its length, of which some may be missing. */
        r->bytes[start] = 0;
        r->bytes[start + 1] = (uint8_t)((shape & 0x7f) == 0x7f);
        r->bytes[start + 2] = (uint8_t)(len >> 8);
        r->bytes[start + 3] = (uint8_t)len;
        want = PREFIX + len - ((shape & 0x40) != 0 ? shape & 3u : 0);
        if (want < PREFIX || want > NET_FRAME_MAX + PREFIX)
            want = PREFIX;
        memset(r->bytes + start + PREFIX, shape, want - PREFIX);
    } else {
        want = (size_t)num_min(want, bytes_left(in));
        bytes_get(in, r->bytes + start, want);
    }
    n = want == 0 ? 0
                  : send(r->peer, r->bytes + start, want,
                        MSG_DONTWAIT | MSG_NOSIGNAL);
    r->have += n > 0 ? (size_t)n : 0;
    take_frames(r, shape);
}

/* The device sends a frame of one byte's value, cut in two. */
static void transmit(struct run *r, struct bytes_reader *in)
{
    struct net_backend *b = &r->s.backend;
    uint16_t len = bytes_get_u16(in);
    uint16_t cut = bytes_get_u16(in);
    struct iovec iov[2];
    bool held = b->holds_output;
    int rc;

    len = (uint16_t)num_max(len, NET_FRAME_MIN);
    cut %= len;
    memset(r->frame, (int)(r->sent & 0xff), len);
    iov[0] = (struct iovec){.iov_base = r->frame, .iov_len = cut};
    iov[1] = (struct iovec){
        .iov_base = r->frame + cut, .iov_len = (size_t)(len - cut)};
    rc = b->ops->send(b, iov, 2, len);
    fuzz_require(rc == 0 || rc == -EAGAIN || rc == -ENOTCONN);
    fuzz_require(rc == 0 || !b->holds_output || held);
    fuzz_require(!r->over || rc == -ENOTCONN);
    r->sent += rc == 0;
    r->over = r->over || rc == -ENOTCONN;
}

/* The peer reads: whole frames in order, and nothing in between. */
static void listen_to(struct run *r, size_t most)
{
    ssize_t n;

    if (r->peer < 0 || r->back_have == TOTAL_MAX)
        return;
    most = (size_t)num_min(most, TOTAL_MAX - r->back_have);
    n = recv(r->peer, r->back + r->back_have, most, MSG_DONTWAIT);
    r->back_have += n > 0 ? (size_t)n : 0;
    while (r->back_have - r->back_read >= PREFIX) {
        const uint8_t *p = r->back + r->back_read;
        uint32_t len = get_be32(p);

        fuzz_require(len >= NET_FRAME_MIN && len <= NET_FRAME_MAX);
        if (r->back_have - r->back_read - PREFIX < len)
            break;
        fuzz_require(r->came < r->sent);
        for (uint32_t i = 0; i < len; i += 64)
            fuzz_require(p[PREFIX + i] == (uint8_t)r->came);
        fuzz_require(p[PREFIX + len - 1] == (uint8_t)r->came);
        r->back_read += PREFIX + len;
        r->came++;
    }
}

static void flush(struct run *r)
{
    struct net_backend *b = &r->s.backend;
    int rc = b->ops->flush(b);

    fuzz_require(rc == 0 || rc == -EAGAIN || rc == -ENOTCONN);
    fuzz_require(rc == -EAGAIN || !b->holds_output);
    fuzz_require(!r->over || rc == -ENOTCONN);
    r->over = r->over || rc == -ENOTCONN;
}

static void step(struct run *r, struct bytes_reader *in)
{
    static const int errors[] = {EINTR, EAGAIN, ECONNRESET, EPIPE};
    uint8_t what = bytes_get_u8(in);

    switch (what % 8) {
    case 0:
    case 1:
        speak(r, in);
        break;
    case 2:
        transmit(r, in);
        break;
    case 3:
        listen_to(r, bytes_get_u16(in) * (size_t)8 + 1);
        break;
    case 4:
        flush(r);
        break;
    case 5:
        fuzz_kernel_fail(
            (what & 0x80) != 0 ? FUZZ_KERNEL_SEND : FUZZ_KERNEL_RECV,
            what >> 5 & 1, errors[what >> 3 & 3]);
        break;
    case 6:
        take_frames(r, what);
        break;
    default:
        if (what >= 0xf0)
            fd_closep(&r->peer);
        else if (what >= 0xe0 && r->peer >= 0)
            (void)shutdown(r->peer, SHUT_WR);
        break;
    }
    fuzz_require(r->s.out_len <= NET_STREAM_OUT_BYTES);
    fuzz_require(r->s.backend.holds_output == (r->s.out_len > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[TOTAL_MAX];
    static uint8_t back[TOTAL_MAX];
    static struct run r;
    struct bytes_reader in;
    int fds[2];

    bytes_reader_init(&in, data, size);
    /* From less than a frame to several. */
    fuzz_kernel_prepare(1024u << (bytes_get_u8(&in) % 9));
    fuzz_kernel_pair(fds);
    r.peer = fds[1];
    r.bytes = bytes;
    r.back = back;
    r.have = 0;
    r.read = 0;
    r.back_have = 0;
    r.back_read = 0;
    r.sent = 0;
    r.came = 0;
    r.over = false;
    fuzz_require(net_stream_init(&r.s, fds[0], NULL) == 0);
    while (bytes_left(&in) > 0)
        step(&r, &in);
    net_stream_fini(&r.s);
    fd_closep(&r.peer);
    fuzz_require(fuzz_kernel_count() == 0);
    return 0;
}
