/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/rootfs_layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define CHUNK 65536u

/* An archive that unpacks, and one that reads tar from what that gives. */
struct rootfs_layer {
    int fd;
    uint64_t offset; /* of what was read */
    const struct interrupt *interrupt;
    uint64_t *budget;
    struct archive *unpacker;
    struct archive *tar;
    struct archive_entry *entry;
    bool is_raw_over; /* the unpacker has no more */
    int why;          /* an errno of ours that libarchive passes on */
    struct digest file;
    struct digest unpacked;
    struct err err; /* of ours */
    struct rootfs_xattr xattrs[ROOTFS_TREE_XATTRS_MAX];
    uint8_t raw[CHUNK];
    uint8_t bytes[CHUNK];
};

/* ---- bytes --------------------------------------------------------------- */

static ssize_t fail_callback(struct rootfs_layer *l, struct archive *a, int rc)
{
    l->why = -rc;
    archive_set_error(a, -rc, "%s", l->err.text);
    return -1;
}

static ssize_t read_file(struct archive *a, void *opaque, const void **ret_data)
{
    struct rootfs_layer *l = opaque;
    int rc = interrupt_check(l->interrupt, &l->err);
    ssize_t n;

    if (rc < 0)
        return fail_callback(l, a, rc);
    n = fd_pread_full(l->fd, l->raw, sizeof(l->raw), l->offset);
    if (n < 0)
        return fail_callback(
            l, a, err_sys(&l->err, (int)n, "cannot read the archive"));
    digest_add(&l->file, l->raw, (size_t)n);
    l->offset += (uint64_t)n;
    *ret_data = l->raw;
    return n;
}

static int fail_archive(
    struct rootfs_layer *l, struct archive *a, struct err *err)
{
    const char *text = archive_error_string(a);

    if (l->why != 0)
        return err_set(err, l->why, "%s", l->err.text);
    return err_set(
        err, EBADMSG, "damaged: %.200s", text == NULL ? "no reason" : text);
}

static ssize_t read_unpacked(
    struct archive *a, void *opaque, const void **ret_data)
{
    struct rootfs_layer *l = opaque;
    la_ssize_t n;

    *ret_data = l->bytes;
    if (l->is_raw_over)
        return 0;
    n = archive_read_data(l->unpacker, l->bytes, sizeof(l->bytes));
    if (n < 0)
        return fail_callback(l, a, fail_archive(l, l->unpacker, &l->err));
    if (n == 0)
        l->is_raw_over = true;
    if ((uint64_t)n > *l->budget)
        return fail_callback(l, a,
            err_set(&l->err, EFBIG, "unpacks to more than %llu GiB",
                (unsigned long long)(ROOTFS_LAYER_BYTES_MAX / NUM_GIB)));
    *l->budget -= (uint64_t)n;
    digest_add(&l->unpacked, l->bytes, (size_t)n);
    return n;
}

/* ---- the archives -------------------------------------------------------- */

static int open_unpacker(struct rootfs_layer *l, struct err *err)
{
    struct archive *a = archive_read_new();
    int rc;

    l->unpacker = a;
    if (a == NULL || archive_read_support_filter_gzip(a) != ARCHIVE_OK ||
        archive_read_support_filter_zstd(a) != ARCHIVE_OK ||
        archive_read_support_filter_xz(a) != ARCHIVE_OK ||
        archive_read_support_format_raw(a) != ARCHIVE_OK ||
        archive_read_support_format_empty(a) != ARCHIVE_OK)
        return err_sys(err, ENOMEM, "archive");
    if (archive_read_open(a, l, NULL, read_file, NULL) != ARCHIVE_OK)
        return fail_archive(l, a, err);
    rc = archive_read_next_header(a, &l->entry);
    if (rc == ARCHIVE_EOF)
        l->is_raw_over = true;
    else if (rc < ARCHIVE_WARN)
        return fail_archive(l, a, err);
    return 0;
}

static int open_tar(struct rootfs_layer *l, struct err *err)
{
    struct archive *a = archive_read_new();

    l->tar = a;
    if (a == NULL || archive_read_support_format_tar(a) != ARCHIVE_OK ||
        archive_read_support_format_empty(a) != ARCHIVE_OK)
        return err_sys(err, ENOMEM, "archive");
    return archive_read_open(a, l, NULL, read_unpacked, NULL) == ARCHIVE_OK
               ? 0
               : fail_archive(l, a, err);
}

int rootfs_layer_open(int fd, const struct interrupt *interrupt,
    uint64_t *budget, struct rootfs_layer **ret_layer, struct err *err)
{
    struct rootfs_layer *l = calloc(1, sizeof(*l));
    int rc;

    if (l == NULL)
        return err_sys(err, ENOMEM, "archive");
    l->fd = fd;
    l->interrupt = interrupt;
    l->budget = budget;
    digest_init(&l->file);
    digest_init(&l->unpacked);
    rc = open_unpacker(l, err);
    if (rc == 0)
        rc = open_tar(l, err);
    if (rc < 0)
        rootfs_layer_close(l);
    else
        *ret_layer = l;
    return rc;
}

void rootfs_layer_close(struct rootfs_layer *l)
{
    if (l == NULL)
        return;
    if (l->tar != NULL)
        (void)archive_read_free(l->tar);
    if (l->unpacker != NULL)
        (void)archive_read_free(l->unpacker);
    free(l);
}

/* ---- entries ------------------------------------------------------------- */

static bool is_kept(const char *name)
{
    return strncmp(name, "user.", 5) == 0 ||
           strcmp(name, "security.capability") == 0;
}

static int take_xattrs(
    struct rootfs_layer *l, struct rootfs_inode *inode, struct err *err)
{
    const char *name;
    const void *value;
    size_t total = 0;
    size_t size;

    (void)archive_entry_xattr_reset(l->entry);
    while (archive_entry_xattr_next(l->entry, &name, &value, &size) ==
           ARCHIVE_OK) {
        if (name == NULL || !is_kept(name))
            continue;
        if (inode->xattr_count == ROOTFS_TREE_XATTRS_MAX ||
            size > ROOTFS_TREE_XATTR_MAX - total || strlen(name) > 255)
            return err_set(err, E2BIG, "too many extended attributes");
        total += size;
        /* They are only copied from there. */
        l->xattrs[inode->xattr_count++] =
            (struct rootfs_xattr){.name = (char *)(uintptr_t)name,
                .value = (void *)(uintptr_t)value,
                .size = size};
    }
    inode->xattrs = l->xattrs;
    return 0;
}

static int take_type(
    struct rootfs_layer *l, struct rootfs_inode *inode, struct err *err)
{
    struct archive_entry *e = l->entry;
    mode_t type = archive_entry_filetype(e);

    inode->mode = type | (archive_entry_perm(e) & 07777);
    switch (type) {
    case AE_IFREG:
        if (archive_entry_size(e) < 0)
            return err_set(err, EBADMSG, "a file of a negative size");
        inode->size = (uint64_t)archive_entry_size(e);
        return 0;
    case AE_IFLNK:
        /* Nothing writes to it. */
        inode->target = (char *)(uintptr_t)archive_entry_symlink(e);
        if (inode->target == NULL || inode->target[0] == '\0' ||
            strlen(inode->target) > ROOTFS_TREE_PATH_MAX)
            return err_set(err, EBADMSG, "a link without a target");
        return 0;
    case AE_IFCHR:
    case AE_IFBLK:
        inode->major = (uint32_t)archive_entry_rdevmajor(e);
        inode->minor = (uint32_t)archive_entry_rdevminor(e);
        return 0;
    case AE_IFDIR:
    case AE_IFIFO:
        return 0;
    default:
        return err_set(err, EBADMSG, "a file of a kind that is not known");
    }
}

static int take_inode(
    struct rootfs_layer *l, struct rootfs_inode *inode, struct err *err)
{
    int64_t uid = archive_entry_uid(l->entry);
    int64_t gid = archive_entry_gid(l->entry);
    int64_t mtime = archive_entry_mtime(l->entry);
    int rc;

    if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
        return err_set(err, EBADMSG, "an owner that is none");
    *inode = (struct rootfs_inode){.uid = (uint32_t)uid,
        .gid = (uint32_t)gid,
        /* As the image's format has room for. */
        .mtime_s =
            mtime < 0 ? 0 : (int64_t)num_min((uint64_t)mtime, UINT32_MAX)};
    rc = take_type(l, inode, err);
    return rc < 0 ? rc : take_xattrs(l, inode, err);
}

int rootfs_layer_next(
    struct rootfs_layer *l, struct rootfs_entry *ret_entry, struct err *err)
{
    struct rootfs_entry entry = {0};
    int rc = archive_read_next_header(l->tar, &l->entry);

    if (rc == ARCHIVE_EOF)
        return 0;
    if (rc < ARCHIVE_WARN)
        return fail_archive(l, l->tar, err);
    entry.path = archive_entry_pathname(l->entry);
    entry.link = archive_entry_hardlink(l->entry);
    if (entry.path == NULL || strlen(entry.path) > ROOTFS_TREE_PATH_MAX)
        return err_set(err, EBADMSG, "a file without a name, or one too long");
    rc = entry.link != NULL ? 0 : take_inode(l, &entry.inode, err);
    if (rc < 0)
        return err_wrap(err, rc, "%.200s", entry.path);
    *ret_entry = entry;
    return 1;
}

ssize_t rootfs_layer_read(
    struct rootfs_layer *l, void *buffer, size_t size, struct err *err)
{
    la_ssize_t n = archive_read_data(l->tar, buffer, size);

    return n < 0 ? fail_archive(l, l->tar, err) : n;
}

/* ---- all of it ----------------------------------------------------------- */

int rootfs_layer_digests(struct rootfs_layer *l, char ret_file[DIGEST_HEX_SIZE],
    char ret_unpacked[DIGEST_HEX_SIZE], struct err *err)
{
    const void *data;
    ssize_t n;

    /* Behind the end of the tar, and behind that of what was compressed. */
    do {
        n = read_unpacked(l->tar, l, &data);
    } while (n > 0);
    while (n == 0 && (n = read_file(l->tar, l, &data)) > 0)
        n = 0;
    if (n < 0)
        return fail_archive(l, l->tar, err);
    digest_take(&l->file, ret_file);
    digest_take(&l->unpacked, ret_unpacked);
    return 0;
}

int rootfs_layer_merge(
    struct rootfs_layer *l, struct rootfs_tree *tree, struct err *err)
{
    struct rootfs_entry e;
    int rc;

    rootfs_tree_begin_layer(tree);
    while ((rc = rootfs_layer_next(l, &e, err)) > 0) {
        /* Files with holes are larger than what they were unpacked from. */
        if (e.link == NULL && S_ISREG(e.inode.mode) &&
            !num_range_within(
                tree->bytes, e.inode.size, ROOTFS_LAYER_BYTES_MAX))
            return err_set(err, EFBIG, "%.200s: files of more than %llu GiB",
                e.path, (unsigned long long)(ROOTFS_LAYER_BYTES_MAX / NUM_GIB));
        if (e.link == NULL && S_ISREG(e.inode.mode))
            tree->bytes += e.inode.size;
        rc = e.link != NULL ? rootfs_tree_link(tree, e.path, e.link, err)
                            : rootfs_tree_add(tree, e.path, &e.inode, err);
        if (rc < 0)
            return rc;
    }
    return rc;
}
