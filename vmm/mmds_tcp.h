/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The station that the metadata service is at: Ethernet frames in, frames out.
 * It answers ARP requests for its address (RFC 826) and takes TCP connections
 * to port 80 (RFC 9293); a guest is all that it can talk to.
 *
 * Frames come and go over a device's queues, which lose nothing and keep
 * order; only the guest itself may drop one. What comes out of order is left
 * for it to send again, what it says it misses (three acknowledgements of the
 * same byte) is sent again, and so is what it says nothing of for a time
 * (mmds_tcp_tick). The options are the
 * maximum segment size and no others, the window is what a request has room
 * for. A request is looked at when the one before it was answered and the
 * answer acknowledged, so that a guest that does not read is not read from.
 *
 * What is to be sent is made when it is fetched: there is no queue of frames.
 * Bounded are connections, their requests, their replies (by the data's
 * limit), and the resets that are owed.
 *
 * Thread rule: one thread at a time (a network device's lock). Every frame is
 * the guest's, and is copied before it comes here.
 */
#ifndef VMM_MMDS_TCP_H
#define VMM_MMDS_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/mmds.h"
#include "vmm/mmds_http.h"

#define MMDS_CONNECTIONS_MAX 30u
#define MMDS_RESETS_MAX      32u
#define MMDS_MAC_BYTES       6u

/* Where the headers end that tell whether a frame is for the service. */
#define MMDS_HEAD_BYTES 42u

/* The longest frame that is taken: headers with all options, a window. */
#define MMDS_FRAME_IN_MAX (14u + 60u + 60u + MMDS_REQUEST_MAX)

/* The longest that is sent: what Ethernet takes without further ado. */
#define MMDS_FRAME_OUT_MAX 1514u

enum mmds_conn_state {
    MMDS_CONN_FREE,
    MMDS_CONN_SYN,  /* ours has not been acknowledged */
    MMDS_CONN_OPEN, /* and where it goes from there is in the flags */
};

struct mmds_conn {
    enum mmds_conn_state state;
    uint32_t address; /* the guest's */
    uint16_t port;
    uint16_t mss;
    uint32_t window;   /* bytes that the guest has room for, from snd_una on */
    uint32_t snd_una;  /* the first number that was not acknowledged */
    uint32_t snd_nxt;  /* the next one to be sent */
    uint32_t snd_max;  /* behind the last one that ever was */
    uint32_t data_end; /* behind all bytes there are to send; the FIN's */
    uint32_t rcv_nxt;  /* the next one that is expected */
    unsigned int dups; /* acknowledgements in a row that were no news */
    uint64_t still_ns; /* since when nothing was acknowledged; 0: unknown */
    unsigned int resends; /* by the clock, since the last acknowledgement */
    bool owes_ack;
    bool got_fin;       /* the guest sends no more */
    bool sends_fin;     /* nor do we, behind the reply */
    uint64_t active_ns; /* when it was last heard of */
    char *request;      /* MMDS_REQUEST_MAX bytes */
    size_t request_len;
    struct mmds_reply reply; /* its last byte is the one before data_end */
};

/* A segment that has no connection is answered with one of these. */
struct mmds_reset {
    uint32_t address;
    uint16_t port;
    uint32_t seq;
    uint32_t ack;
    bool has_ack;
};

/* Since the station was made. */
struct mmds_stats {
    uint64_t rx_accepted_err; /* packets that made no sense */
    uint64_t rx_unusual;      /* IPv4, but not TCP */
    uint64_t rx_count;        /* segments */
    uint64_t tx_frames;
    uint64_t tx_bytes;
    uint64_t connections_created;
    uint64_t connections_destroyed;
};

struct mmds_tcp {
    struct mmds *mmds; /* borrowed */
    struct mmds_stats stats;
    uint32_t address; /* IPv4 as a number */
    uint8_t guest_mac[MMDS_MAC_BYTES];
    uint32_t arp_to; /* who waits for an ARP reply */
    bool owes_arp;
    bool may_have_output;
    uint32_t next_isn;
    uint16_t next_ip_id;
    unsigned int turn; /* the connection that is to send next */
    unsigned int reset_first;
    unsigned int reset_count;
    struct mmds_reset resets[MMDS_RESETS_MAX];
    struct mmds_conn conns[MMDS_CONNECTIONS_MAX];
};

/* At the address that `mmds` has. */
void mmds_tcp_init(struct mmds_tcp *tcp, struct mmds *mmds);

/* Forgets all connections: what comes of them is answered with a reset. */
void mmds_tcp_reset(struct mmds_tcp *tcp);

/*
 * Whether a frame of `len` bytes, of which at least MMDS_HEAD_BYTES or all
 * are in `head`, is for the service: IPv4 to its address, or a question for
 * that.
 */
bool mmds_tcp_wants(
    const struct mmds_tcp *tcp, const uint8_t *head, size_t len);

/*
 * Takes a frame. `is_summed`: its TCP checksum was made; else the driver has
 * left that to the device, and it is not looked at.
 */
void mmds_tcp_input(struct mmds_tcp *tcp, const uint8_t *frame, size_t len,
    bool is_summed, uint64_t now_ns);

/* The time between two ticks, and the shortest until something is resent. */
#define MMDS_TICK_NS UINT64_C(500000000)

/* As often as that, each time after twice as long; then the guest is gone. */
#define MMDS_RESENDS_MAX 6u

/* Whether an acknowledgement is missing: then mmds_tcp_tick is due. */
bool mmds_tcp_is_waiting(const struct mmds_tcp *tcp);

/* What has not been acknowledged for too long is to be sent again. */
void mmds_tcp_tick(struct mmds_tcp *tcp, uint64_t now_ns);

/* Whether mmds_tcp_output may have a frame; false: it has none. */
static inline bool mmds_tcp_has_output(const struct mmds_tcp *tcp)
{
    return tcp->may_have_output;
}

/* The next frame: its bytes, 0 if there is none. */
size_t mmds_tcp_output(
    struct mmds_tcp *tcp, uint8_t ret_frame[MMDS_FRAME_OUT_MAX]);

#endif
