/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/keeper_wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "vmm/base/fd.h"

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

int keeper_send(int fd, const void *data, size_t size, int passed_fd)
{
    union control control = {0};
    struct iovec iov = {.iov_len = size};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    /* Only read from, whatever the type of the field says. */
    memcpy(&iov.iov_base, &data, sizeof(data));
    if (passed_fd >= 0) {
        struct cmsghdr *head;

        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &passed_fd, sizeof(int));
    }
    do {
        n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

/* The kernel drops those that there is no room for. */
static int take_fd(struct msghdr *message)
{
    const struct cmsghdr *head = CMSG_FIRSTHDR(message);
    int fd;

    if (head == NULL || head->cmsg_level != SOL_SOCKET ||
        head->cmsg_type != SCM_RIGHTS ||
        head->cmsg_len != CMSG_LEN(sizeof(int)))
        return -1;
    memcpy(&fd, CMSG_DATA(head), sizeof(fd));
    return fd;
}

int keeper_receive(int fd, void *data, size_t size, int *ret_fd)
{
    union control control = {0};
    struct iovec iov = {.iov_base = data, .iov_len = size};
    struct msghdr message = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        /* The padding behind it would have room for a second descriptor. */
        .msg_controllen = CMSG_LEN(sizeof(int))};
    ssize_t n;

    do {
        n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    *ret_fd = take_fd(&message);
    if ((size_t)n == size &&
        (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
        return 1;
    /* An empty packet is an end too. */
    fd_closep(ret_fd);
    return n == 0 ? 0 : -EBADMSG;
}
