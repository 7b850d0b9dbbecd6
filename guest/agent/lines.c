/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int lines_init(struct lines *l, const char *path)
{
    l->start = 0;
    l->end = 0;
    l->skipping = false;
    l->at_eof = false;
    l->fd = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return l->fd < 0 ? -errno : 0;
}

static void refill(struct lines *l)
{
    ssize_t n;

    memmove(l->buf, l->buf + l->start, l->end - l->start);
    l->end -= l->start;
    l->start = 0;
    if (l->end == LINES_BUF) {
        l->skipping = true;
        l->end = 0;
    }
    do {
        n = read(l->fd, l->buf + l->end, LINES_BUF - l->end);
    } while (n < 0 && errno == EINTR);
    if (n <= 0)
        l->at_eof = true;
    else
        l->end += (size_t)n;
}

char *lines_next(struct lines *l)
{
    if (l->fd < 0)
        return NULL;
    for (;;) {
        size_t have = l->end - l->start;
        char *line = l->buf + l->start;
        char *newline = have == 0 ? NULL : memchr(line, '\n', have);
        bool skipped = l->skipping;

        if (newline == NULL) {
            if (!l->at_eof) {
                refill(l);
                continue;
            }
            if (have == 0 || skipped)
                return NULL;
            newline = line + have;
            l->start = l->end;
        } else {
            l->start += (size_t)(newline - line) + 1;
        }
        *newline = '\0';
        l->skipping = false;
        if (!skipped)
            return line;
    }
}

void lines_fini(struct lines *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}

char *lines_field(char **at, char sep)
{
    char *field = *at;
    char *end;

    if (field == NULL)
        return NULL;
    end = strchr(field, sep);
    if (end == NULL) {
        *at = NULL;
    } else {
        *end = '\0';
        *at = end + 1;
    }
    return field;
}
