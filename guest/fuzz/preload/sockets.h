/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server's first connection (or what arrives at its datagram socket) is the
 * input. The socket that it binds to the port is real, but everything that it
 * does with it in a run is answered here: there is no network, and no call
 * enters the kernel. What the server sends is swallowed. When there is nothing
 * left that it could wait for, the run is over.
 *
 * One thread accepts and polls; another may have the connection.
 */
#ifndef GUEST_FUZZ_PRELOAD_SOCKETS_H
#define GUEST_FUZZ_PRELOAD_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Before the root. */
void sockets_prepare(void);

/* The connection, or the datagram socket. */
bool sockets_is(int fd);

/*
 * The next bytes of the input into parts, one behind the other, as recvmsg(2)
 * would give them to a call with such flags; *ret_flags is what it would say
 * of them.
 */
ssize_t sockets_receive(
    const struct iovec *parts, size_t count, int flags, int *ret_flags);

/* True if it was the connection, which is closed now. */
bool sockets_close(int fd);

#endif
