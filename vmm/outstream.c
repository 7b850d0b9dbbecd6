/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/outstream.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/num.h"

/* POLLOUT on a pipe promises room for this much. */
#define CHUNK ((size_t)PIPE_BUF)

static void on_writable(void *opaque, uint32_t events);

void outstream_init(struct outstream *s, struct loop *loop, int fd,
    void (*on_drained)(void *opaque), void *opaque)
{
    *s = (struct outstream){.fd = fd,
        .loop = loop,
        .source = {.fd = fd, .handle = on_writable, .opaque = s},
        .on_drained = on_drained,
        .opaque = opaque};
}

void outstream_fini(struct outstream *s)
{
    if (s->loop != NULL)
        loop_remove(s->loop, &s->source);
    free(s->pending);
    *s = (struct outstream){.fd = -1};
}

void outstream_set_limit(struct outstream *s, struct output_limit *limit)
{
    s->limit = limit;
}

bool outstream_is_busy(const struct outstream *s)
{
    return s->pending_at < s->pending_end;
}

/* Writes until the descriptor takes no more: bytes written or -errno. */
static ssize_t write_some(int fd, const uint8_t *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        struct pollfd pfd = {.fd = fd, .events = POLLOUT};
        int ready = poll(&pfd, 1, 0);
        ssize_t n;

        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0)
            break;
        n = write(fd, data + done, num_min(len - done, CHUNK));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            return -errno;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static int keep(struct outstream *s, const uint8_t *data, size_t len)
{
    if (s->pending_room < len) {
        uint8_t *bigger = realloc(s->pending, len);

        if (bigger == NULL)
            return -ENOMEM;
        s->pending = bigger;
        s->pending_room = len;
    }
    memcpy(s->pending, data, len);
    s->pending_at = 0;
    s->pending_end = len;
    return s->source.added ? 0 : loop_add(s->loop, &s->source, EPOLLOUT);
}

int outstream_write(struct outstream *s, const void *data, size_t len)
{
    size_t allowed;
    ssize_t n;
    int rc;

    assert(!outstream_is_busy(s));
    if (s->error != 0)
        return -s->error;
    allowed = output_limit_take(s->limit, len);
    n = write_some(s->fd, data, allowed);
    rc = n < 0 ? (int)n : 0;
    if (rc == 0 && (size_t)n < allowed)
        rc = keep(s, (const uint8_t *)data + n, allowed - (size_t)n);
    else if (rc == 0 && allowed < len)
        output_limit_say(s->limit);
    if (rc < 0)
        s->error = -rc;
    return rc;
}

static void on_writable(void *opaque, uint32_t events)
{
    struct outstream *s = opaque;
    ssize_t n = write_some(
        s->fd, s->pending + s->pending_at, s->pending_end - s->pending_at);

    (void)events;
    if (n < 0) {
        s->error = (int)-n;
        s->pending_at = s->pending_end;
    } else {
        s->pending_at += (size_t)n;
    }
    if (!outstream_is_busy(s)) {
        loop_remove(s->loop, &s->source);
        s->on_drained(s->opaque);
    }
}
