/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest with a socket device, for tests: driver, buffers and loop.
 *
 * The driver keeps no connections, only packets; tests say what is in them.
 * Thread rule: one thread.
 */
#ifndef TESTS_UNIT_SUPPORT_VSOCK_GUEST_H
#define TESTS_UNIT_SUPPORT_VSOCK_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/vsock.h"
#include "vmm/core/gmem.h"
#include "vmm/core/loop.h"

#define VSOCK_GUEST_CID  42u
#define VSOCK_GUEST_SIZE ((uint16_t)128) /* of the rx and tx queues */

/* More rounds than this in a row is a busy loop. */
#define VSOCK_GUEST_ROUNDS_MAX 20000u

struct vsock_guest_config {
    uint32_t connections_max;
    uint32_t buf_alloc;
    uint64_t features; /* with VIRTIO_F_VERSION_1 or 0 for just that */
    bool without_loop;
    uint16_t rx_buffers; /* posted at the start */
    uint32_t rx_size;    /* bytes of each; 0 is a page */
    uint16_t event_buffers;
};

struct vsock_guest {
    struct gmem mem;
    struct loop loop;
    bool has_loop;
    struct vsock vsock;
    struct drive_queue queues[VSOCK_QUEUES];
    uint64_t features;
    uint32_t rx_size;
    uint32_t tx_slot;
};

/* One packet from the device. */
struct vsock_guest_packet {
    uint64_t src_cid;
    uint64_t dst_cid;
    uint32_t src_port;
    uint32_t dst_port;
    uint32_t len;
    uint16_t type;
    uint16_t op;
    uint32_t flags;
    uint32_t buf_alloc;
    uint32_t fwd_cnt;
    uint8_t data[4096];
};

/* Everything up to DRIVER_OK and the buffers; asserts that it works. */
void vsock_guest_start(
    struct vsock_guest *g, const struct vsock_guest_config *config);
void vsock_guest_stop(struct vsock_guest *g);

/* The driver alone, once more, after a reset of the device. */
void vsock_guest_drive(struct vsock_guest *g);

/* Makes buffers available, without a kick and with one if it is wanted. */
void vsock_guest_add_rx(struct vsock_guest *g, uint16_t n);
void vsock_guest_post_rx(struct vsock_guest *g, uint16_t n);
void vsock_guest_post_event(struct vsock_guest *g, uint16_t n);

/*
 * Runs the loop until nothing is due; the rounds it took. Aborts after
 * VSOCK_GUEST_ROUNDS_MAX.
 */
unsigned int vsock_guest_run(struct vsock_guest *g);

/* A header of this guest for CID 2; the rest is zero. */
struct vsock_header vsock_guest_header(
    uint32_t guest_port, uint32_t host_port, enum vsock_op op);

/*
 * Makes a packet available, as descriptors of at most `cut` bytes (0: two),
 * and kicks if that
 * is wanted. At most 16 may be on their way; `len` is at most 64 KiB.
 */
void vsock_guest_send(struct vsock_guest *g, const struct vsock_header *header,
    const void *data, uint32_t len, uint32_t cut);

/* Any bytes at all as a packet. */
void vsock_guest_send_raw(
    struct vsock_guest *g, const void *bytes, uint32_t len, uint32_t cut);

/* The number of tx chains that came back since it was last asked. */
unsigned int vsock_guest_sent(struct vsock_guest *g);

/*
 * The next packet of the device, whose buffer is then posted again (`again`)
 * or not. False if there is none.
 */
bool vsock_guest_receive(
    struct vsock_guest *g, bool again, struct vsock_guest_packet *ret_packet);

/* As receive, posted again; aborts unless it is an `op` for `guest_port`. */
struct vsock_guest_packet vsock_guest_expect(
    struct vsock_guest *g, enum vsock_op op, uint32_t guest_port);

/* Host programs that take whatever connects: an acceptor. */
#define VSOCK_GUEST_HOSTS_MAX 64u
struct vsock_guest_hosts {
    int fds[VSOCK_GUEST_HOSTS_MAX]; /* the tests' ends, in order */
    unsigned int count;
    int refusal; /* 0 or what to answer instead */
    uint32_t guest_port;
    uint32_t host_port; /* asked for last */
};

/* An acceptor; `opaque` is a struct vsock_guest_hosts. */
int vsock_guest_accept(void *opaque, uint32_t guest_port, uint32_t host_port);
void vsock_guest_close_hosts(struct vsock_guest_hosts *hosts);

/* A pair of connected stream sockets, as the device wants them. */
void vsock_guest_pair(int ret_fds[2]);

/*
 * Opens a connection of the guest, with `buf_alloc` bytes of room in it, to
 * an acceptor that takes it; aborts unless RESPONSE comes.
 */
void vsock_guest_open(struct vsock_guest *g, uint32_t guest_port,
    uint32_t host_port, uint32_t buf_alloc);

/* The device's side of a connection, NULL if there is none. */
struct vsock_conn *vsock_guest_conn(
    struct vsock_guest *g, uint32_t guest_port, uint32_t host_port);

/* The next event's id, posting its buffer again or not. */
bool vsock_guest_event(struct vsock_guest *g, bool again, uint32_t *ret_id);

#endif
