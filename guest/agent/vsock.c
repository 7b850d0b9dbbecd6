/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/vsock.h"

#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/proto.h"
#include "guest/agent/sys.h"

/* Bound to a port of this machine. */
static int open_bound(uint32_t port)
{
    struct sys_sockaddr_vm address = {
        .family = SYS_AF_VSOCK,
        .port = port,
        .cid = SYS_CID_ANY,
    };
    int fd =
        socket(SYS_AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error;

    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)(void *)&address, sizeof(address)) != 0) {
        error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

int vsock_listen(int backlog)
{
    int fd = open_bound(AGENT_PORT);
    int error;

    if (fd < 0)
        return fd;
    if (listen(fd, backlog) != 0) {
        error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

int vsock_connect_ready(bool *ret_connecting)
{
    struct sys_sockaddr_vm host = {
        .family = SYS_AF_VSOCK,
        .port = AGENT_PORT_READY,
        .cid = AGENT_HOST_CID,
    };
    int fd = open_bound(AGENT_PORT_READY);
    int error;

    if (fd < 0)
        return fd;
    if (connect(fd, (struct sockaddr *)(void *)&host, sizeof(host)) == 0) {
        *ret_connecting = false;
        return fd;
    }
    if (errno != EINPROGRESS) {
        error = -errno;
        close(fd);
        return error;
    }
    *ret_connecting = true;
    return fd;
}
