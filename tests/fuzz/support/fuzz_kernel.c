/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/support/fuzz_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "tests/fuzz/support/fuzz_guest.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"

enum kind { CLOSED, EPOLL, EVENT, TIMER, SOCKET, LISTENER };

#define BACKLOG 8u

struct file {
    enum kind kind;
    bool watched;
    bool edge; /* something happened since it was reported */
    struct epoll_event watch;
    uint64_t value; /* of an eventfd; deadline of a timerfd, 0 is off */
    /* Of a socket. */
    struct file *peer; /* NULL once that is closed */
    bool no_more_in;   /* as the kernel's RCV_SHUTDOWN and SEND_SHUTDOWN */
    bool no_more_out;
    int error; /* reported once */
    uint32_t head;
    uint32_t len;
    uint8_t *data;        /* a ring of FUZZ_KERNEL_ROOM_MAX bytes */
    int backlog[BACKLOG]; /* of a listener: `value` descriptors */
};

static struct {
    struct file files[FUZZ_KERNEL_FDS];
    int top; /* files beyond it have not been open in this input */
    uint8_t *ram;
    uint64_t ram_size;
    uint64_t discarded_from;
    int called; /* fuzz_kernel_called, or -1 */
    uint32_t room;
    uint64_t now_ns;
    struct {
        bool armed;
        uint8_t skip;
        int error;
    } faults[FUZZ_KERNEL_CALLS];
} kernel;

/* The wrapped calls, and where the linker leaves the real ones. */
int __real_close(int fd);
ssize_t __real_read(int fd, void *buf, size_t len);
ssize_t __real_write(int fd, const void *buf, size_t len);

int __wrap_close(int fd);
ssize_t __wrap_read(int fd, void *buf, size_t len);
ssize_t __wrap_write(int fd, const void *buf, size_t len);
int __wrap_epoll_create1(int flags);
int __wrap_epoll_ctl(int epfd, int op, int fd, const struct epoll_event *ev);
int __wrap_epoll_wait(int epfd, struct epoll_event *evs, int max, int timeout);
int __wrap_eventfd(unsigned int count, int flags);
int __wrap_timerfd_create(int clock, int flags);
int __wrap_timerfd_settime(
    int fd, int flags, const struct itimerspec *value, struct itimerspec *old);
ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *buf, size_t len, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);
int __wrap_accept4(int fd, void *addr, socklen_t *len, int flags);
int __wrap_socket(int domain, int type, int protocol);
int __wrap_connect(int fd, const struct sockaddr_un *addr, socklen_t len);
int __wrap_shutdown(int fd, int how);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_fcntl64(int fd, int op, ...);
uint64_t __wrap_clock_now_ns(void);
ssize_t __wrap_getrandom(void *buf, size_t len, unsigned int flags);
int __wrap_fallocate64(int fd, int mode, int64_t offset, int64_t len);
int __wrap_fdatasync(int fd);
void __wrap_log_line(enum log_level level, const char *module,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

static int fail(int error)
{
    errno = error;
    return -1;
}

/* Whether this call is the one that is to fail. */
static bool is_due_to_fail(enum fuzz_kernel_call call)
{
    if (!kernel.faults[call].armed || kernel.faults[call].skip-- > 0)
        return false;
    kernel.faults[call].armed = false;
    return true;
}

static struct file *file_of(int fd, enum kind kind)
{
    struct file *f;

    if (fd < FUZZ_KERNEL_FD || fd >= FUZZ_KERNEL_FD + FUZZ_KERNEL_FDS)
        return NULL;
    f = &kernel.files[fd - FUZZ_KERNEL_FD];
    /* A descriptor that was closed, or of another kind, is a mistake. */
    fuzz_require(f->kind == kind);
    return f;
}

static int make(enum kind kind)
{
    for (int i = 0; i < FUZZ_KERNEL_FDS; i++) {
        struct file *f = &kernel.files[i];
        uint8_t *data = f->data;

        if (f->kind != CLOSED)
            continue;
        *f = (struct file){.kind = kind, .data = data};
        kernel.top = i < kernel.top ? kernel.top : i + 1;
        return FUZZ_KERNEL_FD + i;
    }
    abort();
}

void fuzz_kernel_prepare(uint32_t room)
{
    fuzz_require(room <= FUZZ_KERNEL_ROOM_MAX);
    for (int i = 0; i < kernel.top; i++) {
        kernel.files[i].kind = CLOSED;
        kernel.files[i].watched = false;
    }
    kernel.top = 0;
    kernel.discarded_from = UINT64_MAX;
    kernel.called = -1;
    memset(kernel.faults, 0, sizeof(kernel.faults));
    kernel.room = room;
    kernel.now_ns = CLOCK_NS_PER_S;
}

void fuzz_kernel_fail(enum fuzz_kernel_call call, uint8_t skip, int error)
{
    kernel.faults[call].armed = true;
    kernel.faults[call].skip = skip;
    kernel.faults[call].error = error;
}

void fuzz_kernel_advance(uint64_t ns)
{
    kernel.now_ns += ns;
}

unsigned int fuzz_kernel_count(void)
{
    unsigned int n = 0;

    for (int i = 0; i < kernel.top; i++)
        n += kernel.files[i].kind != CLOSED;
    return n;
}

static struct file *at(int fd)
{
    fuzz_require(fd >= FUZZ_KERNEL_FD && fd < FUZZ_KERNEL_FD + FUZZ_KERNEL_FDS);
    return &kernel.files[fd - FUZZ_KERNEL_FD];
}

static int make_socket(void)
{
    int fd = make(SOCKET);
    struct file *f = at(fd);

    if (f->data == NULL)
        f->data = malloc(FUZZ_KERNEL_ROOM_MAX);
    fuzz_require(f->data != NULL);
    return fd;
}

/* The other end of a socket that has none yet. */
static int join(int fd)
{
    int other = make_socket();

    at(fd)->peer = at(other);
    at(other)->peer = at(fd);
    return other;
}

void fuzz_kernel_pair(int ret_fds[2])
{
    ret_fds[0] = make_socket();
    ret_fds[1] = join(ret_fds[0]);
}

int fuzz_kernel_listen(void)
{
    return make(LISTENER);
}

int fuzz_kernel_call(int listen_fd)
{
    struct file *f = at(listen_fd);
    int fds[2];

    fuzz_require(f->kind == LISTENER);
    if (f->value == BACKLOG)
        return -1;
    fuzz_kernel_pair(fds);
    f->backlog[f->value++] = fds[1];
    return fds[0];
}

int fuzz_kernel_called(void)
{
    int fd = kernel.called;

    kernel.called = -1;
    return fd;
}

int __wrap_close(int fd)
{
    struct file *f;

    if (fd < FUZZ_KERNEL_FD)
        return __real_close(fd);
    f = at(fd);
    fuzz_require(f->kind != CLOSED);
    while (f->kind == LISTENER && f->value > 0)
        (void)__wrap_close(f->backlog[--f->value]);
    if (f->kind == SOCKET && f->peer != NULL) {
        f->peer->no_more_in = true;
        f->peer->no_more_out = true;
        if (f->len > 0)
            f->peer->error = ECONNRESET;
        f->peer->peer = NULL;
    }
    f->kind = CLOSED;
    f->watched = false;
    return 0;
}

int __wrap_eventfd(unsigned int count, int flags)
{
    int fd;

    (void)flags;
    if (is_due_to_fail(FUZZ_KERNEL_EVENTFD))
        return fail(kernel.faults[FUZZ_KERNEL_EVENTFD].error);
    fd = make(EVENT);
    at(fd)->value = count;
    return fd;
}

int __wrap_timerfd_create(int clock, int flags)
{
    (void)clock;
    (void)flags;
    return make(TIMER);
}

int __wrap_timerfd_settime(
    int fd, int flags, const struct itimerspec *value, struct itimerspec *old)
{
    struct file *f = file_of(fd, TIMER);

    fuzz_require(f != NULL && flags == TFD_TIMER_ABSTIME && old == NULL);
    f->value = (uint64_t)value->it_value.tv_sec * CLOCK_NS_PER_S +
               (uint64_t)value->it_value.tv_nsec;
    return 0;
}

ssize_t __wrap_read(int fd, void *buf, size_t len)
{
    struct file *f;

    if (fd < FUZZ_KERNEL_FD)
        return __real_read(fd, buf, len);
    f = at(fd);
    fuzz_require((f->kind == EVENT || f->kind == TIMER) && len == 8);
    if (f->value == 0 || (f->kind == TIMER && f->value > kernel.now_ns))
        return fail(EAGAIN);
    memcpy(buf, &f->value, sizeof(f->value));
    f->value = 0;
    return (ssize_t)len;
}

ssize_t __wrap_write(int fd, const void *buf, size_t len)
{
    struct file *f = file_of(fd, EVENT);
    uint64_t add;

    if (f == NULL)
        return __real_write(fd, buf, len);
    fuzz_require(len == sizeof(add));
    memcpy(&add, buf, sizeof(add));
    f->value += add;
    f->edge = true;
    return (ssize_t)len;
}

int __wrap_epoll_create1(int flags)
{
    (void)flags;
    return make(EPOLL);
}

int __wrap_epoll_ctl(int epfd, int op, int fd, const struct epoll_event *ev)
{
    struct file *f;

    fuzz_require(file_of(epfd, EPOLL) != NULL);
    f = at(fd);
    /* Those that watch know what they watch. */
    fuzz_require(f->kind != CLOSED && f->watched == (op != EPOLL_CTL_ADD));
    if (op != EPOLL_CTL_DEL && is_due_to_fail(FUZZ_KERNEL_EPOLL_CTL))
        return fail(kernel.faults[FUZZ_KERNEL_EPOLL_CTL].error);
    f->watched = op != EPOLL_CTL_DEL;
    f->watch = *ev;
    f->edge = true;
    return 0;
}

static uint32_t room_of(const struct file *f)
{
    return f->peer == NULL || f->peer->len >= kernel.room
               ? 0
               : kernel.room - f->peer->len;
}

static uint32_t events_of(const struct file *f)
{
    uint32_t events = 0;

    switch (f->kind) {
    case EVENT:
    case LISTENER:
        return f->value > 0 ? EPOLLIN : 0;
    case TIMER:
        return f->value > 0 && f->value <= kernel.now_ns ? EPOLLIN : 0;
    case SOCKET:
        if (f->len > 0 || f->no_more_in)
            events |= EPOLLIN;
        if (room_of(f) > 0 || f->peer == NULL)
            events |= EPOLLOUT;
        if (f->no_more_in && f->no_more_out)
            events |= EPOLLHUP;
        if (f->error != 0)
            events |= EPOLLERR;
        return events;
    case CLOSED:
    case EPOLL:
    default:
        abort();
    }
}

/* Edges are asked for of eventfds only. */
static uint32_t reported(const struct file *f)
{
    if (!f->watched || ((f->watch.events & EPOLLET) != 0 && !f->edge))
        return 0;
    return events_of(f) & (f->watch.events | EPOLLHUP | EPOLLERR);
}

int fuzz_kernel_is_due(void)
{
    for (int i = 0; i < kernel.top; i++) {
        if (reported(&kernel.files[i]) != 0)
            return 1;
    }
    return 0;
}

int __wrap_epoll_wait(int epfd, struct epoll_event *evs, int max, int timeout)
{
    int n = 0;

    fuzz_require(file_of(epfd, EPOLL) != NULL && timeout == 0);
    for (int i = 0; i < kernel.top && n < max; i++) {
        uint32_t events = reported(&kernel.files[i]);

        if (events == 0)
            continue;
        kernel.files[i].edge = false;
        evs[n] = kernel.files[i].watch;
        evs[n++].events = events;
    }
    return n;
}

/* Copies into the ring of `f`, or out of it from `skip` bytes on. */
static void ring_copy(
    struct file *f, uint32_t skip, uint8_t *bytes, size_t n, bool in)
{
    uint32_t at = (f->head + skip) % FUZZ_KERNEL_ROOM_MAX;
    size_t first = (size_t)num_min(n, FUZZ_KERNEL_ROOM_MAX - at);

    if (in) {
        memcpy(f->data + at, bytes, first);
        memcpy(f->data, bytes + first, n - first);
    } else {
        memcpy(bytes, f->data + at, first);
        memcpy(bytes + first, f->data, n - first);
    }
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct file *f = file_of(fd, SOCKET);
    size_t done = 0;

    fuzz_require(f != NULL && (flags & MSG_DONTWAIT) != 0 &&
                 (flags & MSG_NOSIGNAL) != 0);
    if (is_due_to_fail(FUZZ_KERNEL_SEND))
        return fail(kernel.faults[FUZZ_KERNEL_SEND].error);
    if (f->no_more_out || f->peer == NULL)
        return fail(EPIPE);
    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        size_t n = (size_t)num_min(msg->msg_iov[i].iov_len, room_of(f));

        ring_copy(f->peer, f->peer->len, msg->msg_iov[i].iov_base, n, true);
        f->peer->len += (uint32_t)n;
        done += n;
    }
    return done == 0 ? fail(EAGAIN) : (ssize_t)done;
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
    struct file *f = file_of(fd, SOCKET);
    uint32_t done = 0;
    int error;

    fuzz_require(f != NULL && (flags & MSG_DONTWAIT) != 0);
    if (is_due_to_fail(FUZZ_KERNEL_RECV))
        return fail(kernel.faults[FUZZ_KERNEL_RECV].error);
    error = f->error;
    f->error = 0;
    if (error != 0)
        return fail(error);
    if (f->len == 0)
        return f->no_more_in ? 0 : fail(EAGAIN);
    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        size_t n = (size_t)num_min(msg->msg_iov[i].iov_len, f->len - done);

        ring_copy(f, done, msg->msg_iov[i].iov_base, n, false);
        done += (uint32_t)n;
    }
    if ((flags & MSG_PEEK) == 0) {
        f->head = (f->head + done) % FUZZ_KERNEL_ROOM_MAX;
        f->len -= done;
    }
    return (ssize_t)done;
}

ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
    const struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    return __wrap_sendmsg(fd, &msg, flags);
}

ssize_t __wrap_recv(int fd, void *buf, size_t len, int flags)
{
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    return __wrap_recvmsg(fd, &msg, flags);
}

int __wrap_accept4(int fd, void *addr, socklen_t *len, int flags)
{
    struct file *f = file_of(fd, LISTENER);
    int next;

    fuzz_require(f != NULL && addr == NULL && len == NULL && flags != 0);
    if (is_due_to_fail(FUZZ_KERNEL_ACCEPT))
        return fail(kernel.faults[FUZZ_KERNEL_ACCEPT].error);
    if (f->value == 0)
        return fail(EAGAIN);
    next = f->backlog[0];
    f->value--;
    memmove(f->backlog, f->backlog + 1, f->value * sizeof(next));
    return next;
}

int __wrap_socket(int domain, int type, int protocol)
{
    fuzz_require(domain == AF_UNIX && protocol == 0);
    (void)type;
    return make_socket();
}

int __wrap_connect(int fd, const struct sockaddr_un *addr, socklen_t len)
{
    size_t end = strnlen(addr->sun_path, sizeof(addr->sun_path));

    fuzz_require(file_of(fd, SOCKET) != NULL && len == sizeof(*addr));
    if (end == 0 || (addr->sun_path[end - 1] & 1) != 0)
        return fail(ECONNREFUSED);
    if (kernel.called >= 0)
        (void)__wrap_close(kernel.called);
    kernel.called = join(fd);
    return 0;
}

int __wrap_shutdown(int fd, int how)
{
    struct file *f = file_of(fd, SOCKET);

    fuzz_require(f != NULL);
    if (f->peer == NULL)
        return fail(ENOTCONN);
    if (how != SHUT_WR) {
        f->no_more_in = true;
        f->peer->no_more_out = true;
    }
    if (how != SHUT_RD) {
        f->no_more_out = true;
        f->peer->no_more_in = true;
    }
    return 0;
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    const int type = SOCK_STREAM;

    fuzz_require(file_of(fd, SOCKET) != NULL && level == SOL_SOCKET &&
                 name == SO_TYPE && *len == sizeof(type));
    memcpy(value, &type, sizeof(type));
    return 0;
}

int __wrap_fcntl64(int fd, int op, ...)
{
    fuzz_require(at(fd)->kind != CLOSED);
    /* There is no second name for one. */
    return op == F_DUPFD_CLOEXEC ? fail(EMFILE) : 0;
}

uint64_t __wrap_clock_now_ns(void)
{
    return kernel.now_ns;
}

void fuzz_kernel_set_ram(uint8_t *ram, uint64_t size)
{
    kernel.ram = ram;
    kernel.ram_size = size;
}

uint64_t fuzz_kernel_discarded_from(void)
{
    return kernel.discarded_from;
}

int __wrap_fdatasync(int fd)
{
    fuzz_require(at(fd)->kind != CLOSED);
    if (is_due_to_fail(FUZZ_KERNEL_SYNC))
        return fail(kernel.faults[FUZZ_KERNEL_SYNC].error);
    return 0;
}

int __wrap_fallocate64(int fd, int mode, int64_t offset, int64_t len)
{
    fuzz_require(fd >= 0 && fd < FUZZ_KERNEL_FD);
    fuzz_require(mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE));
    fuzz_require(((uint64_t)(offset | len) & (NUM_PAGE_SIZE - 1)) == 0);
    fuzz_require(
        num_range_within((uint64_t)offset, (uint64_t)len, kernel.ram_size));
    if (is_due_to_fail(FUZZ_KERNEL_FALLOCATE))
        return fail(kernel.faults[FUZZ_KERNEL_FALLOCATE].error);
    kernel.discarded_from = num_min(kernel.discarded_from, (uint64_t)offset);
    memset(kernel.ram + offset, 0, (size_t)len);
    return 0;
}

/* Millions of inputs have the same to say. */
void __wrap_log_line(
    enum log_level level, const char *module, const char *format, ...)
{
    (void)level;
    (void)module;
    (void)format;
}

ssize_t __wrap_getrandom(void *buf, size_t len, unsigned int flags)
{
    (void)flags;
    if (is_due_to_fail(FUZZ_KERNEL_RANDOM)) {
        if (kernel.faults[FUZZ_KERNEL_RANDOM].error != 0)
            return fail(kernel.faults[FUZZ_KERNEL_RANDOM].error);
        len /= 2;
    }
    memset(buf, 0xa5, len);
    return (ssize_t)len;
}
