/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines that come to a listening socket, each served by a session of its
 * own (page_session.h) on a thread of its own.
 *
 * Borrows all that it is given. At most `sessions_max` at a time: who comes
 * then is told so and hung up on. Thread rule: page_server_run on one thread;
 * the callbacks are called from the sessions' threads, one at a time.
 */
#ifndef SNAPSHOT_PAGE_SERVER_H
#define SNAPSHOT_PAGE_SERVER_H

#include <stdint.h>

#include "snapshot/page_session.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define PAGE_SERVER_SESSIONS_MAX 1024u
#define PAGE_SERVER_SESSION_FDS  3u /* descriptors that each may hold */

struct page_server_config {
    /* For every session; `opaque` is for all callbacks, stop_fd is ours. */
    struct page_session_config session;
    uint32_t sessions_max; /* 1 to PAGE_SERVER_SESSIONS_MAX */
    /* A session is over: its result and text; or NULL. */
    void (*on_end)(void *opaque, const struct page_session_stats *stats,
        int result, const char *text);
};

/*
 * Serves until `stop_fd` becomes readable, then ends the machines that are
 * left: 0 or -errno. `listen_fd` is non-blocking.
 */
CC_MUST_CHECK int page_server_run(const struct page_server_config *config,
    int listen_fd, int stop_fd, struct err *err);

#endif
