/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of the socket device: its state, its credit in both
 * directions, and what waits to be told to the guest.
 *
 * Owns the host descriptor and, only while the host is slow, a buffer of at
 * most `buf_alloc` bytes of the guest's data. Data for the guest is never
 * kept: it stays in the host's socket until there is credit and a buffer of
 * the guest. Each kind of control packet is pending at most once, as a bit.
 * Knows neither queues nor the loop: the device moves the packets, its table
 * watches the descriptor as vsock_conn_events says and frees what is dead.
 *
 * Thread rule: the loop's thread, with the device's lock held. Guest-
 * controlled: header and payload of what is received.
 */
#ifndef VIRTIO_VSOCK_CONN_H
#define VIRTIO_VSOCK_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "virtio/iov.h"
#include "virtio/vsock_wire.h"
#include "vmm/base/cc.h"
#include "vmm/core/loop.h"

struct vsock_table;

/* Called once with the descriptor when the guest has accepted. */
typedef void vsock_established_fn(int fd, uint32_t host_port);
/* Called once, when the descriptor is closed. */
typedef void vsock_closed_fn(void *opaque, uint32_t cookie);

/* Who connects to the guest, and what it is told. */
struct vsock_caller {
    vsock_established_fn *established; /* NULL: nothing, as below */
    vsock_closed_fn *closed;
    void *opaque;
    uint32_t cookie; /* the caller's own */
};

enum vsock_conn_state {
    VSOCK_CONN_REQUESTED, /* by the host; the guest has not answered */
    VSOCK_CONN_OPEN,
    VSOCK_CONN_CLOSING,   /* by the guest; the rest still goes to the host */
    VSOCK_CONN_ENDING,    /* the descriptor is done with, the guest not told */
    VSOCK_CONN_LINGERING, /* the guest was told, and has not said so yet */
    VSOCK_CONN_DEAD,      /* to be freed */
};

/* Control packets to be sent, in this order. */
#define VSOCK_PENDING_RST            0x01u /* replaces all others */
#define VSOCK_PENDING_REQUEST        0x02u
#define VSOCK_PENDING_RESPONSE       0x04u
#define VSOCK_PENDING_SHUTDOWN       0x08u
#define VSOCK_PENDING_CREDIT_REQUEST 0x10u
#define VSOCK_PENDING_CREDIT_UPDATE  0x20u /* any other packet does it too */

/* vsock_conn_events: the descriptor must not be watched at all. */
#define VSOCK_CONN_UNWATCHED UINT32_MAX

/* Most bytes of one packet to the guest. */
#define VSOCK_PACKET_MAX 65536u

TAILQ_HEAD(vsock_conn_list, vsock_conn);

struct vsock_conn {
    uint32_t guest_port;
    uint32_t host_port;
    enum vsock_conn_state state;
    uint32_t pending; /* VSOCK_PENDING_... */
    int fd;
    struct vsock_caller caller;

    bool guest_sends_no_more;
    bool guest_reads_no_more;
    bool host_sends_no_more; /* end of file read */
    bool host_reads_no_more; /* writing failed, or it hung up */
    bool orphan;             /* CLOSING, and the guest has forgotten it */
    bool readable;           /* the descriptor has, or may have, data */

    /* From the guest. The counters wrap (5.10.6.3). */
    uint32_t buf_alloc;
    uint32_t recv_cnt; /* bytes received */
    uint32_t fwd_cnt;  /* of these, gone to the host */
    uint32_t told_fwd_cnt;
    uint8_t *buf; /* a ring of buf_alloc bytes, NULL while empty */
    uint32_t buf_head;
    uint32_t buffered;

    /* To the guest. */
    uint32_t peer_buf_alloc;
    uint32_t peer_fwd_cnt;
    uint32_t sent_cnt;
    uint32_t run;      /* bytes read since the descriptor was last empty */
    uint32_t last_run; /* `run` when it was */

    /* The table's own. */
    struct vsock_table *table;
    struct loop_source source;
    uint32_t watched; /* events, while source.added */
    bool hashed;
    LIST_ENTRY(vsock_conn) bucket;
    TAILQ_ENTRY(vsock_conn) link;
    struct vsock_conn_list *list; /* that it is on */
};

/*
 * A connection that owns `fd` (a connected stream socket) from now on; NULL
 * if there is no memory, and the caller keeps `fd`. vsock_conn_request or
 * vsock_conn_accept comes next.
 */
CC_MUST_CHECK struct vsock_conn *vsock_conn_new(
    uint32_t guest_port, uint32_t host_port, int fd, uint32_t buf_alloc);

/* The descriptor, which no loop may watch any more; once or more. */
void vsock_conn_close_fd(struct vsock_conn *conn);

/* Closes it, too. */
void vsock_conn_free(struct vsock_conn *conn);

/* The host asks: REQUEST is pending. `caller` may be NULL. */
void vsock_conn_request(
    struct vsock_conn *conn, const struct vsock_caller *caller);

/* The guest has asked with `request`: open, RESPONSE is pending. */
void vsock_conn_accept(
    struct vsock_conn *conn, const struct vsock_header *request);

/*
 * Takes one packet of the guest for this connection; `payload` is at the
 * first of its header->len bytes, which are there, `iov` is scratch space for
 * `iov_max` iovecs, as many as the payload has slices. 0, or -EPROTO for what
 * virtio 1.2 forbids: then the connection is being reset.
 */
CC_MUST_CHECK int vsock_conn_receive(struct vsock_conn *conn,
    const struct vsock_header *header, struct iov_cursor *payload,
    struct iovec *iov, unsigned int iov_max);

/* Ends it with RST to the guest, whatever it was doing. */
void vsock_conn_reset(struct vsock_conn *conn);

/* What epoll reported for the descriptor. */
void vsock_conn_host_event(struct vsock_conn *conn, uint32_t events);

/* Bytes that the guest can still take, as far as it has said. */
uint32_t vsock_conn_credit(const struct vsock_conn *conn);

/* Whether vsock_conn_next should be tried when the guest has a buffer. */
bool vsock_conn_has_packet(const struct vsock_conn *conn);

/*
 * Makes the next packet for the guest: all of *ret_header but the addresses
 * and the type, and header->len bytes at `payload`, which is room in the
 * guest's memory (iov as above). False if there is nothing to send after
 * all. The packet counts as sent.
 */
CC_MUST_CHECK bool vsock_conn_next(struct vsock_conn *conn,
    struct iov_cursor *payload, struct iovec *iov, unsigned int iov_max,
    struct vsock_header *ret_header);

/*
 * Bytes of data that are likely next, by what came last before the descriptor
 * was read empty; 0 if data is not next.
 */
uint32_t vsock_conn_expected(const struct vsock_conn *conn);

/*
 * Reads data for the guest into `room` bytes at `iov`, at most its credit: the
 * bytes, each of which is sent in a vsock_conn_data_packet next; 0 if there is
 * nothing after all.
 */
CC_MUST_CHECK uint32_t vsock_conn_read(struct vsock_conn *conn,
    struct iovec *iov, unsigned int count, uint64_t room);
void vsock_conn_data_packet(
    struct vsock_conn *conn, uint32_t len, struct vsock_header *ret_header);

/*
 * What to watch the descriptor for: events, 0 for a hang-up only, or
 * VSOCK_CONN_UNWATCHED.
 */
uint32_t vsock_conn_events(const struct vsock_conn *conn);

/* Whether the descriptor is still of use; if not, it should be closed. */
bool vsock_conn_uses_fd(const struct vsock_conn *conn);

#endif
