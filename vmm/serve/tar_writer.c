/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/tar_writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define BLOCK 512u

/* As POSIX has it; numbers are octal digits and a NUL. */
struct header {
    char name[100];
    char mode[8];
    char uid[8];
    char gid[8];
    char size[12];
    char mtime[12];
    char checksum[8];
    char type;
    char link[100];
    char magic[6];
    char version[2];
    char user[32];
    char group[32];
    char major[8];
    char minor[8];
    char prefix[155];
    char rest[12];
};

_Static_assert(sizeof(struct header) == BLOCK, "a block");

/* Records of one pax header. */
struct records {
    char *text;
    size_t size;
    bool failed;
};

void tar_writer_init(struct tar_writer *w, int fd)
{
    w->fd = fd;
    w->pad = 0;
    w->used = 0;
}

static int flush(struct tar_writer *w)
{
    int rc = fd_write_full(w->fd, w->buffer, w->used);

    w->used = 0;
    return rc;
}

static int put(struct tar_writer *w, const void *data, size_t size)
{
    const uint8_t *from = data;

    while (size > 0) {
        size_t n = num_min(size, sizeof(w->buffer) - w->used);
        int rc = 0;

        memcpy(w->buffer + w->used, from, n);
        w->used += n;
        from += n;
        size -= n;
        if (w->used == sizeof(w->buffer))
            rc = flush(w);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int put_padding(struct tar_writer *w, uint64_t size)
{
    static const uint8_t zeros[BLOCK];

    return put(w, zeros, (size_t)(num_align_up(size, BLOCK) - size));
}

/* ---- pax records --------------------------------------------------------- */

/* "LENGTH KEY=VALUE\n", the length being that of all of it. */
static void add_record(struct records *r, const char *prefix, const char *key,
    const void *value, size_t size)
{
    size_t rest = strlen(prefix) + strlen(key) + size + 3;
    size_t total = rest + 1;
    char number[24];
    char *text;

    for (;;) {
        size_t digits = (size_t)snprintf(number, sizeof(number), "%zu", total);

        if (rest + digits == total)
            break;
        total = rest + digits;
    }
    text = realloc(r->text, r->size + total + 1);
    if (text == NULL) {
        r->failed = true;
        return;
    }
    r->text = text;
    text += r->size;
    text += sprintf(text, "%s %s%s=", number, prefix, key);
    memcpy(text, value, size);
    text[size] = '\n';
    r->size += total;
}

static void add_number(struct records *r, const char *key, uint64_t value)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)value);

    add_record(r, "", key, text, (size_t)n);
}

/* The digits that fit into a header's field. */
#define FITS(value, field)                                                     \
    ((uint64_t)(value) < UINT64_C(1) << 3 * (sizeof(field) - 1))

static void make_records(struct records *r, const char *path,
    const struct rootfs_inode *inode, const char *link)
{
    static const struct header h;

    if (strlen(path) > sizeof(h.name))
        add_record(r, "", "path", path, strlen(path));
    if (link != NULL && strlen(link) > sizeof(h.link))
        add_record(r, "", "linkpath", link, strlen(link));
    if (!FITS(inode->uid, h.uid))
        add_number(r, "uid", inode->uid);
    if (!FITS(inode->gid, h.gid))
        add_number(r, "gid", inode->gid);
    if (S_ISREG(inode->mode) && !FITS(inode->size, h.size))
        add_number(r, "size", inode->size);
    for (uint32_t i = 0; i < inode->xattr_count; i++)
        add_record(r, "SCHILY.xattr.", inode->xattrs[i].name,
            inode->xattrs[i].value, inode->xattrs[i].size);
}

/* ---- headers ------------------------------------------------------------- */

/* What does not fit is in a record. */
static void set_text(char *field, size_t size, const char *text)
{
    memcpy(field, text, num_min(size, strlen(text)));
}

static void set_number(char *field, size_t size, uint64_t value)
{
    for (size_t i = size - 1; i > 0; i--) {
        field[i - 1] = (char)('0' + (value & 7));
        value >>= 3;
    }
}

#define SET_NUMBER(field, value) set_number(field, sizeof(field), value)

static int put_header(struct tar_writer *w, struct header *h)
{
    const uint8_t *bytes = (const uint8_t *)h;
    uint32_t sum = 0;

    memcpy(h->magic, "ustar", 6);
    memcpy(h->version, "00", 2);
    memset(h->checksum, ' ', sizeof(h->checksum));
    for (size_t i = 0; i < sizeof(*h); i++)
        sum += bytes[i];
    set_number(h->checksum, sizeof(h->checksum) - 1, sum);
    h->checksum[6] = '\0';
    return put(w, h, sizeof(*h));
}

static int put_records(struct tar_writer *w, const struct records *r)
{
    struct header h = {.type = 'x'};
    int rc;

    if (r->failed)
        return -ENOMEM;
    if (r->size == 0)
        return 0;
    set_text(h.name, sizeof(h.name), "pax");
    SET_NUMBER(h.mode, 0600);
    SET_NUMBER(h.uid, 0);
    SET_NUMBER(h.gid, 0);
    SET_NUMBER(h.size, r->size);
    SET_NUMBER(h.mtime, 0);
    rc = put_header(w, &h);
    if (rc == 0)
        rc = put(w, r->text, r->size);
    return rc < 0 ? rc : put_padding(w, r->size);
}

static char type_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return '5';
    case S_IFLNK:
        return '2';
    case S_IFCHR:
        return '3';
    case S_IFBLK:
        return '4';
    case S_IFIFO:
        return '6';
    default:
        return '0';
    }
}

static int put_inode(struct tar_writer *w, const char *path,
    const struct rootfs_inode *inode, const char *link, bool is_hard)
{
    struct header h = {.type = is_hard ? '1' : type_of(inode->mode)};

    set_text(h.name, sizeof(h.name), path);
    if (link != NULL)
        set_text(h.link, sizeof(h.link), link);
    SET_NUMBER(h.mode, inode->mode & 07777);
    SET_NUMBER(h.uid, inode->uid);
    SET_NUMBER(h.gid, inode->gid);
    SET_NUMBER(h.size, w->pad);
    SET_NUMBER(h.mtime, (uint64_t)inode->mtime_s);
    if (S_ISCHR(inode->mode) || S_ISBLK(inode->mode)) {
        SET_NUMBER(h.major, inode->major);
        SET_NUMBER(h.minor, inode->minor);
    }
    return put_header(w, &h);
}

int tar_writer_header(struct tar_writer *w, const char *path,
    const struct rootfs_inode *inode, const char *link)
{
    const char *target = link != NULL ? link : inode->target;
    struct records r = {0};
    int rc;

    w->pad = link == NULL && S_ISREG(inode->mode) ? inode->size : 0;
    make_records(&r, path, inode, target);
    rc = put_records(w, &r);
    free(r.text);
    return rc < 0 ? rc : put_inode(w, path, inode, target, link != NULL);
}

int tar_writer_data(struct tar_writer *w, const void *data, size_t size)
{
    return put(w, data, size);
}

int tar_writer_end_file(struct tar_writer *w)
{
    return put_padding(w, w->pad);
}

int tar_writer_finish(struct tar_writer *w)
{
    int rc = put_padding(w, 1);

    /* Two blocks of zeros: all but a byte of one, that, and another one. */
    if (rc == 0)
        rc = put(w, "", 1);
    if (rc == 0)
        rc = put_padding(w, 1);
    if (rc == 0)
        rc = put(w, "", 1);
    return rc < 0 ? rc : flush(w);
}
