/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/jailer_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define CHUNK        ((size_t)1 << 30)
/* Documentation/admin-guide/devices.txt */
#define MISC_MAJOR    10u
#define TUN_MINOR     200u
#define KVM_MINOR     232u
#define MEM_MAJOR     1u
#define URANDOM_MINOR 9u

static int enter_folder(int at, const char *name)
{
    int fd;

    if (mkdirat(at, name, 0755) < 0 && errno != EEXIST)
        return -errno;
    fd = openat(at, name, FOLDER_FLAGS);
    return fd < 0 ? -errno : fd;
}

int jailer_open_folder(
    int base, const char *path, const char *name, int *ret_fd, struct err *err)
{
    CC_CLEANUP(fd_closep) int at = fcntl(base, F_DUPFD_CLOEXEC, 3);
    const char *p = path + strspn(path, "/");

    if (at < 0)
        return err_sys(err, errno, "Failed to create directory %.256s", name);
    while (*p != '\0') {
        char part[NAME_MAX + 1];
        size_t len = strcspn(p, "/");
        int next;

        if (len >= sizeof(part))
            return err_sys(
                err, ENAMETOOLONG, "Failed to create directory %.256s", name);
        memcpy(part, p, len);
        part[len] = '\0';
        next = enter_folder(at, part);
        if (next < 0)
            return err_sys(
                err, next, "Failed to create directory %.256s", name);
        fd_closep(&at);
        at = next;
        p += len;
        p += strspn(p, "/");
    }
    *ret_fd = fd_steal(&at);
    return 0;
}

/* File systems that can share blocks between files do that here. */
static int copy_all(int from, int to)
{
    char buf[16384];
    ssize_t n;

    do {
        n = copy_file_range(from, NULL, to, NULL, CHUNK, 0);
    } while (n > 0);
    if (n == 0)
        return 0;
    /* It does nothing between some file systems: what is left is read. */
    for (;;) {
        int rc;

        n = fd_read_full(from, buf, sizeof(buf));
        if (n <= 0)
            return (int)n;
        rc = fd_write_full(to, buf, (size_t)n);
        if (rc < 0)
            return rc;
    }
}

int jailer_copy_program(int from, const char *from_name, int folder_fd,
    const char *folder, const char *name, uid_t uid, gid_t gid, struct err *err)
{
    struct stat source;
    struct stat st;
    int rc;
    CC_CLEANUP(fd_closep)
    int to = openat(folder_fd, name,
        O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0700);

    if (to < 0)
        return err_sys(err, errno, "Failed to open %.256s/%.64s", folder, name);
    if (fstat(from, &source) < 0 || fstat(to, &st) < 0)
        return err_sys(err, errno,
            "Cannot get metadata for a file: %.256s/%.64s", folder, name);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "%.256s/%.64s is not a file", folder, name);
    if (st.st_nlink > 1)
        return err_set(
            err, EMLINK, "Detected hard link at: %.256s/%.64s", folder, name);
    rc = ftruncate(to, 0) < 0 ? -errno : copy_all(from, to);
    if (rc < 0)
        return err_sys(err, rc, "Failed to copy %.128s to %.192s/%.64s",
            from_name, folder, name);
    if (fchown(to, uid, gid) < 0)
        return err_sys(err, errno, "Failed to change owner for %.256s/%.64s",
            folder, name);
    if (fchmod(to, source.st_mode & 0777) < 0)
        return err_sys(err, errno,
            "Failed to change permissions on %.256s/%.64s", folder, name);
    return 0;
}

/* One folder for the user alone, open in *ret_fd. */
static int own_folder(int at, const char *name, const char *path, uid_t uid,
    gid_t gid, int *ret_fd, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = enter_folder(at, name);

    if (fd < 0)
        return err_sys(err, fd, "Failed to create directory %s", path);
    if (fchown(fd, uid, gid) < 0)
        return err_sys(err, errno, "Failed to change owner for %s", path);
    if (fchmod(fd, 0700) < 0)
        return err_sys(err, errno, "Failed to change permissions on %s", path);
    *ret_fd = fd_steal(&fd);
    return 0;
}

int jailer_make_folders(int root, uid_t uid, gid_t gid, struct err *err)
{
    CC_CLEANUP(fd_closep) int dev = -1;
    CC_CLEANUP(fd_closep) int net = -1;
    CC_CLEANUP(fd_closep) int run = -1;
    int rc;

    if (fchown(root, uid, gid) < 0)
        return err_sys(err, errno, "Failed to change owner for /");
    if (fchmod(root, 0700) < 0)
        return err_sys(err, errno, "Failed to change permissions on /");
    rc = own_folder(root, "dev", "/dev", uid, gid, &dev, err);
    if (rc == 0)
        rc = own_folder(dev, "net", "/dev/net", uid, gid, &net, err);
    if (rc == 0)
        rc = own_folder(root, "run", "/run", uid, gid, &run, err);
    return rc;
}

static int make_device(int dir, const char *name, const char *path,
    unsigned int major, unsigned int minor, uid_t uid, gid_t gid,
    struct err *err)
{
    if (mknodat(dir, name, S_IFCHR | 0600, makedev(major, minor)) < 0)
        return err_sys(
            err, errno, "Failed to create %s via mknod inside the jail", path);
    if (fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(err, errno, "Failed to change owner for %s", path);
    return 0;
}

int jailer_make_devices(int root, uid_t uid, gid_t gid, int uffd_minor,
    bool *ret_has_random, struct err *err)
{
    CC_CLEANUP(fd_closep) int dev = openat(root, "dev", FOLDER_FLAGS);
    CC_CLEANUP(fd_closep) int net = -1;
    int rc;

    if (dev < 0)
        return err_sys(err, errno, "Failed to open /dev");
    net = openat(dev, "net", FOLDER_FLAGS);
    if (net < 0)
        return err_sys(err, errno, "Failed to open /dev/net");
    rc = make_device(
        net, "tun", "/dev/net/tun", MISC_MAJOR, TUN_MINOR, uid, gid, err);
    if (rc == 0)
        rc = make_device(
            dev, "kvm", "/dev/kvm", MISC_MAJOR, KVM_MINOR, uid, gid, err);
    if (rc == 0 && uffd_minor >= 0)
        rc = make_device(dev, "userfaultfd", "/dev/userfaultfd", MISC_MAJOR,
            (unsigned int)uffd_minor, uid, gid, err);
    if (rc == 0)
        *ret_has_random = make_device(dev, "urandom", "/dev/urandom", MEM_MAJOR,
                              URANDOM_MINOR, uid, gid, NULL) == 0;
    return rc;
}

int jailer_find_misc(const char *text, const char *name)
{
    const char *line = text;

    while (line != NULL && *line != '\0') {
        uint64_t minor = 0;
        const char *p = num_take_digits(line + strspn(line, " "), &minor);
        size_t len = strlen(name);

        if (p != NULL && *p == ' ' && strncmp(p + 1, name, len) == 0 &&
            (p[1 + len] == '\n' || p[1 + len] == '\0') && minor < 1u << 20)
            return (int)minor;
        line = strchr(line, '\n');
        if (line != NULL)
            line++;
    }
    return -ENOENT;
}

int jailer_write_pid(int root, const char *name, pid_t pid, struct err *err)
{
    char text[16];
    int rc;
    CC_CLEANUP(fd_closep)
    int fd = openat(
        root, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

    if (fd < 0)
        return err_sys(err, errno, "Failed to open file /%.128s", name);
    (void)snprintf(text, sizeof(text), "%d", (int)pid);
    rc = fd_write_full(fd, text, strlen(text));
    return rc < 0 ? err_sys(err, rc, "Failed to write to /%.128s", name) : 0;
}
