/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes on their way from one descriptor to another: put in at the end, taken
 * from the front.
 *
 * Owns its memory, which grows with what is put in; how much that may be is
 * for the user to see to, who stops reading from one side while the other
 * takes nothing. A buffer that could not grow says so in `failed`, for good.
 *
 * Thread rule: one thread. Nothing in it is looked at.
 */
#ifndef VMM_SERVE_SERVE_BUF_H
#define VMM_SERVE_SERVE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "vmm/base/cc.h"

struct serve_buf {
    char *data; /* bytes [at, end) are there */
    size_t at;
    size_t end;
    size_t room;
    bool failed; /* something is missing, for want of memory */
};

static inline size_t serve_buf_len(const struct serve_buf *b)
{
    return b->end - b->at;
}

static inline char *serve_buf_at(const struct serve_buf *b)
{
    return b->data == NULL ? NULL : b->data + b->at;
}

void serve_buf_put(struct serve_buf *b, const void *data, size_t len);
void serve_buf_text(struct serve_buf *b, const char *text);
void serve_buf_format(struct serve_buf *b, const char *fmt, ...)
    CC_PRINTF(2, 3);

/* `len` bytes from the front are done with. */
void serve_buf_take(struct serve_buf *b, size_t len);

/* Room for `len` bytes at the end, NULL without memory; then serve_buf_add. */
char *serve_buf_reserve(struct serve_buf *b, size_t len);
void serve_buf_add(struct serve_buf *b, size_t len);

/*
 * Sends what the socket takes now: 0, also with bytes left, or -errno. -EAGAIN
 * is none.
 */
CC_MUST_CHECK int serve_buf_send(struct serve_buf *b, int fd);

/*
 * Receives once, up to `max` bytes: how many, 0 at the end, or -errno
 * (-EAGAIN: nothing now).
 */
CC_MUST_CHECK ssize_t serve_buf_recv(struct serve_buf *b, int fd, size_t max);

/* Empty again; memory is kept, but for much of it. */
void serve_buf_clear(struct serve_buf *b);
void serve_buf_fini(struct serve_buf *b);

#endif
