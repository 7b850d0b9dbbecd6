/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to a TCP server in a guest, through its agent: the host's side
 * of the agent protocol's FORWARD (docs/agent-protocol.md), as bytes in front
 * of the server's own, in both directions. No I/O.
 *
 * Thread rule: one thread. What the agent says is the guest's word: lengths,
 * types and order are checked.
 */
#ifndef VMM_GUEST_FORWARD_H
#define VMM_GUEST_FORWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/agent/proto.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* What is sent first; the server's bytes may follow at once. */
struct guest_forward_request {
    struct agent_frame frame;
    struct agent_forward forward;
};

struct guest_forward_request guest_forward_request(uint16_t port);

/* What is received first; all zero at the beginning. */
struct guest_forward {
    bool is_greeted;
    bool is_open; /* the agent has connected to the server */
    size_t len;
    uint8_t rx[sizeof(struct agent_frame) + sizeof(struct agent_error) +
               AGENT_ERROR_TEXT_MAX]; /* a frame; none is longer */
};

/*
 * Takes bytes up to where the server's begin: *ret_taken. Not for one that is
 * open. -EPROTO for what is not the protocol; -ECONNREFUSED if the agent could
 * not connect, which says why.
 */
CC_MUST_CHECK int guest_forward_feed(struct guest_forward *f, const void *data,
    size_t len, size_t *ret_taken, struct err *err);

#endif
