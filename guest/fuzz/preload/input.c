/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/preload/input.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/fuzz/preload/preload.h"
#include "guest/fuzz/preload/real.h"

#define PAGE  4096u
#define VIEWS 5u /* the first is of standard input, the rest of the file */

struct view {
    int fd; /* -1: none */
    bool open;
    off_t at;
};

static struct {
    uint8_t *bytes;
    volatile uint32_t *size; /* just in front of them */
    uint8_t *copy;           /* for mmap; NULL: not needed */
    bool is_mapped;
    bool eager;     /* the kernel is to have it in any case */
    bool is_shown;  /* it has, in this run */
    int file_fd;    /* to write it to; -1: none */
    struct stat st; /* of that */
    struct view views[VIEWS];
} input;

/* ---- stdin as libc has it ---------------------------------------------------
 */

static ssize_t stream_read(void *cookie, char *buf, size_t n)
{
    (void)cookie;
    return input_is(STDIN_FILENO) ? input_read(STDIN_FILENO, buf, n)
                                  : REAL(read)(STDIN_FILENO, buf, n);
}

static int stream_seek(void *cookie, off64_t *at, int whence)
{
    off_t result = input_is(STDIN_FILENO)
                       ? input_seek(STDIN_FILENO, (off_t)*at, whence)
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
    (void)input_close(STDIN_FILENO);
    return preload_in_run() ? 0 : REAL(close)(STDIN_FILENO);
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

static void *memory(size_t size, int flags)
{
    void *at =
        mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

static int make_memory(void)
{
    uint8_t *pages = memory(PAGE + FUZZ_ABI_INPUT_MAX, MAP_SHARED);

    if (pages == NULL)
        return -1;
    input.bytes = pages + PAGE;
    input.size = (volatile uint32_t *)(void *)(input.bytes - sizeof(uint32_t));
    if (preload.input != PRELOAD_FILE && preload.input != PRELOAD_STDIN)
        return 0;
    input.copy = memory(FUZZ_ABI_INPUT_MAX, MAP_PRIVATE | MAP_NORESERVE);
    return input.copy == NULL ? -1 : 0;
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
    for (size_t i = 0; i < VIEWS; i++)
        input.views[i].fd = -1;
    input.file_fd = -1;
    if (make_memory() != 0)
        return -1;
    if (preload.input == PRELOAD_FILE)
        return make_file();
    if (preload.input != PRELOAD_STDIN)
        return 0;
    input.views[0].fd = STDIN_FILENO;
    input.views[0].open = true;
    input.file_fd = STDIN_FILENO;
    /* They have streams of their own, made before this library's. */
    input.eager = dlsym(RTLD_DEFAULT, "_ZSt3cin") != NULL;
    replace_stdin();
    return 0;
}

void input_prepare(void)
{
    if (input.file_fd >= 0)
        (void)syscall(SYS_fstat, input.file_fd, &input.st);
    if (preload.input != PRELOAD_FILE)
        return;
    for (size_t i = 1; i < VIEWS; i++)
        input.views[i].fd = REAL(open)(preload.path, O_RDONLY);
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
    real_mlock(input.bytes - PAGE, PAGE + FUZZ_ABI_INPUT_MAX);
    hello->input_size = (uintptr_t)input.size;
    hello->input = (uintptr_t)input.bytes;
    hello->input_capacity = FUZZ_ABI_INPUT_MAX;
}

/* ---- views -----------------------------------------------------------------
 */

static struct view *find_view(int fd)
{
    for (size_t i = 0; i < VIEWS; i++) {
        if (fd >= 0 && input.views[i].fd == fd && input.views[i].open)
            return &input.views[i];
    }
    return NULL;
}

bool input_is(int fd)
{
    return preload_in_run() && !input.is_shown && find_view(fd) != NULL;
}

ssize_t input_read_at(void *buf, size_t n, off_t at)
{
    size_t size = input_size();
    size_t left;

    if (at < 0) {
        errno = EINVAL;
        return -1;
    }
    left = (size_t)at < size ? size - (size_t)at : 0;
    if (n > left)
        n = left;
    memcpy(buf, input.bytes + (left > 0 ? at : 0), n);
    return (ssize_t)n;
}

ssize_t input_read(int fd, void *buf, size_t n)
{
    struct view *v = find_view(fd);
    ssize_t result = input_read_at(buf, n, v->at);

    v->at += result;
    return result;
}

off_t input_seek(int fd, off_t offset, int whence)
{
    struct view *v = find_view(fd);
    off_t from = 0;

    if (whence == SEEK_CUR)
        from = v->at;
    else if (whence == SEEK_END)
        from = (off_t)input_size();
    if (whence > SEEK_END || whence < 0 ||
        __builtin_add_overflow(from, offset, &from) || from < 0) {
        errno = EINVAL;
        return -1;
    }
    v->at = from;
    return from;
}

void input_stat(struct stat *ret_stat)
{
    *ret_stat = input.st;
    ret_stat->st_size = (off_t)input_size();
    ret_stat->st_blocks = (blkcnt_t)((input_size() + PAGE - 1) / PAGE * 8);
}

void *input_map(size_t n, off_t offset)
{
    if (input.copy == NULL || input.is_mapped || offset != 0 || n == 0 ||
        n > FUZZ_ABI_INPUT_MAX)
        return NULL;
    input.is_mapped = true;
    memcpy(input.copy, input.bytes, input_size());
    return input.copy;
}

bool input_unmap(const void *at)
{
    if (at == NULL || at != input.copy || !input.is_mapped)
        return false;
    input.is_mapped = false;
    return true;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

bool input_is_path(const char *path)
{
    return preload.input == PRELOAD_FILE && preload_in_run() &&
           strcmp(path, preload.path) == 0;
}

bool input_may_be_path(const char *path)
{
    return preload.input == PRELOAD_FILE && preload_in_run() &&
           strcmp(last_part(path), last_part(preload.path)) == 0;
}

int input_open(void)
{
    for (size_t i = 1; i < VIEWS && !input.is_shown; i++) {
        struct view *v = &input.views[i];

        if (v->fd < 0 || v->open)
            continue;
        v->open = true;
        v->at = 0;
        return v->fd;
    }
    return -1;
}

bool input_close(int fd)
{
    struct view *v = preload.active ? find_view(fd) : NULL;

    if (v == NULL)
        return false;
    v->open = false;
    if (v != &input.views[0] && preload_in_run() && !input.is_shown)
        return true; /* for the next time it is opened */
    v->fd = -1;
    return false;
}

void input_share(int fd)
{
    if (!preload.active || find_view(fd) == NULL)
        return;
    if (preload.rooted)
        input_show();
    else
        input.eager = true;
}

void input_lose(int fd)
{
    struct view *v = find_view(fd);

    if (v == NULL)
        return;
    v->open = false;
    v->fd = -1;
}

void input_show(void)
{
    const uint8_t *from = input.bytes;
    size_t left = preload.active ? input_size() : 0;
    off_t at = 0;

    if (!preload_in_run() || input.is_shown || input.file_fd < 0)
        return;
    input.is_shown = true;
    while (left > 0) {
        ssize_t n = pwrite(input.file_fd, from, left, at);

        if (n <= 0)
            return;
        from += n;
        left -= (size_t)n;
        at += n;
    }
    /* Where whoever looks at the descriptors next is to go on. */
    for (size_t i = 0; i < VIEWS; i++) {
        const struct view *v = &input.views[i];

        if (v->fd >= 0 && v->open && v->at > 0)
            (void)REAL(lseek)(v->fd, v->at, SEEK_SET);
    }
}

void input_begin(void)
{
    if (input.eager)
        input_show();
}
