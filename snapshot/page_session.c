/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/page_session.h"

#include <assert.h>
#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "snapshot/pager_wire.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/core/uffd.h"

/* Since Linux 6.5; not in older headers. */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define FOR_EVER_NS (UINT64_MAX / 2)
#define MESSAGES    16u /* read at once */

/*
 * Pages that are sent when nobody has asked for one for so long: sent all at
 * once they are in the way of a machine that is being built (3000 pages: 14 ms
 * until its first instruction).
 */
#define AHEAD_AT_ONCE 64u
#define QUIET_MS      1

struct session {
    const struct page_session_config *config;
    const struct page_source *source;
    int socket_fd;
    int uffd;
    int peer_fd; /* a pidfd; -1: there is none */
    struct pager_hello hello;
    struct bitmap removed;   /* by page of RAM, as the next two */
    struct bitmap installed; /* a hint */
    struct bitmap touched;
    bool is_settled;
    uint64_t settle_at_ns; /* 0: nothing was asked for yet */
    size_t ahead_run;      /* where in config->ahead */
    uint64_t ahead_page;   /* in that run */
    struct page_session_stats *stats;
    struct err *err;
};

/* ---- the machine at the other end ---------------------------------------- */

static void find_peer(struct session *s)
{
    struct ucred peer = {0};
    socklen_t size = sizeof(peer);
    struct pollfd alive = {.fd = s->socket_fd, .events = POLLRDHUP};
    int fd = -1;

    if (getsockopt(s->socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
        s->stats->pid = peer.pid;
    size = sizeof(fd);
    if (getsockopt(s->socket_fd, SOL_SOCKET, SO_PEERPIDFD, &fd, &size) == 0) {
        s->peer_fd = fd;
        return;
    }
    /* Only a kernel before 6.5 does not know: a peer that is gone is no peer.
     */
    if (errno != ENOPROTOOPT || peer.pid <= 0)
        return;
    s->peer_fd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
    /* Whose number that was may have ended before. */
    if (s->peer_fd >= 0 && poll(&alive, 1, 0) > 0)
        fd_closep(&s->peer_fd);
}

/* Until the machine is gone, the server stopped (-1: never), or time is up. */
static bool wait_gone(const struct session *s, int stop_fd, uint64_t timeout_ns)
{
    uint64_t deadline = clock_now_ns() + timeout_ns;
    struct pollfd fds[] = {{.fd = s->socket_fd, .events = POLLRDHUP},
        {.fd = s->peer_fd, .events = POLLIN},
        {.fd = stop_fd, .events = POLLIN}};

    for (;;) {
        uint64_t now = clock_now_ns();
        int n;

        if (now >= deadline)
            return false;
        n = poll(fds, 3,
            (int)num_min(num_div_up(deadline - now, CLOCK_NS_PER_MS),
                60 * UINT64_C(1000)));
        if (n > 0)
            return (fds[0].revents | fds[1].revents) != 0;
    }
}

/*
 * The machine cannot be served and must not go on. One that may not be killed
 * waits for its page for as long as we live, and has no zeroes for it then if
 * it kept its own descriptor.
 */
static void end_machine(const struct session *s, bool is_stopped)
{
    pager_reason_send(s->socket_fd, s->err->text);
    if (wait_gone(s, -1, PAGE_SESSION_GRACE_NS))
        return;
    if (s->peer_fd >= 0)
        (void)syscall(SYS_pidfd_send_signal, s->peer_fd, SIGKILL, NULL, 0);
    if (is_stopped)
        (void)wait_gone(s, -1, PAGE_SESSION_GRACE_NS);
    else
        (void)wait_gone(s, s->config->stop_fd, FOR_EVER_NS);
}

/* ---- pages --------------------------------------------------------------- */

static const struct pager_region *find_region(
    const struct session *s, uint64_t address)
{
    for (uint32_t i = 0; i < s->hello.count; i++) {
        const struct pager_region *r = &s->hello.regions[i];

        if (address >= r->address && address - r->address < r->size)
            return r;
    }
    return NULL;
}

static uint64_t page_of(const struct pager_region *r, uint64_t address)
{
    return (r->offset + (address - r->address)) >> NUM_PAGE_SHIFT;
}

static uint64_t address_of(const struct pager_region *r, uint64_t page)
{
    return r->address + ((page << NUM_PAGE_SHIFT) - r->offset);
}

/*
 * 0: whoever waits for it goes on, or is told to look again. -ESRCH: the
 * machine is gone.
 */
static int install(struct session *s, const struct pager_region *r,
    uint64_t page, bool *ret_done)
{
    _Alignas(NUM_PAGE_SIZE) uint8_t bytes[NUM_PAGE_SIZE];
    uint64_t address = address_of(r, page);
    enum page_kind kind = PAGE_ZERO;
    int rc = 0;

    *ret_done = false;
    if (!bitmap_test(&s->removed, page))
        rc = page_source_get(s->source, page, bytes, &kind, s->err);
    if (rc < 0)
        return rc;
    rc = kind == PAGE_ZERO ? uffd_zero(s->uffd, address, NUM_PAGE_SIZE)
                           : uffd_copy(s->uffd, address, bytes, sizeof(bytes));
    if (rc == 0 || rc == -EEXIST)
        bitmap_set(&s->installed, page, 1);
    switch (rc) {
    case 0:
        *ret_done = true;
        *(kind == PAGE_ZERO ? &s->stats->zero : &s->stats->data) += 1;
        return 0;
    case -EEXIST:
    case -ENOENT: /* mapped over: what is there now is not ours */
    case -EAGAIN: /* messages first; then it is asked for again */
        uffd_wake(s->uffd, address, NUM_PAGE_SIZE);
        return 0;
    case -ESRCH:
        return err_set(s->err, ESRCH, "the machine has ended");
    default:
        return err_sys(
            s->err, rc, "page %llu of the memory", (unsigned long long)page);
    }
}

/*
 * One that nobody waits for. What is wrong with it matters when somebody
 * does.
 */
static int install_ahead(
    struct session *s, const struct pager_region *r, uint64_t page)
{
    bool done;
    int rc;

    if (bitmap_test(&s->installed, page) || bitmap_test(&s->removed, page))
        return 0;
    rc = install(s, r, page, &done);
    s->stats->ahead += done;
    return rc == -ESRCH ? rc : 0;
}

static int serve_around(
    struct session *s, const struct pager_region *r, uint64_t page)
{
    uint64_t first = num_align_down(page, s->config->around);
    uint64_t end = first + s->config->around;
    uint64_t region_first = r->offset >> NUM_PAGE_SHIFT;
    int rc = 0;

    first = num_max(first, region_first);
    end = num_min(end, region_first + (r->size >> NUM_PAGE_SHIFT));
    /* Whether they are needed too nobody will ever tell. */
    bitmap_set(&s->touched, first, end - first);
    for (uint64_t other = first; other < end && rc == 0; other++) {
        if (other != page)
            rc = install_ahead(s, r, other);
    }
    return rc;
}

static int serve_fault(struct session *s, uint64_t address, uint64_t flags)
{
    const struct pager_region *r = find_region(s, address);
    uint64_t page;
    bool done;
    int rc;

    if (r == NULL ||
        (flags & (UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_MINOR)) != 0)
        return err_set(s->err, EBADMSG,
            "the machine asks for what it has not told of (address %#llx, "
            "flags %#llx)",
            (unsigned long long)address, (unsigned long long)flags);
    page = page_of(r, address);
    s->stats->faults++;
    if (s->settle_at_ns == 0)
        s->settle_at_ns = clock_now_ns() + s->config->settle_ns;
    bitmap_set(&s->touched, page, 1);
    rc = install(s, r, page, &done);
    return rc == 0 && done ? serve_around(s, r, page) : rc;
}

/* [start, end) of the machine's addresses is of zeroes from here on. */
static void remove_range(struct session *s, uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < s->hello.count; i++) {
        const struct pager_region *r = &s->hello.regions[i];
        uint64_t from = num_max(start, r->address);
        uint64_t to = num_min(end, r->address + r->size);
        uint64_t first;
        uint64_t last;

        if (from >= to)
            continue;
        first = page_of(r, from);
        last = page_of(r, to - 1);
        bitmap_set(&s->removed, first, last - first + 1);
        bitmap_clear(&s->installed, first, last - first + 1);
        s->stats->removed += last - first + 1;
    }
}

/* ---- messages ------------------------------------------------------------ */

static int take_message(struct session *s, const struct uffd_msg *msg)
{
    switch (msg->event) {
    case UFFD_EVENT_PAGEFAULT:
        return serve_fault(s, msg->arg.pagefault.address & ~(NUM_PAGE_SIZE - 1),
            msg->arg.pagefault.flags);
    case UFFD_EVENT_REMOVE:
    case UFFD_EVENT_UNMAP:
        remove_range(s, msg->arg.remove.start, msg->arg.remove.end);
        return 0;
    default:
        return err_set(s->err, ENOTSUP,
            "the machine's userfaultfd tells of event %#x, which cannot be "
            "served",
            msg->event);
    }
}

/*
 * Never waits, whatever the machine has made of the file's own flag and of
 * the fault that we were told of; before Linux 6.10 only as the flag says.
 */
static ssize_t read_messages(int uffd, struct uffd_msg *msgs, size_t size)
{
    struct iovec iov = {.iov_base = msgs, .iov_len = size};
    ssize_t n = preadv2(uffd, &iov, 1, -1, RWF_NOWAIT);

    if (n < 0 && (errno == EOPNOTSUPP || errno == EINVAL || errno == ESPIPE))
        n = read(uffd, msgs, size);
    return n;
}

/* With the read we have the descriptors that its messages name. */
static void close_forks(const struct uffd_msg *msgs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int fd = (int)msgs[i].arg.fork.ufd;

        if (msgs[i].event == UFFD_EVENT_FORK)
            fd_closep(&fd);
    }
}

static int take_messages(struct session *s)
{
    struct uffd_msg msgs[MESSAGES];
    ssize_t n = read_messages(s->uffd, msgs, sizeof(msgs));
    size_t count;
    int rc = 0;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0)
        return err_sys(s->err, errno, "the machine's userfaultfd");
    count = (size_t)n / sizeof(msgs[0]);
    close_forks(msgs, count);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = take_message(s, &msgs[i]);
    return rc;
}

/* ---- pages ahead --------------------------------------------------------- */

static bool has_ahead(const struct session *s)
{
    return s->config->ahead != NULL &&
           s->ahead_run < s->config->ahead->run_count;
}

static const struct pager_region *region_of_page(
    const struct session *s, uint64_t page)
{
    for (uint32_t i = 0; i < s->hello.count; i++) {
        const struct pager_region *r = &s->hello.regions[i];
        uint64_t first = r->offset >> NUM_PAGE_SHIFT;

        if (page >= first && page - first < r->size >> NUM_PAGE_SHIFT)
            return r;
    }
    return NULL;
}

static int send_ahead(struct session *s)
{
    int rc = 0;

    for (uint32_t i = 0; i < AHEAD_AT_ONCE && has_ahead(s) && rc == 0; i++) {
        const struct working_set_run *run =
            &s->config->ahead->runs[s->ahead_run];
        uint64_t page = run->page + s->ahead_page;
        const struct pager_region *r = region_of_page(s, page);

        if (r != NULL)
            rc = install_ahead(s, r, page);
        s->ahead_page++;
        if (s->ahead_page == run->count) {
            s->ahead_page = 0;
            s->ahead_run++;
        }
    }
    return rc;
}

/* ---- the session --------------------------------------------------------- */

static void settle(struct session *s)
{
    if (!s->is_settled && s->config->on_settled != NULL && s->settle_at_ns != 0)
        s->config->on_settled(s->config->opaque, &s->touched);
    s->is_settled = true;
}

static int timeout_ms(const struct session *s)
{
    uint64_t now;

    if (has_ahead(s))
        return QUIET_MS;
    if (s->is_settled || s->settle_at_ns == 0)
        return -1;
    now = clock_now_ns();
    return now >= s->settle_at_ns
               ? 0
               : (int)num_div_up(s->settle_at_ns - now, CLOCK_NS_PER_MS);
}

/* True: the machine has hung up. What else it says means nothing. */
static bool has_hung_up(const struct session *s)
{
    char bytes[256];
    ssize_t n = recv(s->socket_fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

/* 0: the machine has hung up. */
static int serve(struct session *s)
{
    struct pollfd fds[] = {{.fd = s->uffd, .events = POLLIN},
        {.fd = s->socket_fd, .events = POLLIN},
        {.fd = s->config->stop_fd, .events = POLLIN}};

    for (;;) {
        int n = poll(fds, 3, timeout_ms(s));
        int rc = 0;

        if (n < 0 && errno != EINTR)
            return err_sys(s->err, errno, "cannot wait for the machine");
        if (n > 0 && fds[1].revents != 0 && has_hung_up(s))
            return 0;
        if (n > 0 && fds[2].revents != 0)
            return err_set(
                s->err, ECANCELED, "the page server has been stopped");
        if (n > 0 && (fds[0].revents & POLLIN) != 0)
            rc = take_messages(s);
        else if (n > 0 && fds[0].revents != 0)
            return err_set(s->err, EBADMSG,
                "the machine's userfaultfd is not what it was");
        else if (n == 0)
            rc = send_ahead(s);
        if (rc < 0)
            return rc == -ESRCH ? 0 : rc;
        if (s->settle_at_ns != 0 && clock_now_ns() >= s->settle_at_ns)
            settle(s);
    }
}

static int begin(struct session *s)
{
    uint64_t pages = page_source_pages(s->source);
    int rc = pager_hello_receive(s->socket_fd, s->config->stop_fd,
        pages << NUM_PAGE_SHIFT, clock_now_ns() + PAGE_SESSION_HELLO_NS,
        &s->hello, &s->uffd, s->err);

    if (rc == 0)
        rc = fd_set_nonblocking(s->uffd, true);
    if (rc < 0)
        return rc;
    if (bitmap_init(&s->removed, pages) < 0 ||
        bitmap_init(&s->installed, pages) < 0 ||
        bitmap_init(&s->touched, pages) < 0)
        return err_sys(s->err, ENOMEM, "a machine's memory");
    return 0;
}

int page_session_run(const struct page_session_config *config, int socket_fd,
    struct page_session_stats *ret_stats, struct err *err)
{
    struct err own_err;
    struct page_session_stats stats = {0};
    struct session s = {.config = config,
        .source = config->source,
        .socket_fd = socket_fd,
        .uffd = -1,
        .peer_fd = -1,
        .stats = &stats,
        .err = err == NULL ? &own_err : err};
    int rc;

    assert(num_is_pow2(config->around));
    find_peer(&s);
    rc = begin(&s);
    if (rc == 0) {
        rc = serve(&s);
        settle(&s);
    }
    /* Who sent no userfaultfd needs nothing from us. */
    if (rc < 0 && s.uffd >= 0)
        end_machine(&s, rc == -ECANCELED);
    else if (rc < 0)
        pager_reason_send(s.socket_fd, s.err->text);
    /* The machine sees the end of the connection last. */
    fd_closep(&s.uffd);
    fd_closep(&s.peer_fd);
    fd_closep(&s.socket_fd);
    bitmap_fini(&s.removed);
    bitmap_fini(&s.installed);
    bitmap_fini(&s.touched);
    *ret_stats = stats;
    return rc;
}
