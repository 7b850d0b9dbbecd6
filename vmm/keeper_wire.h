/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes over the link between a jailed monitor and its keeper: one request
 * and one reply a packet, each with at most one descriptor. Both are the same
 * program. Thread rule: none.
 */
#ifndef VMM_KEEPER_WIRE_H
#define VMM_KEEPER_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/rundir.h"

enum keeper_op {
    KEEPER_HELLO, /* only a reply, which nobody asked for */
    KEEPER_SERVE,
    KEEPER_JOIN_SWITCH,
    KEEPER_SETTLE, /* has no reply */
    KEEPER_CONNECT,
    KEEPER_RECORD_BEGIN,
    KEEPER_RECORD_END,
    KEEPER_RELEASED,
    KEEPER_LEAVE,
    KEEPER_OPS,
};

#define KEEPER_PATH_SIZE 128u

enum keeper_flag {
    KEEPER_OWNS_VSOCK = 1u << 0,
    KEEPER_RECORD_ADDS = 1u << 1,
};

struct keeper_request {
    uint32_t op;
    uint32_t flags;
    uint32_t port;
    uint32_t zero;
    uint64_t pages;
    char path[KEEPER_PATH_SIZE]; /* NUL-terminated */
};

struct keeper_reply {
    int32_t rc; /* 0 or -errno */
    uint32_t pid;
    char id[RUNDIR_ID_SIZE];
    struct err err; /* of a failure */
};

/*
 * Sends a packet, with `passed_fd` if that is not negative: 0, -EAGAIN when the
 * other side has left too many unread (who waits for each reply never does), or
 * -errno.
 */
CC_MUST_CHECK int keeper_send(
    int fd, const void *data, size_t size, int passed_fd);

/*
 * Receives a packet of exactly `size` bytes: 1, 0 when the other side is gone,
 * -EBADMSG for another size or more than one descriptor, -errno. *ret_fd is
 * the caller's, -1 if there was none.
 */
CC_MUST_CHECK int keeper_receive(int fd, void *data, size_t size, int *ret_fd);

#endif
