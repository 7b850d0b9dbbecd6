/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/netswitch_place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"

#define LOCK_SUFFIX   ".lock"
#define LOCK_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) + 8)
#define LOCK_TRIES    100u

bool netswitch_place_is_name(const char *where)
{
    return strchr(where, '/') == NULL;
}

static bool is_good_name(const char *name)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t len = strlen(name);

    return len > 0 && len <= NETSWITCH_NAME_MAX && name[0] != '.' &&
           strspn(name, good) == len;
}

/* Makes a folder that nobody else can put anything into, or checks that. */
static int make_own_dir(const char *path, struct err *err)
{
    struct stat st;

    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_sys(err, errno, "switch: cannot make the folder %s", path);
    if (lstat(path, &st) < 0)
        return err_sys(err, errno, "switch: %s", path);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
        (st.st_mode & 077) != 0)
        return err_set(err, EPERM,
            "switch: %s must be a folder of this user with mode 0700: remove "
            "it, or set XDG_RUNTIME_DIR",
            path);
    return 0;
}

/* The folder below which ours is made. */
static bool find_base(char *buf, size_t size)
{
    const char *dir = getenv("XDG_RUNTIME_DIR");
    struct stat st;
    int n;

    /* After sudo it may be another user's, who could replace what is in it. */
    if (dir != NULL && dir[0] == '/' && stat(dir, &st) == 0 &&
        S_ISDIR(st.st_mode) && st.st_uid == geteuid())
        n = snprintf(buf, size, "%s/spore", dir);
    else
        n = snprintf(buf, size, "/tmp/spore-%u", (unsigned int)geteuid());
    return n > 0 && (size_t)n < size;
}

/* PATH of an address, checked. */
static int set_path(
    const char *path, struct sockaddr_un *ret_addr, struct err *err)
{
    size_t len = strlen(path);

    *ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (len == 0)
        return err_set(err, EINVAL, "switch: an empty path");
    if (len >= sizeof(ret_addr->sun_path))
        return err_set(err, ENAMETOOLONG,
            "switch: a socket's path has at most %zu bytes: %s",
            sizeof(ret_addr->sun_path) - 1, path);
    memcpy(ret_addr->sun_path, path, len);
    return 0;
}

int netswitch_place_find(
    const char *where, struct sockaddr_un *ret_addr, struct err *err)
{
    char path[256];
    size_t len;
    int rc;

    if (!netswitch_place_is_name(where))
        return set_path(where, ret_addr, err);
    if (!is_good_name(where))
        return err_set(err, EINVAL,
            "switch '%s': a name has 1 to %u letters, digits, '-', '_' and "
            "'.', and a path has a '/'",
            where, NETSWITCH_NAME_MAX);
    /* Room for "/net/NAME.sock" is left. */
    if (!find_base(path, sizeof(path) - NETSWITCH_NAME_MAX - 16))
        return err_set(err, ENAMETOOLONG,
            "switch: XDG_RUNTIME_DIR is too long for a socket in it");
    rc = make_own_dir(path, err);
    if (rc < 0)
        return rc;
    len = strlen(path);
    (void)snprintf(path + len, sizeof(path) - len, "/net");
    rc = make_own_dir(path, err);
    if (rc < 0)
        return rc;
    (void)snprintf(path + len, sizeof(path) - len, "/net/%s.sock", where);
    return set_path(path, ret_addr, err);
}

static void lock_path(
    const struct sockaddr_un *addr, char ret_path[LOCK_PATH_MAX])
{
    (void)snprintf(ret_path, LOCK_PATH_MAX, "%s" LOCK_SUFFIX, addr->sun_path);
}

/* Whether `fd` is still the file at `path`. */
static bool is_at(int fd, const char *path)
{
    struct stat ours;
    struct stat there;

    return fstat(fd, &ours) == 0 && lstat(path, &there) == 0 &&
           ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

static int take_lock(struct netswitch_place *place, struct err *err)
{
    char path[LOCK_PATH_MAX];

    lock_path(&place->addr, path);
    /* An owner that ends takes the file away, perhaps while we open it. */
    for (unsigned int i = 0; i < LOCK_TRIES; i++) {
        CC_CLEANUP(fd_closep)
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0)
            return err_sys(err, errno, "switch: cannot lock %s", path);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            if (errno == EWOULDBLOCK)
                break;
            return err_sys(err, errno, "switch: cannot lock %s", path);
        }
        if (is_at(fd, path)) {
            place->lock_fd = fd_steal(&fd);
            return 0;
        }
    }
    return err_set(
        err, EBUSY, "switch: one runs at %s already", place->addr.sun_path);
}

/* Whoever listens without our lock would be cut off: this is not ours. */
static bool is_answered(const struct sockaddr_un *addr)
{
    CC_CLEANUP(fd_closep)
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd < 0 ||
           connect(fd, (const struct sockaddr *)(const void *)addr,
               sizeof(*addr)) == 0 ||
           errno != ECONNREFUSED;
}

static int remove_stale(const struct sockaddr_un *addr, struct err *err)
{
    struct stat st;

    if (lstat(addr->sun_path, &st) < 0)
        return errno == ENOENT
                   ? 0
                   : err_sys(err, errno, "switch: %s", addr->sun_path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, EEXIST,
            "switch: %s exists and is no socket: remove it, or listen "
            "elsewhere",
            addr->sun_path);
    if (is_answered(addr))
        return err_set(err, EADDRINUSE, "switch: another program listens at %s",
            addr->sun_path);
    if (unlink(addr->sun_path) < 0)
        return err_sys(err, errno, "switch: cannot remove %s", addr->sun_path);
    return 0;
}

int netswitch_place_listen(struct netswitch_place *place, struct err *err)
{
    const struct sockaddr_un *addr = &place->addr;
    int rc;

    fd_closep(&place->listen_fd);
    rc = remove_stale(addr, err);
    if (rc < 0)
        return rc;
    rc = fd_listen_unix(addr, addr->sun_path, &place->listen_fd, err);
    return rc < 0 ? err_wrap(err, rc, "switch") : 0;
}

int netswitch_place_open(struct netswitch_place *place,
    const struct sockaddr_un *addr, struct err *err)
{
    char path[LOCK_PATH_MAX];
    int rc;

    *place =
        (struct netswitch_place){.addr = *addr, .listen_fd = -1, .lock_fd = -1};
    rc = take_lock(place, err);
    if (rc < 0)
        return rc;
    rc = netswitch_place_listen(place, err);
    if (rc < 0) {
        lock_path(addr, path);
        (void)unlink(path);
        fd_closep(&place->lock_fd);
    }
    return rc;
}

void netswitch_place_end(struct netswitch_place *place)
{
    (void)shutdown(place->listen_fd, SHUT_RDWR);
}

void netswitch_place_close(struct netswitch_place *place)
{
    char path[LOCK_PATH_MAX];

    if (place->lock_fd < 0)
        return;
    if (place->listen_fd >= 0)
        (void)unlink(place->addr.sun_path);
    fd_closep(&place->listen_fd);
    lock_path(&place->addr, path);
    (void)unlink(path);
    fd_closep(&place->lock_fd);
}
