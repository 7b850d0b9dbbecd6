/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that open files, ask about them or map them: the input's file and the
 * kernel's random numbers are answered here, all else goes on.
 *
 * Called at any time, also before the constructor and in children.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/fuzz/preload/determinism.h"
#include "guest/fuzz/preload/input.h"
#include "guest/fuzz/preload/preload.h"
#include "guest/fuzz/preload/real.h"

_Static_assert(sizeof(struct stat) == sizeof(struct stat64) &&
                   sizeof(off_t) == sizeof(off64_t),
    "x86-64 has one of each");

/* ---- open ------------------------------------------------------------------
 */

static mode_t mode_of(int flags, va_list list)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? (mode_t)va_arg(list, int) : 0;
}

/* Standard input as a file is one more way to it, which the kernel has. */
static bool is_stdin_path(const char *path)
{
    return strcmp(path, "/dev/stdin") == 0 || strcmp(path, "/dev/fd/0") == 0 ||
           strcmp(path, "/proc/self/fd/0") == 0;
}

/* A view of the input, or -1: the kernel is to open it, and has it then. */
static int open_input(const char *path, int flags)
{
    int fd = -1;

    if (!preload.active || path == NULL)
        return -1;
    if (is_stdin_path(path))
        input_share(STDIN_FILENO);
    if (!input_may_be_path(path))
        return -1;
    if (input_is_path(path) && (flags & (O_ACCMODE | O_TRUNC)) == O_RDONLY)
        fd = input_open();
    if (fd < 0)
        input_show();
    return fd;
}

static int open_at(int dir, const char *path, int flags, mode_t mode)
{
    int fd = open_input(path, flags);

    if (fd < 0 && random_is_path(path) && (flags & O_ACCMODE) == O_RDONLY)
        fd = random_open();
    if (fd >= 0)
        return fd;
    fd = REAL(openat)(dir, path, flags, mode);
    if (preload.active && random_is_path(path))
        random_remember(fd);
    return fd;
}

REAL_EXPORT int open(const char *path, int flags, ...)
{
    va_list list;
    mode_t mode;

    va_start(list, flags);
    mode = mode_of(flags, list);
    va_end(list);
    return open_at(AT_FDCWD, path, flags, mode);
}

REAL_EXPORT int open64(const char *path, int flags, ...)
{
    va_list list;
    mode_t mode;

    va_start(list, flags);
    mode = mode_of(flags, list);
    va_end(list);
    return open_at(AT_FDCWD, path, flags, mode);
}

REAL_EXPORT int openat(int dir, const char *path, int flags, ...)
{
    va_list list;
    mode_t mode;

    va_start(list, flags);
    mode = mode_of(flags, list);
    va_end(list);
    return open_at(dir, path, flags, mode);
}

REAL_EXPORT int openat64(int dir, const char *path, int flags, ...)
{
    va_list list;
    mode_t mode;

    va_start(list, flags);
    mode = mode_of(flags, list);
    va_end(list);
    return open_at(dir, path, flags, mode);
}

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);

REAL_EXPORT int __open_2(const char *path, int flags)
{
    return open_at(AT_FDCWD, path, flags, 0);
}

REAL_EXPORT int __open64_2(const char *path, int flags)
{
    return open_at(AT_FDCWD, path, flags, 0);
}

/* ---- fopen -----------------------------------------------------------------
 */

static ssize_t random_read(void *cookie, char *bytes, size_t n)
{
    (void)cookie;
    random_fill(bytes, n);
    return (ssize_t)n;
}

/* Through the library's own calls: the view may have been shown by then. */
static ssize_t view_read(void *cookie, char *bytes, size_t n)
{
    return read((int)(intptr_t)cookie, bytes, n);
}

static int view_seek(void *cookie, off64_t *at, int whence)
{
    off_t result = lseek((int)(intptr_t)cookie, *at, whence);

    if (result < 0)
        return -1;
    *at = result;
    return 0;
}

static int view_close(void *cookie)
{
    return close((int)(intptr_t)cookie);
}

static FILE *stream_of(int fd)
{
    const cookie_io_functions_t calls = {
        .read = view_read,
        .seek = view_seek,
        .close = view_close,
    };
    FILE *stream = fopencookie((void *)(intptr_t)fd, "r", calls);

    if (stream != NULL)
        stream->_fileno = fd; /* for fileno() */
    return stream;
}

REAL_EXPORT FILE *fopen(const char *restrict path, const char *restrict mode)
{
    const cookie_io_functions_t calls = {.read = random_read};
    bool reads = mode[0] == 'r' && strchr(mode, '+') == NULL;
    int fd;

    if (!preload.active)
        return REAL(fopen)(path, mode);
    if (reads && random_is_path(path))
        return fopencookie(NULL, "r", calls);
    fd = open_input(path, reads ? O_RDONLY : O_RDWR);
    return fd >= 0 ? stream_of(fd) : REAL(fopen)(path, mode);
}

REAL_EXPORT FILE *fopen64(const char *restrict path, const char *restrict mode)
{
    return fopen(path, mode);
}

REAL_EXPORT FILE *fdopen(int fd, const char *mode)
{
    input_share(fd);
    return REAL(fdopen)(fd, mode);
}

REAL_EXPORT FILE *freopen(
    const char *restrict path, const char *restrict mode, FILE *restrict stream)
{
    input_show();
    return REAL(freopen)(path, mode, stream);
}

REAL_EXPORT FILE *freopen64(
    const char *restrict path, const char *restrict mode, FILE *restrict stream)
{
    return freopen(path, mode, stream);
}

/* ---- stat ------------------------------------------------------------------
 */

static int stat_fd(int fd, struct stat *ret_stat)
{
    if (!input_is(fd))
        return (int)syscall(SYS_fstat, fd, ret_stat);
    input_stat(ret_stat);
    return 0;
}

static int stat_path(
    int dir, const char *path, struct stat *ret_stat, int flags)
{
    if (preload.active && path != NULL && input_is_path(path)) {
        input_stat(ret_stat);
        return 0;
    }
    if (preload.active && path != NULL && input_may_be_path(path))
        input_show();
    if (path != NULL && path[0] == '\0' && (flags & AT_EMPTY_PATH) != 0)
        return stat_fd(dir, ret_stat);
    return (int)syscall(SYS_newfstatat, dir, path, ret_stat, flags);
}

REAL_EXPORT int fstat(int fd, struct stat *ret_stat)
{
    return stat_fd(fd, ret_stat);
}

REAL_EXPORT int stat(const char *restrict path, struct stat *restrict ret_stat)
{
    return stat_path(AT_FDCWD, path, ret_stat, 0);
}

REAL_EXPORT int lstat(const char *restrict path, struct stat *restrict ret_stat)
{
    return stat_path(AT_FDCWD, path, ret_stat, AT_SYMLINK_NOFOLLOW);
}

REAL_EXPORT int fstatat(int dir, const char *restrict path,
    struct stat *restrict ret_stat, int flags)
{
    return stat_path(dir, path, ret_stat, flags);
}

REAL_EXPORT int fstat64(int fd, struct stat64 *ret_stat)
{
    return stat_fd(fd, (struct stat *)(void *)ret_stat);
}

REAL_EXPORT int stat64(
    const char *restrict path, struct stat64 *restrict ret_stat)
{
    return stat_path(AT_FDCWD, path, (struct stat *)(void *)ret_stat, 0);
}

REAL_EXPORT int lstat64(
    const char *restrict path, struct stat64 *restrict ret_stat)
{
    return stat_path(
        AT_FDCWD, path, (struct stat *)(void *)ret_stat, AT_SYMLINK_NOFOLLOW);
}

REAL_EXPORT int fstatat64(int dir, const char *restrict path,
    struct stat64 *restrict ret_stat, int flags)
{
    return stat_path(dir, path, (struct stat *)(void *)ret_stat, flags);
}

/* Programs from before glibc 2.33 have these. */
int __fxstat(int version, int fd, struct stat *ret_stat);
int __fxstat64(int version, int fd, struct stat *ret_stat);
int __xstat(int version, const char *path, struct stat *ret_stat);
int __xstat64(int version, const char *path, struct stat *ret_stat);

REAL_EXPORT int __fxstat(int version, int fd, struct stat *ret_stat)
{
    (void)version;
    return stat_fd(fd, ret_stat);
}

REAL_EXPORT int __fxstat64(int version, int fd, struct stat *ret_stat)
{
    (void)version;
    return stat_fd(fd, ret_stat);
}

REAL_EXPORT int __xstat(int version, const char *path, struct stat *ret_stat)
{
    (void)version;
    return stat_path(AT_FDCWD, path, ret_stat, 0);
}

REAL_EXPORT int __xstat64(int version, const char *path, struct stat *ret_stat)
{
    (void)version;
    return stat_path(AT_FDCWD, path, ret_stat, 0);
}

REAL_EXPORT int statx(int dir, const char *restrict path, int flags,
    unsigned int mask, struct statx *restrict ret_stat)
{
    input_show();
    return (int)syscall(SYS_statx, dir, path, flags, mask, ret_stat);
}

/* ---- mmap ------------------------------------------------------------------
 */

REAL_EXPORT void *mmap(
    void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    void *copy = NULL;

    if (__builtin_expect(fd >= 0 && input_is(fd), 0)) {
        if (at == NULL && (protection & PROT_EXEC) == 0 &&
            ((flags & MAP_SHARED) == 0 || (protection & PROT_WRITE) == 0))
            copy = input_map(n, offset);
        if (copy != NULL)
            return copy;
        input_show();
    }
    return (void *)syscall( // NOLINT
        SYS_mmap, at, n, protection, flags, fd, offset);
}

REAL_EXPORT void *mmap64(
    void *at, size_t n, int protection, int flags, int fd, off64_t offset)
{
    return mmap(at, n, protection, flags, fd, offset);
}

REAL_EXPORT int munmap(void *at, size_t n)
{
    if (__builtin_expect(preload.rooted && input_unmap(at), 0))
        return 0;
    return (int)syscall(SYS_munmap, at, n);
}
