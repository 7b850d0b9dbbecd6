/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/preload/output.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "guest/fuzz/call.h"
#include "guest/fuzz/preload/preload.h"
#include "guest/fuzz/preload/real.h"

#define KEPT_MAX (64u << 10)
#define DIRECT_MAX                                                             \
    (1u << 20) /* of what the program wrote past this library                  \
                */

static struct {
    bool other[STDERR_FILENO + 1]; /* it is something else now */
    off_t mark;                    /* end of the file behind descriptor 2 */
    uint64_t total;                /* bytes that were taken */
    uint8_t kept[KEPT_MAX];        /* the last of them, in a ring */
} output;

/* ---- stdout and stderr as libc has them -------------------------------------
 */

static ssize_t stream_write(void *cookie, const char *bytes, size_t n)
{
    int fd = (int)(intptr_t)cookie;

    if (!output_takes(fd))
        return REAL(write)(fd, bytes, n);
    output_take(bytes, n);
    return (ssize_t)n;
}

static int stream_close(void *cookie)
{
    int fd = (int)(intptr_t)cookie;

    output_forget(fd);
    /* The last thing that many programs do. */
    return preload_in_run() ? 0 : REAL(close)(fd);
}

static FILE *make_stream(int fd, int mode)
{
    const cookie_io_functions_t calls = {
        .write = stream_write,
        .close = stream_close,
    };
    FILE *stream = fopencookie((void *)(intptr_t)fd, "w", calls);

    if (stream == NULL)
        return NULL;
    stream->_fileno = fd; /* for fileno() */
    (void)setvbuf(stream, NULL, mode, BUFSIZ);
    return stream;
}

void output_init(void)
{
    FILE *out = make_stream(STDOUT_FILENO, _IOFBF);
    FILE *err = make_stream(STDERR_FILENO, _IONBF);

    if (out != NULL)
        stdout = out;
    if (err != NULL)
        stderr = err;
}

void output_mark(void)
{
    (void)fflush(stdout);
    output.mark = REAL(lseek)(STDERR_FILENO, 0, SEEK_END);
}

/* ---- a run -----------------------------------------------------------------
 */

bool output_takes(int fd)
{
    return (fd == STDOUT_FILENO || fd == STDERR_FILENO) && preload_in_run() &&
           !output.other[fd];
}

void output_take(const void *bytes, size_t n)
{
    const uint8_t *from = bytes;

    if (n > KEPT_MAX) {
        from += n - KEPT_MAX;
        output.total += n - KEPT_MAX;
        n = KEPT_MAX;
    }
    while (n > 0) {
        size_t at = output.total % KEPT_MAX;
        size_t part = n < KEPT_MAX - at ? n : KEPT_MAX - at;

        memcpy(output.kept + at, from, part);
        output.total += part;
        from += part;
        n -= part;
    }
}

void output_forget(int fd)
{
    if (fd >= 0 && fd <= STDERR_FILENO)
        output.other[fd] = true;
}

/* ---- the report ------------------------------------------------------------
 */

void output_say(const void *text, size_t n)
{
    const struct fuzz_abi_text report = {
        .at = (uint64_t)(uintptr_t)text,
        .size = n,
    };

    (void)call_at(FUZZ_ABI_REPORT, &report);
}

static void say_kept(void)
{
    size_t at = output.total % KEPT_MAX;

    if (output.total > KEPT_MAX)
        output_say(output.kept + at, KEPT_MAX - at);
    if (at > 0)
        output_say(output.kept, at);
}

/* libc's own last words, and those of streams of C++. */
static void say_written(void)
{
    static char part[KEPT_MAX];
    off_t at = output.mark;
    ssize_t n;

    if (at < 0 || output.other[STDERR_FILENO])
        return;
    while (at - output.mark < (off_t)DIRECT_MAX) {
        n = pread(STDERR_FILENO, part, sizeof(part), at);
        if (n <= 0)
            return;
        output_say(part, (size_t)n);
        at += n;
    }
}

void output_report(void)
{
    say_kept();
    say_written();
}
