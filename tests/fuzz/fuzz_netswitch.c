/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The switch against ports that come, go, do not read and send anything.
 *
 * Input: steps of two bytes, an operation with its port and an argument.
 * Every port must get whole frames only, none of its own, and what the
 * counters say.
 */
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/fuzz/support/fuzz_kernel.h"
#include "vmm/base/bytes.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/netswitch.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PORTS     4u
#define STEPS_MAX 400u
#define READ_MAX  ((size_t)1 << 20)

/* Bytes that a socket takes, as Linux has it. */
#define SOCKET_ROOM (208u << 10)

/* The sender is in the last byte of each frame that is well formed. */
struct peer {
    int fd;
    bool is_raw; /* it has sent bytes that no sender is in */
    uint8_t *in;
    size_t have;
};

struct run {
    struct loop loop;
    struct netswitch sw;
    struct peer peers[PORTS];
    bool any_raw;
    uint32_t closes;
};

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void on_close(void *opaque, uint32_t ports)
{
    struct run *r = opaque;

    require(ports == r->sw.open);
    r->closes++;
}

static void run_loop(struct run *r, unsigned int rounds)
{
    for (unsigned int i = 0; i < rounds; i++)
        require(loop_run_once(&r->loop, 0) == 0);
    for (uint32_t i = 0; i < PORTS; i++) {
        const struct netswitch_port *p = &r->sw.ports[i];

        require(p->out_len <= NETSWITCH_OUT_BYTES);
        require(p->in_start + p->in_len <= NETSWITCH_IN_BYTES);
        require(netswitch_macs_count(&r->sw.macs, i, clock_now_ns()) <=
                NETSWITCH_MACS_PER_PORT);
    }
    require(r->sw.open + r->closes == r->sw.opened);
}

static void hang_up(struct run *r, struct peer *peer)
{
    if (peer->fd < 0)
        return;
    fd_closep(&peer->fd);
    run_loop(r, 2);
}

static void plug(struct run *r, struct peer *peer)
{
    uint8_t *in = peer->in;
    int fds[2];

    hang_up(r, peer);
    fuzz_kernel_pair(fds);
    if (netswitch_add_port(&r->sw, fds[0], NULL) < 0) {
        fd_closep(&fds[0]);
        fd_closep(&fds[1]);
        return;
    }
    *peer = (struct peer){.fd = fds[1], .in = in};
}

/* A frame of `len` bytes between two of eight addresses, or to all. */
static void send_frame(
    struct run *r, struct peer *peer, uint8_t shape, uint32_t len)
{
    static uint8_t frame[NETSWITCH_PREFIX + NET_FRAME_MAX];
    uint8_t *p = frame + NETSWITCH_PREFIX;

    len = (uint32_t)num_max(len % (NET_FRAME_MAX + 1), 15);
    frame[0] = 0;
    frame[1] = (uint8_t)(len >> 16);
    frame[2] = (uint8_t)(len >> 8);
    frame[3] = (uint8_t)len;
    p[0] = (shape & 0x40) != 0 ? 0xff : 2;
    p[5] = shape & 7;
    p[6] = 2;
    p[11] = shape >> 3 & 7;
    p[len - 1] = (uint8_t)(peer - r->peers);
    if (send(peer->fd, frame, NETSWITCH_PREFIX + len,
            MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)(NETSWITCH_PREFIX + len)) {
        /* Cut off: what follows is in the middle of a frame. */
        peer->is_raw = true;
        r->any_raw = true;
    }
    p[len - 1] = 0;
}

static void check_frames(struct run *r, struct peer *peer)
{
    size_t at = 0;

    while (peer->have - at >= NETSWITCH_PREFIX) {
        const uint8_t *p = peer->in + at;
        uint32_t len = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
                       (uint32_t)p[2] << 8 | p[3];

        require(len >= NET_FRAME_MIN && len <= NET_FRAME_MAX);
        if (peer->have - at - NETSWITCH_PREFIX < len)
            break;
        p += NETSWITCH_PREFIX;
        require((p[NET_MAC_BYTES] & 1) == 0);
        require(r->any_raw || p[len - 1] != (uint8_t)(peer - r->peers));
        at += NETSWITCH_PREFIX + len;
    }
    peer->have -= at;
    memmove(peer->in, peer->in + at, peer->have);
}

static void read_some(struct run *r, struct peer *peer)
{
    ssize_t n = recv(
        peer->fd, peer->in + peer->have, READ_MAX - peer->have, MSG_DONTWAIT);

    if (n > 0) {
        peer->have += (size_t)n;
        check_frames(r, peer);
        return;
    }
    require(n == 0 || errno == EAGAIN || errno == ECONNRESET);
    /* Only who broke the framing is hung up on. */
    require(n < 0 || peer->is_raw);
    if (n == 0 || errno == ECONNRESET)
        fd_closep(&peer->fd);
}

static void step(struct run *r, struct bytes_reader *in)
{
    uint8_t op = bytes_get_u8(in);
    uint8_t arg = bytes_get_u8(in);
    struct peer *peer = &r->peers[op % PORTS];
    const uint8_t *raw;

    op /= PORTS;
    if (op % 8 == 0) {
        plug(r, peer);
        return;
    }
    if (op % 8 == 1) {
        fuzz_kernel_advance((arg >> 3) * 10u * CLOCK_NS_PER_MS);
        run_loop(r, arg % 8u);
        return;
    }
    if (peer->fd < 0)
        return;
    switch (op % 8) {
    case 2:
        hang_up(r, peer);
        break;
    case 3:
        read_some(r, peer);
        break;
    case 4:
        arg = (uint8_t)num_min(arg, bytes_left(in));
        raw = bytes_take(in, arg);
        peer->is_raw = true;
        r->any_raw = true;
        require(send(peer->fd, raw, arg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ||
                errno == EAGAIN || errno == EPIPE);
        break;
    case 5:
        send_frame(r, peer, arg, 15u + bytes_get_u8(in));
        break;
    case 6:
        send_frame(r, peer, arg,
            bytes_get_u16(in) * 2u % (arg >= 0xc0 ? 0x10000u : 0x800u));
        break;
    default:
        /* Seldom more than a port that nobody reads can take. */
        for (unsigned int i = arg >= 0xf0 ? 0 : 60; i < 64; i++)
            send_frame(r, peer, arg, 1500);
        break;
    }
}

/* What ports are made of would be taken from the system anew each time. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 64 << 20);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t buffers[PORTS][READ_MAX];
    static struct run r;
    struct netswitch_config config = {.ports_max = PORTS,
        .age_ns = CLOCK_NS_PER_S,
        .hold_ns = 1000,
        .on_close = on_close,
        .opaque = &r};
    struct bytes_reader in;
    uint8_t rate;

    fuzz_kernel_prepare(SOCKET_ROOM);
    bytes_reader_init(&in, data, size);
    rate = bytes_get_u8(&in);
    config.rate.bytes.size = rate * UINT64_C(1000);
    config.rate.bytes.refill_ms = rate % 4u;
    r = (struct run){0};
    require(loop_init(&r.loop, NULL) == 0);
    require(netswitch_init(&r.sw, &r.loop, &config, NULL) == 0);
    for (unsigned int i = 0; i < PORTS; i++)
        r.peers[i] = (struct peer){.fd = -1, .in = buffers[i]};
    for (unsigned int i = 0; i < STEPS_MAX && bytes_left(&in) >= 2; i++)
        step(&r, &in);
    run_loop(&r, 8);
    for (unsigned int i = 0; i < PORTS; i++) {
        if (r.peers[i].fd >= 0)
            read_some(&r, &r.peers[i]);
        fd_closep(&r.peers[i].fd);
    }
    run_loop(&r, 8);
    netswitch_fini(&r.sw);
    loop_fini(&r.loop);
    require(fuzz_kernel_count() == 0);
    return 0;
}
