/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole frames over a blocking connection to the agent, for commands that do
 * one thing. Owns the buffer of the frame being received, not the socket.
 *
 * Thread rule: one thread. The agent's frames are the guest's word: their
 * lengths are checked here, their content by who asked.
 */
#ifndef VMM_GUEST_STREAM_H
#define VMM_GUEST_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "guest/agent/proto.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct guest_stream {
    int fd; /* borrowed */
    bool greeted;
    uint8_t rx[AGENT_PAYLOAD_MAX];
    uint8_t tx[AGENT_FRAME_MAX]; /* the frame being put together */
};

struct guest_frame {
    uint16_t type;
    struct bytes_reader payload; /* valid until the next one is received */
};

/* A stream over `fd`; free() it. NULL without memory. */
struct guest_stream *guest_stream_new(int fd, struct err *err);

/*
 * Sends one frame: a struct and bytes behind it, either of which may be
 * empty. Together at most AGENT_PAYLOAD_MAX bytes. -EPIPE when the agent has
 * closed: it may have said why.
 */
CC_MUST_CHECK int guest_stream_send(struct guest_stream *s, uint16_t type,
    const void *head, size_t head_len, const void *data, size_t len,
    struct err *err);

/*
 * The next frame, the greeting taken and checked before the first. An ERROR
 * is a failure with the agent's errno and text.
 */
CC_MUST_CHECK int guest_stream_recv(
    struct guest_stream *s, struct guest_frame *ret_frame, struct err *err);

/*
 * What a failure to send means: the reason that the agent has given, or else
 * `rc`, whose text is in `err`.
 */
int guest_stream_explain(struct guest_stream *s, int rc, struct err *err);

#endif
