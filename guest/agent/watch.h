/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an epoll event belongs to: the kind of descriptor and the session's
 * slot, in the event's 64 bits. Events are hints: one that arrives late, for
 * a slot with a new owner, makes that owner look and find nothing.
 */
#ifndef GUEST_AGENT_WATCH_H
#define GUEST_AGENT_WATCH_H

#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>

enum watch_kind {
    WATCH_LISTEN,
    WATCH_SIGNAL,
    WATCH_SOCKET,
    WATCH_STDIN,
    WATCH_STDOUT,
    WATCH_STDERR,
    WATCH_FORWARD,
};

static inline enum watch_kind watch_kind(const struct epoll_event *event)
{
    return (enum watch_kind)(event->data.u64 & 0xff);
}

static inline uint32_t watch_slot(const struct epoll_event *event)
{
    return (uint32_t)(event->data.u64 >> 8);
}

/*
 * EPOLL_CTL_ADD or EPOLL_CTL_MOD of fd, which epoll forgets by itself when it
 * is closed. 0 or -errno.
 */
static inline int watch_set(int epoll_fd, int op, int fd, uint32_t events,
    enum watch_kind kind, uint32_t slot)
{
    struct epoll_event event = {
        .events = events,
        .data.u64 = (uint64_t)slot << 8 | (uint64_t)kind,
    };

    return epoll_ctl(epoll_fd, op, fd, &event) != 0 ? -errno : 0;
}

/* Watches fd until it is closed, edge-triggered. 0 or -errno. */
static inline int watch_add(
    int epoll_fd, int fd, uint32_t events, enum watch_kind kind, uint32_t slot)
{
    return watch_set(
        epoll_fd, EPOLL_CTL_ADD, fd, events | (uint32_t)EPOLLET, kind, slot);
}

#endif
