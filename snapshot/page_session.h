/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One machine whose memory is served: its faults answered with pages of a
 * snapshot, each compared with its hash before it is installed.
 *
 * A page that is not what was saved, or anything else that keeps a page from
 * being served, ends the machine: it is told why in one line, has
 * PAGE_SESSION_GRACE_NS to end itself, and is killed otherwise. Until it is
 * gone its descriptor stays open, since closing it would give zeroes to
 * whoever waits for the page. Pages that the machine has given back
 * (UFFD_EVENT_REMOVE, UFFD_EVENT_UNMAP) are of zeroes from then on.
 *
 * Owns the connection and the userfaultfd that came over it. Thread rule: a
 * session is one thread's, and takes a thread, since what a machine sends can
 * hold up who serves it (vmm/core/uffd.h). Hostile: the machine's message and
 * all that is read from its userfaultfd; the image files (page_source.h).
 */
#ifndef SNAPSHOT_PAGE_SESSION_H
#define SNAPSHOT_PAGE_SESSION_H

#include <stdint.h>

#include "snapshot/page_source.h"
#include "snapshot/working_set.h"
#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"

#define PAGE_SESSION_HELLO_NS                                                  \
    (10 * CLOCK_NS_PER_S) /* for the first message                             \
                           */
#define PAGE_SESSION_GRACE_NS (2 * CLOCK_NS_PER_S)
#define PAGE_SESSION_AROUND   16u /* a good value for `around` */

struct page_session_config {
    const struct page_source *source; /* outlives the session, as the others */
    /* Pages to install while nobody waits for one, or NULL. */
    const struct working_set *ahead;
    /*
     * So many pages, a power of two, are installed when one of them is asked
     * for, the asked one first; 1: just that.
     */
    uint32_t around;
    int stop_fd; /* readable: the session ends, and the machine with it; -1 */
    /*
     * Called once, from the session: the pages that were asked for, with those
     * that `around` brought, until `settle_ns` after the first, or until the
     * end. NULL: nobody wants them.
     */
    void (*on_settled)(void *opaque, const struct bitmap *touched);
    uint64_t settle_ns;
    void *opaque;
};

struct page_session_stats {
    int pid;          /* of the machine as the socket has it; 0: unknown */
    uint64_t faults;  /* pages that somebody waited for */
    uint64_t data;    /* pages installed, */
    uint64_t zero;    /* of zeroes, */
    uint64_t ahead;   /* and of both: before they were asked for */
    uint64_t removed; /* pages given back */
};

/*
 * Serves until the machine hangs up: 0. -ECANCELED: stopped; other errors say
 * what was wrong, and the machine has been told and is gone. Takes `socket_fd`
 * over in any case.
 */
CC_MUST_CHECK int page_session_run(const struct page_session_config *config,
    int socket_fd, struct page_session_stats *ret_stats, struct err *err);

#endif
