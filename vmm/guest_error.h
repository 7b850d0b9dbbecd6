/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ERROR frame of the agent (docs/agent-protocol.md), checked.
 *
 * Thread rule: a pure function. The frame is the guest's word, and its text
 * ends up on a terminal: nothing in it that controls one is kept.
 */
#ifndef VMM_GUEST_ERROR_H
#define VMM_GUEST_ERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/agent/proto.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"

struct guest_error {
    uint32_t error;  /* Linux errno, as the guest says */
    uint16_t status; /* of EXEC: 0..255 */
    char text[AGENT_ERROR_TEXT_MAX + 1];
};

/* False if that is no ERROR's payload. */
CC_MUST_CHECK bool guest_error_parse(
    struct bytes_reader *r, struct guest_error *ret_error);

#endif
