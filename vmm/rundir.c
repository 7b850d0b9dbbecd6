/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/rundir.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"

#define ID_CHARS "0123456789abcdefghijklmnopqrstuvwxyz"
#define ID_LEN   8u

/* Others may claim and leave the same id meanwhile, but not for ever. */
#define ATTEMPTS 16

bool rundir_id_is_valid(const char *id)
{
    static const char allowed[] = "0123456789_-abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t len = strspn(id, allowed);

    return len >= 1 && len <= RUNDIR_ID_MAX && id[len] == '\0' &&
           strcmp(id, RUNDIR_NET) != 0 && strcmp(id, RUNDIR_ZYGOTES) != 0 &&
           strcmp(id, RUNDIR_SERVERS) != 0;
}

int rundir_make_id(char ret_id[RUNDIR_ID_SIZE], struct err *err)
{
    uint64_t random;

    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        return err_sys(err, errno, "cannot draw a random id");
    for (size_t i = 0; i < ID_LEN; i++) {
        ret_id[i] = ID_CHARS[random % (sizeof(ID_CHARS) - 1)];
        random /= sizeof(ID_CHARS) - 1;
    }
    ret_id[ID_LEN] = '\0';
    return 0;
}

static int base_path(struct rundir *dir, struct err *err)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    int n;

    if (runtime != NULL && runtime[0] == '/')
        n = snprintf(dir->path, sizeof(dir->path), "%s/spore", runtime);
    else if (geteuid() == 0)
        n = snprintf(dir->path, sizeof(dir->path), "/run/spore");
    else
        n = snprintf(
            dir->path, sizeof(dir->path), "/tmp/spore-%u", (unsigned)geteuid());
    if (n < 0 || (size_t)n >= sizeof(dir->path))
        return err_set(err, ENAMETOOLONG, "XDG_RUNTIME_DIR is too long");
    return 0;
}

/* Descriptor of a folder that is ours alone, or -errno. */
static int open_ours(int at, const char *name)
{
    CC_CLEANUP(fd_closep)
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return -EPERM;
    return fd_steal(&fd);
}

static int make_and_open(int at, const char *name)
{
    if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    return open_ours(at, name);
}

static int complain(struct err *err, int rc, const char *path)
{
    if (rc == -EPERM || rc == -ELOOP || rc == -ENOTDIR)
        return err_set(err, EPERM,
            "%s is not a folder of this user alone: remove it, or set "
            "XDG_RUNTIME_DIR",
            path);
    return err_sys(err, rc, "%s", path);
}

static int open_base(struct rundir *ret_dir, bool make, struct err *err)
{
    struct rundir dir;
    int rc = base_path(&dir, err);

    if (rc < 0)
        return rc;
    dir.fd = make ? make_and_open(AT_FDCWD, dir.path)
                  : open_ours(AT_FDCWD, dir.path);
    if (dir.fd < 0)
        return complain(err, dir.fd, dir.path);
    *ret_dir = dir;
    return 0;
}

/* Replaces `dir` by the subfolder that `fd` is; `fd` may be an error. */
static int descend(struct rundir *dir, const char *sub, int fd, struct err *err)
{
    size_t len = strlen(dir->path);
    int n = snprintf(dir->path + len, sizeof(dir->path) - len, "/%s", sub);

    (void)close(dir->fd);
    dir->fd = fd;
    if (fd < 0)
        return complain(err, fd, dir->path);
    if (n < 0 || (size_t)n >= sizeof(dir->path) - len) {
        rundir_close(dir);
        return err_set(err, ENAMETOOLONG, "XDG_RUNTIME_DIR is too long");
    }
    return 0;
}

int rundir_open(struct rundir *ret_dir, const char *sub, struct err *err)
{
    struct rundir dir;
    int rc = open_base(&dir, true, err);

    if (rc == 0 && sub != NULL)
        rc = descend(&dir, sub, make_and_open(dir.fd, sub), err);
    if (rc == 0)
        *ret_dir = dir;
    return rc;
}

void rundir_close(struct rundir *dir)
{
    fd_closep(&dir->fd);
}

/* Whether `fd` is still what `name` leads to. */
static bool is_linked(int base, const char *name, int fd)
{
    struct stat by_name;
    struct stat by_fd;

    return fstatat(base, name, &by_name, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstat(fd, &by_fd) == 0 && by_name.st_dev == by_fd.st_dev &&
           by_name.st_ino == by_fd.st_ino;
}

/* A stream over the names in `fd`, which stays open; or NULL. */
static DIR *list(int fd)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *names = copy < 0 ? NULL : fdopendir(copy);

    if (names == NULL)
        fd_closep(&copy);
    return names;
}

/* The next name that is neither "." nor "..", or NULL. */
static const char *next_name(DIR *names)
{
    const struct dirent *entry;

    do {
        entry = readdir(names);
    } while (entry != NULL && (strcmp(entry->d_name, ".") == 0 ||
                                  strcmp(entry->d_name, "..") == 0));
    return entry == NULL ? NULL : entry->d_name;
}

/* Removes the files in the folder; there are no folders in it. */
static void empty(int fd)
{
    DIR *names = list(fd);
    const char *name;

    if (names == NULL)
        return;
    while ((name = next_name(names)) != NULL)
        (void)unlinkat(fd, name, 0);
    (void)closedir(names);
}

/* The folder of a machine that runs, or -ENOENT, having removed the folder. */
static int find(int base, const char *id)
{
    CC_CLEANUP(fd_closep) int fd = open_ours(base, id);

    if (fd < 0)
        return fd;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? fd_steal(&fd) : -errno;
    if (is_linked(base, id, fd)) {
        empty(fd);
        (void)unlinkat(base, id, AT_REMOVEDIR);
    }
    return -ENOENT;
}

/* A locked folder under a name that is no id. */
static int make_unnamed(int base, char ret_name[RUNDIR_ID_SIZE])
{
    char id[RUNDIR_ID_SIZE];
    CC_CLEANUP(fd_closep) int fd = -1;
    int rc = rundir_make_id(id, NULL);

    if (rc < 0)
        return rc;
    (void)snprintf(ret_name, RUNDIR_ID_SIZE, ".%.32s", id);
    fd = make_and_open(base, ret_name);
    if (fd < 0)
        return fd;
    return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : fd_steal(&fd);
}

/* Gives the folder `unnamed` its id; -EEXIST if a machine has it. */
static int give_name(int base, const char *unnamed, const char *id)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        int other;

        if (renameat2(base, unnamed, base, id, RENAME_NOREPLACE) == 0)
            return 0;
        if (errno != EEXIST)
            return -errno;
        other = find(base, id);
        if (other != -ENOENT) {
            fd_closep(&other);
            return -EEXIST;
        }
    }
    return -EEXIST;
}

/*
 * A folder gets its id only when it is locked, so that nobody sees one that
 * looks left behind and is not. Until then a walk may take it away.
 */
static int claim(int base, const char *id)
{
    int rc = -EAGAIN;

    for (int i = 0; (rc == -EAGAIN || rc == -ENOENT) && i < ATTEMPTS; i++) {
        char unnamed[RUNDIR_ID_SIZE];
        CC_CLEANUP(fd_closep) int fd = make_unnamed(base, unnamed);

        rc = fd < 0 ? fd : give_name(base, unnamed, id);
        if (rc == 0)
            return fd_steal(&fd);
        if (fd >= 0)
            (void)unlinkat(base, unnamed, AT_REMOVEDIR);
    }
    return rc;
}

int rundir_claim(struct rundir *ret_dir, const char *id, struct err *err)
{
    struct rundir dir;
    int rc = open_base(&dir, true, err);
    int fd;

    assert(rundir_id_is_valid(id));
    if (rc < 0)
        return rc;
    fd = claim(dir.fd, id);
    if (fd == -EEXIST) {
        rundir_close(&dir);
        return err_set(
            err, EEXIST, "a machine with the id %s runs already", id);
    }
    rc = descend(&dir, id, fd, err);
    if (rc == 0)
        *ret_dir = dir;
    return rc;
}

void rundir_remove(struct rundir *dir, const char *id)
{
    struct rundir base;

    if (dir->fd < 0)
        return;
    empty(dir->fd);
    if (open_base(&base, false, NULL) == 0) {
        if (is_linked(base.fd, id, dir->fd))
            (void)unlinkat(base.fd, id, AT_REMOVEDIR);
        rundir_close(&base);
    }
    rundir_close(dir);
}

int rundir_find(struct rundir *ret_dir, const char *id, struct err *err)
{
    struct rundir dir;
    int rc;
    int fd;

    if (!rundir_id_is_valid(id))
        return err_set(err, EINVAL,
            "%s is no id of a machine: see spore ps for those that run", id);
    rc = open_base(&dir, false, err);
    fd = rc < 0 ? rc : find(dir.fd, id);
    if (fd == -ENOENT) {
        if (rc == 0)
            rundir_close(&dir);
        return err_set(err, ENOENT,
            "no machine %s runs: see spore ps for those that do", id);
    }
    if (rc < 0)
        return rc;
    rc = descend(&dir, id, fd, err);
    if (rc == 0)
        *ret_dir = dir;
    return rc;
}

int rundir_walk(
    int (*found)(void *opaque, const char *id), void *opaque, struct err *err)
{
    struct rundir base;
    const char *id;
    DIR *names;
    int rc = open_base(&base, false, err);

    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;
    names = list(base.fd);
    if (names == NULL) {
        rc = err_sys(err, errno, "%s", base.path);
        rundir_close(&base);
        return rc;
    }
    while (rc == 0 && (id = next_name(names)) != NULL) {
        int fd = id[0] == '.' || rundir_id_is_valid(id) ? find(base.fd, id)
                                                        : -ENOENT;

        if (fd >= 0 && id[0] != '.')
            rc = found(opaque, id);
        fd_closep(&fd);
    }
    (void)closedir(names);
    rundir_close(&base);
    return rc;
}

struct sockaddr_un rundir_address(const struct rundir *dir, const char *name)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int n = snprintf(addr.sun_path, sizeof(addr.sun_path),
        "/proc/self/fd/%d/%s", dir->fd, name);

    assert(n > 0 && (size_t)n < sizeof(addr.sun_path));
    (void)n;
    return addr;
}
