/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/copy_in.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/agent/sys.h"

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void copy_in_init(struct copy_in *c)
{
    c->flags = 0;
    c->base_fd = -1;
    c->parent_fd = -1;
    c->file_fd = -1;
    c->file_end = 0;
    c->entries = 0;
    c->bytes = 0;
    c->parent_len = 0;
    c->name[0] = '\0';
}

/* Every directory of path that is missing; path comes back as it was. */
static int make_path(char *path)
{
    for (char *at = path + 1;; at++) {
        char kept = *at;
        int r;

        if (kept != '/' && kept != '\0')
            continue;
        *at = '\0';
        r = mkdir(path, 0755);
        *at = kept;
        /* EROFS and EACCES come before EEXIST: the open has the last word. */
        if (r != 0 && errno == ENOSPC)
            return -errno;
        if (kept == '\0')
            return 0;
    }
}

int copy_in_start(struct copy_in *c, const struct request_copy *request)
{
    const int how = O_PATH | O_DIRECTORY | O_CLOEXEC;

    copy_in_init(c);
    c->flags = request->flags;
    c->base_fd = openat(AT_FDCWD, request->path, how);
    if (c->base_fd < 0 && errno == ENOENT &&
        (request->flags & AGENT_COPY_MKDIR) != 0) {
        int r;

        memcpy(c->name, request->path, strlen(request->path) + 1);
        r = make_path(c->name);
        c->name[0] = '\0';
        if (r != 0)
            return r;
        c->base_fd = openat(AT_FDCWD, request->path, how);
    }
    return c->base_fd < 0 ? -errno : 0;
}

/* A directory below base, which no link can lead out of. fd or -errno. */
static int open_beneath(int base_fd, const char *path)
{
    struct sys_open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = SYS_RESOLVE_BENEATH | SYS_RESOLVE_NO_SYMLINKS |
                   SYS_RESOLVE_NO_MAGICLINKS,
    };
    long fd = syscall(SYS_NR_OPENAT2, base_fd, path, &how, sizeof(how));

    return fd < 0 ? -errno : (int)fd;
}

/*
 * Takes over the entry's name and opens its directory, unless that is the
 * directory of the last entry: a tree comes directory by directory.
 */
static int enter_parent(struct copy_in *c, const char *name)
{
    const char *slash = strrchr(name, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - name);
    bool same = len == c->parent_len && memcmp(name, c->name, len) == 0;

    memcpy(c->name, name, strlen(name) + 1);
    if (same && (len == 0 || c->parent_fd >= 0))
        return 0;
    close_fd(&c->parent_fd);
    c->parent_len = len;
    if (len == 0)
        return 0;
    c->name[len] = '\0';
    c->parent_fd = open_beneath(c->base_fd, c->name);
    c->name[len] = '/';
    return c->parent_fd < 0 ? c->parent_fd : 0;
}

static int parent_of(const struct copy_in *c)
{
    return c->parent_fd >= 0 ? c->parent_fd : c->base_fd;
}

static const char *leaf_of(const struct copy_in *c)
{
    return c->parent_len == 0 ? c->name : c->name + c->parent_len + 1;
}

static void entry_times(
    const struct request_entry *entry, struct timespec times[2])
{
    times[0].tv_sec = 0;
    times[0].tv_nsec = UTIME_OMIT;
    times[1].tv_sec = entry->mtime_s;
    times[1].tv_nsec = (long)entry->mtime_ns;
}

/* Owner first: changing it takes the set-user-id bits off the mode. */
static int apply_meta(
    const struct copy_in *c, int fd, const struct request_entry *entry)
{
    struct timespec times[2];

    if ((c->flags & AGENT_COPY_OWNER) != 0 &&
        fchown(fd, entry->uid, entry->gid) != 0)
        return -errno;
    if (fchmod(fd, entry->mode) != 0)
        return -errno;
    entry_times(entry, times);
    if ((c->flags & AGENT_COPY_TIMES) != 0 && futimens(fd, times) != 0)
        return -errno;
    return 0;
}

static int make_dir(struct copy_in *c, const struct request_entry *entry)
{
    const char *leaf = leaf_of(c);
    int fd;
    int r;

    if (!entry->closing && strcmp(leaf, ".") != 0 &&
        mkdirat(parent_of(c), leaf, 0700) != 0 && errno != EEXIST)
        return -errno;
    fd = openat(
        parent_of(c), leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = apply_meta(c, fd, entry);
    close(fd);
    return r;
}

static int make_symlink(struct copy_in *c, const struct request_entry *entry)
{
    const char *leaf = leaf_of(c);
    int parent = parent_of(c);
    struct timespec times[2];
    int r = symlinkat(entry->target, parent, leaf);

    if (r != 0 && errno == EEXIST && unlinkat(parent, leaf, 0) == 0)
        r = symlinkat(entry->target, parent, leaf);
    if (r != 0)
        return -errno;
    if ((c->flags & AGENT_COPY_OWNER) != 0 &&
        fchownat(parent, leaf, entry->uid, entry->gid, AT_SYMLINK_NOFOLLOW) !=
            0)
        return -errno;
    entry_times(entry, times);
    if ((c->flags & AGENT_COPY_TIMES) != 0 &&
        utimensat(parent, leaf, times, AT_SYMLINK_NOFOLLOW) != 0)
        return -errno;
    return 0;
}

static int make_file(struct copy_in *c, const struct request_entry *entry)
{
    const int how = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    const char *leaf = leaf_of(c);
    int parent = parent_of(c);
    int fd = openat(parent, leaf, how, 0600);

    if (fd < 0 && errno == EEXIST && unlinkat(parent, leaf, 0) == 0)
        fd = openat(parent, leaf, how, 0600);
    if (fd < 0)
        return -errno;
    c->file_fd = fd;
    c->file_end = 0;
    c->meta = *entry;
    c->meta.name = NULL;
    c->meta.target = NULL;
    return 0;
}

int copy_in_entry(struct copy_in *c, const struct request_entry *entry)
{
    int r;

    if (c->file_fd >= 0)
        return -EPROTO;
    if (entry->type != AGENT_ENTRY_DIR && strcmp(entry->name, ".") == 0)
        return -EISDIR;
    r = enter_parent(c, entry->name);
    if (r != 0)
        return r;
    switch (entry->type) {
    case AGENT_ENTRY_DIR:
        r = make_dir(c, entry);
        break;
    case AGENT_ENTRY_SYMLINK:
        r = make_symlink(c, entry);
        break;
    case AGENT_ENTRY_FILE:
        r = make_file(c, entry);
        break;
    default:
        return -EPROTO;
    }
    if (r == 0 && !entry->closing)
        c->entries++;
    return r;
}

int copy_in_data(struct copy_in *c, const struct request_data *data)
{
    size_t done = 0;

    if (c->file_fd < 0 || data->offset < c->file_end)
        return -EPROTO;
    while (done < data->length) {
        ssize_t n = pwrite(c->file_fd, data->bytes + done, data->length - done,
            (off_t)(data->offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (size_t)n;
    }
    c->file_end = data->offset + data->length;
    c->bytes += data->length;
    return 0;
}

int copy_in_file_end(struct copy_in *c, const struct request_file_end *end)
{
    int r = 0;

    if (c->file_fd < 0 || end->size < c->file_end)
        return -EPROTO;
    if (end->error != 0) {
        /* Half a file under its real name would be taken for a whole one. */
        (void)unlinkat(parent_of(c), leaf_of(c), 0);
        r = -end->error;
    } else if (end->size > c->file_end &&
               ftruncate(c->file_fd, (off_t)end->size) != 0) {
        r = -errno;
    } else {
        r = apply_meta(c, c->file_fd, &c->meta);
    }
    close_fd(&c->file_fd);
    return r;
}

int copy_in_end(const struct copy_in *c)
{
    return c->file_fd >= 0 ? -EPROTO : 0;
}

void copy_in_fini(struct copy_in *c)
{
    close_fd(&c->file_fd);
    close_fd(&c->parent_fd);
    close_fd(&c->base_fd);
}
