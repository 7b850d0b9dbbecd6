/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio socket device (virtio 1.2, 5.10): stream sockets between the
 * guest and descriptors of the host.
 *
 * Owns the table of connections, each with its host descriptor. Who is at the
 * other end of a descriptor is not its business: acceptors supply one when
 * the guest connects, vsock_connect is given one to reach into the guest. The
 * Unix-socket backend (vsock_uds.h) and the monitor itself are both users of
 * these. Connections do not outlive a reset, a queue reset or a load; the
 * acceptors do.
 *
 * Thread rule: as virtio/device.h has it. vsock_connect and the acceptors run
 * on the loop's thread with the device's lock held. Guest-controlled: all
 * headers and data, the number of connections (bounded), and after a load
 * struct vsock_state. Nothing here blocks on a descriptor.
 */
#ifndef VIRTIO_VSOCK_H
#define VIRTIO_VSOCK_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtio/device.h"
#include "virtio/vsock_conn.h"
#include "virtio/vsock_table.h"
#include "virtio/vsock_wire.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"

#define VSOCK_BUF_ALLOC_MIN     4096u
#define VSOCK_BUF_ALLOC_MAX     (1024u * 1024u)
#define VSOCK_BUF_ALLOC_DEFAULT (64u * 1024u)

/*
 * What all connections together may keep: a connection that would go beyond
 * it is told of VSOCK_BUF_ALLOC_MIN, so that a guest with slow readers at the
 * host costs 8 MiB and not 64.
 */
#define VSOCK_BUF_TOTAL (4u * 1024u * 1024u)

/*
 * Descriptors of the process that connections which the guest opens leave to
 * others, the control socket's clients among them; a quarter if there are few.
 */
#define VSOCK_FDS_RESERVED 64u

/* Host ports of connections made by the host are taken from here up. */
#define VSOCK_HOST_PORT_FIRST 0x40000000u

/* Answers to packets of no connection that wait for an rx buffer. */
#define VSOCK_RESETS_MAX 64u

/* Linux fills in eight event buffers. */
#define VSOCK_EVENT_QUEUE_SIZE 8u

/* All of what a snapshot keeps; no padding. */
struct vsock_state {
    struct virtio_state virtio;
    uint32_t guest_cid;
    uint32_t next_host_port; /* from VSOCK_HOST_PORT_FIRST up */
};
_Static_assert(sizeof(struct vsock_state) == sizeof(struct virtio_state) + 8,
    "no padding");

/*
 * Asked when the guest connects from `guest_port` to `host_port`. The result
 * is a connected stream socket, which the device then owns; or VSOCK_NOT_MINE,
 * and the next acceptor is asked; or any other -errno: refused with RST.
 */
typedef int vsock_accept_fn(
    void *opaque, uint32_t guest_port, uint32_t host_port);
#define VSOCK_NOT_MINE (-EADDRNOTAVAIL)

/* In the order in which they are asked. */
enum vsock_acceptor {
    VSOCK_ACCEPT_MONITOR,
    VSOCK_ACCEPT_BACKEND,
    VSOCK_ACCEPTORS,
};

/* Since the device was made; under the device's lock. */
struct vsock_stats {
    uint64_t tx_packets; /* from the guest */
    uint64_t tx_bytes;
    uint64_t rx_packets; /* to the guest */
    uint64_t rx_bytes;
    uint64_t guest_connects; /* connections that the guest opened */
    uint64_t host_connects;  /* that the host asked for */
    uint64_t refused;        /* requests of the guest that were not accepted */
    uint64_t full;           /* of these: the table or the process was */
    uint64_t resets;         /* RST packets sent to the guest */
    uint64_t malformed;      /* packets that virtio 1.2 forbids */
    uint64_t transport_resets; /* events sent */
};

/* An RST to be sent that belongs to no connection. */
struct vsock_reset {
    uint64_t src_cid; /* as the guest addressed it */
    uint32_t src_port;
    uint32_t dst_port;
    uint16_t type;
};

/* Where the transport-reset event of a load is (5.10.6.7). */
enum vsock_event_phase {
    VSOCK_EVENT_NONE,
    VSOCK_EVENT_DUE,  /* waits for a buffer of the event queue */
    VSOCK_EVENT_SENT, /* the driver has not given the buffer back yet */
};

struct vsock {
    struct virtio_device virtio;
    struct vsock_state state;
    uint32_t guest_cid; /* of power-on */
    uint32_t buf_alloc;
    int fd_end; /* the guest's connections have descriptors below this */
    struct {
        vsock_accept_fn *fn;
        void *opaque;
    } acceptors[VSOCK_ACCEPTORS];

    struct vsock_table table;

    struct vsock_reset resets[VSOCK_RESETS_MAX]; /* a ring */
    uint32_t reset_first;
    uint32_t reset_count;
    bool tx_stalled; /* the ring was full: tx chains are left alone */

    enum vsock_event_phase event_phase;
    uint16_t event_end; /* the driver's index when the event was sent */

    int work_fd; /* eventfd: serve again, or free what is doomed */
    struct loop_source work_source;
    struct vsock_stats stats;
};

/* What vsock_init needs to know. */
struct vsock_config {
    const char *id;           /* unique in the machine; borrowed */
    uint32_t guest_cid;       /* VSOCK_CID_GUEST_MIN to VSOCK_CID_ANY - 1 */
    uint32_t connections_max; /* 1 to VSOCK_CONNECTIONS_MAX; 0 is the latter */
    /*
     * Bytes from the guest that a connection keeps when its host socket is
     * slow; 0 is VSOCK_BUF_ALLOC_DEFAULT. Allocated only while needed, and
     * less when all of them come to VSOCK_BUF_TOTAL.
     */
    uint32_t buf_alloc;
};

/*
 * Makes a device in its power-on state. Without a loop (host->loop NULL) it
 * refuses every connection. -EINVAL for a configuration out of range.
 */
CC_MUST_CHECK int vsock_init(struct vsock *s, const struct vsock_config *config,
    const struct virtio_host *host, struct err *err);

/* On the loop's thread, or when it runs no more. Closes all connections. */
void vsock_fini(struct vsock *s);

/*
 * Takes note of how many descriptors the process may have, as vsock_init does;
 * again after that has changed. Before a vCPU runs.
 */
void vsock_count_fds(struct vsock *s);

/* Sets an acceptor; `fn` NULL removes it. With the lock held or before use. */
void vsock_set_accept(struct vsock *s, enum vsock_acceptor which,
    vsock_accept_fn *fn, void *opaque);

/*
 * Connects `fd`, a connected stream socket, to a listening port of the guest.
 * On success the device owns `fd`; the caller keeps the other end. What
 * happens then is seen there, and told to `caller` (which may be NULL and is
 * copied) with the device's lock held: `established` may write a few bytes to
 * `fd` that precede the data; a refusal is end of file. Closing the other end
 * before the guest has answered withdraws the request. On failure the caller
 * keeps `fd`: -ENOTCONN when no driver is up, -ENOSPC when the table is full,
 * -ENOMEM, -EOPNOTSUPP without a loop, or what epoll says.
 *
 * On the loop's thread, with the device's lock held (device_lock of
 * &s->virtio.base, unless it is in a handler of that device already).
 */
CC_MUST_CHECK int vsock_connect(struct vsock *s, uint32_t guest_port, int fd,
    const struct vsock_caller *caller);

#endif
