/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio network device (virtio 1.2, 5.1) and the contract of what stands
 * behind it: one pair of queues, no control queue.
 *
 * The device checks headers and lays frames out in the guest's buffers; a
 * backend moves frames, and only while there is a place for them: without rx
 * buffers it is not polled, and while it takes no frame the tx queue rests.
 * A backend whose other end is gone takes the link down, once and for good.
 *
 * Thread rule: as virtio/device.h has it; net_ready, net_set_link and the
 * backend's fd belong to the loop's thread. Guest-controlled: buffers, tx
 * headers and frames, and after a load struct net_state. A backend sees frames
 * of checked length with a checked header; what it delivers is copied or read
 * into guest memory and never looked at.
 */
#ifndef VIRTIO_NET_H
#define VIRTIO_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "virtio/device.h"
#include "virtio/net_wire.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"

#define NET_QUEUE_SIZE_MAX 256u
#define NET_IOV_MAX        1024u /* of one system call: UIO_MAXIOV */

/* Failures of receive() in a row that are not put down to single frames. */
#define NET_FAILURES_MAX 64u

/* Room for any frame and its header. */
#define NET_BUFFER_BYTES (NET_FRAME_MAX + sizeof(struct net_header))

struct net_backend;

/*
 * A frame comes with a struct net_header in front when the backend says
 * `has_header`, else it starts with the Ethernet header. `iov` is the
 * backend's to change. No call blocks.
 */
struct net_backend_ops {
    /*
     * Sends one frame of `len` bytes in all. 0 when it was taken whole,
     * -EAGAIN when it was not touched and the fd will become writable,
     * -ENOTCONN when the other end is gone; any other -errno: it is lost.
     */
    int (*send)(struct net_backend *b, struct iovec *iov, unsigned int count,
        size_t len);

    /*
     * Puts one frame into `iov`, which has room for frame_max bytes and a
     * header at least. Its bytes, > 0; -EAGAIN when there is none yet and the
     * fd will become readable; -ENOTCONN as above; -EMSGSIZE: one that did
     * not fit was lost; any other -errno: one was lost. After
     * NET_FAILURES_MAX losses in a row the backend counts as gone. Nothing is
     * written to `iov` unless the result is > 0 or -EMSGSIZE.
     */
    ssize_t (*receive)(
        struct net_backend *b, struct iovec *iov, unsigned int count);

    /* Writes what send() kept (`holds_output`); as send(). May be NULL. */
    int (*flush)(struct net_backend *b);

    /*
     * The NET_GUEST_OFFLOADS that frames may make use of from now on; sets
     * frame_max accordingly. 0 or -errno. May come on a vCPU's thread. NULL
     * if the backend has no offloads.
     */
    int (*set_offloads)(struct net_backend *b, uint64_t features);
};

struct net_backend {
    const struct net_backend_ops *ops;
    int fd;             /* polled, owned by the backend; -1: it calls `ready` */
    uint64_t offloads;  /* NET_HOST_OFFLOADS and NET_GUEST_OFFLOADS it can do */
    uint32_t frame_max; /* bytes of the longest frame that may come now */
    bool has_header;
    bool holds_output; /* wants flush() when the fd is writable */
    bool holds_input;  /* has frames that the fd does not tell of */

    /* The device's, set by net_init: net_ready and its argument. */
    void (*ready)(void *opaque);
    void *opaque;
};

/*
 * The place of a rate limit, one per direction. A frame passes while the gate
 * is open and is charged for afterwards, so that a limit may run into debt by
 * one frame. Once it has said no, its owner calls net_ready when it is open
 * again. Both are called with the device's lock held.
 */
struct net_gate {
    bool (*is_open)(struct net_gate *gate);
    void (*charge)(struct net_gate *gate, uint64_t bytes);
};

/* What a snapshot keeps; no padding. */
struct net_state {
    struct virtio_state virtio;
    uint8_t mac[NET_MAC_BYTES];
    uint16_t mtu;     /* as the guest was told; 0: it was not */
    uint32_t link_up; /* as the guest was told: 0 or 1 */
    uint32_t unused;
};
_Static_assert(
    sizeof(struct net_state) == sizeof(struct virtio_state) + 16, "no padding");

/* Since the device was made; under the device's lock. */
struct net_stats {
    uint64_t tx_frames; /* from the guest, taken by the backend */
    uint64_t tx_bytes;  /* of these, without headers */
    uint64_t tx_dropped;
    uint64_t tx_malformed; /* headers and lengths that virtio 1.2 forbids */
    uint64_t tx_stalls;    /* times that the backend took no more */
    uint64_t tx_gated;     /* times that the gate was found closed */
    uint64_t rx_frames;    /* to the guest */
    uint64_t rx_bytes;
    uint64_t rx_dropped; /* that did not fit the driver's buffers */
    uint64_t
        rx_copied; /* of rx_frames: not wholly read straight into buffers */
    uint64_t rx_starved; /* times that the driver had no buffer */
    uint64_t rx_gated;
};

/* Chains that were popped and not used yet; empty between kicks. */
struct net_stage {
    struct queue_chain *chains[NET_QUEUE_SIZE_MAX]; /* from `first` on */
    uint32_t written[NET_QUEUE_SIZE_MAX];
    unsigned int first;
    unsigned int count;
    uint64_t room;  /* writable bytes in all */
    uint64_t slots; /* descriptors in all */
};

struct net {
    struct virtio_device virtio;
    struct net_state state;
    struct net_backend *backend; /* borrowed */
    struct net_gate *rx_gate;    /* borrowed, or NULL */
    struct net_gate *tx_gate;
    void (*on_gone)(void *opaque, int code);
    void *opaque;
    uint8_t mac[NET_MAC_BYTES]; /* of power-on */
    uint16_t mtu;
    bool link_wanted;          /* net_set_link */
    bool gone;                 /* the backend's other end */
    bool tx_waits;             /* for the backend to be writable */
    bool rx_waits;             /* the backend is to be polled for frames */
    uint64_t features;         /* accepted ones whose requirements are met */
    struct loop_source source; /* the backend's fd */
    uint32_t watched;          /* events that `source` is added for */
    struct net_stage stage;
    struct iovec iov[NET_IOV_MAX];
    uint8_t *held;        /* NET_BUFFER_BYTES: a frame that waits for buffers */
    uint32_t held_len;    /* bytes with the header, 0 if there is none */
    uint32_t rx_failures; /* of the backend, in a row */
    uint32_t rx_chains;   /* that frames took lately; net_rx's own unit */
    struct net_stats stats;
};

struct net_config {
    const char *id;              /* unique in the machine; borrowed */
    struct net_backend *backend; /* borrowed */
    const uint8_t *mac;          /* NET_MAC_BYTES; NULL: a random local one */
    uint16_t mtu;        /* NET_MTU_MIN and up; 0: the guest is not told */
    uint16_t queue_size; /* of both: a power of two, up to NET_QUEUE_SIZE_MAX */
    struct net_gate *rx_gate; /* to the guest; borrowed, NULL: no limit */
    struct net_gate *tx_gate; /* from the guest */

    /* Called once when the backend's other end is gone; may be NULL. */
    void (*on_gone)(void *opaque, int code);
    void *opaque;
};

static inline bool net_link_is_up(const struct net *net)
{
    return net->link_wanted && !net->gone;
}

/*
 * Makes a device in its power-on state, link up. -EINVAL for a MAC that is a
 * group address or all zero, or an MTU out of range.
 */
CC_MUST_CHECK int net_init(struct net *net, const struct net_config *config,
    const struct virtio_host *host, struct err *err);

/*
 * On the loop's thread, or when it runs no more. The backend is the caller's
 * to close afterwards.
 */
void net_fini(struct net *net);

/*
 * Goes on where the device rested: the backend may have frames or take some,
 * a gate has opened. `opaque` is the struct net; with the device's lock held.
 */
void net_ready(void *opaque);

/*
 * Plugs the cable or pulls it; with the device's lock held. While it is out,
 * frames of the guest are dropped and the backend is not polled. It stays out
 * if the backend's other end is gone.
 */
void net_set_link(struct net *net, bool up);

/*
 * Another address, which the guest is told of as VIRTIO 1.2 has it (5.1.4):
 * its driver may go on with the one that it read. -EINVAL for a group's.
 * With the device's lock held; a restored device keeps that of the snapshot
 * without this.
 */
CC_MUST_CHECK int net_set_mac(
    struct net *net, const uint8_t mac[NET_MAC_BYTES], struct err *err);

#endif
