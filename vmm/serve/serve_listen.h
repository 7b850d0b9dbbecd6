/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a server listens: "unix:PATH", "tcp:ADDRESS:PORT" (IPv6 in brackets),
 * or "fd:N", a socket that whoever started the program has opened.
 *
 * Owns the descriptor, and the file of a Unix socket that it made. Thread rule:
 * one thread. The text is the user's.
 */
#ifndef VMM_SERVE_SERVE_LISTEN_H
#define VMM_SERVE_SERVE_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct serve_listen {
    int fd;            /* -1: none, or taken */
    char *path;        /* of a Unix socket, to be removed; or NULL */
    bool is_inherited; /* others may have it, too */
};

/*
 * A Unix socket's path may have the socket of a server that ended in it, which
 * is replaced, but nothing else. It is for everybody whom the folder lets in.
 */
CC_MUST_CHECK int serve_listen_open(
    const char *where, struct serve_listen *ret_listen, struct err *err);

/* A descriptor that was inherited: -EBADF unless it listens for streams. */
CC_MUST_CHECK int serve_listen_take(
    int fd, struct serve_listen *ret_listen, struct err *err);

/* Closes and removes what is left of it. */
void serve_listen_close(struct serve_listen *listen);

#endif
