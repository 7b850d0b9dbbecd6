/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File descriptors: ownership helpers, whole reads and writes, and how some
 * are made.
 *
 * Every descriptor is close-on-exec and lives in one struct or in one local
 * marked CC_CLEANUP(fd_closep). Thread rule: none.
 */
#ifndef VMM_BASE_FD_H
#define VMM_BASE_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/*
 * Closes *fd if it is one and sets it to -1. close() is not retried on EINTR:
 * on Linux the descriptor is gone by then.
 */
void fd_closep(int *fd);

/* Takes the descriptor out of *fd, leaving -1. */
static inline int fd_steal(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

/* What the path of a descriptor of this process begins with. */
#define FD_PATH "/proc/self/fd/"

/*
 * A copy of the descriptor that `path` names by FD_PATH and its number, as it
 * was opened; *ret_fd is -1 for any other path. -EBADF if there is none,
 * -EACCES if it cannot be read from, or written to if that `must_write`.
 */
CC_MUST_CHECK int fd_from_path(
    const char *path, bool must_write, int *ret_fd, struct err *err);

/*
 * What the kernel calls the file of a descriptor: its path as it is now, or
 * "anon_inode:..." and the like. -ENAMETOOLONG if `size` bytes do not hold it
 * and a NUL.
 */
CC_MUST_CHECK int fd_link(int fd, char *ret_text, size_t size);

/* Reads until `len` bytes or end of file; bytes read or -errno. */
CC_MUST_CHECK ssize_t fd_read_full(int fd, void *buf, size_t len);
CC_MUST_CHECK ssize_t fd_pread_full(
    int fd, void *buf, size_t len, uint64_t offset);

/* Writes all of it: 0 or -errno. */
CC_MUST_CHECK int fd_write_full(int fd, const void *buf, size_t len);

CC_MUST_CHECK int fd_set_nonblocking(int fd, bool on);

/*
 * Locks a whole file until the last copy of this descriptor is closed, here or
 * in a process that inherited it: an exclusive lock shuts out every other, a
 * shared one only those. 0, -EAGAIN if another has it locked, or -errno.
 */
CC_MUST_CHECK int fd_lock(int fd, bool exclusive);
/* The same, but that it waits for others; never -EAGAIN. */
CC_MUST_CHECK int fd_lock_wait(int fd, bool exclusive);
void fd_unlock(int fd);

/*
 * The address of a Unix socket at `path`: -ENAMETOOLONG if that is empty or
 * too long, which the error says of `what`, the option that gave it.
 */
CC_MUST_CHECK int fd_unix_address(const char *what, const char *path,
    struct sockaddr_un *ret_addr, struct err *err);

/*
 * A Unix stream socket, non-blocking, that listens at the address, where there
 * must be no file yet (-EADDRINUSE): the one that it makes is for this user
 * only, and the caller's to remove. Errors call the place `name`.
 */
CC_MUST_CHECK int fd_listen_unix(const struct sockaddr_un *addr,
    const char *name, int *ret_fd, struct err *err);

/*
 * Raises the soft limit of open files to `need`. If the hard one forbids it,
 * -EMFILE says that `count` `things` take so many, and that `option` sets how
 * many there are.
 */
CC_MUST_CHECK int fd_raise_limit(uint64_t need, uint32_t count,
    const char *things, const char *option, struct err *err);

/* An eventfd, non-blocking and close-on-exec, or -errno. */
CC_MUST_CHECK int fd_eventfd(void);

/* Adds one to an eventfd. A full counter is already a pending signal. */
void fd_eventfd_signal(int fd);

/* Takes the count of an eventfd; 0 if there is none. */
uint64_t fd_eventfd_drain(int fd);

/*
 * A regular file mapped for reading. The mapping is private; the size is
 * that at opening, and a file cut short afterwards raises SIGBUS, so what
 * others can write to must be copied instead (fd_read_file).
 */
struct fd_mapping {
    const uint8_t *data; /* NULL for an empty file */
    size_t size;
};

CC_MUST_CHECK int fd_map_file(
    const char *path, struct fd_mapping *ret_map, struct err *err);
void fd_unmap(struct fd_mapping *map);

/*
 * The bytes of a file (or pipe) in fresh memory, with a NUL behind them that
 * is not counted. More than `max` bytes is -EFBIG. The caller frees *ret_data.
 */
CC_MUST_CHECK int fd_read_file(const char *path, size_t max, uint8_t **ret_data,
    size_t *ret_size, struct err *err);

#endif
