/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections of a socket device: found by their ports, kept on a list
 * by what they wait for, their descriptors watched.
 *
 * Owns the connections. Thread rule: the loop's thread with the device's lock
 * held, except for vsock_table_doom, which any thread that holds the lock may
 * call. Guest-controlled: the ports.
 */
#ifndef VIRTIO_VSOCK_TABLE_H
#define VIRTIO_VSOCK_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "virtio/vsock_conn.h"
#include "vmm/base/cc.h"
#include "vmm/core/device.h"
#include "vmm/core/loop.h"

#define VSOCK_CONNECTIONS_MAX 1024u

LIST_HEAD(vsock_bucket, vsock_conn);

struct vsock_table {
    struct loop *loop;  /* borrowed; NULL: nothing may be added */
    struct device *dev; /* whose lock the handlers take */

    /* Called after what happened at a host descriptor. */
    void (*changed)(void *opaque);
    void *opaque;

    uint32_t max;     /* connections, up to VSOCK_CONNECTIONS_MAX */
    uint32_t count;   /* on the first three lists */
    uint64_t granted; /* bytes that the guest may have these keep for it */
    uint64_t errors;  /* of epoll; each costs its connection */

    /* A connection is on one list, and in its bucket unless orphaned. */
    struct vsock_conn_list idle;
    struct vsock_conn_list ready;     /* with something for the guest */
    struct vsock_conn_list lingering; /* oldest first */
    struct vsock_conn_list doomed;    /* for vsock_table_free_doomed */
    struct vsock_bucket buckets[VSOCK_CONNECTIONS_MAX];
};

/* An empty table; the members before `count` are the caller's to set. */
void vsock_table_init(struct vsock_table *table);

/* NULL if there is none. */
struct vsock_conn *vsock_table_find(
    struct vsock_table *table, uint32_t guest_port, uint32_t host_port);

/*
 * Whether one more fits. A full table gives up the connection that has been
 * lingering longest, if there is one.
 */
CC_MUST_CHECK bool vsock_table_has_room(struct vsock_table *table);

/* Adds a connection whose ports are free, and watches it for a hang-up. */
CC_MUST_CHECK int vsock_table_add(
    struct vsock_table *table, struct vsock_conn *conn);

/* Removes and frees one. */
void vsock_table_remove(struct vsock_table *table, struct vsock_conn *conn);

/*
 * Puts a connection where it belongs after anything happened to it; that may
 * be its end, so the caller forgets it. One that was ready and still is keeps
 * its place.
 */
void vsock_table_settle(struct vsock_table *table, struct vsock_conn *conn);

/* As settle, for one that has had its turn: behind all others. */
void vsock_table_rotate(struct vsock_table *table, struct vsock_conn *conn);

/* The connection whose turn it is to send to the guest, or NULL. */
static inline struct vsock_conn *vsock_table_ready(
    const struct vsock_table *table)
{
    return TAILQ_FIRST(&table->ready);
}

/*
 * Forgets all connections; whether any are left to be freed. Freeing touches
 * the loop and closes what it watches, so it is for the loop's thread.
 */
CC_MUST_CHECK bool vsock_table_doom(struct vsock_table *table);
void vsock_table_free_doomed(struct vsock_table *table);

#endif
