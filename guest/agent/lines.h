/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lines of a text file, through a buffer of fixed size. One thread. The
 * file is not trusted: a line that does not fit the buffer is passed over.
 */
#ifndef GUEST_AGENT_LINES_H
#define GUEST_AGENT_LINES_H

#include <stdbool.h>
#include <stddef.h>

#define LINES_BUF 4096u

struct lines {
    int fd;
    size_t start; /* of the text not yet given out */
    size_t end;
    bool skipping; /* in a line that did not fit */
    bool at_eof;
    char buf[LINES_BUF + 1];
};

/* Opens path for reading. 0 or -errno; lines_fini afterwards in both cases. */
int lines_init(struct lines *l, const char *path);

/* The next line without its newline, the caller's to change; NULL at the end
 * of the file or on a read error. Valid until the next call. */
char *lines_next(struct lines *l);

void lines_fini(struct lines *l);

/*
 * Cuts the next field off a line: up to sep, which becomes a NUL. *at moves
 * past it, to NULL after the last field. NULL if *at is NULL already.
 */
char *lines_field(char **at, char sep);

#endif
