/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output to a descriptor that may be slow (a pipe, a terminal), without ever
 * blocking the loop.
 *
 * The descriptor is inherited and shared with other processes, so it is not
 * made non-blocking: each write is preceded by a poll and small enough not to
 * block behind it. Bytes not yet taken are kept, at most what one call of
 * outstream_write gave. Thread rule: the loop's thread.
 */
#ifndef VMM_OUTSTREAM_H
#define VMM_OUTSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/loop.h"
#include "vmm/output_limit.h"

struct outstream {
    int fd;                     /* borrowed */
    struct output_limit *limit; /* of it; borrowed, NULL: none */
    struct loop *loop;
    struct loop_source source;
    uint8_t *pending; /* bytes [pending_at, pending_end) are still to go */
    size_t pending_at;
    size_t pending_end;
    size_t pending_room;
    int error; /* errno of the first write that failed, or 0 */
    void (*on_drained)(void *opaque);
    void *opaque;
};

/* `on_drained` is called whenever everything pending has been taken. */
void outstream_init(struct outstream *s, struct loop *loop, int fd,
    void (*on_drained)(void *opaque), void *opaque);
void outstream_fini(struct outstream *s);

/* What `limit` does not allow is dropped from here on; it is borrowed. */
void outstream_set_limit(struct outstream *s, struct output_limit *limit);

/*
 * Writes `len` bytes, keeping what the descriptor does not take now. 0, or
 * -errno of this or an earlier write (-EPIPE: the reader has gone). Must not
 * be called while outstream_is_busy.
 */
CC_MUST_CHECK int outstream_write(
    struct outstream *s, const void *data, size_t len);

/* Whether bytes are still pending. */
bool outstream_is_busy(const struct outstream *s);

#endif
