/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls that can be about anything: handed to the part that the
 * descriptor or the memory belongs to, and else to who would have got them.
 *
 * Called at any time, also before the constructor and in children.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/shm.h>
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

/* A view of the input, or another descriptor that gives as much as is asked
 * for: one part after the other. */
static bool read_part(int fd, void *buf, size_t n, ssize_t *ret_n)
{
    if (input_is(fd))
        *ret_n = input_read(fd, buf, n);
    else if (fd == FORKSERVER_READ_FD && !preload.rooted)
        *ret_n = forkserver_read(buf, n);
    else if (random_is(fd)) {
        random_fill(buf, n);
        *ret_n = (ssize_t)n;
    } else
        return false;
    return true;
}

/* True, and the result, if fd is one that this library answers for. */
static bool read_ours(
    int fd, const struct iovec *parts, size_t count, ssize_t *ret_n)
{
    ssize_t n;
    int unused;

    if (sockets_is(fd)) {
        *ret_n = sockets_receive(parts, count, 0, &unused);
        return true;
    }
    *ret_n = 0;
    for (size_t i = 0; i < count; i++) {
        if (!read_part(fd, parts[i].iov_base, parts[i].iov_len, &n))
            return i > 0;
        if (n < 0) {
            *ret_n = *ret_n > 0 ? *ret_n : n;
            return true;
        }
        *ret_n += n;
        if ((size_t)n < parts[i].iov_len)
            return true;
    }
    return count > 0;
}

REAL_EXPORT ssize_t read(int fd, void *buf, size_t n)
{
    const struct iovec part = {.iov_base = buf, .iov_len = n};
    ssize_t result;

    if (preload.active && read_ours(fd, &part, 1, &result))
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
    ssize_t result;

    if (preload.active && count > 0 &&
        read_ours(fd, parts, (size_t)count, &result))
        return result;
    return REAL(readv)(fd, parts, count);
}

REAL_EXPORT ssize_t pread(int fd, void *buf, size_t n, off_t at)
{
    if (input_is(fd))
        return input_read_at(buf, n, at);
    return REAL(pread)(fd, buf, n, at);
}

REAL_EXPORT ssize_t pread64(int fd, void *buf, size_t n, off64_t at)
{
    return pread(fd, buf, n, at);
}

REAL_EXPORT off_t lseek(int fd, off_t offset, int whence)
{
    if (input_is(fd))
        return input_seek(fd, offset, whence);
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
    output_forget(fd);
    random_forget(fd);
}

static void replace(int fd)
{
    input_lose(fd);
    forget(fd);
}

REAL_EXPORT int close(int fd)
{
    if (!preload.active)
        return REAL(close)(fd);
    if (forkserver_close(fd) || sockets_close(fd))
        return 0;
    if (!preload.child && (input_close(fd) || random_close(fd)))
        return 0;
    if (!preload.child)
        forget(fd);
    return REAL(close)(fd);
}

REAL_EXPORT int dup(int fd)
{
    input_share(fd);
    return (int)syscall(SYS_dup, fd);
}

REAL_EXPORT int dup2(int from, int to)
{
    input_share(from);
    if (preload.active && from != to && !preload.child)
        replace(to);
    return REAL(dup2)(from, to);
}

REAL_EXPORT int dup3(int from, int to, int flags)
{
    input_share(from);
    if (preload.active && !preload.child)
        replace(to);
    return REAL(dup3)(from, to, flags);
}

/* One argument or none: what none is passed on does not matter. */
static int control(int fd, int command, long argument)
{
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
        input_share(fd);
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

REAL_EXPORT int fcntl(int fd, int command, ...)
{
    va_list list;
    long argument;

    va_start(list, command);
    argument = va_arg(list, long);
    va_end(list);
    return control(fd, command, argument);
}

REAL_EXPORT int fcntl64(int fd, int command, ...)
{
    va_list list;
    long argument;

    va_start(list, command);
    argument = va_arg(list, long);
    va_end(list);
    return control(fd, command, argument);
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
