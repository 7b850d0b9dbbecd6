/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of the socket device as Unix sockets.
 *
 * A host program reaches a port of the guest by connecting to `path`, writing
 * "CONNECT <port>\n" and reading "OK <host_port>\n"; end of file instead of
 * OK means refused. A guest that connects to port N of CID 2 reaches who
 * listens on "<path>_N". Owns the listening socket and the connections that
 * have not said where to yet; from then on they are the device's.
 *
 * Thread rule: open before the loop runs or on its thread, close on its
 * thread or when it runs no more, before vsock_fini. Everything else happens
 * in handlers under the device's lock. Not trusted: what host programs write
 * before OK (at most VSOCK_UDS_LINE_MAX bytes); the guest chooses N.
 */
#ifndef VIRTIO_VSOCK_UDS_H
#define VIRTIO_VSOCK_UDS_H

#include <stdint.h>
#include <sys/un.h>

#include "virtio/vsock.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"

/* "CONNECT 4294967295\n" and a little room. */
#define VSOCK_UDS_LINE_MAX 32u

/* Callers that have not said where to; one more drops the oldest. */
#define VSOCK_UDS_CALLERS_MAX 64u

struct vsock_uds;

struct vsock_uds_caller {
    struct vsock_uds *uds;
    int fd; /* -1: a free place */
    struct loop_source source;
    uint64_t since; /* order of arrival */
    uint32_t line_len;
    char line[VSOCK_UDS_LINE_MAX];
};

/*
 * Who connects to "<path>_<port>" for a process that cannot: a descriptor, or
 * -errno. It removes the socket file at the end, too.
 */
typedef int vsock_uds_connect_fn(void *opaque, uint32_t port);

struct vsock_uds {
    struct vsock *vsock; /* borrowed */
    int listen_fd;
    bool bound;                    /* the socket file is ours to remove */
    vsock_uds_connect_fn *connect; /* NULL: nobody stands in */
    void *opaque;
    struct loop_source source;
    struct loop_timer retry; /* listens again when descriptors ran out */
    uint64_t arrivals;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    struct vsock_uds_caller callers[VSOCK_UDS_CALLERS_MAX];
};

/*
 * Listens on `path` and becomes the device's backend. With `listen_fd` not
 * negative that descriptor, a listening Unix stream socket which is owned
 * from then on, is used and nothing is created at `path`. The device needs a
 * loop. -ENAMETOOLONG if "<path>_4294967295" is no socket address,
 * -EADDRINUSE if there is a file already. On failure the caller keeps
 * `listen_fd`.
 */
CC_MUST_CHECK int vsock_uds_open(struct vsock_uds *uds, struct vsock *vsock,
    const char *path, int listen_fd, struct err *err);

/* From here on `connect` is asked. Before the loop runs. */
void vsock_uds_set_connect(
    struct vsock_uds *uds, vsock_uds_connect_fn *connect, void *opaque);

/* Stops listening and removes the socket file if it was created here. */
void vsock_uds_close(struct vsock_uds *uds);

#endif
