/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program that uses libspore asks for, out of a packet (vmm/lib/wire.h).
 *
 * Thread rule: a pure function. Not trusted: every byte of the packet.
 */
#ifndef VMM_SERVE_LIB_REQUEST_H
#define VMM_SERVE_LIB_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/lib/wire.h"

/* Strings are in the packet, whose last byte is the NUL of the last of them. */
struct lib_call {
    enum lib_op op;
    uint32_t flags;      /* enum lib_flag, those that its op has */
    uint32_t timeout_ms; /* 0: none */
    uint32_t port;
    uint32_t max; /* 1 to LIB_CLONES_MAX */
    uint32_t ready;
    const char *name; /* OPEN */
    const char *cwd;  /* EXEC; NULL: unsaid */
    const char *user;
    uint32_t argc;
    uint32_t envc;
    const char *argv[LIB_ARGS_MAX + 1]; /* NULL-terminated */
    const char *env[LIB_ARGS_MAX + 1];
};

/*
 * -EPROTO for what the library of this version does not send, of `fd_count`
 * descriptors too; -EINVAL for a variable without a name or a value.
 */
CC_MUST_CHECK int lib_request_parse(const uint8_t *packet, size_t size,
    size_t fd_count, struct lib_call *ret_call, struct err *err);

#endif
