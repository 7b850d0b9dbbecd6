/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/guest_copy.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/guest_stream.h"

/* Folders below the top. */
#define DEPTH_MAX 64u

/*
 * A folder that is being walked, and the length of its name in `path`; 0 for
 * ".", which is not in the names of what it contains.
 */
struct level {
    DIR *names;
    size_t path_len;
    struct stat st;
};

struct copy_in {
    struct guest_stream *stream;
    const struct guest_copy_options *options;
    char path[AGENT_PATH_MAX + 1]; /* as the guest is told */
    struct level levels[DEPTH_MAX + 1];
    size_t depth;
    uint64_t skipped;
    uint64_t entries;
    uint8_t data[AGENT_DATA_MAX];
};

static struct agent_entry entry_of(uint8_t type, const struct stat *st)
{
    return (struct agent_entry){.type = type,
        .mode = agent_le32_put(st->st_mode & 07777),
        .uid = agent_le32_put(st->st_uid),
        .gid = agent_le32_put(st->st_gid),
        .size = agent_le64_put((uint64_t)st->st_size),
        .mtime_s = agent_le64_put((uint64_t)st->st_mtim.tv_sec),
        .mtime_ns = agent_le32_put((uint32_t)st->st_mtim.tv_nsec)};
}

static int send_entry(struct copy_in *c, struct agent_entry entry,
    const char *strings, size_t len, struct err *err)
{
    /* Set-id bits are for who asked for all there is. */
    if (!c->options->archive)
        entry.mode = agent_le32_put(agent_le32_get(entry.mode) & 0777);
    return guest_stream_send(
        c->stream, AGENT_ENTRY, &entry, sizeof(entry), strings, len, err);
}

static int send_data(
    struct copy_in *c, uint64_t offset, size_t len, struct err *err)
{
    struct agent_data data = {.offset = agent_le64_put(offset)};

    return guest_stream_send(
        c->stream, AGENT_DATA, &data, sizeof(data), c->data, len, err);
}

static int send_file_end(
    struct copy_in *c, uint64_t size, int error, struct err *err)
{
    struct agent_file_end end = {
        .size = agent_le64_put(size), .error = agent_le32_put((uint32_t)error)};

    return guest_stream_send(
        c->stream, AGENT_FILE_END, &end, sizeof(end), NULL, 0, err);
}

/* Where data begins from `offset` on; the size if there is only a hole. */
static uint64_t next_data(int fd, uint64_t offset, uint64_t size)
{
    off_t at = lseek(fd, (off_t)offset, SEEK_DATA);

    if (at < 0)
        return errno == ENXIO ? num_max(size, offset) : offset;
    return (uint64_t)at;
}

/* Content and end of a file; as it is found, should it change meanwhile. */
static int send_content(
    struct copy_in *c, int fd, const struct stat *st, struct err *err)
{
    uint64_t size = (uint64_t)st->st_size;
    uint64_t offset = 0;
    int rc = 0;

    while (rc == 0) {
        ssize_t n;

        offset = next_data(fd, offset, size);
        n = pread(fd, c->data, sizeof(c->data), (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = -errno;
            /* The guest takes away what it has of the file. */
            (void)send_file_end(c, offset, -rc, NULL);
            return err_sys(err, rc, "%s", c->path);
        }
        if (n == 0)
            break;
        rc = send_data(c, offset, (size_t)n, err);
        offset += (uint64_t)n;
    }
    return rc < 0 ? rc : send_file_end(c, offset, 0, err);
}

static int send_file(
    struct copy_in *c, int fd, const struct stat *st, struct err *err)
{
    int rc = send_entry(
        c, entry_of(AGENT_ENTRY_FILE, st), c->path, strlen(c->path) + 1, err);

    return rc < 0 ? rc : send_content(c, fd, st, err);
}

static int send_link(struct copy_in *c, int dir, const char *name,
    const struct stat *st, struct err *err)
{
    char strings[2 * (AGENT_PATH_MAX + 1)];
    size_t len = strlen(c->path) + 1;
    ssize_t n;

    memcpy(strings, c->path, len);
    n = readlinkat(dir, name, strings + len, AGENT_PATH_MAX);
    if (n < 0)
        return err_sys(err, errno, "%s", c->path);
    strings[len + (size_t)n] = '\0';
    return send_entry(c, entry_of(AGENT_ENTRY_SYMLINK, st), strings,
        len + (size_t)n + 1, err);
}

/* Takes over `fd`; what is in it comes next. */
static int enter(
    struct copy_in *c, int fd, const struct stat *st, struct err *err)
{
    int rc = send_entry(
        c, entry_of(AGENT_ENTRY_DIR, st), c->path, strlen(c->path) + 1, err);

    if (rc == 0 && c->depth == ARRAY_SIZE(c->levels))
        rc = err_set(err, ELOOP, "%s: folders are nested too deeply", c->path);
    if (rc == 0) {
        c->levels[c->depth].names = fdopendir(fd);
        if (c->levels[c->depth].names == NULL)
            rc = err_sys(err, errno, "%s", c->path);
    }
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    c->levels[c->depth].path_len =
        strcmp(c->path, ".") == 0 ? 0 : strlen(c->path);
    c->levels[c->depth].st = *st;
    c->depth++;
    return 0;
}

/* The folder once more, so that its mode and time are right in the end. */
static int leave(struct copy_in *c, struct err *err)
{
    struct level *level = &c->levels[c->depth - 1];
    struct agent_entry entry = entry_of(AGENT_ENTRY_DIR, &level->st);

    c->path[level->path_len] = '\0';
    if (level->path_len == 0)
        (void)strcpy(c->path, ".");
    entry.closing = 1;
    (void)closedir(level->names);
    c->depth--;
    return send_entry(c, entry, c->path, strlen(c->path) + 1, err);
}

/* Sends `name` of `dir` under the name in `path`. */
static int send_one(
    struct copy_in *c, int dir, const char *name, bool follow, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    struct stat st;

    if (fstatat(dir, name, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(err, errno, "%s", name);
    if (S_ISLNK(st.st_mode)) {
        c->entries++;
        return send_link(c, dir, name, &st, err);
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        c->skipped++;
        return 0;
    }
    /* It may be something else by now: a pipe must not hold us up. */
    fd = openat(dir, name,
        O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
            (follow ? 0 : O_NOFOLLOW));
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "%s", name);
    c->entries++;
    if (S_ISDIR(st.st_mode))
        return enter(c, fd_steal(&fd), &st, err);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EAGAIN, "%s: it changes while it is read", name);
    return send_file(c, fd, &st, err);
}

/* The next name in the innermost folder; NULL at its end, or *ret_rc. */
static const char *next_name(struct copy_in *c, int *ret_rc, struct err *err)
{
    struct level *level = &c->levels[c->depth - 1];
    const struct dirent *entry;

    do {
        errno = 0;
        entry = readdir(level->names);
    } while (entry != NULL && (strcmp(entry->d_name, ".") == 0 ||
                                  strcmp(entry->d_name, "..") == 0));
    if (entry == NULL && errno != 0)
        *ret_rc = err_sys(err, errno, "%s", c->path);
    return entry == NULL ? NULL : entry->d_name;
}

/* Everything below the top, which is the only level at first. */
static int walk(struct copy_in *c, struct err *err)
{
    int rc = 0;

    while (rc == 0 && c->depth > 0) {
        const struct level *level = &c->levels[c->depth - 1];
        const char *name = next_name(c, &rc, err);
        size_t len = level->path_len;
        int n;

        if (rc < 0)
            break;
        if (name == NULL) {
            rc = leave(c, err);
            continue;
        }
        n = snprintf(c->path + len, sizeof(c->path) - len, "%s%s",
            len == 0 ? "" : "/", name);
        if (n < 0 || (size_t)n >= sizeof(c->path) - len)
            rc = err_set(err, ENAMETOOLONG, "%s: its path is too long", name);
        else
            rc = send_one(c, dirfd(level->names), name, false, err);
    }
    while (c->depth > 0)
        (void)closedir(c->levels[--c->depth].names);
    return rc;
}

static int send_request(
    struct copy_in *c, const char *dst, bool make, struct err *err)
{
    struct agent_copy request = {
        .flags = agent_le32_put(
            (c->options->archive ? AGENT_COPY_OWNER | AGENT_COPY_TIMES : 0) |
            (make ? AGENT_COPY_MKDIR : 0))};
    size_t len = strlen(dst);

    if (dst[0] != '/' || len > AGENT_PATH_MAX)
        return err_set(err, EINVAL,
            "%.64s: a path in a guest begins with a slash and has at most %u "
            "bytes",
            dst, AGENT_PATH_MAX);
    return guest_stream_send(
        c->stream, AGENT_COPY_IN, &request, sizeof(request), dst, len + 1, err);
}

/* The guest's word on what it has made. */
static int take_result(
    struct copy_in *c, struct guest_copy_result *ret_result, struct err *err)
{
    struct guest_frame frame;
    struct agent_ok ok;
    int rc = guest_stream_recv(c->stream, &frame, err);

    if (rc < 0)
        return rc;
    bytes_get(&frame.payload, &ok, sizeof(ok));
    if (frame.type != AGENT_OK || frame.payload.failed ||
        bytes_left(&frame.payload) > 0)
        return err_set(err, EPROTO, "the agent sent an unexpected frame");
    *ret_result =
        (struct guest_copy_result){.entries = agent_le64_get(ok.entries),
            .bytes = agent_le64_get(ok.bytes),
            .skipped = c->skipped};
    return 0;
}

static int send_tree(struct copy_in *c, int src_dir, const char *src,
    const char *dst, const char *name, struct err *err)
{
    struct agent_copy_end end;
    int rc = send_request(c, dst, strcmp(name, ".") == 0, err);

    (void)snprintf(c->path, sizeof(c->path), "%s", name);
    if (rc == 0)
        rc = send_one(c, src_dir, src, true, err);
    if (rc == 0)
        rc = walk(c, err);
    end = (struct agent_copy_end){.entries = agent_le64_put(c->entries),
        .skipped = agent_le64_put(c->skipped)};
    if (rc == 0)
        rc = guest_stream_send(
            c->stream, AGENT_COPY_END, &end, sizeof(end), NULL, 0, err);
    return rc;
}

int guest_copy_in(int fd, int src_dir, const char *src, const char *dst,
    const char *name, const struct guest_copy_options *options,
    struct guest_copy_result *ret_result, struct err *err)
{
    struct copy_in *c = calloc(1, sizeof(*c));
    int rc;

    if (c == NULL)
        return err_sys(err, ENOMEM, "copy");
    c->options = options;
    c->stream = guest_stream_new(fd, err);
    if (c->stream == NULL) {
        free(c);
        return -ENOMEM;
    }
    rc = send_tree(c, src_dir, src, dst, name, err);
    if (rc == 0)
        rc = take_result(c, ret_result, err);
    else
        rc = guest_stream_explain(c->stream, rc, err);
    free(c->stream);
    free(c);
    return rc;
}
