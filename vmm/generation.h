/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest that goes on from a snapshot is told over its agent's
 * connection: the frame GENERATION (docs/agent-protocol.md).
 *
 * Thread rule: none. The frame has random bytes that are the guest's alone: it
 * is to be wiped (explicit_bzero) when it was sent.
 */
#ifndef VMM_GENERATION_H
#define VMM_GENERATION_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/agent/proto.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct generation_frame {
    struct agent_frame head;
    struct agent_generation body;
};

/*
 * For the guest whose generation device has `id`; with_time: its clock is to
 * be set to the host's.
 */
CC_MUST_CHECK int generation_make(struct generation_frame *ret_frame,
    const uint8_t id[AGENT_GENERATION_ID], bool with_time, struct err *err);

#endif
