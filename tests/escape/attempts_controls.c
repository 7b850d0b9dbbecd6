/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a monitor is to go on with in its jail. A jail in which nothing works
 * would hold every attempt.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <liburing.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>

#include "tests/escape/escape.h"
#include "vmm/base/cc.h"

static int use_event(struct escape *e)
{
    uint64_t one = 1;
    int rc = ESCAPE_CALL(e, SYS_write, e->event, &one, sizeof(one));

    return rc < 0 ? rc : ESCAPE_CALL(e, SYS_read, e->event, &one, sizeof(one));
}

static int use_futex(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_futex, e->page, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static int use_memory(struct escape *e)
{
    uint8_t *at = mmap(NULL, ESCAPE_BYTES, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    escape_mark(e, SYS_mmap);
    if (at == MAP_FAILED)
        return -errno;
    at[0] = 1;
    return munmap(at, ESCAPE_BYTES) < 0 ? -errno : 0;
}

static int use_random(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_getrandom, e->page, 16L, 0);
}

static int use_disk(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_pread64, e->disk, e->page, 64L, 0L);
}

static int use_epoll(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_epoll_wait, e->epoll, e->page, 1, 0);
}

static int use_timer(struct escape *e)
{
    struct itimerspec never = {{0, 0}, {0, 0}};

    return ESCAPE_CALL(e, SYS_timerfd_settime, e->timer, 0, &never, NULL);
}

static int use_socket(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_sendto, e->socket, "x", 1L, MSG_DONTWAIT, NULL, 0);
}

static int use_api(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_accept4, e->api, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static int use_name(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_prctl, PR_SET_NAME, "escape", 0L, 0L, 0L);
}

static int use_ring(struct escape *e)
{
    struct io_uring_sqe *sqe =
        e->ring == NULL ? NULL : io_uring_get_sqe(e->ring);
    struct io_uring_cqe *cqe;
    int rc;

    if (sqe == NULL)
        return -ENOSYS;
    io_uring_prep_read(sqe, 0, e->page, 64, 0);
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    escape_mark(e, SYS_io_uring_enter);
    rc = io_uring_submit_and_wait(e->ring, 1);
    if (rc < 0)
        return rc;
    rc = io_uring_peek_cqe(e->ring, &cqe);
    return rc < 0 ? rc : cqe->res;
}

#define EVERYWHERE .inside = ESCAPE_EVERY_ROLE(ESCAPE_ALLOWED)
#define ELSEWHERE  .inside = ESCAPE_EVERY_ROLE_BUT_FUZZ(ESCAPE_ALLOWED)

static const struct escape_attempt attempts[] = {
    {.name = "an eventfd, written and read",
        .gain = "needed",
        .call = SYS_read,
        .go = use_event,
        ELSEWHERE},
    {.name = "futex",
        .gain = "needed",
        .call = SYS_futex,
        .go = use_futex,
        EVERYWHERE},
    {.name = "memory",
        .gain = "needed",
        .call = SYS_mmap,
        .go = use_memory,
        EVERYWHERE},
    {.name = "getrandom",
        .gain = "needed",
        .call = SYS_getrandom,
        .go = use_random,
        ELSEWHERE},
    {.name = "pread64 of a disk",
        .gain = "needed",
        .call = SYS_pread64,
        .go = use_disk,
        ELSEWHERE},
    {.name = "epoll_wait",
        .gain = "needed by loops only",
        .call = SYS_epoll_wait,
        .go = use_epoll,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_PAGE_SERVER] = ESCAPE_ALLOWED}},
    {.name = "timerfd_settime",
        .gain = "needed by devices only",
        .call = SYS_timerfd_settime,
        .go = use_timer,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED}},
    {.name = "sendto on the socket to the keeper",
        .gain = "needed where sockets are",
        .call = SYS_sendto,
        .go = use_socket,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED,
            [JAIL_ROLE_PAGE_SERVER] = ESCAPE_ALLOWED}},
    {.name = "accept4 on a socket that listens",
        .gain = "needed where sockets are",
        .call = SYS_accept4,
        .go = use_api,
        .outside = -EAGAIN,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED,
            [JAIL_ROLE_PAGE_SERVER] = ESCAPE_ALLOWED}},
    {.name = "prctl PR_SET_NAME",
        .gain = "needed where threads are",
        .call = SYS_prctl,
        .go = use_name,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED,
            [JAIL_ROLE_WORKER] = ESCAPE_ALLOWED,
            [JAIL_ROLE_PAGE_SERVER] = ESCAPE_ALLOWED}},
    {.name = "in a ring: read of a registered file",
        .gain = "needed by devices only",
        .call = SYS_io_uring_enter,
        .go = use_ring,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED}},
};

const struct escape_list escape_controls = {attempts, ARRAY_SIZE(attempts)};
