/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/serve_buf.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "vmm/base/num.h"

#define ROOM_MIN  1024u
#define ROOM_KEPT 32768u

char *serve_buf_reserve(struct serve_buf *b, size_t len)
{
    size_t have = serve_buf_len(b);
    size_t room = b->room == 0 ? ROOM_MIN : b->room;
    char *data;

    if (b->data != NULL && len <= b->room - b->end)
        return b->data + b->end;
    if (b->at > 0 && len <= b->room - have) {
        memmove(b->data, b->data + b->at, have);
        b->at = 0;
        b->end = have;
        return b->data + have;
    }
    while (room - have < len) {
        if (room > SIZE_MAX / 4) {
            b->failed = true;
            return NULL;
        }
        room *= 2;
    }
    data = malloc(room);
    if (data == NULL) {
        b->failed = true;
        return NULL;
    }
    if (have > 0)
        memcpy(data, b->data + b->at, have);
    free(b->data);
    b->data = data;
    b->room = room;
    b->at = 0;
    b->end = have;
    return data + have;
}

void serve_buf_add(struct serve_buf *b, size_t len)
{
    assert(len <= b->room - b->end);
    b->end += len;
}

void serve_buf_put(struct serve_buf *b, const void *data, size_t len)
{
    char *to;

    if (len == 0)
        return;
    to = serve_buf_reserve(b, len);
    if (to == NULL)
        return;
    memcpy(to, data, len);
    b->end += len;
}

void serve_buf_text(struct serve_buf *b, const char *text)
{
    serve_buf_put(b, text, strlen(text));
}

void serve_buf_format(struct serve_buf *b, const char *fmt, ...)
{
    char text[512];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    assert(n >= 0 && (size_t)n < sizeof(text));
    serve_buf_put(b, text, (size_t)n);
}

void serve_buf_take(struct serve_buf *b, size_t len)
{
    assert(len <= serve_buf_len(b));
    b->at += len;
    if (b->at == b->end)
        serve_buf_clear(b);
}

int serve_buf_send(struct serve_buf *b, int fd)
{
    while (b->at < b->end) {
        ssize_t n = send(
            fd, b->data + b->at, b->end - b->at, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        b->at += (size_t)n;
    }
    serve_buf_clear(b);
    return 0;
}

ssize_t serve_buf_recv(struct serve_buf *b, int fd, size_t max)
{
    char *to = serve_buf_reserve(b, max);
    ssize_t n;

    if (to == NULL)
        return -ENOMEM;
    do {
        n = recv(fd, to, max, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    b->end += (size_t)n;
    return n;
}

void serve_buf_clear(struct serve_buf *b)
{
    bool failed = b->failed;

    if (b->room > ROOM_KEPT) {
        free(b->data);
        *b = (struct serve_buf){.failed = failed};
    }
    b->at = 0;
    b->end = 0;
}

void serve_buf_fini(struct serve_buf *b)
{
    free(b->data);
    *b = (struct serve_buf){0};
}
