/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream backend against a peer that sends anything, cut anywhere.
 *
 * Input: pairs of a length and so many bytes, each a write of the peer. What
 * comes out is compared with a plain reading of the same bytes.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/net_stream.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TOTAL_MAX ((size_t)1 << 20)

struct run {
    struct net_stream s;
    int peer;
    uint8_t *bytes; /* all that the peer sent */
    size_t have;
    size_t read; /* of these, up to the next frame */
    uint8_t frame[NET_FRAME_MAX];
};

static void require(bool ok)
{
    if (!ok)
        abort();
}

/* What the next frame must be: its length, 0 not yet, -1 refused. */
static int64_t expected(const struct run *r)
{
    const uint8_t *p = r->bytes + r->read;
    uint32_t len;

    if (r->have - r->read < 4)
        return 0;
    len = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
          p[3];
    if (len == 0 || len > NET_FRAME_MAX)
        return -1;
    return r->have - r->read - 4 >= len ? (int64_t)len : 0;
}

/* Takes all frames that are there; false once the peer was given up. */
static bool take_frames(struct run *r, size_t cut)
{
    struct net_backend *b = &r->s.backend;
    bool idle = false;

    for (;;) {
        struct iovec iov[2] = {{.iov_base = r->frame, .iov_len = cut},
            {.iov_base = r->frame + cut, .iov_len = sizeof(r->frame) - cut}};
        int64_t want = expected(r);
        ssize_t n = b->ops->receive(b, iov, 2);

        require(r->s.in_start + r->s.in_len <= NET_STREAM_IN_BYTES);
        if (n == -EAGAIN) {
            /* One look at the socket may not be enough for a long frame. */
            require(want == 0 || !idle);
            if (want == 0)
                return true;
            idle = r->s.in_len - r->s.in_start == 0;
            continue;
        }
        if (n < 0) {
            require(n == -ENOTCONN && want == -1);
            return false;
        }
        require(n == want);
        require(memcmp(r->frame, r->bytes + r->read + 4, (size_t)n) == 0);
        r->read += 4 + (size_t)n;
    }
}

static void play(struct run *r, struct bytes_reader *in)
{
    bool open = true;

    while (open && bytes_left(in) > 2) {
        uint8_t shape = bytes_get_u8(in);
        size_t n = bytes_get_u16(in) % 4096u;
        /* Blocks of zeroes make long frames out of short inputs. */
        size_t zeroes = (shape & 1) != 0 ? n * 16 : 0;

        n = (size_t)num_min(n, bytes_left(in));
        if (n + zeroes == 0 || n + zeroes > TOTAL_MAX - r->have)
            continue;
        bytes_get(in, r->bytes + r->have, n);
        memset(r->bytes + r->have + n, 0, zeroes);
        require(write(r->peer, r->bytes + r->have, n + zeroes) ==
                (ssize_t)(n + zeroes));
        r->have += n + zeroes;
        open = take_frames(r, shape);
    }
    if (!open) {
        struct iovec iov = {.iov_base = r->frame, .iov_len = 20};

        require(
            r->s.backend.ops->send(&r->s.backend, &iov, 1, 20) == -ENOTCONN);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[TOTAL_MAX];
    static struct run r;
    struct bytes_reader in;
    int fds[2];

    bytes_reader_init(&in, data, size);
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    r = (struct run){.peer = fds[1], .bytes = bytes};
    require(net_stream_init(&r.s, fds[0], NULL) == 0);
    play(&r, &in);
    net_stream_fini(&r.s);
    fd_closep(&r.peer);
    return 0;
}
