/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the frames of a host mean: the one request of a session and the frames
 * that its operation allows. One thread. The frame is the host's word.
 */
#ifndef GUEST_AGENT_OPERATION_H
#define GUEST_AGENT_OPERATION_H

#include <stdint.h>

#include "guest/agent/session.h"

/*
 * Does what one frame asks of session slot. 0, also when that failed and the
 * host was told so; -EPROTO for a frame that is malformed or out of place.
 */
int operation_take_frame(struct session *s, struct session_shared *shared,
    uint32_t slot, const struct frame_view *frame);

#endif
