/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The EXEC request of a command, as the agent protocol has it. Part of
 * guest_exec.c, in a file of its own.
 *
 * Thread rule: a pure function. The strings come from a command line.
 */
#ifndef VMM_GUEST_EXEC_REQUEST_H
#define VMM_GUEST_EXEC_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/guest_exec.h"

/*
 * Fills `payload` (AGENT_PAYLOAD_MAX bytes). -E2BIG if it does not all fit,
 * -EINVAL for a user that is none.
 */
CC_MUST_CHECK int guest_exec_request_build(
    const struct guest_exec_config *config, uint8_t *payload, size_t *ret_len,
    struct err *err);

#endif
