/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/mount.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "guest/agent/lines.h"
#include "guest/agent/sys.h"

#define NEW_ROOT "/root"

/* What lies over a root that is only read: its writes, in memory. */
#define WRITES     "/writes"
#define MERGED     "/merged"
#define UPPER      WRITES "/upper"
#define WORK       WRITES "/work"
#define OVER_FLAGS "lowerdir=" NEW_ROOT ",upperdir=" UPPER ",workdir=" WORK

static int mount_at(const char *what, const char *type, const char *where,
    unsigned long flags, const char *data)
{
    if (mount(what, where, type, flags, data) == 0 || errno == EBUSY)
        return 0;
    if (errno == ENOENT && mkdir(where, 0755) == 0 &&
        mount(what, where, type, flags, data) == 0)
        return 0;
    return -errno;
}

int mount_proc(void)
{
    return mount_at(
        "proc", "proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

int mount_dev(void)
{
    return mount_at(
        "devtmpfs", "devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755");
}

bool mount_root_is_initrd(void)
{
    struct statfs fs;

    if (statfs("/", &fs) != 0)
        return false;
    return (uint32_t)fs.f_type == SYS_TMPFS_MAGIC ||
           (uint32_t)fs.f_type == SYS_RAMFS_MAGIC;
}

/* ---- root ------------------------------------------------------------- */

/* Every type of /proc/filesystems that needs a device. 0 or -errno. */
static int mount_any(const char *device, unsigned long flags, const char *data)
{
    int error = -ENODEV;
    struct lines l;
    char *line;

    (void)lines_init(&l, "/proc/filesystems");
    while ((line = lines_next(&l)) != NULL) {
        if (line[0] != '\t')
            continue;
        if (mount(device, NEW_ROOT, line + 1, flags, data) == 0) {
            error = 0;
            break;
        }
        /* EINVAL: not of this type. Anything else is about the device. */
        if (errno != EINVAL) {
            error = -errno;
            break;
        }
        error = -EINVAL;
    }
    lines_fini(&l);
    return error;
}

static int mount_root_once(const struct options *o)
{
    unsigned long flags = o->writable ? 0 : MS_RDONLY;

    if (o->fstype == NULL)
        return mount_any(o->root, flags, o->rootflags);
    return mount(o->root, NEW_ROOT, o->fstype, flags, o->rootflags) != 0
               ? -errno
               : 0;
}

/* A device that is not there, or not ready, may come. */
static bool may_come(int error)
{
    return error == -ENOENT || error == -ENXIO;
}

static int open_uevents(void)
{
    struct sys_sockaddr_nl address = {.family = SYS_AF_NETLINK, .groups = 1};
    int fd = socket(SYS_AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
        SYS_NETLINK_KOBJECT_UEVENT);
    int r;

    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)(void *)&address, sizeof(address)) != 0) {
        r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Whichever event it is: the next mount tells whether it was the one. */
static void drain(int fd)
{
    char scrap[256];

    while (recv(fd, scrap, sizeof(scrap), MSG_DONTWAIT) >= 0)
        continue;
}

static int mount_root_waiting(const struct options *o)
{
    int64_t deadline = now_ms() + MOUNT_ROOT_WAIT_MS;
    int fd = open_uevents();
    int error;

    if (fd < 0)
        return fd;
    /* First mount after the socket listens, or the event could be missed. */
    while (may_come(error = mount_root_once(o))) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = deadline - now_ms();

        if (left <= 0 || poll(&p, 1, (int)left) < 0)
            break;
        drain(fd);
    }
    close(fd);
    return error;
}

static int mount_overlay(void)
{
    int error = mount_at("tmpfs", "tmpfs", WRITES, 0, "mode=0755");

    if (error == 0 && (mkdir(UPPER, 0755) != 0 || mkdir(WORK, 0755) != 0))
        error = -errno;
    if (error == 0)
        error = mount_at("overlay", "overlay", MERGED, 0, OVER_FLAGS);
    return error;
}

/*
 * Where the new root lacks the directory and none can be made, the old mount
 * is left behind.
 */
static void take_along(const char *from, const char *to)
{
    if (mount(from, to, NULL, MS_MOVE, NULL) != 0 && errno == ENOENT &&
        mkdir(to, 0755) == 0)
        (void)mount(from, to, NULL, MS_MOVE, NULL);
}

static int enter(const char *root, const char *dev, const char *proc)
{
    take_along("/dev", dev);
    take_along("/proc", proc);
    if (chdir(root) != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 ||
        chroot(".") != 0)
        return -errno;
    return 0;
}

int mount_switch_root(const struct options *o, const char **ret_step)
{
    int error;

    *ret_step = "cannot mount devtmpfs";
    error = mount_dev();
    if (error != 0)
        return error;
    *ret_step = "cannot mount the root";
    error = mount_root_once(o);
    if (may_come(error))
        error = mount_root_waiting(o);
    if (error != 0)
        return error;
    if (o->overlay) {
        *ret_step = "cannot mount an overlay over the root";
        error = mount_overlay();
        if (error != 0)
            return error;
    }
    *ret_step = "cannot make the mounted file system the root";
    return o->overlay ? enter(MERGED, MERGED "/dev", MERGED "/proc")
                      : enter(NEW_ROOT, NEW_ROOT "/dev", NEW_ROOT "/proc");
}

void mount_rest(bool root_is_writable)
{
    const unsigned long safe = MS_NOSUID | MS_NODEV;

    (void)mount_at("sysfs", "sysfs", "/sys", safe | MS_NOEXEC, NULL);
    /* A fresh devtmpfs has neither. */
    (void)mkdir("/dev/pts", 0755);
    (void)mkdir("/dev/shm", 01777);
    (void)mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
        "mode=0620,gid=5,ptmxmode=0666");
    (void)mount("tmpfs", "/dev/shm", "tmpfs", safe, "mode=1777");
    (void)mount_at("tmpfs", "tmpfs", "/run", safe, "mode=0755");
    if (!root_is_writable)
        (void)mount("tmpfs", "/tmp", "tmpfs", safe, "mode=1777");
}

void mount_resolver(void)
{
    (void)mount("/proc/net/pnp", "/etc/resolv.conf", NULL, MS_BIND, NULL);
}
