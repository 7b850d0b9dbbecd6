/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls that can be about anything: handed to the part that the
 * descriptor or the memory belongs to, and else to who would have got them.
 *
 * Called at any time, also before the constructor and in children.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "guest/fuzz/preload/determinism.h"
#include "guest/fuzz/preload/forkserver.h"
#include "guest/fuzz/preload/input.h"
#include "guest/fuzz/preload/output.h"
#include "guest/fuzz/preload/preload.h"
#include "guest/fuzz/preload/real.h"
#include "guest/fuzz/preload/root.h"
#include "guest/fuzz/preload/sockets.h"

/* ---- read ------------------------------------------------------------------
 */

/* True, and the result, if fd is one that this library answers for. */
static bool read_ours(int fd, void *buf, size_t n, ssize_t *ret_n)
{
    if (input_is_stdin(fd))
        *ret_n = input_read(buf, n);
    else if (fd == FORKSERVER_READ_FD && !preload.rooted)
        *ret_n = forkserver_read(buf, n);
    else if (sockets_is(fd))
        *ret_n = sockets_receive(fd, buf, n, 0);
    else if (random_is(fd)) {
        random_fill(buf, n);
        *ret_n = (ssize_t)n;
    } else
        return false;
    return true;
}

REAL_EXPORT ssize_t read(int fd, void *buf, size_t n)
{
    ssize_t result;

    if (preload.active && read_ours(fd, buf, n, &result))
        return result;
    return REAL(read)(fd, buf, n);
}

ssize_t __read_chk(int fd, void *buf, size_t n, size_t room);

REAL_EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t room)
{
    if (n > room)
        __builtin_trap();
    return read(fd, buf, n);
}

REAL_EXPORT ssize_t readv(int fd, const struct iovec *parts, int count)
{
    ssize_t total = 0;
    ssize_t n;

    for (int i = 0; i < count; i++) {
        if (!preload.active ||
            !read_ours(fd, parts[i].iov_base, parts[i].iov_len, &n))
            return total > 0 ? total : REAL(readv)(fd, parts, count);
        total += n;
        if ((size_t)n < parts[i].iov_len)
            break;
    }
    return total;
}

REAL_EXPORT off_t lseek(int fd, off_t offset, int whence)
{
    if (input_is_stdin(fd))
        return input_seek(offset, whence);
    return REAL(lseek)(fd, offset, whence);
}

REAL_EXPORT off64_t lseek64(int fd, off64_t offset, int whence)
{
    return lseek(fd, offset, whence);
}

/* ---- write -----------------------------------------------------------------
 */

REAL_EXPORT ssize_t write(int fd, const void *buf, size_t n)
{
    if (!preload.active)
        return REAL(write)(fd, buf, n);
    if (output_takes(fd)) {
        output_take(buf, n);
        return (ssize_t)n;
    }
    if (fd == FORKSERVER_WRITE_FD && !preload.rooted)
        return forkserver_write(buf, n);
    if (sockets_is(fd))
        return (ssize_t)n;
    return REAL(write)(fd, buf, n);
}

REAL_EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
    ssize_t total = 0;

    if (!output_takes(fd) && !(preload.active && sockets_is(fd)))
        return REAL(writev)(fd, parts, count);
    for (int i = 0; i < count; i++) {
        if (output_takes(fd))
            output_take(parts[i].iov_base, parts[i].iov_len);
        total += (ssize_t)parts[i].iov_len;
    }
    return total;
}

/* ---- descriptors -----------------------------------------------------------
 */

static void forget(int fd)
{
    input_forget(fd);
    output_forget(fd);
    random_forget(fd);
}

REAL_EXPORT int close(int fd)
{
    if (!preload.active)
        return REAL(close)(fd);
    if (forkserver_close(fd) || sockets_close(fd))
        return 0;
    if (!preload.child)
        forget(fd);
    return REAL(close)(fd);
}

/* Its content is to be in the file that others look at. */
static void show(int fd)
{
    if (input_is_stdin(fd))
        input_materialise();
}

REAL_EXPORT int dup(int fd)
{
    show(fd);
    return (int)syscall(SYS_dup, fd);
}

REAL_EXPORT int dup2(int from, int to)
{
    show(from);
    if (preload.active && from != to && !preload.child)
        forget(to);
    return REAL(dup2)(from, to);
}

REAL_EXPORT int dup3(int from, int to, int flags)
{
    show(from);
    if (preload.active && !preload.child)
        forget(to);
    return REAL(dup3)(from, to, flags);
}

REAL_EXPORT int fstat(int fd, struct stat *ret_stat)
{
    show(fd);
    return (int)syscall(SYS_fstat, fd, ret_stat);
}

REAL_EXPORT int fstat64(int fd, struct stat64 *ret_stat)
{
    show(fd);
    return (int)syscall(SYS_fstat, fd, ret_stat);
}

int __fxstat(int version, int fd, struct stat *ret_stat);
int __fxstat64(int version, int fd, struct stat64 *ret_stat);

REAL_EXPORT int __fxstat(int version, int fd, struct stat *ret_stat)
{
    (void)version;
    return fstat(fd, ret_stat);
}

REAL_EXPORT int __fxstat64(int version, int fd, struct stat64 *ret_stat)
{
    (void)version;
    return fstat64(fd, ret_stat);
}

/* ---- open ------------------------------------------------------------------
 */

static int note(const char *path, int fd)
{
    if (preload.active && random_is_path(path))
        random_remember(fd);
    return fd;
}

static mode_t mode_of(int flags, va_list list)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? (mode_t)va_arg(list, int) : 0;
}

REAL_EXPORT int open(const char *path, int flags, ...)
{
    va_list list;
    mode_t mode;

    va_start(list, flags);
    mode = mode_of(flags, list);
    va_end(list);
    return note(path, REAL(open)(path, flags, mode));
}

REAL_EXPORT int open64(const char *path, int flags, ...)
{
    va_list list;
    mode_t mode;

    va_start(list, flags);
    mode = mode_of(flags, list);
    va_end(list);
    return note(path, REAL(open)(path, flags, mode));
}

REAL_EXPORT int openat(int dir, const char *path, int flags, ...)
{
    va_list list;
    mode_t mode;

    va_start(list, flags);
    mode = mode_of(flags, list);
    va_end(list);
    return note(path, REAL(openat)(dir, path, flags, mode));
}

REAL_EXPORT int openat64(int dir, const char *path, int flags, ...)
{
    va_list list;
    mode_t mode;

    va_start(list, flags);
    mode = mode_of(flags, list);
    va_end(list);
    return note(path, REAL(openat)(dir, path, flags, mode));
}

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);

REAL_EXPORT int __open_2(const char *path, int flags)
{
    return open(path, flags);
}

REAL_EXPORT int __open64_2(const char *path, int flags)
{
    return open(path, flags);
}

static ssize_t random_read(void *cookie, char *bytes, size_t n)
{
    (void)cookie;
    random_fill(bytes, n);
    return (ssize_t)n;
}

REAL_EXPORT FILE *fopen(const char *restrict path, const char *restrict mode)
{
    const cookie_io_functions_t calls = {.read = random_read};

    if (preload.active && mode[0] == 'r' && random_is_path(path))
        return fopencookie(NULL, "r", calls);
    return REAL(fopen)(path, mode);
}

REAL_EXPORT FILE *fopen64(const char *restrict path, const char *restrict mode)
{
    return fopen(path, mode);
}

/* ---- memory ----------------------------------------------------------------
 */

REAL_EXPORT void *shmat(int id, const void *at, int flags)
{
    void *ours = preload.active ? forkserver_shm(id) : NULL;

    return ours != NULL ? ours : REAL(shmat)(id, at, flags);
}

REAL_EXPORT int shmdt(const void *at)
{
    if (preload.active && forkserver_is_shm(at))
        return 0;
    return REAL(shmdt)(at);
}

/* Called before anything can be looked up, and by everybody. */
REAL_EXPORT void *memset(void *at, int value, size_t n)
{
    union {
        void *known;
        void *(*real)(void *, int, size_t);
    } u = {.known = real_known(REAL_memset)};

    if (__builtin_expect(u.known == NULL, 0)) {
        for (size_t i = 0; i < n; i++)
            ((volatile char *)at)[i] = (char)value;
        return at;
    }
    if (__builtin_expect(preload.active && !preload.rooted, 0) && value == 0)
        forkserver_clears(at, n);
    return u.real(at, value, n);
}

/* ---- hooks for libspore-harness.a -------------------------------------------
 */

int spore_fuzz_input(const uint8_t **ret_bytes, size_t *ret_capacity);
int spore_fuzz_root(const uint8_t **ret_bytes, size_t *ret_size);

/* Where the input will be. 0, or -1: not in a guest that fuzzes. */
REAL_EXPORT int spore_fuzz_input(
    const uint8_t **ret_bytes, size_t *ret_capacity)
{
    if (!preload_is_on())
        return -1;
    *ret_bytes = input_bytes();
    *ret_capacity = FUZZ_ABI_INPUT_MAX;
    return 0;
}

/* The root, once; comes back with the input of a run. */
REAL_EXPORT int spore_fuzz_root(const uint8_t **ret_bytes, size_t *ret_size)
{
    if (!preload_is_on() || preload.rooted)
        return -1;
    root_take();
    *ret_bytes = input_bytes();
    *ret_size = input_size();
    return 0;
}
