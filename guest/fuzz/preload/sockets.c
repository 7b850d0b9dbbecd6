/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/preload/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/fuzz/call.h"
#include "guest/fuzz/preload/ends.h"
#include "guest/fuzz/preload/input.h"
#include "guest/fuzz/preload/preload.h"
#include "guest/fuzz/preload/real.h"
#include "guest/fuzz/preload/root.h"
#include "guest/fuzz/preload/waits.h"

#define PEER_PORT 40000u

static struct {
    bool bound;
    bool datagrams;
    bool nonblocking;
    bool accepted;
    bool closed;
    volatile bool waiting; /* a thread waits for the next connection */
    int listen_fd;
    int connection_fd;
    size_t at;         /* in the input */
    size_t packet_end; /* of what is being read */
} net = {.listen_fd = -1, .connection_fd = -1};

static bool is_on(void)
{
    return preload.active && preload.input == PRELOAD_SOCKET;
}

/* ---- the input as packets ---------------------------------------------------
 */

/*
 * A run from a level begins with what the one before has left in the control
 * registers for floating point: the executor leaves such to its agents.
 */
static void tell_level(void)
{
    uint32_t mxcsr;
    uint16_t control;

    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(control));
    (void)call(FUZZ_ABI_LEVEL, net.at);
    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr), "m"(control));
}

/* Makes the next packet the one that is read; false: there is none. */
static bool open_packet(void)
{
    size_t size;
    size_t length;

    if (net.at >= input_size())
        return false;
    if (preload.levels && net.at > 0)
        tell_level();
    /* Of the input that is run from here: it may be another one. */
    size = input_size();
    if (!preload.frames) {
        net.packet_end = size;
        return true;
    }
    if (size - net.at < sizeof(uint16_t)) {
        net.at = size;
        return false;
    }
    length = (size_t)input_bytes()[net.at] | (size_t)input_bytes()[net.at + 1]
                                                 << 8;
    net.at += sizeof(uint16_t);
    if (length > size - net.at)
        length = size - net.at;
    net.packet_end = net.at + length;
    return true;
}

/* As open_packet has it: what is no whole frame's length is nothing. */
static bool has_more(void)
{
    size_t least = preload.frames ? sizeof(uint16_t) : 1;

    return net.at < net.packet_end || net.at + least <= input_size();
}

/* There are bytes at net.at, up to net.packet_end; false: the stream has
 * ended. */
static bool have_packet(void)
{
    if (net.datagrams) {
        waits_root();
        if (!open_packet())
            ends_run(0);
        return true;
    }
    while (net.at == net.packet_end) {
        if (!open_packet())
            return false;
    }
    return true;
}

/* What of the packet has room behind the first `got` bytes of the parts. */
static size_t scatter(const struct iovec *parts, size_t count, size_t got)
{
    const uint8_t *from = input_bytes() + net.at;
    size_t left = net.packet_end - net.at;

    for (size_t i = 0; i < count && left > 0; i++) {
        size_t skip = got < parts[i].iov_len ? got : parts[i].iov_len;
        size_t n = parts[i].iov_len - skip;

        got -= skip;
        if (n > left)
            n = left;
        memcpy((uint8_t *)parts[i].iov_base + skip, from, n);
        from += n;
        left -= n;
    }
    return (size_t)(from - input_bytes()) - net.at;
}

static size_t room_in(const struct iovec *parts, size_t count)
{
    size_t room = 0;

    for (size_t i = 0; i < count; i++)
        room += parts[i].iov_len;
    return room;
}

static ssize_t receive_datagram(
    const struct iovec *parts, size_t count, int flags, int *ret_flags)
{
    size_t begin = net.at;
    size_t size;
    size_t n;

    (void)have_packet();
    size = net.packet_end - net.at;
    n = scatter(parts, count, 0);
    if (n < size)
        *ret_flags = MSG_TRUNC;
    /* The rest is lost; one that was looked at comes again. */
    net.at = (flags & MSG_PEEK) == 0 ? net.packet_end : begin;
    return (ssize_t)((flags & MSG_TRUNC) == 0 ? n : size);
}

static ssize_t receive_stream(
    const struct iovec *parts, size_t count, int flags)
{
    size_t room = room_in(parts, count);
    size_t got = 0;

    while (have_packet()) {
        size_t n = scatter(parts, count, got);

        got += n;
        if ((flags & MSG_PEEK) != 0)
            break;
        net.at += n;
        if ((flags & MSG_WAITALL) == 0 || got == room)
            break;
    }
    return (ssize_t)got;
}

ssize_t sockets_receive(
    const struct iovec *parts, size_t count, int flags, int *ret_flags)
{
    *ret_flags = 0;
    return net.datagrams ? receive_datagram(parts, count, flags, ret_flags)
                         : receive_stream(parts, count, flags);
}

bool sockets_is(int fd)
{
    if (!preload.rooted || fd < 0)
        return net.datagrams && fd == net.listen_fd && preload.active;
    return net.datagrams
               ? fd == net.listen_fd
               : net.accepted && !net.closed && fd == net.connection_fd;
}

/* ---- what is ready, for waits.h ---------------------------------------------
 */

bool sockets_is_ours(int fd)
{
    return fd >= 0 && net.bound &&
           (fd == net.listen_fd ||
               (net.accepted && fd == net.connection_fd && !net.closed));
}

bool sockets_is_readable(int fd)
{
    if (net.datagrams)
        return has_more();
    if (fd == net.listen_fd)
        return !net.accepted;
    return true; /* bytes or the end */
}

/* Nothing will come any more. */
bool sockets_is_over(void)
{
    return net.datagrams ? !has_more() : net.accepted && net.closed;
}

/* ---- the life of a server ---------------------------------------------------
 */

void sockets_prepare(void)
{
    int pair[2];
    int flags;

    if (!is_on())
        return;
    flags = fcntl(net.listen_fd, F_GETFL);
    net.nonblocking = flags >= 0 && (flags & O_NONBLOCK) != 0;
    /* A descriptor that is a socket, whatever is asked of it. */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0)
        net.connection_fd = pair[0];
}

static bool is_our_port(const struct sockaddr *address, socklen_t n)
{
    uint16_t port = 0;

    if (address->sa_family == AF_INET && n >= sizeof(struct sockaddr_in))
        memcpy(&port, (const char *)address + 2, sizeof(port));
    else if (address->sa_family == AF_INET6 && n >= sizeof(struct sockaddr_in6))
        memcpy(&port, (const char *)address + 2, sizeof(port));
    return port != 0 && ntohs(port) == preload.port;
}

REAL_EXPORT int bind(int fd, const struct sockaddr *address, socklen_t n)
{
    int type = 0;
    socklen_t size = sizeof(type);
    int result = REAL(bind)(fd, address, n);

    if (!is_on() || preload.rooted || net.bound || !is_our_port(address, n))
        return result;
    net.bound = true;
    net.listen_fd = fd;
    net.datagrams =
        REAL(getsockopt)(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
        type == SOCK_DGRAM;
    return 0; /* without a network it may well have failed */
}

REAL_EXPORT int listen(int fd, int backlog)
{
    int result = REAL(listen)(fd, backlog);

    return net.bound && fd == net.listen_fd ? 0 : result;
}

static void put_peer(struct sockaddr *address, socklen_t *n)
{
    struct sockaddr_in peer = {
        .sin_family = AF_INET,
        .sin_port = htons(PEER_PORT),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };

    if (address == NULL || n == NULL)
        return;
    memcpy(address, &peer, *n < sizeof(peer) ? *n : sizeof(peer));
    *n = sizeof(peer);
}

/* Somebody else has the connection: a process or a thread. */
static void wait_for_the_end(void)
{
    int status;

    while (preload.parent && (waitpid(-1, &status, 0) > 0 || errno == EINTR))
        continue;
    /* Before it is looked at: another thread closes and then looks at this. */
    net.waiting = true;
    if (net.closed || !net.accepted)
        ends_run(0);
    for (;;)
        (void)pause();
}

static int take_connection(struct sockaddr *address, socklen_t *n)
{
    waits_root();
    if (net.accepted) {
        if (!net.nonblocking)
            wait_for_the_end();
        if (net.closed)
            ends_run(0);
        errno = EAGAIN;
        return -1;
    }
    net.accepted = true;
    put_peer(address, n);
    return net.connection_fd;
}

REAL_EXPORT int accept(int fd, struct sockaddr *address, socklen_t *n)
{
    if (!is_on() || fd != net.listen_fd)
        return REAL(accept)(fd, address, n);
    return take_connection(address, n);
}

REAL_EXPORT int accept4(
    int fd, struct sockaddr *address, socklen_t *n, int flags)
{
    if (!is_on() || fd != net.listen_fd)
        return REAL(accept4)(fd, address, n, flags);
    return take_connection(address, n);
}

bool sockets_close(int fd)
{
    if (net.datagrams || !sockets_is(fd))
        return false;
    net.closed = true;
    if (net.waiting)
        ends_run(0);
    return true;
}

/* ---- calls with the connection ----------------------------------------------
 */

static ssize_t receive(void *bytes, size_t n, int flags)
{
    const struct iovec part = {.iov_base = bytes, .iov_len = n};
    int unused;

    return sockets_receive(&part, 1, flags, &unused);
}

REAL_EXPORT ssize_t recv(int fd, void *bytes, size_t n, int flags)
{
    if (!sockets_is(fd))
        return REAL(recv)(fd, bytes, n, flags);
    return receive(bytes, n, flags);
}

REAL_EXPORT ssize_t recvfrom(int fd, void *restrict bytes, size_t n, int flags,
    struct sockaddr *restrict address, socklen_t *restrict size)
{
    if (!sockets_is(fd))
        return REAL(recvfrom)(fd, bytes, n, flags, address, size);
    put_peer(address, size);
    return receive(bytes, n, flags);
}

/* With _FORTIFY_SOURCE. */
ssize_t __recv_chk(int fd, void *bytes, size_t n, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *restrict bytes, size_t n, size_t room,
    int flags, struct sockaddr *restrict address, socklen_t *restrict size);

REAL_EXPORT ssize_t __recv_chk(
    int fd, void *bytes, size_t n, size_t room, int flags)
{
    if (n > room)
        __builtin_trap();
    return recv(fd, bytes, n, flags);
}

REAL_EXPORT ssize_t __recvfrom_chk(int fd, void *restrict bytes, size_t n,
    size_t room, int flags, struct sockaddr *restrict address,
    socklen_t *restrict size)
{
    if (n > room)
        __builtin_trap();
    return recvfrom(fd, bytes, n, flags, address, size);
}

static ssize_t receive_message(struct msghdr *message, int flags)
{
    put_peer(message->msg_name, &message->msg_namelen);
    message->msg_controllen = 0;
    return sockets_receive(
        message->msg_iov, message->msg_iovlen, flags, &message->msg_flags);
}

REAL_EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    if (!sockets_is(fd))
        return REAL(recvmsg)(fd, message, flags);
    return receive_message(message, flags);
}

/* Behind the last message there is nothing to wait for: what has come is
 * handed out. */
REAL_EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count,
    int flags, struct timespec *timeout)
{
    unsigned int i;

    if (!sockets_is(fd))
        return REAL(recvmmsg)(fd, messages, count, flags, timeout);
    for (i = 0; i < count && (i == 0 || has_more()); i++)
        messages[i].msg_len =
            (unsigned int)receive_message(&messages[i].msg_hdr, flags);
    return (int)i;
}

REAL_EXPORT ssize_t send(int fd, const void *bytes, size_t n, int flags)
{
    return sockets_is(fd) ? (ssize_t)n : REAL(send)(fd, bytes, n, flags);
}

REAL_EXPORT ssize_t sendto(int fd, const void *bytes, size_t n, int flags,
    const struct sockaddr *address, socklen_t size)
{
    return sockets_is(fd) ? (ssize_t)n
                          : REAL(sendto)(fd, bytes, n, flags, address, size);
}

REAL_EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (!sockets_is(fd))
        return REAL(sendmsg)(fd, message, flags);
    return (ssize_t)room_in(message->msg_iov, message->msg_iovlen);
}

REAL_EXPORT int sendmmsg(
    int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
    if (!sockets_is(fd))
        return REAL(sendmmsg)(fd, messages, count, flags);
    for (unsigned int i = 0; i < count; i++)
        messages[i].msg_len = (unsigned int)room_in(
            messages[i].msg_hdr.msg_iov, messages[i].msg_hdr.msg_iovlen);
    return (int)count;
}

REAL_EXPORT int shutdown(int fd, int how)
{
    return sockets_is(fd) ? 0 : REAL(shutdown)(fd, how);
}

REAL_EXPORT int getpeername(
    int fd, struct sockaddr *restrict address, socklen_t *restrict n)
{
    if (!sockets_is(fd))
        return REAL(getpeername)(fd, address, n);
    put_peer(address, n);
    return 0;
}

/* Options of TCP make no sense to what the connection really is. */
REAL_EXPORT int setsockopt(
    int fd, int level, int name, const void *value, socklen_t n)
{
    return sockets_is(fd) ? 0 : REAL(setsockopt)(fd, level, name, value, n);
}

REAL_EXPORT int getsockopt(
    int fd, int level, int name, void *restrict value, socklen_t *restrict n)
{
    if (!sockets_is(fd) || level == SOL_SOCKET)
        return REAL(getsockopt)(fd, level, name, value, n);
    memset(value, 0, *n);
    return 0;
}
