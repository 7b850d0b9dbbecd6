/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/copy_out.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/agent/sys.h"

/* An entry with the longest name and target, and its header. */
#define ENTRY_ROOM                                                             \
    (sizeof(struct agent_entry) + 2 * ((size_t)AGENT_PATH_MAX + 1))

/* Less than this is not worth a read. */
#define DATA_ROOM 4096u

#define OPEN_DIR (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
/* O_NONBLOCK: it may have become a pipe. */
#define OPEN_FILE (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

void copy_out_init(struct copy_out *c)
{
    c->done = false;
    c->file_fd = -1;
    c->file_is_sparse = false;
    c->file_at = 0;
    c->file_size = 0;
    c->entries = 0;
    c->skipped = 0;
    c->depth = 0;
    c->path_len = 0;
    c->path[0] = '\0';
    c->dents_at = 0;
    c->dents_end = 0;
}

static void put_entry(struct copy_out *c, struct frame_out *out,
    enum agent_entry_type type, const struct stat *st, bool closing,
    const char *target)
{
    struct agent_entry entry = {
        .type = (uint8_t)type,
        .closing = closing ? 1 : 0,
        .mode = agent_le32_put((uint32_t)st->st_mode & 07777u),
        .uid = agent_le32_put(st->st_uid),
        .gid = agent_le32_put(st->st_gid),
        .size = agent_le64_put((uint64_t)st->st_size),
        .mtime_s = agent_le64_put((uint64_t)st->st_mtim.tv_sec),
        .mtime_ns = agent_le32_put((uint32_t)st->st_mtim.tv_nsec),
    };
    const char *name = c->path_len == 0 ? "." : c->path;
    size_t name_len = strlen(name) + 1;
    uint8_t *to = frame_out_space(out);
    size_t n = sizeof(entry);

    memcpy(to, &entry, n);
    memcpy(to + n, name, name_len);
    n += name_len;
    if (target != NULL) {
        memcpy(to + n, target, strlen(target) + 1);
        n += strlen(target) + 1;
    }
    frame_out_commit(out, AGENT_ENTRY, n);
    if (!closing)
        c->entries++;
}

static int begin_file(
    struct copy_out *c, struct frame_out *out, int fd, const struct stat *st)
{
    c->file_fd = fd;
    c->file_at = 0;
    c->file_size = (uint64_t)st->st_size;
    c->file_is_sparse = st->st_blocks < st->st_size / 512;
    put_entry(c, out, AGENT_ENTRY_FILE, st, false, NULL);
    return 0;
}

/* Keeps fd, also when it fails. */
static int begin_dir(
    struct copy_out *c, struct frame_out *out, int fd, const struct stat *st)
{
    struct copy_out_level *level;

    if (c->depth > AGENT_DEPTH_MAX) {
        close(fd);
        return -ENAMETOOLONG;
    }
    level = &c->level[c->depth++];
    level->fd = fd;
    level->next = 0;
    level->path_len = c->path_len;
    /* What is left of the outer directory's names is read again later. */
    c->dents_at = 0;
    c->dents_end = 0;
    put_entry(c, out, AGENT_ENTRY_DIR, st, false, NULL);
    return 0;
}

static int put_symlink(struct copy_out *c, struct frame_out *out, int dir_fd,
    const char *leaf, const struct stat *st)
{
    char target[AGENT_PATH_MAX + 1];
    ssize_t n = readlinkat(dir_fd, leaf, target, sizeof(target));

    if (n < 0)
        return -errno;
    if (n == 0 || (size_t)n >= sizeof(target))
        return -ENAMETOOLONG;
    target[n] = '\0';
    put_entry(c, out, AGENT_ENTRY_SYMLINK, st, false, target);
    return 0;
}

/*
 * One name of dir_fd, of the given file type. 0 also for what is skipped,
 * else -errno.
 */
static int begin_entry(struct copy_out *c, struct frame_out *out, int dir_fd,
    const char *leaf, mode_t type, int nofollow)
{
    struct stat st;
    int fd;

    if (S_ISLNK(type)) {
        if (fstatat(dir_fd, leaf, &st, AT_SYMLINK_NOFOLLOW) != 0)
            return -errno;
        return S_ISLNK(st.st_mode) ? put_symlink(c, out, dir_fd, leaf, &st)
                                   : -ENOENT;
    }
    if (!S_ISREG(type) && !S_ISDIR(type)) {
        c->skipped++;
        return 0;
    }
    fd = openat(
        dir_fd, leaf, (S_ISDIR(type) ? OPEN_DIR : OPEN_FILE) & ~nofollow);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) != 0) {
        int r = -errno;

        close(fd);
        return r;
    }
    if (S_ISDIR(st.st_mode))
        return begin_dir(c, out, fd, &st);
    if (S_ISREG(st.st_mode))
        return begin_file(c, out, fd, &st);
    close(fd);
    c->skipped++;
    return 0;
}

int copy_out_start(struct copy_out *c, const struct request_copy *request,
    struct frame_out *out)
{
    bool follow = (request->flags & AGENT_COPY_FOLLOW) != 0;
    struct stat st;
    int r;

    copy_out_init(c);
    if (frame_out_room(out) < ENTRY_ROOM)
        return -ENOBUFS;
    if (fstatat(AT_FDCWD, request->path, &st,
            follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0)
        return -errno;
    r = begin_entry(c, out, AT_FDCWD, request->path, st.st_mode & S_IFMT,
        follow ? O_NOFOLLOW : 0);
    /* The top is what was asked for: it must not pass silently. */
    if (r == 0 && c->skipped > 0)
        r = -EOPNOTSUPP;
    return r;
}

/* ---- file content ----------------------------------------------------- */

static void end_file(
    struct copy_out *c, struct frame_out *out, uint64_t size, int error)
{
    struct agent_file_end end = {
        .size = agent_le64_put(size),
        .error = agent_le32_put((uint32_t)error),
    };

    (void)frame_out_put(out, AGENT_FILE_END, &end, sizeof(end), NULL, 0);
    close(c->file_fd);
    c->file_fd = -1;
}

/* Moves file_at over a hole; false if there are only holes up to the end. */
static bool skip_hole(struct copy_out *c)
{
    off_t at = lseek(c->file_fd, (off_t)c->file_at, SEEK_DATA);

    if (at < 0)
        return errno != ENXIO;
    c->file_at = (uint64_t)at;
    return true;
}

static void step_file(struct copy_out *c, struct frame_out *out)
{
    struct agent_data head;
    uint8_t *to = frame_out_space(out);
    size_t room = frame_out_room(out) - sizeof(head);
    ssize_t n;

    if (c->file_is_sparse && !skip_hole(c)) {
        end_file(
            c, out, c->file_at > c->file_size ? c->file_at : c->file_size, 0);
        return;
    }
    do {
        n = pread(c->file_fd, to + sizeof(head), room, (off_t)c->file_at);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        end_file(c, out, c->file_at, n < 0 ? errno : 0);
        return;
    }
    head.offset = agent_le64_put(c->file_at);
    memcpy(to, &head, sizeof(head));
    frame_out_commit(out, AGENT_DATA, sizeof(head) + (size_t)n);
    c->file_at += (uint64_t)n;
}

/* ---- directories ------------------------------------------------------ */

static int end_dir(struct copy_out *c, struct frame_out *out)
{
    struct copy_out_level *level = &c->level[c->depth - 1];
    struct stat st;
    int r = 0;

    c->path_len = level->path_len;
    c->path[c->path_len] = '\0';
    if (fstat(level->fd, &st) != 0)
        r = -errno;
    else
        put_entry(c, out, AGENT_ENTRY_DIR, &st, true, NULL);
    close(level->fd);
    c->depth--;
    c->dents_at = 0;
    c->dents_end = 0;
    return r;
}

/* Fills dents from where the innermost level stands. Bytes, 0, or -errno. */
static int read_names(struct copy_out *c)
{
    struct copy_out_level *level = &c->level[c->depth - 1];
    long n;

    if (lseek(level->fd, level->next, SEEK_SET) < 0)
        return -errno;
    n = syscall(SYS_getdents64, level->fd, c->dents, sizeof(c->dents));
    if (n < 0)
        return -errno;
    c->dents_at = 0;
    c->dents_end = (size_t)n;
    return (int)n;
}

static int set_leaf(struct copy_out *c, size_t dir_len, const char *leaf)
{
    size_t n = strlen(leaf);
    size_t at = dir_len;

    if (dir_len + 1 + n > AGENT_PATH_MAX)
        return -ENAMETOOLONG;
    if (at > 0)
        c->path[at++] = '/';
    memcpy(c->path + at, leaf, n + 1);
    c->path_len = at + n;
    return 0;
}

/* Vanished, or became something else since its name was read. */
static bool has_changed(int error)
{
    return error == -ENOENT || error == -ELOOP || error == -ENOTDIR ||
           error == -ENXIO;
}

/* The next name of the innermost directory, or its end. */
static int step_dir(struct copy_out *c, struct frame_out *out)
{
    struct copy_out_level *level = &c->level[c->depth - 1];
    struct sys_dirent head;
    const char *leaf;
    struct stat st;
    mode_t type;
    int r;

    if (c->dents_at == c->dents_end) {
        r = read_names(c);
        if (r <= 0)
            return r < 0 ? r : end_dir(c, out);
    }
    memcpy(&head, c->dents + c->dents_at, SYS_DIRENT_NAME);
    leaf = (const char *)c->dents + c->dents_at + SYS_DIRENT_NAME;
    c->dents_at += head.reclen;
    level->next = head.off;
    if (strcmp(leaf, ".") == 0 || strcmp(leaf, "..") == 0)
        return 0;
    r = set_leaf(c, level->path_len, leaf);
    if (r != 0)
        return r;
    type = (mode_t)DTTOIF(head.type);
    if (head.type == DT_UNKNOWN) {
        if (fstatat(level->fd, leaf, &st, AT_SYMLINK_NOFOLLOW) != 0)
            return errno == ENOENT ? 0 : -errno;
        type = st.st_mode & S_IFMT;
    }
    /*
     * From the path, not from dents: entering a directory empties those. Its
     * last component is the same name.
     */
    leaf = c->path + (level->path_len > 0 ? level->path_len + 1 : 0);
    r = begin_entry(c, out, level->fd, leaf, type, 0);
    return has_changed(r) ? 0 : r;
}

static void put_end(struct copy_out *c, struct frame_out *out)
{
    struct agent_copy_end end = {
        .entries = agent_le64_put(c->entries),
        .skipped = agent_le64_put(c->skipped),
    };

    (void)frame_out_put(out, AGENT_COPY_END, &end, sizeof(end), NULL, 0);
    c->done = true;
}

int copy_out_pump(struct copy_out *c, struct frame_out *out)
{
    while (!c->done) {
        size_t room = frame_out_room(out);
        int r = 0;

        if (room < (c->file_fd >= 0 ? DATA_ROOM : ENTRY_ROOM))
            return 0;
        if (c->file_fd >= 0)
            step_file(c, out);
        else if (c->depth > 0)
            r = step_dir(c, out);
        else
            put_end(c, out);
        if (r != 0)
            return r;
    }
    return 0;
}

void copy_out_fini(struct copy_out *c)
{
    if (c->file_fd >= 0)
        close(c->file_fd);
    c->file_fd = -1;
    while (c->depth > 0)
        close(c->level[--c->depth].fd);
}
