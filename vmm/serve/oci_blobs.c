/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/oci_blobs.h"

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
#include "vmm/serve/rootfs_layer.h"

#define CHUNK     65536u
#define LINKS_MAX 8u

struct blob {
    char *name; /* as in the archive, without "./" in front */
    char *link; /* the name that it is another one for; NULL: a file */
    int fd;     /* of a file without a name on this host */
};

struct oci_blobs {
    int dir_fd; /* borrowed; -1: an archive */
    struct blob *list;
    size_t count;
};

static struct oci_blobs *make(int dir_fd, struct err *err)
{
    struct oci_blobs *b = calloc(1, sizeof(*b));

    if (b == NULL)
        (void)err_sys(err, ENOMEM, "image");
    else
        b->dir_fd = dir_fd;
    return b;
}

int oci_blobs_open_dir(
    int dir_fd, struct oci_blobs **ret_blobs, struct err *err)
{
    *ret_blobs = make(dir_fd, err);
    return *ret_blobs == NULL ? -ENOMEM : 0;
}

void oci_blobs_close(struct oci_blobs *b)
{
    if (b == NULL)
        return;
    for (size_t i = 0; i < b->count; i++) {
        free(b->list[i].name);
        free(b->list[i].link);
        fd_closep(&b->list[i].fd);
    }
    free(b->list);
    free(b);
}

/* ---- an archive's -------------------------------------------------------- */

static const char *without_dot(const char *path)
{
    while (path[0] == '.' && path[1] == '/')
        path += 2;
    return path;
}

static int spool(struct rootfs_layer *layer, const char *scratch, int *ret_fd,
    struct err *err)
{
    CC_CLEANUP(fd_closep)
    int fd = open(scratch, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    uint8_t *bytes;
    ssize_t n = 0;
    int rc = 0;

    if (fd < 0)
        return err_sys(err, errno, "%s", scratch);
    bytes = malloc(CHUNK);
    if (bytes == NULL)
        return err_sys(err, ENOMEM, "image");
    while (rc == 0 && (n = rootfs_layer_read(layer, bytes, CHUNK, err)) > 0) {
        rc = fd_write_full(fd, bytes, (size_t)n);
        if (rc < 0)
            (void)err_sys(err, rc, "%s", scratch);
    }
    free(bytes);
    if (rc == 0 && n < 0)
        rc = (int)n;
    if (rc == 0)
        *ret_fd = fd_steal(&fd);
    return rc;
}

/* Where a link in the folder of `from` leads, by its text alone. */
static char *resolve(const char *from, const char *target)
{
    const char *slash = strrchr(from, '/');
    size_t size = slash == NULL ? 0 : (size_t)(slash - from);
    char *path;

    while (strncmp(target, "../", 3) == 0) {
        target += 3;
        while (size > 0 && from[size - 1] != '/')
            size--;
        size -= size > 0 ? 1 : 0;
    }
    return asprintf(&path, "%.*s%s%s", (int)size, from, size > 0 ? "/" : "",
               without_dot(target)) < 0
               ? NULL
               : path;
}

static int add_blob(struct oci_blobs *b, struct rootfs_layer *layer,
    const struct rootfs_entry *e, const char *scratch, struct err *err)
{
    struct blob blob = {.fd = -1};
    const char *name = without_dot(e->path);
    struct blob *list;
    int rc = 0;

    if (b->count == OCI_BLOBS_MAX)
        return err_set(err, E2BIG, "has more than %u files", OCI_BLOBS_MAX);
    list = reallocarray(b->list, b->count + 1, sizeof(*list));
    if (list == NULL)
        return err_sys(err, ENOMEM, "image");
    b->list = list;
    blob.name = strdup(name);
    if (e->link != NULL)
        blob.link = strdup(without_dot(e->link));
    else if (S_ISLNK(e->inode.mode))
        blob.link = resolve(name, e->inode.target);
    else
        rc = spool(layer, scratch, &blob.fd, err);
    if (rc == 0 && (blob.name == NULL || (blob.fd < 0 && blob.link == NULL)))
        rc = err_sys(err, ENOMEM, "image");
    b->list[b->count++] = blob;
    return rc;
}

static int unpack(struct oci_blobs *b, struct rootfs_layer *layer,
    const char *scratch, struct err *err)
{
    struct rootfs_entry e;
    int rc;

    while ((rc = rootfs_layer_next(layer, &e, err)) > 0) {
        if (e.link == NULL && !S_ISREG(e.inode.mode) && !S_ISLNK(e.inode.mode))
            continue;
        rc = add_blob(b, layer, &e, scratch, err);
        if (rc < 0)
            break;
    }
    return rc;
}

int oci_blobs_open_archive(int fd, const char *scratch,
    const struct interrupt *interrupt, struct oci_blobs **ret_blobs,
    struct err *err)
{
    uint64_t budget = ROOTFS_LAYER_BYTES_MAX;
    struct oci_blobs *b = make(-1, err);
    struct rootfs_layer *layer = NULL;
    int rc;

    if (b == NULL)
        return -ENOMEM;
    rc = rootfs_layer_open(fd, interrupt, &budget, &layer, err);
    if (rc == 0) {
        rc = unpack(b, layer, scratch, err);
        rootfs_layer_close(layer);
    }
    if (rc < 0)
        oci_blobs_close(b);
    else
        *ret_blobs = b;
    return rc;
}

/* ---- looking up ---------------------------------------------------------- */

/* The latest of a name is what unpacking would leave there. */
static const struct blob *find(const struct oci_blobs *b, const char *name)
{
    for (uint32_t links = 0; links <= LINKS_MAX; links++) {
        const struct blob *found = NULL;

        for (size_t i = b->count; found == NULL && i > 0; i--) {
            if (strcmp(b->list[i - 1].name, name) == 0)
                found = &b->list[i - 1];
        }
        if (found == NULL || found->link == NULL)
            return found;
        name = found->link;
    }
    return NULL;
}

static int open_beneath(int dir_fd, const char *name)
{
    struct open_how how = {/* Not to wait for who writes to a pipe. */
        .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
        .resolve =
            RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    CC_CLEANUP(fd_closep)
    int fd = (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    return S_ISREG(st.st_mode) ? fd_steal(&fd) : -EINVAL;
}

static int open_blob(const struct oci_blobs *b, const char *name)
{
    const struct blob *blob;
    int fd;

    if (b->dir_fd >= 0)
        return open_beneath(b->dir_fd, name);
    blob = find(b, name);
    if (blob == NULL)
        return -ENOENT;
    fd = fcntl(blob->fd, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

int oci_blobs_open(
    const struct oci_blobs *b, const char *name, int *ret_fd, struct err *err)
{
    int fd = open_blob(b, name);

    if (fd == -ENOENT)
        return err_set(err, ENOENT, "damaged: it lacks %s", name);
    if (fd < 0)
        return err_sys(err, fd, "%s", name);
    *ret_fd = fd;
    return 0;
}

bool oci_blobs_have(const struct oci_blobs *b, const char *name)
{
    int fd = open_blob(b, name);

    if (fd < 0)
        return false;
    (void)close(fd);
    return true;
}

int oci_blobs_read(const struct oci_blobs *b, const char *name, size_t max,
    char **ret_text, size_t *ret_size, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    struct stat st;
    char *text;
    ssize_t n;
    int rc = oci_blobs_open(b, name, &fd, err);

    if (rc < 0)
        return rc;
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "%s", name);
    if (st.st_size < 0 || (uint64_t)st.st_size > max)
        return err_set(err, EFBIG, "%s: more than %zu bytes", name, max);
    text = malloc((size_t)st.st_size + 1);
    if (text == NULL)
        return err_sys(err, ENOMEM, "%s", name);
    n = fd_pread_full(fd, text, (size_t)st.st_size, 0);
    if (n < 0) {
        free(text);
        return err_sys(err, (int)n, "%s", name);
    }
    text[n] = '\0';
    *ret_text = text;
    *ret_size = (size_t)n;
    return 0;
}
