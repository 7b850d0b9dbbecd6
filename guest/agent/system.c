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

static int tell_generation(
    const char *path, const uint8_t id[AGENT_GENERATION_ID])
{
    static const char hex[] = "0123456789abcdef";
    char text[2 * AGENT_GENERATION_ID + 1];
    int r = 0;
    int fd = openat(AT_FDCWD, path,
        O_WRONLY | O_CREAT | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0644);

    if (fd < 0)
        return -errno;
    for (size_t i = 0; i < AGENT_GENERATION_ID; i++) {
        text[2 * i] = hex[id[i] >> 4];
        text[2 * i + 1] = hex[id[i] & 15];
    }
    text[sizeof(text) - 1] = '\n';
    if (pwrite(fd, text, sizeof(text), 0) != (ssize_t)sizeof(text))
        r = -EIO;
    close(fd);
    return r;
}

int system_new_generation(
    struct system_generation *g, const struct request_generation *request)
{
    int first;
    int r;

    if (memcmp(g->id, request->id, sizeof(g->id)) == 0)
        return 0;
    memcpy(g->id, request->id, sizeof(g->id));
    first = system_add_entropy(request->seed, sizeof(request->seed));
    if (request->has_time) {
        r = system_set_time(&request->time);
        first = first != 0 ? first : r;
    }
    if (g->path != NULL) {
        r = tell_generation(g->path, g->id);
        first = first != 0 ? first : r;
    }
    return first;
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
