/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/preload/waits.h"

#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>

#include "guest/fuzz/preload/ends.h"
#include "guest/fuzz/preload/preload.h"
#include "guest/fuzz/preload/real.h"
#include "guest/fuzz/preload/root.h"

#define WATCHES_MAX 8u

void waits_root(void)
{
    if (!preload.active || preload.rooted || preload.place != PRELOAD_AT_ACCEPT)
        return;
    /* A daemon, or one of a server's workers: it is what is fuzzed. */
    preload.child = false;
    preload.parent = false;
    root_take();
}

static bool is_on(void)
{
    return preload.active && preload.input == PRELOAD_SOCKET;
}

/* ---- poll ------------------------------------------------------------------
 */

static nfds_t poll_count_ours(const struct pollfd *fds, nfds_t n)
{
    nfds_t count = 0;

    for (nfds_t i = 0; i < n; i++)
        count += sockets_is_ours(fds[i].fd);
    return count;
}

static int poll_ours(struct pollfd *fds, nfds_t n)
{
    int ready = 0;

    for (nfds_t i = 0; i < n; i++) {
        short can = POLLOUT;

        fds[i].revents = 0;
        if (!sockets_is_ours(fds[i].fd))
            continue;
        if (sockets_is_readable(fds[i].fd))
            can |= POLLIN | POLLRDNORM;
        fds[i].revents = (short)(fds[i].events & can);
        ready += fds[i].revents != 0;
    }
    return ready;
}

static int do_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    int ready;

    waits_root();
    ready = poll_ours(fds, n);
    if (ready > 0)
        return ready;
    if (sockets_is_over() && poll_count_ours(fds, n) == n)
        ends_run(0);
    /* Somebody else has the connection, or there is more to wait for. */
    ready = REAL(poll)(fds, n, sockets_is_over() ? 0 : timeout);
    if (ready == 0 && sockets_is_over())
        ends_run(0);
    return ready;
}

REAL_EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    if (!is_on() || poll_count_ours(fds, n) == 0)
        return REAL(poll)(fds, n, timeout);
    return do_poll(fds, n, timeout);
}

/* With _FORTIFY_SOURCE. */
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room);

REAL_EXPORT int __poll_chk(
    struct pollfd *fds, nfds_t n, int timeout, size_t room)
{
    if (n > room / sizeof(*fds))
        __builtin_trap();
    return poll(fds, n, timeout);
}

REAL_EXPORT int ppoll(struct pollfd *fds, nfds_t n,
    const struct timespec *timeout, const sigset_t *mask)
{
    if (!is_on() || poll_count_ours(fds, n) == 0)
        return REAL(ppoll)(fds, n, timeout, mask);
    return do_poll(fds, n, timeout == NULL ? -1 : 0);
}

/* ---- select ----------------------------------------------------------------
 */

/* How many of a set are ours, or not. */
static int select_count(int n, const fd_set *set, bool ours)
{
    int count = 0;

    for (int fd = 0; set != NULL && fd < n; fd++)
        count += FD_ISSET(fd, set) && sockets_is_ours(fd) == ours;
    return count;
}

/* The sets are the answer's if something is ready; else as they were. */
static int select_ours(int n, fd_set *in, fd_set *out)
{
    fd_set in_ready, out_ready;
    int ready = 0;

    FD_ZERO(&in_ready);
    FD_ZERO(&out_ready);
    for (int fd = 0; fd < n; fd++) {
        if (!sockets_is_ours(fd))
            continue;
        if (in != NULL && FD_ISSET(fd, in) && sockets_is_readable(fd)) {
            FD_SET(fd, &in_ready);
            ready++;
        }
        if (out != NULL && FD_ISSET(fd, out)) {
            FD_SET(fd, &out_ready);
            ready++;
        }
    }
    if (ready > 0 && in != NULL)
        *in = in_ready;
    if (ready > 0 && out != NULL)
        *out = out_ready;
    return ready;
}

static int do_select(
    int n, fd_set *in, fd_set *out, fd_set *other, struct timeval *timeout)
{
    struct timeval none = {0, 0};
    int ready;

    waits_root();
    ready = select_ours(n, in, out);
    if (ready > 0) {
        if (other != NULL)
            FD_ZERO(other);
        return ready;
    }
    if (sockets_is_over() && select_count(n, in, false) == 0 &&
        select_count(n, out, false) == 0)
        ends_run(0);
    ready =
        REAL(select)(n, in, out, other, sockets_is_over() ? &none : timeout);
    if (ready == 0 && sockets_is_over())
        ends_run(0);
    return ready;
}

static bool select_has_ours(int n, const fd_set *in, const fd_set *out)
{
    return select_count(n, in, true) > 0 || select_count(n, out, true) > 0;
}

REAL_EXPORT int select(
    int n, fd_set *in, fd_set *out, fd_set *other, struct timeval *timeout)
{
    if (!is_on() || !select_has_ours(n, in, out))
        return REAL(select)(n, in, out, other, timeout);
    return do_select(n, in, out, other, timeout);
}

REAL_EXPORT int pselect(int n, fd_set *in, fd_set *out, fd_set *other,
    const struct timespec *timeout, const sigset_t *mask)
{
    struct timeval none = {0, 0};

    if (!is_on() || !select_has_ours(n, in, out))
        return REAL(pselect)(n, in, out, other, timeout, mask);
    return do_select(n, in, out, other, timeout == NULL ? NULL : &none);
}

/* ---- epoll -----------------------------------------------------------------
 */

static struct {
    int epoll_fd;
    int fd; /* -1: none */
    struct epoll_event event;
} watches[WATCHES_MAX] = {[0 ... WATCHES_MAX - 1] = {-1, -1, {0, {0}}}};

/* Descriptors of others were added to one of them. */
static bool has_strangers;

static unsigned int find_watch(int epoll_fd, int fd)
{
    unsigned int i = 0;

    while (i < WATCHES_MAX && (watches[i].fd != fd ||
                                  (fd >= 0 && watches[i].epoll_fd != epoll_fd)))
        i++;
    return i;
}

REAL_EXPORT int epoll_ctl(
    int epoll_fd, int op, int fd, struct epoll_event *event)
{
    unsigned int at;

    if (!is_on() || !sockets_is_ours(fd)) {
        has_strangers = true;
        return REAL(epoll_ctl)(epoll_fd, op, fd, event);
    }
    at = find_watch(epoll_fd, op == EPOLL_CTL_ADD ? -1 : fd);
    if (at == WATCHES_MAX)
        return REAL(epoll_ctl)(epoll_fd, op, fd, event);
    watches[at].epoll_fd = epoll_fd;
    watches[at].fd = op == EPOLL_CTL_DEL ? -1 : fd;
    if (op != EPOLL_CTL_DEL)
        watches[at].event = *event;
    return 0;
}

static int epoll_ours(int epoll_fd, struct epoll_event *events, int max)
{
    int ready = 0;

    for (unsigned int i = 0; i < WATCHES_MAX && ready < max; i++) {
        uint32_t can = EPOLLOUT;
        uint32_t is;

        if (watches[i].fd < 0 || watches[i].epoll_fd != epoll_fd ||
            !sockets_is_ours(watches[i].fd))
            continue;
        if (sockets_is_readable(watches[i].fd))
            can |= EPOLLIN | EPOLLRDNORM;
        is = watches[i].event.events & can;
        if (is == 0)
            continue;
        events[ready] = watches[i].event;
        events[ready++].events = is;
        if ((watches[i].event.events & EPOLLONESHOT) != 0)
            watches[i].event.events = 0;
    }
    return ready;
}

static bool epoll_has_ours(int epoll_fd)
{
    for (unsigned int i = 0; i < WATCHES_MAX; i++) {
        if (watches[i].fd >= 0 && watches[i].epoll_fd == epoll_fd)
            return true;
    }
    return false;
}

static int do_epoll(
    int epoll_fd, struct epoll_event *events, int max, int timeout)
{
    int ready;

    waits_root();
    ready = epoll_ours(epoll_fd, events, max);
    if (ready > 0)
        return ready;
    if (sockets_is_over() && !has_strangers)
        ends_run(0);
    ready = REAL(epoll_wait)(
        epoll_fd, events, max, sockets_is_over() ? 0 : timeout);
    if (ready == 0 && sockets_is_over())
        ends_run(0);
    return ready;
}

REAL_EXPORT int epoll_wait(
    int epoll_fd, struct epoll_event *events, int max, int timeout)
{
    if (!is_on() || !epoll_has_ours(epoll_fd))
        return REAL(epoll_wait)(epoll_fd, events, max, timeout);
    return do_epoll(epoll_fd, events, max, timeout);
}

REAL_EXPORT int epoll_pwait(int epoll_fd, struct epoll_event *events, int max,
    int timeout, const sigset_t *mask)
{
    if (!is_on() || !epoll_has_ours(epoll_fd))
        return REAL(epoll_pwait)(epoll_fd, events, max, timeout, mask);
    return do_epoll(epoll_fd, events, max, timeout);
}
