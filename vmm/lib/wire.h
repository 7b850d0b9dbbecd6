/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes between libspore and the process that has its machines, `spore
 * libspore-pool`. Both may be of different builds, hence the version.
 *
 * Sockets are SOCK_SEQPACKET; a message is a packet. The first one is
 * descriptor LIB_WIRE_FD of the process. On it, to the process: OPEN, which is
 * answered, and then CLONE any number of times, each with one end of a socket
 * pair, the clone's channel, on which it is answered. On a channel: EXEC,
 * STREAM and RESET, each answered before the next is sent, and CANCEL, which
 * has no answer of its own and may come at any time. The end of a channel is
 * that of its clone, the end of the first socket that of everything.
 *
 * A request is a struct lib_request and its strings, each with its NUL: OPEN
 * has the template's name and `argc` options, EXEC `argc` and `envc` words,
 * then the folder and the user as flags say. Descriptors: CLONE and STREAM one,
 * EXEC those that flags say, in their order.
 *
 * Thread rule: no state. In the process everything that comes is checked
 * (vmm/serve/lib_request.h).
 */
#ifndef VMM_LIB_WIRE_H
#define VMM_LIB_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/base/cc.h"

#define LIB_WIRE_VERSION 1u
#define LIB_WIRE_FD      3
#define LIB_WIRE_COMMAND "libspore-pool"

#define LIB_PACKET_MAX 65536u
#define LIB_FDS_MAX    3u
#define LIB_ARGS_MAX   1000u /* words of argv; of env */
#define LIB_CLONES_MAX 4096u

enum lib_op {
    LIB_OPEN,
    LIB_CLONE,
    LIB_EXEC,
    LIB_STREAM,
    LIB_RESET,
    LIB_CANCEL,
    LIB_OPS,
};

enum lib_flag {
    LIB_RENEW = 1u << 0, /* OPEN */
    LIB_STDIN = 1u << 1, /* EXEC, and so on */
    LIB_STDOUT = 1u << 2,
    LIB_STDERR = 1u << 3,
    LIB_CWD = 1u << 4,
    LIB_USER = 1u << 5,
};

struct lib_request {
    uint32_t version;
    uint32_t op;
    uint32_t flags;
    uint32_t timeout_ms; /* CLONE, EXEC, RESET; 0: none */
    uint32_t port;       /* STREAM */
    uint32_t max;        /* OPEN: clones */
    uint32_t ready;
    uint32_t argc;
    uint32_t envc;
    uint32_t zero;
};

struct lib_reply {
    uint32_t version;
    int32_t rc; /* 0 or a negative errno value */
    int32_t status;
    uint32_t zero;
    char text[480]; /* of a failure: one line, NUL-terminated */
};

/*
 * Sends one packet with `fd_count` descriptors; it waits if `waits`, for room.
 * 0, -EAGAIN or another -errno; SIGPIPE is not raised.
 */
CC_MUST_CHECK int lib_wire_send(int fd, const struct iovec *parts,
    size_t part_count, const int *fds, size_t fd_count, int waits);

/*
 * Takes one packet if it is there: 1, 0 at the end, -EAGAIN, -EBADMSG for one
 * that is longer than `room` or has more than LIB_FDS_MAX descriptors, -errno.
 * The descriptors are the caller's, close-on-exec.
 */
CC_MUST_CHECK int lib_wire_receive(int fd, void *data, size_t room,
    size_t *ret_size, int ret_fds[LIB_FDS_MAX], size_t *ret_fd_count);

#endif
