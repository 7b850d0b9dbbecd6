/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest traffic.c and its tests agree on. */
#ifndef TESTS_GUESTS_TRAFFIC_H
#define TESTS_GUESTS_TRAFFIC_H

#include <stdint.h>

#define TRAFFIC_MAILBOX 0x40000u /* its address: MAILBOX of pvh.h */
#define TRAFFIC_PORT    4321u    /* of the host, for its vsock stream */
#define TRAFFIC_PORT_TEXT "4321"

/* Of the disk, in bytes, from its beginning; zeros when it starts. */
#define TRAFFIC_DISK_BYTES (64u * 4096u)

/* Counters; the guest writes them, and nobody else. */
struct traffic_mailbox {
    volatile uint32_t turns; /* of its loop */
    volatile uint32_t ticks; /* of its timer */
    volatile uint32_t disk;  /* requests that came back */
    volatile uint32_t net;   /* frames that came back, */
    volatile uint32_t net_gaps; /* not in order, */
    volatile uint32_t net_lost; /* not at all */
    volatile uint32_t vsock; /* packets sent */
    volatile uint32_t vsock_resets; /* connections lost, */
    volatile uint32_t vsock_events; /* of them because the transport was reset */
};

#endif
