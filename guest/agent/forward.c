/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/forward.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/watch.h"

/* A guest without a network has nobody else to do it. */
static int raise_loopback(int fd)
{
    struct ifreq request = {.ifr_name = "lo"};

    if (ioctl(fd, SIOCGIFFLAGS, &request) != 0)
        return -errno;
    request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
    return ioctl(fd, SIOCSIFFLAGS, &request) != 0 ? -errno : 0;
}

static int try_connect(int fd, uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr = {htonl(INADDR_LOOPBACK)},
    };

    return connect(fd, (struct sockaddr *)(void *)&address, sizeof(address)) ==
                       0 ||
                   errno == EINPROGRESS
               ? 0
               : -errno;
}

int forward_start(struct forward *f, const struct request_forward *request,
    int epoll_fd, uint32_t slot)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r;

    *f = (struct forward){.fd = -1};
    if (fd < 0)
        return -errno;
    r = try_connect(fd, request->port);
    if (r == -ENETUNREACH && raise_loopback(fd) == 0)
        r = try_connect(fd, request->port);
    if (r == 0)
        r = watch_add(
            epoll_fd, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, WATCH_FORWARD, slot);
    if (r != 0) {
        close(fd);
        return r;
    }
    f->fd = fd;
    f->connecting = true;
    return 0;
}

int forward_connected(struct forward *f)
{
    int error = 0;
    socklen_t len = sizeof(error);

    if (!f->connecting)
        return 1;
    if (!f->writable)
        return 0;
    if (getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        return -errno;
    if (error != 0)
        return -error;
    f->connecting = false;
    return 1;
}

void forward_event(struct forward *f, uint32_t events)
{
    if ((events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0)
        f->hup = true;
    if (f->hup || (events & EPOLLIN) != 0)
        f->readable = true;
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0)
        f->writable = true;
}

/* To the server. One that takes no more may still say why. */
static bool give(struct forward *f, struct frame_in *in)
{
    size_t have = in->end - in->start;
    ssize_t n;

    if (f->in_closed) {
        in->start = in->end;
        return have > 0;
    }
    if (have == 0) {
        if (!f->in_ended)
            return false;
        (void)shutdown(f->fd, SHUT_WR);
        f->in_closed = true;
        return true;
    }
    if (!f->writable)
        return false;
    n = send(f->fd, in->buf + in->start, have, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && errno == EAGAIN) {
        f->writable = false;
        return false;
    }
    if (n < 0)
        f->in_closed = true;
    else
        in->start += (size_t)n;
    return true;
}

/* From the server. */
static bool take(struct forward *f, struct frame_out *out, int *ret_error)
{
    size_t room;
    uint8_t *space;
    ssize_t n;

    if (!f->readable || f->out_ended)
        return false;
    space = frame_out_raw_space(out, &room);
    if (room == 0)
        return false;
    n = recv(f->fd, space, room, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && errno == EAGAIN) {
        f->readable = false;
        return false;
    }
    if (n < 0) {
        *ret_error = -errno;
        return true;
    }
    if (n == 0)
        f->out_ended = true;
    else
        frame_out_raw_commit(out, (size_t)n);
    return true;
}

bool forward_pump(struct forward *f, struct frame_in *in, struct frame_out *out,
    int *ret_error)
{
    bool progress = give(f, in);

    *ret_error = 0;
    progress |= take(f, out, ret_error);
    return progress;
}

void forward_fini(struct forward *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}
