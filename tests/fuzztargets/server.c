/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server with a bug behind a prefix: "crash" is one after "hello" only. Its
 * argument says how it waits: accept, poll, select, epoll, fork or daemon, or
 * with which call it has datagrams: udp, readv, recvmsg or recvmmsg; waitall
 * has a stream by one call.
 */
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PORT 7777

static int greeted;

static void take(const char *bytes, ssize_t n)
{
    if (n >= 5 && memcmp(bytes, "hello", 5) == 0)
        greeted = 1;
    if (n >= 5 && memcmp(bytes, "crash", 5) == 0 && greeted)
        abort();
    if (n >= 5 && memcmp(bytes, "leave", 5) == 0)
        exit(10);
}

static void serve(int fd)
{
    char buf[64];
    ssize_t n;

    while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
        take(buf, n);
        if (send(fd, "ok\n", 3, 0) != 3)
            exit(1);
    }
    close(fd);
}

static void wait_by_poll(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    if (poll(&p, 1, -1) != 1 || (p.revents & POLLIN) == 0)
        exit(2);
}

static void wait_by_select(int fd)
{
    fd_set in;

    FD_ZERO(&in);
    FD_SET(fd, &in);
    if (select(fd + 1, &in, NULL, NULL, NULL) != 1 || !FD_ISSET(fd, &in))
        exit(2);
}

static void wait_by_epoll(int epoll_fd, int fd)
{
    struct epoll_event event;

    if (epoll_wait(epoll_fd, &event, 1, -1) != 1 || event.data.fd != fd)
        exit(2);
}

/* All that comes, in two parts, however it was sent. */
static void serve_whole(int fd)
{
    char bytes[12] = "";
    struct iovec parts[2] = {{bytes, 3}, {bytes + 3, 7}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    if (recvmsg(fd, &message, MSG_WAITALL) != 10)
        exit(1);
    take(bytes, 5);
    take(bytes + 5, 5);
    if (recv(fd, bytes, 1, 0) != 0)
        exit(1);
    exit(0);
}

/* A datagram is one call's, and the part of it that has no room is lost. */
static ssize_t receive_parts(const char *how, int fd, char bytes[6])
{
    struct sockaddr_in peer;
    struct iovec parts[3] = {{bytes, 2}, {NULL, 0}, {bytes + 2, 4}};
    char other[6];
    struct iovec more = {other, sizeof(other)};
    struct mmsghdr messages[2] = {{.msg_hdr = {.msg_name = &peer,
                                       .msg_namelen = sizeof(peer),
                                       .msg_iov = parts,
                                       .msg_iovlen = 3}},
        {.msg_hdr = {.msg_iov = &more, .msg_iovlen = 1}}};
    int count;
    ssize_t n;

    if (strcmp(how, "readv") == 0)
        return readv(fd, parts, 3);
    if (strcmp(how, "recvmsg") == 0)
        n = recvmsg(fd, &messages[0].msg_hdr, 0);
    else {
        count = recvmmsg(fd, messages, 2, 0, NULL);
        if (count < 1)
            return -1;
        n = messages[0].msg_len;
        if (count == 2) {
            take(bytes, n);
            memcpy(bytes, other, sizeof(other));
            n = messages[1].msg_len;
        }
    }
    if ((messages[0].msg_hdr.msg_flags & MSG_TRUNC) != 0 &&
        memcmp(bytes, "longer", 6) == 0)
        exit(11);
    return n;
}

static void serve_datagrams(const char *how, int fd)
{
    struct sockaddr_in peer;
    char buf[64];

    for (;;) {
        socklen_t size = sizeof(peer);
        ssize_t n = strcmp(how, "udp") != 0
                        ? receive_parts(how, fd, buf)
                        : recvfrom(fd, buf, sizeof(buf), 0,
                              (struct sockaddr *)&peer, &size);

        if (n < 0)
            exit(1);
        take(buf, n);
        sendto(fd, "ok\n", 3, 0, (struct sockaddr *)&peer, size);
    }
}

static int is_for_datagrams(const char *how)
{
    return strcmp(how, "udp") == 0 || strcmp(how, "readv") == 0 ||
           strcmp(how, "recvmsg") == 0 || strcmp(how, "recvmmsg") == 0;
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "accept";
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(PORT),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct epoll_event event = {.events = EPOLLIN};
    int epoll_fd = epoll_create1(0);
    int type = is_for_datagrams(how) ? SOCK_DGRAM : SOCK_STREAM;
    int fd = socket(AF_INET, type, 0);

    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        return 3;
    if (type == SOCK_DGRAM)
        serve_datagrams(how, fd);
    if (strcmp(how, "daemon") == 0 && fork() != 0)
        return 0;
    event.data.fd = fd;
    if (listen(fd, 5) != 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return 4;
    for (;;) {
        int connection;

        if (strcmp(how, "poll") == 0)
            wait_by_poll(fd);
        else if (strcmp(how, "select") == 0)
            wait_by_select(fd);
        else if (strcmp(how, "epoll") == 0)
            wait_by_epoll(epoll_fd, fd);
        connection = accept(fd, NULL, NULL);
        if (connection < 0)
            return 5;
        if (strcmp(how, "waitall") == 0) {
            serve_whole(connection);
        } else if (strcmp(how, "fork") != 0) {
            serve(connection);
        } else if (fork() == 0) {
            serve(connection);
            _exit(0);
        } else {
            close(connection);
        }
    }
}
