/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/wire.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* One more than there may be, so that too many are seen to be. */
#define ROOM_FDS (LIB_FDS_MAX + 1)

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * ROOM_FDS)];
};

int lib_wire_send(int fd, const struct iovec *parts, size_t part_count,
    const int *fds, size_t fd_count, int waits)
{
    union control control = {0};
    struct msghdr message = {.msg_iovlen = part_count};
    ssize_t n;

    /* Only read from, whatever the type of the field says. */
    memcpy(&message.msg_iov, &parts, sizeof(parts));
    if (fd_count > LIB_FDS_MAX)
        return -EINVAL;
    if (fd_count > 0) {
        struct cmsghdr *head;

        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(head), fds, sizeof(int) * fd_count);
    }
    do {
        n = sendmsg(fd, &message, MSG_NOSIGNAL | (waits ? 0 : MSG_DONTWAIT));
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

static size_t take_fds(struct msghdr *message, int *fds)
{
    const struct cmsghdr *head = CMSG_FIRSTHDR(message);
    size_t count;

    if (head == NULL || head->cmsg_level != SOL_SOCKET ||
        head->cmsg_type != SCM_RIGHTS || head->cmsg_len < CMSG_LEN(0))
        return 0;
    count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    if (count > ROOM_FDS)
        count = ROOM_FDS;
    memcpy(fds, CMSG_DATA(head), count * sizeof(int));
    return count;
}

int lib_wire_receive(int fd, void *data, size_t room, size_t *ret_size,
    int ret_fds[LIB_FDS_MAX], size_t *ret_fd_count)
{
    union control control = {0};
    struct iovec iov = {.iov_base = data, .iov_len = room};
    struct msghdr message = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes)};
    int fds[ROOM_FDS];
    size_t count;
    ssize_t n;

    do {
        n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    count = take_fds(&message, fds);
    if (n > 0 && count <= LIB_FDS_MAX &&
        (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0) {
        memcpy(ret_fds, fds, count * sizeof(int));
        *ret_fd_count = count;
        *ret_size = (size_t)n;
        return 1;
    }
    for (size_t i = 0; i < count; i++)
        (void)close(fds[i]);
    return n == 0 ? 0 : -EBADMSG;
}
