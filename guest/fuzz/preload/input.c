/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/preload/input.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/fuzz/preload/preload.h"
#include "guest/fuzz/preload/real.h"

#define PAGE 4096u

static struct {
    uint8_t *bytes;
    volatile uint32_t *size; /* just in front of them */
    int file_fd;             /* of the input's file; standard input else */
    bool is_stdin;           /* descriptor 0 is the input */
    bool eager;              /* the file is written in each run */
    bool written;            /* in this run */
    off_t at;                /* of standard input */
} input;

/* ---- stdin as libc has it ---------------------------------------------------
 */

static ssize_t stream_read(void *cookie, char *buf, size_t n)
{
    (void)cookie;
    return preload.rooted ? input_read(buf, n)
                          : REAL(read)(STDIN_FILENO, buf, n);
}

static int stream_seek(void *cookie, off64_t *at, int whence)
{
    off_t result = preload.rooted ? input_seek((off_t)*at, whence)
                                  : REAL(lseek)(STDIN_FILENO, *at, whence);

    (void)cookie;
    if (result < 0)
        return -1;
    *at = result;
    return 0;
}

static int stream_close(void *cookie)
{
    (void)cookie;
    input_forget(STDIN_FILENO);
    return REAL(close)(STDIN_FILENO);
}

static void replace_stdin(void)
{
    const cookie_io_functions_t calls = {
        .read = stream_read,
        .seek = stream_seek,
        .close = stream_close,
    };
    FILE *stream = fopencookie(NULL, "r", calls);

    if (stream == NULL)
        return;
    stream->_fileno = STDIN_FILENO; /* for fileno() */
    stdin = stream;
}

/* ---- the start -------------------------------------------------------------
 */

static int make_memory(void)
{
    uint8_t *pages = mmap(NULL, PAGE + FUZZ_ABI_INPUT_MAX,
        PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (pages == MAP_FAILED)
        return -1;
    input.bytes = pages + PAGE;
    input.size = (volatile uint32_t *)(void *)(input.bytes - sizeof(uint32_t));
    return 0;
}

static int make_file(void)
{
    int fd = REAL(open)(preload.path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

    if (fd < 0)
        return -1;
    /* Out of the way of the numbers that the program will get. */
    input.file_fd = fcntl(fd, F_DUPFD_CLOEXEC, 190);
    (void)REAL(close)(fd);
    return input.file_fd < 0 ? -1 : 0;
}

int input_init(void)
{
    input.file_fd = -1;
    if (make_memory() != 0)
        return -1;
    if (preload.input == PRELOAD_FILE) {
        input.eager = true;
        return make_file();
    }
    if (preload.input != PRELOAD_STDIN)
        return 0;
    input.is_stdin = true;
    input.file_fd = STDIN_FILENO;
    /* They have streams of their own, made before this library's. */
    input.eager = dlsym(RTLD_DEFAULT, "_ZSt3cin") != NULL;
    replace_stdin();
    return 0;
}

void *input_shm(void)
{
    return input.bytes - sizeof(uint32_t);
}

const uint8_t *input_bytes(void)
{
    return input.bytes;
}

size_t input_size(void)
{
    uint32_t size = *input.size;

    return size < FUZZ_ABI_INPUT_MAX ? size : FUZZ_ABI_INPUT_MAX;
}

void input_tell(struct fuzz_abi_hello *hello)
{
    (void)mlock(input.bytes - PAGE, PAGE + FUZZ_ABI_INPUT_MAX);
    hello->input_size = (uintptr_t)input.size;
    hello->input = (uintptr_t)input.bytes;
    hello->input_capacity = FUZZ_ABI_INPUT_MAX;
}

/* ---- a run -----------------------------------------------------------------
 */

void input_materialise(void)
{
    const uint8_t *from = input.bytes;
    size_t left = input_size();
    off_t at = 0;

    if (input.written || input.file_fd < 0)
        return;
    input.written = true;
    while (left > 0) {
        ssize_t n = pwrite(input.file_fd, from, left, at);

        if (n <= 0)
            return;
        from += n;
        left -= (size_t)n;
        at += n;
    }
    /* Where whoever looks at the descriptor next is to go on. */
    if (input.is_stdin && input.at > 0)
        (void)REAL(lseek)(STDIN_FILENO, input.at, SEEK_SET);
}

void input_begin(void)
{
    if (input.eager)
        input_materialise();
}

bool input_is_stdin(int fd)
{
    return fd == STDIN_FILENO && input.is_stdin && preload_in_run() &&
           !input.written;
}

ssize_t input_read(void *buf, size_t n)
{
    size_t size = input_size();
    size_t at = (size_t)input.at;
    size_t left = at < size ? size - at : 0;

    if (input.written) /* the descriptor has the place */
        return REAL(read)(STDIN_FILENO, buf, n);
    if (n > left)
        n = left;
    memcpy(buf, input.bytes + at, n);
    input.at += (off_t)n;
    return (ssize_t)n;
}

off_t input_seek(off_t offset, int whence)
{
    off_t from = 0;

    if (input.written)
        return REAL(lseek)(STDIN_FILENO, offset, whence);
    if (whence == SEEK_CUR)
        from = input.at;
    else if (whence == SEEK_END)
        from = (off_t)input_size();
    if (whence > SEEK_END || whence < 0 ||
        __builtin_add_overflow(from, offset, &from) || from < 0) {
        errno = EINVAL;
        return -1;
    }
    input.at = from;
    return from;
}

void input_forget(int fd)
{
    if (fd == STDIN_FILENO)
        input.is_stdin = false;
}
