/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/system.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "guest/agent/sys.h"

int system_set_time(const struct request_time *time)
{
    struct timespec ts = {
        .tv_sec = (time_t)time->sec,
        .tv_nsec = (long)time->nsec,
    };

    return clock_settime(CLOCK_REALTIME, &ts) != 0 ? -errno : 0;
}

/* struct rand_pool_info of linux/random.h, with its bytes */
struct pool {
    int entropy_count; /* bits */
    int size;          /* bytes */
    uint8_t bytes[AGENT_ENTROPY_MAX];
};

int system_add_entropy(const uint8_t *bytes, size_t n)
{
    struct pool pool;
    int r = 0;
    int fd;

    if (n == 0 || n > sizeof(pool.bytes))
        return -EINVAL;
    fd = openat(AT_FDCWD, "/dev/urandom", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    pool.entropy_count = (int)(n * 8);
    pool.size = (int)n;
    memcpy(pool.bytes, bytes, n);
    if (ioctl(fd, SYS_IOCTL(SYS_RNDADDENTROPY), &pool) != 0 ||
        ioctl(fd, SYS_IOCTL(SYS_RNDRESEEDCRNG), 0) != 0)
        r = -errno;
    explicit_bzero(&pool, sizeof(pool));
    close(fd);
    return r;
}

static int open_path(const char *path)
{
    return openat(AT_FDCWD, path[0] != '\0' ? path : "/",
        O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

int system_sync(const char *path)
{
    int r;
    int fd;

    if (path[0] == '\0') {
        sync();
        return 0;
    }
    fd = open_path(path);
    if (fd < 0)
        return -errno;
    r = syncfs(fd) != 0 ? -errno : 0;
    close(fd);
    return r;
}

int system_freeze(const char *path, bool thaw)
{
    int request = thaw ? SYS_FITHAW : SYS_FIFREEZE;
    int fd = open_path(path);
    int r;

    if (fd < 0)
        return -errno;
    r = ioctl(fd, SYS_IOCTL(request), 0) != 0 ? -errno : 0;
    close(fd);
    return r;
}
