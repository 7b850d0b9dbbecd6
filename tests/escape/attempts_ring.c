/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_uring: what goes through a ring passes no seccomp filter, so the ring
 * that a monitor has open must refuse by itself. Without a jail it is a ring
 * like any other.
 */
#include <fcntl.h>
#include <liburing.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/escape/escape.h"
#include "vmm/base/cc.h"

/* The registered disk. */
#define SLOT 0

static int try_setup(struct escape *e)
{
    struct io_uring_params params = {0};

    return ESCAPE_CALL(e, SYS_io_uring_setup, 4, &params);
}

#define REGISTER(name, op, arg, count)                                         \
    static int try_register_##name(struct escape *e)                           \
    {                                                                          \
        if (e->ring == NULL)                                                   \
            return -ENOSYS;                                                    \
        return ESCAPE_CALL(                                                    \
            e, SYS_io_uring_register, e->ring->ring_fd, (op), (arg), (count)); \
    }

REGISTER(enable, IORING_REGISTER_ENABLE_RINGS, NULL, 0)
REGISTER(restrict, IORING_REGISTER_RESTRICTIONS, e->page, 1)
REGISTER(unfile, IORING_UNREGISTER_FILES, NULL, 0)
REGISTER(eventfd, IORING_REGISTER_EVENTFD, &e->event, 1)
REGISTER(personality, IORING_REGISTER_PERSONALITY, NULL, 0)

static int try_register_buffer(struct escape *e)
{
    struct iovec iov = {.iov_base = e->page, .iov_len = ESCAPE_PAGE};

    if (e->ring == NULL)
        return -ENOSYS;
    return ESCAPE_CALL(e, SYS_io_uring_register, e->ring->ring_fd,
        IORING_REGISTER_BUFFERS, &iov, 1);
}

static struct io_uring_sqe *next_sqe(struct escape *e)
{
    return e->ring == NULL ? NULL : io_uring_get_sqe(e->ring);
}

/* What the one operation comes to. */
static int run_ring(struct escape *e)
{
    struct io_uring_cqe *cqe;
    int rc;

    escape_mark(e, SYS_io_uring_enter);
    rc = io_uring_submit_and_wait(e->ring, 1);
    if (rc < 0)
        return rc;
    rc = io_uring_peek_cqe(e->ring, &cqe);
    return rc < 0 ? rc : cqe->res;
}

/* `prepare_it` fills in `sqe`. */
#define RING(name, prepare_it)                                                 \
    static int try_ring_##name(struct escape *e)                               \
    {                                                                          \
        struct io_uring_sqe *sqe = next_sqe(e);                                \
                                                                               \
        if (sqe == NULL)                                                       \
            return -ENOSYS;                                                    \
        prepare_it;                                                            \
        return run_ring(e);                                                    \
    }

RING(openat,
    io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY | O_CLOEXEC, 0))
RING(statx, io_uring_prep_statx(sqe, AT_FDCWD, "/etc/passwd", 0,
                STATX_BASIC_STATS, (struct statx *)(void *)e->page))
RING(unlink, io_uring_prep_unlinkat(sqe, AT_FDCWD, e->path, 0))
RING(mkdir, io_uring_prep_mkdirat(sqe, AT_FDCWD, e->path, 0700))
RING(socket,
    io_uring_prep_rw(IORING_OP_SOCKET, sqe, AF_INET, NULL, 0, SOCK_STREAM))
RING(send, io_uring_prep_send(sqe, e->socket, e->page, 1, MSG_DONTWAIT))
RING(close, io_uring_prep_close(sqe, e->fds[0]))
RING(splice, io_uring_prep_splice(sqe, e->disk, 0, e->fds[1], -1, 64, 0))
RING(epoll, io_uring_prep_epoll_ctl(sqe, e->epoll, e->socket, EPOLL_CTL_ADD,
                (struct epoll_event *)(void *)e->page))
RING(nop, io_uring_prep_nop(sqe))
RING(files, io_uring_prep_files_update(sqe, &e->disk, 1, SLOT))
RING(message,
    io_uring_prep_rw(IORING_OP_MSG_RING, sqe, e->ring->ring_fd, NULL, 0, 0))
RING(buffers, io_uring_prep_provide_buffers(sqe, e->page, ESCAPE_PAGE, 1, 0, 0))
RING(madvise, io_uring_prep_madvise(sqe, e->page, ESCAPE_PAGE, 0))
RING(poll, io_uring_prep_poll_add(sqe, e->socket, 4)) /* POLLOUT */

/* A file that the monitor has open and did not register. */
RING(read, io_uring_prep_read(sqe, e->ram, e->page, 64, 0))

/* One that it did, by another's credentials. */
RING(creds, {
    io_uring_prep_read(sqe, SLOT, e->page, 64, 0);
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    sqe->personality = (uint16_t)e->number;
})

/* And one that goes on to a worker thread of the kernel. */
RING(async, {
    io_uring_prep_read(sqe, SLOT, e->page, 64, 0);
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE | IOSQE_ASYNC);
})

static int try_ring_connect(struct escape *e)
{
    struct io_uring_sqe *sqe = next_sqe(e);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(e->abstract);

    if (sqe == NULL)
        return -ENOSYS;
    memcpy(addr.sun_path + 1, e->abstract, len);
    io_uring_prep_connect(sqe, e->fds[0], (const struct sockaddr *)&addr,
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len));
    return run_ring(e);
}

static int prepare_socket(struct escape *e)
{
    e->fds[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return e->fds[0] < 0 ? -errno : 0;
}

static int prepare_pipe(struct escape *e)
{
    return pipe2(e->fds, O_CLOEXEC) < 0 ? -errno : 0;
}

static int prepare_file(struct escape *e)
{
    e->fds[0] = open(e->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return e->fds[0] < 0 ? -errno : 0;
}

/* A ring that is restricted takes none: then it is one that there is not. */
static int prepare_creds(struct escape *e)
{
    if (e->ring == NULL)
        return -ENOSYS;
    e->number = io_uring_register_personality(e->ring);
    if (e->number < 0)
        e->number = 1;
    return 0;
}

/* Others than these two may not use a ring at all. */
#define REFUSED                                                                \
    {                                                                          \
        [JAIL_ROLE_MAIN] = -EACCES, [JAIL_ROLE_VCPU] = -EACCES                 \
    }

#define IN_RING(kind, what, why)                                               \
    .name = "in a ring: " what, .gain = why, .call = SYS_io_uring_enter,       \
    .go = try_ring_##kind, .inside = REFUSED

#define OF_RING(kind, what)                                                    \
    .name = "io_uring_register: " what, .gain = "a ring without restrictions", \
    .call = SYS_io_uring_register, .go = try_register_##kind

static const struct escape_attempt attempts[] = {
    {.name = "io_uring_setup",
        .gain = "a ring without restrictions",
        .call = SYS_io_uring_setup,
        .go = try_setup},
    {OF_RING(enable, "enables the ring again"), .outside = -EBADFD},
    {OF_RING(restrict, "other restrictions"), .outside = -EBADFD},
    {OF_RING(unfile, "no registered files")},
    {OF_RING(eventfd, "an eventfd")},
    {OF_RING(personality, "credentials to come back to")},
    {OF_RING(buffer, "buffers")},
    {IN_RING(openat, "openat of an absolute path", "reads the host's files")},
    {IN_RING(statx, "statx of an absolute path", "learns what the host has")},
    {IN_RING(unlink, "unlinkat", "removes the host's files"),
        .prepare = prepare_file},
    {IN_RING(mkdir, "mkdirat", "makes folders on the host")},
    {IN_RING(socket, "socket", "networks"),
        .lacks = {{.error = -EINVAL, .why = "this kernel has none"}}},
    {IN_RING(connect, "connect", "services of the host"),
        .prepare = prepare_socket},
    {IN_RING(send, "send", "sockets past the filter")},
    {IN_RING(close, "close", "descriptors past the filter"),
        .prepare = prepare_file},
    {IN_RING(splice, "splice", "pages of files, by reference"),
        .prepare = prepare_pipe},
    {IN_RING(epoll, "epoll_ctl", "a call past the filter")},
    {IN_RING(nop, "nothing", "operations that it has no need of")},
    {IN_RING(files, "registers a file", "files that it has no need of")},
    {IN_RING(message, "a message to a ring", "rings of other processes"),
        .lacks = {{.error = -EINVAL, .why = "this kernel has none"}}},
    {IN_RING(buffers, "buffers", "memory of the kernel")},
    {IN_RING(madvise, "madvise", "a call past the filter")},
    {IN_RING(poll, "poll", "operations that it has no need of")},
    {IN_RING(read, "read of a file that is not registered",
        "descriptors past the filter")},
    {.name = "in a ring: read by credentials of before",
        .gain = "the rights that it had",
        .call = SYS_io_uring_enter,
        .go = try_ring_creds,
        .prepare = prepare_creds,
        .inside = {[JAIL_ROLE_MAIN] = -EINVAL, [JAIL_ROLE_VCPU] = -EINVAL}},
    {IN_RING(async, "read on a thread of the kernel", "threads of the kernel")},
};

const struct escape_list escape_ring = {attempts, ARRAY_SIZE(attempts)};
