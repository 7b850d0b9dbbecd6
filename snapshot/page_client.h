/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's side of memory that a page server gives it, page by page, when
 * it is first touched (pager_wire.h has what is said).
 *
 * When the server is lost, threads may be waiting for a page: vCPUs inside
 * KVM_RUN, the event loop in the middle of a device, io_uring's workers. None
 * of them must ever go on, because all there is for them is zeroes: the
 * kernel lets them go on with those when the last copy of the userfaultfd is
 * closed. So
 * - the client keeps a copy of its own, open from before the server has one
 *   until the memory is unmapped. That the server dies then wakes nobody;
 * - a thread of the client watches the connection. It touches no guest memory
 *   and takes no lock of anybody, so it cannot be held up by what waits. It
 *   calls `on_lost`, whose part it is to end the process, by _exit: that
 *   kills every thread where it waits, before any descriptor is closed. An
 *   orderly end is out of the question, as it joins threads that never come;
 * - the client that is killed itself is no danger: its threads are.
 * A server that hangs holds the machine up until either is killed.
 *
 * Whoever shares the memory later by fork() has zeroes where pages were not
 * asked for: nobody may.
 *
 * Owns socket, userfaultfd and the watching thread. Thread rule: one thread,
 * but for `on_lost`. What the server sends is hostile.
 */
#ifndef SNAPSHOT_PAGE_CLIENT_H
#define SNAPSHOT_PAGE_CLIENT_H

#include <pthread.h>
#include <stdbool.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/gmem.h"

struct page_client_host {
    /*
     * The server is lost: `text` is one line that says so, and why if the
     * server did. Called once, on the client's own thread, and must take no
     * lock that could be held while guest memory is touched. Should it return,
     * what waits for pages goes on waiting.
     */
    void (*on_lost)(void *opaque, const char *text);
    /* First on the client's own thread; -errno: as if it were lost. Or NULL. */
    int (*begin)(void *opaque, struct err *err);
    void *opaque;
};

struct page_client {
    struct page_client_host host;
    int socket_fd; /* -1: not connected */
    int uffd;      /* -1: not attached */
    int stop_fd;
    pthread_t watcher;
    bool is_watching;
};

#define PAGE_CLIENT_NONE                                                       \
    {                                                                          \
        .socket_fd = -1, .uffd = -1, .stop_fd = -1                             \
    }

/* Connects to the server's Unix socket. */
CC_MUST_CHECK int page_client_connect(struct page_client *client,
    const struct page_client_host *host, const char *path, struct err *err);

/* The same over a connected socket, which is the client's from here on. */
void page_client_take(
    struct page_client *client, const struct page_client_host *host, int fd);

/*
 * Has the server give `mem`, fresh private memory that nothing has touched,
 * its contents from here on. Before anything of the machine runs; the client
 * must be closed only when `mem` is no more.
 */
CC_MUST_CHECK int page_client_attach(
    struct page_client *client, struct gmem *mem, struct err *err);

/*
 * Stops to watch the server, and starts again: for a process that must have
 * no other thread meanwhile. Nothing may touch the memory in between, which
 * would wait for a server that is lost. Fine on one that is none.
 */
void page_client_unwatch(struct page_client *client);
CC_MUST_CHECK int page_client_watch(
    struct page_client *client, struct err *err);

/* Fine on one that is none. */
void page_client_close(struct page_client *client);

#endif
