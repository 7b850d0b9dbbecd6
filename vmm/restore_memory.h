/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a restored machine's memory comes from, if it is not mapped from the
 * snapshot's own files: a page server at a socket, or one of our own, a child
 * that checks each page at its first use (--verify=lazy).
 *
 * The child holds the snapshot's files, /dev/null and its end of a socket, has
 * no_new_privs, a session of its own and no signals, and dies with us.
 *
 * Owns the client and the child. Thread rule: one thread, which stays for as
 * long as the child is to live; `on_lost` as page_client.h has it. Whatever
 * comes from a server is hostile, our own included.
 */
#ifndef VMM_RESTORE_MEMORY_H
#define VMM_RESTORE_MEMORY_H

#include <sys/types.h>

#include "snapshot/page_client.h"
#include "snapshot/snap.h"
#include "vmm/base/cc.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"

struct restore_memory {
    struct page_client client;
    pid_t child;  /* 0: none */
    int child_fd; /* pidfd of it */
};

#define RESTORE_MEMORY_NONE                                                    \
    {                                                                          \
        .client = PAGE_CLIENT_NONE, .child_fd = -1                             \
    }

/*
 * To the page server at `path`, ours or one that was written for Firecracker.
 * For machine_origin, as the next.
 */
CC_MUST_CHECK int restore_memory_connect(struct restore_memory *memory,
    const struct page_client_host *host, const char *path, struct err *err);

/* What the child does with the snapshot's working set. */
enum restore_memory_set {
    RESTORE_MEMORY_SET_LEFT,     /* nothing */
    RESTORE_MEMORY_SET_SENT,     /* it sends its pages ahead */
    RESTORE_MEMORY_SET_RECORDED, /* and records one if there is none */
    RESTORE_MEMORY_SET_ADDED_TO, /* or adds to it */
};

/* When a machine has settled at the latest, and its set is recorded. */
#define RESTORE_MEMORY_SETTLED_NS (2 * CLOCK_NS_PER_S)

/*
 * Starts the child that serves `snap`, which may be closed afterwards. Other
 * threads may exist if none holds a lock that the child would need (malloc's is
 * fine).
 */
CC_MUST_CHECK int restore_memory_verify(struct restore_memory *memory,
    const struct page_client_host *host, const struct snap *snap,
    enum restore_memory_set set, struct err *err);

/* When the machine's memory is no more. Fine on one that is none. */
void restore_memory_close(struct restore_memory *memory);

#endif
