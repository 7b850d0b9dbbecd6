/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/fd.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/num.h"

/* A copy of one that was handed down, or -errno. */
static int copy_of(unsigned long n, bool must_write)
{
    int flags;
    int fd;

    if (n > INT_MAX)
        return -EBADF;
    flags = fcntl((int)n, F_GETFL);
    if (flags < 0)
        return -errno;
    if ((flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_WRONLY ||
        (must_write && (flags & O_ACCMODE) != O_RDWR))
        return -EACCES;
    fd = fcntl((int)n, F_DUPFD_CLOEXEC, 3);
    return fd < 0 ? -errno : fd;
}

int fd_from_path(
    const char *path, bool must_write, int *ret_fd, struct err *err)
{
    const char *digits = path + sizeof(FD_PATH) - 1;
    unsigned long n = 0;
    char *end = NULL;
    int fd;

    if (strncmp(path, FD_PATH, sizeof(FD_PATH) - 1) == 0 && *digits >= '0' &&
        *digits <= '9')
        n = strtoul(digits, &end, 10); /* ULONG_MAX if it is too large */
    if (end == NULL || *end != '\0') {
        *ret_fd = -1;
        return 0;
    }
    fd = copy_of(n, must_write);
    if (fd < 0)
        return err_sys(
            err, fd, "%s: the descriptor that was handed down", path);
    *ret_fd = fd;
    return 0;
}

int fd_link(int fd, char *ret_text, size_t size)
{
    char path[sizeof(FD_PATH) + 11];
    char text[PATH_MAX];
    ssize_t n;

    (void)snprintf(path, sizeof(path), FD_PATH "%d", fd);
    n = readlink(path, text, sizeof(text));
    if (n < 0)
        return -errno;
    if ((size_t)n >= size || (size_t)n == sizeof(text))
        return -ENAMETOOLONG;
    memcpy(ret_text, text, (size_t)n);
    ret_text[n] = '\0';
    return 0;
}

void fd_closep(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

ssize_t fd_read_full(int fd, void *buf, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = read(fd, (uint8_t *)buf + done, len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

ssize_t fd_pread_full(int fd, void *buf, size_t len, uint64_t offset)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pread(
            fd, (uint8_t *)buf + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int fd_write_full(int fd, const void *buf, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = write(fd, (const uint8_t *)buf + done, len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (size_t)n;
    }
    return 0;
}

int fd_set_nonblocking(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0)
        return -errno;
    flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int fd_lock(int fd, bool exclusive)
{
    struct flock whole = {
        .l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

int fd_lock_wait(int fd, bool exclusive)
{
    struct flock whole = {
        .l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};

    while (fcntl(fd, F_OFD_SETLKW, &whole) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

void fd_unlock(int fd)
{
    struct flock whole = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

    (void)fcntl(fd, F_OFD_SETLK, &whole);
}

int fd_unix_address(const char *what, const char *path,
    struct sockaddr_un *ret_addr, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof(addr.sun_path))
        return err_set(err, ENAMETOOLONG,
            "%s has %zu bytes: it must have 1 to %zu", what, len,
            sizeof(addr.sun_path) - 1);
    memcpy(addr.sun_path, path, len);
    *ret_addr = addr;
    return 0;
}

int fd_listen_unix(const struct sockaddr_un *addr, const char *name,
    int *ret_fd, struct err *err)
{
    CC_CLEANUP(fd_closep)
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return err_sys(err, errno, "cannot create a Unix socket");
    /* The file gets this mode, with no moment at which it has another. */
    if (fchmod(fd, 0600) < 0)
        return err_sys(err, errno, "cannot listen on %s", name);
    if (bind(fd, (const struct sockaddr *)(const void *)addr, sizeof(*addr)) <
        0) {
        if (errno == EADDRINUSE)
            return err_set(err, errno,
                "%s exists already: remove it if nobody listens there", name);
        return err_sys(err, errno, "cannot listen on %s", name);
    }
    if (listen(fd, SOMAXCONN) < 0) {
        int rc = err_sys(err, errno, "cannot listen on %s", name);

        (void)unlink(addr->sun_path);
        return rc;
    }
    *ret_fd = fd_steal(&fd);
    return 0;
}

int fd_raise_limit(uint64_t need, uint32_t count, const char *things,
    const char *option, struct err *err)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return err_sys(err, errno, "limit of open files");
    if (limit.rlim_cur >= need)
        return 0;
    if (limit.rlim_max < need)
        return err_set(err, EMFILE,
            "%u %s take %llu open files, and the limit is %llu: see ulimit "
            "-n, or give %s",
            count, things, (unsigned long long)need,
            (unsigned long long)limit.rlim_max, option);
    limit.rlim_cur = need;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return err_sys(err, errno, "limit of open files");
    return 0;
}

int fd_eventfd(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

void fd_eventfd_signal(int fd)
{
    const uint64_t one = 1;
    ssize_t n;

    do {
        n = write(fd, &one, sizeof(one));
    } while (n < 0 && errno == EINTR);
    assert(n == (ssize_t)sizeof(one) || errno == EAGAIN);
}

uint64_t fd_eventfd_drain(int fd)
{
    uint64_t count;
    ssize_t n;

    do {
        n = read(fd, &count, sizeof(count));
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(count) ? count : 0;
}

int fd_map_file(const char *path, struct fd_mapping *ret_map, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *p;

    if (fd < 0)
        return err_sys(err, errno, "%s", path);
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "%s: not a regular file", path);
    if (st.st_size == 0) {
        *ret_map = (struct fd_mapping){0};
        return 0;
    }
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return err_sys(err, errno, "%s: cannot map", path);
    *ret_map = (struct fd_mapping){.data = p, .size = (size_t)st.st_size};
    return 0;
}

void fd_unmap(struct fd_mapping *map)
{
    if (map->data != NULL)
        (void)munmap((void *)(uintptr_t)map->data, map->size);
    *map = (struct fd_mapping){0};
}

int fd_read_file(const char *path, size_t max, uint8_t **ret_data,
    size_t *ret_size, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *data = NULL;
    size_t size = 0;
    size_t room = 0;
    struct stat st;

    assert(max < SIZE_MAX / 4);
    if (fd < 0)
        return err_sys(err, errno, "%s", path);
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "%s", path);
    if (S_ISDIR(st.st_mode))
        return err_sys(err, EISDIR, "%s", path);
    for (;;) {
        ssize_t n;

        if (size + 1 >= room) {
            uint64_t want = num_max(
                st.st_size > 0 ? num_min((uint64_t)st.st_size, max) + 2 : 0,
                room * 2);
            uint8_t *bigger;

            room = num_max(want, NUM_PAGE_SIZE);
            bigger = realloc(data, room);
            if (bigger == NULL) {
                free(data);
                return err_sys(err, ENOMEM, "%s", path);
            }
            data = bigger;
        }
        n = fd_read_full(fd, data + size, room - size - 1);
        if (n < 0) {
            free(data);
            return err_sys(err, (int)n, "%s", path);
        }
        if (n == 0)
            break;
        size += (size_t)n;
        if (size > max) {
            free(data);
            return err_set(err, EFBIG, "%s: larger than %zu bytes", path, max);
        }
    }
    data[size] = '\0';
    *ret_data = data;
    *ret_size = size;
    return 0;
}
