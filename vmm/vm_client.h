/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that runs, seen from a command: by its id, through its control
 * socket.
 *
 * Blocking; one thread. The id comes from the command line and is checked.
 */
#ifndef VMM_VM_CLIENT_H
#define VMM_VM_CLIENT_H

#include <stdint.h>

#include "vmm/api/http_client.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* Commands end like shells: what they themselves could not do is this. */
#define VM_CLIENT_STATUS_FAILED 125

/*
 * A connection to the control socket. Reading and writing give up after
 * `timeout_ms`; 0: never.
 */
CC_MUST_CHECK int vm_client_connect(
    const char *id, uint32_t timeout_ms, int *ret_fd, struct err *err);

/*
 * One request over a connection of its own; a status that is no success is an
 * error. ret_reply may be NULL.
 */
CC_MUST_CHECK int vm_client_call(const char *id, enum http_verb verb,
    const char *path, const char *body, struct http_reply *ret_reply,
    struct err *err);

/* A connection to the agent of a machine, non-blocking. */
CC_MUST_CHECK int vm_client_connect_agent(
    const char *id, int *ret_fd, struct err *err);

#endif
