/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/guest_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/guest_stream.h"

#define PERMISSIONS 0777u
#define SET_ID      07000u

/* Below anything that a file system takes; above, offsets turn negative. */
#define FILE_SIZE_MAX (UINT64_C(1) << 60)

struct copy_out {
    struct guest_stream *stream;
    const struct guest_copy_options *options;
    int dst_dir;      /* borrowed */
    const char *name; /* of the top, in dst_dir */
    int root;         /* the top if it is a folder; -1 */
    bool begun;       /* the top has come */
    int file;         /* being received; -1 */
    int file_parent;  /* the folder that it is in; -1 */
    char file_name[AGENT_NAME_MAX + 1];
    struct agent_entry file_entry;
    uint64_t file_end; /* of its last DATA */
    uint64_t made;     /* entries, those sent again included */
    struct guest_copy_result result;
};

static int malformed(struct err *err, const char *what)
{
    return err_set(err, EPROTO, "the agent sent a malformed %s", what);
}

/* "." or components joined by single slashes, none of them "." or "..". */
static bool is_name(const char *name)
{
    const char *at = name;

    if (strcmp(name, ".") == 0)
        return true;
    for (;;) {
        size_t len = strcspn(at, "/");

        if (len == 0 || len > AGENT_NAME_MAX || (len == 1 && at[0] == '.') ||
            (len == 2 && at[0] == '.' && at[1] == '.'))
            return false;
        if (at[len] == '\0')
            return true;
        at += len + 1;
    }
}

/* A folder below the top, no link on the way; descriptor or -errno. */
static int open_below(int root, const char *path, uint64_t flags)
{
    struct open_how how = {.flags = flags | O_CLOEXEC | O_NOFOLLOW,
        .resolve =
            RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    long fd = syscall(SYS_openat2, root, path, &how, sizeof(how));

    return fd < 0 ? -errno : (int)fd;
}

/*
 * The folder that an entry is in, a descriptor that the caller closes, and
 * its name there. -errno.
 */
static int open_parent(
    const struct copy_out *c, const char *name, const char **ret_base)
{
    char parent[AGENT_PATH_MAX + 1];
    const char *slash = strrchr(name, '/');

    if (strcmp(name, ".") == 0) {
        *ret_base = c->name;
        return fcntl(c->dst_dir, F_DUPFD_CLOEXEC, 0);
    }
    if (c->root < 0)
        return -ENOTDIR;
    if (slash == NULL) {
        *ret_base = name;
        return fcntl(c->root, F_DUPFD_CLOEXEC, 0);
    }
    memcpy(parent, name, (size_t)(slash - name));
    parent[slash - name] = '\0';
    *ret_base = slash + 1;
    return open_below(c->root, parent, O_RDONLY | O_DIRECTORY);
}

static mode_t mode_of(const struct copy_out *c, const struct agent_entry *entry)
{
    uint32_t mode = agent_le32_get(entry->mode);

    return mode & (PERMISSIONS | (c->options->archive ? SET_ID : 0));
}

/* Owner first: a change of it clears set-id bits. */
static int set_metadata(
    const struct copy_out *c, int fd, const struct agent_entry *entry)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
        {.tv_sec = (time_t)agent_le64_get(entry->mtime_s),
            .tv_nsec = (long)agent_le32_get(entry->mtime_ns)}};

    if (c->options->archive &&
        fchown(fd, agent_le32_get(entry->uid), agent_le32_get(entry->gid)) < 0)
        return -errno;
    if (fchmod(fd, mode_of(c, entry)) < 0)
        return -errno;
    if (c->options->archive && futimens(fd, times) < 0)
        return -errno;
    return 0;
}

/* What is not a folder is taken away, so that nothing is written through it. */
static int clear_place(int parent, const char *base)
{
    return unlinkat(parent, base, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static int make_dir(struct copy_out *c, int parent, const char *base,
    const struct agent_entry *entry, bool is_top)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    int rc = 0;

    if (mkdirat(parent, base, 0700) < 0 && errno != EEXIST)
        return -errno;
    fd = openat(parent, base, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    /* Until it comes again a folder stays open to us, whatever its mode. */
    if (entry->closing != 0)
        rc = set_metadata(c, fd, entry);
    if (rc == 0 && is_top && c->root < 0)
        c->root = fd_steal(&fd);
    return rc;
}

static int make_link(struct copy_out *c, int parent, const char *base,
    const struct agent_entry *entry, const char *target)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
        {.tv_sec = (time_t)agent_le64_get(entry->mtime_s),
            .tv_nsec = (long)agent_le32_get(entry->mtime_ns)}};
    int rc = clear_place(parent, base);

    if (rc == 0 && symlinkat(target, parent, base) < 0)
        rc = -errno;
    if (rc == 0 && c->options->archive &&
        (fchownat(parent, base, agent_le32_get(entry->uid),
             agent_le32_get(entry->gid), AT_SYMLINK_NOFOLLOW) < 0 ||
            utimensat(parent, base, times, AT_SYMLINK_NOFOLLOW) < 0))
        rc = -errno;
    return rc;
}

static int begin_file(struct copy_out *c, int parent, const char *base,
    const struct agent_entry *entry)
{
    int rc = clear_place(parent, base);
    int fd;

    if (rc < 0)
        return rc;
    fd = openat(parent, base,
        O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    c->file_parent = fcntl(parent, F_DUPFD_CLOEXEC, 0);
    if (c->file_parent < 0) {
        rc = -errno;
        (void)close(fd);
        return rc;
    }
    c->file = fd;
    c->file_entry = *entry;
    c->file_end = 0;
    (void)snprintf(c->file_name, sizeof(c->file_name), "%s", base);
    return 0;
}

/* Strings of an entry: each ended by a NUL, the last at the payload's end. */
static const char *take_string(struct bytes_reader *r)
{
    size_t left = bytes_left(r);
    const uint8_t *end = left == 0 ? NULL : memchr(r->data + r->pos, 0, left);

    if (end == NULL)
        return NULL;
    return (const char *)bytes_take(
        r, (uint64_t)(end - (r->data + r->pos)) + 1);
}

static bool entry_is_sane(const struct agent_entry *entry)
{
    return entry->closing <= (entry->type == AGENT_ENTRY_DIR ? 1 : 0) &&
           agent_le32_get(entry->mode) <= 07777 &&
           agent_le32_get(entry->mtime_ns) < 1000000000;
}

static int make_entry(struct copy_out *c, const struct agent_entry *entry,
    const char *name, const char *target, struct err *err)
{
    bool is_top = strcmp(name, ".") == 0;
    const char *base = NULL;
    CC_CLEANUP(fd_closep) int parent = open_parent(c, name, &base);
    int rc = parent;

    if (parent >= 0 && entry->type == AGENT_ENTRY_DIR)
        rc = make_dir(c, parent, base, entry, is_top);
    else if (parent >= 0 && entry->type == AGENT_ENTRY_FILE)
        rc = begin_file(c, parent, base, entry);
    else if (parent >= 0)
        rc = make_link(c, parent, base, entry, target);
    if (rc < 0)
        return err_sys(err, rc, "%s", is_top ? c->name : name);
    return 0;
}

static int do_entry(struct copy_out *c, struct bytes_reader *r, struct err *err)
{
    struct agent_entry entry;
    const char *target = NULL;
    const char *name;

    bytes_get(r, &entry, sizeof(entry));
    name = take_string(r);
    if (entry.type == AGENT_ENTRY_SYMLINK)
        target = take_string(r);
    if (r->failed || bytes_left(r) > 0 || name == NULL ||
        (entry.type == AGENT_ENTRY_SYMLINK && target == NULL) ||
        entry.type < AGENT_ENTRY_FILE || entry.type > AGENT_ENTRY_SYMLINK ||
        !entry_is_sane(&entry) || c->file >= 0)
        return malformed(err, "entry");
    if (strlen(name) > AGENT_PATH_MAX || !is_name(name))
        return err_set(
            err, EPROTO, "the agent sent a name that leads elsewhere");
    /* The top comes first and, but for its end, once. */
    if ((strcmp(name, ".") == 0 && c->begun && entry.closing == 0) ||
        (strcmp(name, ".") != 0 && !c->begun))
        return malformed(err, "tree");
    c->begun = true;
    if (++c->made > 2 * GUEST_COPY_ENTRIES_MAX)
        return err_set(err, E2BIG, "the guest sends too many files");
    if (entry.closing == 0)
        c->result.entries++;
    return make_entry(c, &entry, name, target, err);
}

/* Forgets the file being received, which is not whole. */
static void drop_file(struct copy_out *c)
{
    if (c->file < 0)
        return;
    (void)unlinkat(c->file_parent, c->file_name, 0);
    fd_closep(&c->file);
    fd_closep(&c->file_parent);
}

static int check_size(const struct copy_out *c, uint64_t end, struct err *err)
{
    uint64_t max = num_min(c->options->max_bytes, FILE_SIZE_MAX);

    if (end <= max && c->result.bytes <= max - end)
        return 0;
    return err_set(err, EFBIG,
        "the guest sends more than %llu bytes: see --max-size",
        (unsigned long long)max);
}

static int do_data(struct copy_out *c, struct bytes_reader *r, struct err *err)
{
    struct agent_data data;
    uint64_t offset;
    uint64_t end;
    int rc;

    bytes_get(r, &data, sizeof(data));
    offset = agent_le64_get(data.offset);
    if (r->failed || bytes_left(r) == 0 || c->file < 0 ||
        offset < c->file_end || !num_add(offset, bytes_left(r), &end))
        return malformed(err, "piece of a file");
    rc = check_size(c, end, err);
    if (rc < 0)
        return rc;
    c->file_end = end;
    while (bytes_left(r) > 0) {
        ssize_t n =
            pwrite(c->file, r->data + r->pos, bytes_left(r), (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "%s", c->file_name);
        offset += (uint64_t)n;
        bytes_skip(r, (uint64_t)n);
    }
    return 0;
}

static int do_file_end(
    struct copy_out *c, struct bytes_reader *r, struct err *err)
{
    struct agent_file_end end;
    uint64_t size;
    uint32_t error;
    int rc;

    bytes_get(r, &end, sizeof(end));
    size = agent_le64_get(end.size);
    error = agent_le32_get(end.error);
    if (r->failed || bytes_left(r) > 0 || c->file < 0 ||
        (error == 0 && size < c->file_end))
        return malformed(err, "end of a file");
    if (error != 0)
        return err_sys(err, error > 4095 ? EIO : (int)error,
            "the guest cannot read %s", c->file_name);
    rc = check_size(c, size, err);
    if (rc < 0)
        return rc;
    if (ftruncate(c->file, (off_t)size) < 0)
        rc = -errno;
    if (rc == 0)
        rc = set_metadata(c, c->file, &c->file_entry);
    if (rc < 0)
        return err_sys(err, rc, "%s", c->file_name);
    c->result.bytes += size;
    fd_closep(&c->file);
    fd_closep(&c->file_parent);
    return 0;
}

static int do_copy_end(
    struct copy_out *c, struct bytes_reader *r, struct err *err)
{
    struct agent_copy_end end;

    bytes_get(r, &end, sizeof(end));
    if (r->failed || bytes_left(r) > 0 || c->file >= 0 || !c->begun)
        return malformed(err, "end of a copy");
    c->result.skipped = agent_le64_get(end.skipped);
    return 1;
}

/* One frame; 1 for the last. */
static int do_frame(struct copy_out *c, struct err *err)
{
    struct guest_frame frame;
    int rc = guest_stream_recv(c->stream, &frame, err);

    if (rc < 0)
        return rc;
    switch (frame.type) {
    case AGENT_ENTRY:
        return do_entry(c, &frame.payload, err);
    case AGENT_DATA:
        return do_data(c, &frame.payload, err);
    case AGENT_FILE_END:
        return do_file_end(c, &frame.payload, err);
    case AGENT_COPY_END:
        return do_copy_end(c, &frame.payload, err);
    default:
        return err_set(err, EPROTO, "the agent sent an unexpected frame");
    }
}

static int send_request(
    struct guest_stream *stream, const char *path, struct err *err)
{
    struct agent_copy request = {.flags = agent_le32_put(AGENT_COPY_FOLLOW)};
    size_t len = strlen(path);
    int rc;

    if (path[0] != '/' || len > AGENT_PATH_MAX)
        return err_set(err, EINVAL,
            "%.64s: a path in a guest begins with a slash and has at most %u "
            "bytes",
            path, AGENT_PATH_MAX);
    rc = guest_stream_send(
        stream, AGENT_COPY_OUT, &request, sizeof(request), path, len + 1, err);
    return rc < 0 ? guest_stream_explain(stream, rc, err) : 0;
}

int guest_copy_out(int fd, const char *src, int dst_dir, const char *name,
    const struct guest_copy_options *options,
    struct guest_copy_result *ret_result, struct err *err)
{
    struct copy_out c = {.stream = guest_stream_new(fd, err),
        .options = options,
        .dst_dir = dst_dir,
        .name = name,
        .root = -1,
        .file = -1,
        .file_parent = -1};
    int rc;

    if (c.stream == NULL)
        return -ENOMEM;
    rc = send_request(c.stream, src, err);
    while (rc == 0)
        rc = do_frame(&c, err);
    drop_file(&c);
    fd_closep(&c.root);
    free(c.stream);
    if (rc < 0)
        return rc;
    *ret_result = c.result;
    return 0;
}

int guest_copy_is_dir(
    int fd, const char *path, bool *ret_is_dir, struct err *err)
{
    struct guest_stream *stream = guest_stream_new(fd, err);
    struct guest_frame frame;
    struct agent_entry entry;
    int rc;

    if (stream == NULL)
        return -ENOMEM;
    rc = send_request(stream, path, err);
    if (rc == 0)
        rc = guest_stream_recv(stream, &frame, err);
    if (rc == -ENOENT || rc == -ENOTDIR) {
        *ret_is_dir = false;
        rc = 0;
    } else if (rc == 0) {
        bytes_get(&frame.payload, &entry, sizeof(entry));
        if (frame.type != AGENT_ENTRY || frame.payload.failed)
            rc = malformed(err, "entry");
        else
            *ret_is_dir = entry.type == AGENT_ENTRY_DIR;
    }
    free(stream);
    return rc;
}
