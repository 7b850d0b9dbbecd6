/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/vsock_uds.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"

/* Characters that "_<port>" adds to the path. */
#define SUFFIX_MAX 11u

/* Callers let in at once, and how long to wait when descriptors ran out. */
#define ACCEPT_BATCH 16u
#define RETRY_NS     (100 * CLOCK_NS_PER_MS)

#define COMMAND "CONNECT "

static void drop_caller(struct vsock_uds_caller *c)
{
    if (c->fd < 0)
        return;
    loop_remove(c->uds->vsock->virtio.host.loop, &c->source);
    fd_closep(&c->fd);
}

/* The port of "CONNECT <port>\n", which ends at its line feed. */
static bool parse_line(const char *line, uint32_t len, uint32_t *ret_port)
{
    const uint32_t start = sizeof(COMMAND) - 1;
    uint64_t port = 0;

    if (len < start + 2 || memcmp(line, COMMAND, start) != 0)
        return false;
    for (uint32_t i = start; i < len - 1; i++) {
        if (line[i] < '0' || line[i] > '9')
            return false;
        port = port * 10 + (uint64_t)(line[i] - '0');
        if (port > UINT32_MAX)
            return false;
    }
    *ret_port = (uint32_t)port;
    return true;
}

/* Nothing was written to the socket before, so there is room for a line. */
static void say_ok(int fd, uint32_t host_port)
{
    char text[VSOCK_UDS_LINE_MAX];
    int n = snprintf(text, sizeof(text), "OK %u\n", host_port);

    /* A caller that is gone by now is noticed when its data is read. */
    (void)send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/*
 * Reads up to the line feed and no further: what follows is for the guest.
 * Bytes read, or negative when the caller is not worth waiting for.
 */
static int read_line(struct vsock_uds_caller *c, bool *ret_complete)
{
    char *at = c->line + c->line_len;
    ssize_t n =
        recv(c->fd, at, sizeof(c->line) - c->line_len, MSG_PEEK | MSG_DONTWAIT);
    const char *end;
    ssize_t taken;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        return -1;
    end = memchr(at, '\n', (size_t)n);
    if (end != NULL)
        n = end - at + 1;
    taken = recv(c->fd, at, (size_t)n, MSG_DONTWAIT);
    if (taken != n)
        return -1;
    c->line_len += (uint32_t)n;
    if (end == NULL && c->line_len == sizeof(c->line))
        return -1;
    *ret_complete = end != NULL;
    return (int)n;
}

static void on_caller(void *opaque, uint32_t events)
{
    struct vsock_uds_caller *c = opaque;
    const struct vsock_caller caller = {.established = say_ok};
    struct vsock *vsock = c->uds->vsock;
    bool complete = false;
    uint32_t port;

    (void)events;
    if (read_line(c, &complete) < 0) {
        drop_caller(c);
        return;
    }
    if (!complete)
        return;
    if (!parse_line(c->line, c->line_len, &port)) {
        drop_caller(c);
        return;
    }
    /* The device watches it from here on. */
    loop_remove(vsock->virtio.host.loop, &c->source);
    if (vsock_connect(vsock, port, c->fd, &caller) < 0)
        drop_caller(c);
    else
        (void)fd_steal(&c->fd);
}

/* A free place, or that of the caller who has kept silent longest. */
static struct vsock_uds_caller *find_place(struct vsock_uds *uds)
{
    struct vsock_uds_caller *oldest = &uds->callers[0];

    for (unsigned int i = 0; i < VSOCK_UDS_CALLERS_MAX; i++) {
        struct vsock_uds_caller *c = &uds->callers[i];

        if (c->fd < 0)
            return c;
        if (c->since < oldest->since)
            oldest = c;
    }
    drop_caller(oldest);
    return oldest;
}

static void add_caller(struct vsock_uds *uds, int fd)
{
    struct vsock_uds_caller *c = find_place(uds);

    c->uds = uds;
    c->fd = fd;
    c->since = uds->arrivals++;
    c->line_len = 0;
    c->source = (struct loop_source){.fd = fd,
        .handle = on_caller,
        .opaque = c,
        .dev = &uds->vsock->virtio.base};
    if (loop_add(uds->vsock->virtio.host.loop, &c->source, EPOLLIN) < 0)
        drop_caller(c);
}

static void on_listen(void *opaque, uint32_t events)
{
    struct vsock_uds *uds = opaque;
    struct loop *loop = uds->vsock->virtio.host.loop;

    (void)events;
    for (unsigned int i = 0; i < ACCEPT_BATCH; i++) {
        int fd =
            accept4(uds->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            add_caller(uds, fd);
            continue;
        }
        if (errno == ECONNABORTED || errno == EINTR)
            continue;
        if (errno != EAGAIN) {
            /* Out of descriptors or memory: the caller waits in the queue. */
            loop_remove(loop, &uds->source);
            loop_timer_arm(loop, &uds->retry, clock_now_ns() + RETRY_NS);
        }
        return;
    }
}

static void on_retry(void *opaque)
{
    struct vsock_uds *uds = opaque;
    struct loop *loop = uds->vsock->virtio.host.loop;

    if (loop_add(loop, &uds->source, EPOLLIN) < 0)
        loop_timer_arm(loop, &uds->retry, clock_now_ns() + RETRY_NS);
}

/* An acceptor: the guest's port does not matter, host_port names the path. */
static int connect_to_host(
    void *opaque, uint32_t guest_port, uint32_t host_port)
{
    const struct vsock_uds *uds = opaque;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    CC_CLEANUP(fd_closep) int fd = -1;
    int n = snprintf(
        addr.sun_path, sizeof(addr.sun_path), "%s_%u", uds->path, host_port);

    (void)guest_port;
    if (uds->connect != NULL)
        return uds->connect(uds->opaque, host_port);
    if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* Never in progress: a full queue of the listener is -EAGAIN. */
    if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
        return -ECONNREFUSED;
    return fd_steal(&fd);
}

/* A listening socket at uds->path. */
static int listen_at(struct vsock_uds *uds, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int rc;

    memcpy(addr.sun_path, uds->path, sizeof(addr.sun_path));
    rc = fd_listen_unix(&addr, uds->path, &uds->listen_fd, err);
    uds->bound = rc == 0;
    return rc;
}

int vsock_uds_open(struct vsock_uds *uds, struct vsock *vsock, const char *path,
    int listen_fd, struct err *err)
{
    size_t len = strlen(path);
    int rc;

    *uds = (struct vsock_uds){.vsock = vsock, .listen_fd = -1};
    for (unsigned int i = 0; i < VSOCK_UDS_CALLERS_MAX; i++)
        uds->callers[i].fd = -1;
    uds->retry = (struct loop_timer){.fire = on_retry, .opaque = uds};
    if (len == 0 || len + SUFFIX_MAX >= sizeof(uds->path))
        return err_set(err, ENAMETOOLONG,
            "path of the vsock socket has %zu bytes: it must have 1 to %zu",
            len, sizeof(uds->path) - SUFFIX_MAX - 1);
    if (vsock->virtio.host.loop == NULL)
        return err_set(err, EOPNOTSUPP, "vsock without an event loop");
    memcpy(uds->path, path, len);
    rc = listen_fd < 0 ? listen_at(uds, err)
                       : fd_set_nonblocking(listen_fd, true);
    if (rc < 0 && listen_fd >= 0)
        rc = err_sys(err, rc, "socket to listen on for vsock");
    if (rc == 0) {
        if (listen_fd >= 0)
            uds->listen_fd = listen_fd;
        uds->source = (struct loop_source){.fd = uds->listen_fd,
            .handle = on_listen,
            .opaque = uds,
            .dev = &vsock->virtio.base};
        rc = loop_add(vsock->virtio.host.loop, &uds->source, EPOLLIN);
        if (rc < 0)
            rc = err_sys(err, rc, "cannot watch %s", path);
    }
    if (rc < 0) {
        if (listen_fd >= 0)
            (void)fd_steal(&uds->listen_fd);
        vsock_uds_close(uds);
        return rc;
    }
    vsock_set_accept(vsock, VSOCK_ACCEPT_BACKEND, connect_to_host, uds);
    return 0;
}

void vsock_uds_set_connect(
    struct vsock_uds *uds, vsock_uds_connect_fn *connect, void *opaque)
{
    uds->connect = connect;
    uds->opaque = opaque;
}

void vsock_uds_close(struct vsock_uds *uds)
{
    struct loop *loop;

    if (uds->vsock == NULL)
        return;
    loop = uds->vsock->virtio.host.loop;
    if (uds->vsock->acceptors[VSOCK_ACCEPT_BACKEND].opaque == uds)
        vsock_set_accept(uds->vsock, VSOCK_ACCEPT_BACKEND, NULL, NULL);
    for (unsigned int i = 0; i < VSOCK_UDS_CALLERS_MAX; i++)
        drop_caller(&uds->callers[i]);
    loop_remove(loop, &uds->source);
    loop_timer_disarm(loop, &uds->retry);
    fd_closep(&uds->listen_fd);
    if (uds->bound && uds->connect == NULL)
        (void)unlink(uds->path);
    uds->vsock = NULL;
}
