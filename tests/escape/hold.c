/* SPDX-License-Identifier: Apache-2.0 */
/* What a monitor has open. */
#include <fcntl.h>
#include <liburing.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "tests/escape/escape.h"
#include "vmm/base/fd.h"

static int fail(struct escape *e, const char *what)
{
    int rc = -errno;

    (void)snprintf(
        e->report->why, sizeof(e->report->why), "%s: %s", what, strerror(-rc));
    return rc;
}

static int hold_memory(struct escape *e)
{
    void *at;

    e->page = mmap(NULL, ESCAPE_PAGE, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (e->page == MAP_FAILED)
        return fail(e, "a page");
    e->ram = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (e->ram < 0 || ftruncate(e->ram, ESCAPE_BYTES) < 0)
        return fail(e, "memory");
    at =
        mmap(NULL, ESCAPE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, e->ram, 0);
    if (at == MAP_FAILED)
        return fail(e, "memory");
    e->ram_map = at;
    return 0;
}

static int hold_events(struct escape *e)
{
    e->epoll = epoll_create1(EPOLL_CLOEXEC);
    e->event = fd_eventfd();
    e->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return e->epoll < 0 || e->event < 0 || e->timer < 0 ? fail(e, "events") : 0;
}

static int hold_files(struct escape *e)
{
    char name[PATH_MAX];
    struct sockaddr_un addr;
    struct err err;
    int rc;

    (void)snprintf(name, sizeof(name), "%s/disk", e->dir);
    e->disk = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (e->disk < 0 || ftruncate(e->disk, ESCAPE_BYTES) < 0)
        return fail(e, "a disk");
    (void)snprintf(name, sizeof(name), "%s/api", e->dir);
    rc = fd_unix_address("api", name, &addr, &err);
    if (rc == 0)
        rc = fd_listen_unix(&addr, name, &e->api, &err);
    if (rc < 0)
        (void)snprintf(e->report->why, sizeof(e->report->why), "%s", err.text);
    return rc;
}

/*
 * The session is new, so that what is typed for it or hung up is nobody
 * else's. The signals are those of such a terminal.
 */
static int hold_terminal(struct escape *e)
{
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGTTOU, SIG_IGN);
    if (setsid() < 0)
        return fail(e, "a session");
    e->tty = open(e->terminal, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (e->tty < 0 || ioctl(e->tty, TIOCSCTTY, 0) < 0)
        return fail(e, e->terminal);
    return 0;
}

/* One that goes with its descriptor. Only who may open one holds one. */
static void hold_tap(struct escape *e)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    CC_CLEANUP(fd_closep) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    if (fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0)
        e->tap = fd_steal(&fd);
}

/* The memory first: a slot that is added later waits for a grace period. */
static int hold_kvm(struct escape *e)
{
    struct kvm_userspace_memory_region region = {
        .flags = KVM_MEM_LOG_DIRTY_PAGES,
        .memory_size = ESCAPE_BYTES,
        .userspace_addr = (uintptr_t)e->ram_map};
    int size;
    void *run;

    e->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (e->kvm < 0)
        return 0;
    size = ioctl(e->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    e->vm = ioctl(e->kvm, KVM_CREATE_VM, 0);
    if (size < 0 || e->vm < 0)
        return fail(e, "a VM");
    if (ioctl(e->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return fail(e, "memory of a VM");
    e->vcpu = ioctl(e->vm, KVM_CREATE_VCPU, 0);
    if (e->vcpu < 0)
        return fail(e, "a vCPU");
    run = mmap(
        NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, e->vcpu, 0);
    if (run == MAP_FAILED)
        return fail(e, "a vCPU");
    e->run = run;
    return 0;
}

/* Without a jail: one as any program has it. */
static int open_plain_ring(struct escape *e)
{
    struct io_uring *ring = calloc(1, sizeof(*ring));
    int rc;

    if (ring == NULL)
        return fail(e, "a ring");
    rc = io_uring_queue_init(8, ring, 0);
    if (rc == 0)
        rc = io_uring_register_files(ring, &e->disk, 1);
    if (rc < 0) {
        free(ring);
        return 0;
    }
    e->ring = ring;
    return 0;
}

static int hold_ring(struct escape *e, bool is_jailed)
{
    if (!is_jailed)
        return open_plain_ring(e);
    uring_init(&e->uring, NULL);
    if (uring_add_file(&e->uring, e->disk) == 0)
        e->ring = e->uring.ring;
    return 0;
}

int escape_hold(struct escape *e, bool is_jailed)
{
    int rc = hold_memory(e);

    e->kvm = e->vm = e->vcpu = e->tap = -1;
    for (unsigned int i = 0; i < ESCAPE_FDS; i++)
        e->fds[i] = -1;
    if (rc == 0)
        rc = hold_events(e);
    if (rc == 0)
        rc = hold_files(e);
    if (rc == 0)
        rc = hold_terminal(e);
    if (rc == 0)
        rc = hold_kvm(e);
    if (rc == 0)
        rc = hold_ring(e, is_jailed);
    if (rc == 0)
        hold_tap(e);
    return rc;
}
