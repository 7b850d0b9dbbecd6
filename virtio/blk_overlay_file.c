/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk_overlay_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "virtio/blk_overlay_clusters.h"
#include "virtio/blk_overlay_format.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define SAMPLE_BYTES (64 * NUM_KIB)

/* What is needed while a disk is opened. */
struct opening {
    const struct blk_overlay_file_config *config;
    struct blk_overlay_file *file;
    uint64_t clusters;
    int fd; /* of the overlay, until upper has it */
    bool is_new;
    struct blk_overlay_identity identity;
    uint8_t *buffer; /* SAMPLE_BYTES */
};

/* The CRC of what is there of SAMPLE_BYTES at `offset`. */
static int sample(struct opening *p, uint64_t offset, uint32_t *crc)
{
    ssize_t n =
        fd_pread_full(p->file->base.fd, p->buffer, SAMPLE_BYTES, offset);

    if (n < 0)
        return (int)n;
    *crc = (uint32_t)crc32(*crc, p->buffer, (uInt)n);
    return 0;
}

static int identify(struct opening *p, struct err *err)
{
    struct blk_overlay_identity *id = &p->identity;
    uint64_t bytes = p->file->base.backend.capacity * BLK_SECTOR;
    struct stat st;
    int rc = 0;

    *id = (struct blk_overlay_identity){.bytes = bytes};
    if (fstat(p->file->base.fd, &st) < 0)
        rc = -errno;
    if (rc == 0 && S_ISREG(st.st_mode)) {
        id->mtime_s = (uint64_t)st.st_mtim.tv_sec;
        id->mtime_ns = (uint32_t)st.st_mtim.tv_nsec;
    }
    if (rc == 0)
        rc = sample(p, 0, &id->sample);
    if (rc == 0 && bytes > SAMPLE_BYTES)
        rc = sample(p, bytes - SAMPLE_BYTES, &id->sample);
    return rc < 0 ? err_sys(err, rc, "%s", p->config->base_path) : 0;
}

/* An image that only its modification time speaks against may be the same. */
static int check_identity(const struct opening *p,
    const struct blk_overlay_identity *made, struct err *err)
{
    const struct blk_overlay_identity *is = &p->identity;
    const char *path = p->config->path;
    const char *base = p->config->base_path;

    if (is->bytes != made->bytes)
        return err_set(err, ESTALE,
            "%s: made over an image of %llu bytes, %s has %llu; give the "
            "image it was made over, or delete the overlay to start anew",
            path, (unsigned long long)made->bytes, base,
            (unsigned long long)is->bytes);
    if (is->sample != made->sample)
        return err_set(err, ESTALE,
            "%s: made over an image with other contents than %s has; give "
            "the image it was made over, or delete the overlay to start anew",
            path, base);
    if (is->mtime_s != made->mtime_s || is->mtime_ns != made->mtime_ns)
        return err_set(err, ESTALE,
            "%s: %s was written to after the overlay was made; delete the "
            "overlay, or, if the image is the same, touch -d @%llu.%09u it",
            path, base, (unsigned long long)made->mtime_s, made->mtime_ns);
    return 0;
}

static int pwrite_full(int fd, const void *data, size_t len, uint64_t offset)
{
    const uint8_t *from = data;

    while (len > 0) {
        ssize_t n = pwrite(fd, from, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        from += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/*
 * The map first, the header when that is on the disk: what has a header is
 * whole.
 */
static int write_new(struct opening *p)
{
    const struct blk_map *map = &p->file->overlay.map;
    const struct blk_overlay_header header = {
        .capacity = p->file->base.backend.capacity, .base = p->identity};
    uint64_t blocks = blk_overlay_map_blocks(p->clusters);
    int rc = 0;

    for (uint64_t i = 0; rc == 0 && i < blocks; i++) {
        blk_overlay_map_encode(map, i, 0, p->buffer);
        rc = pwrite_full(
            p->fd, p->buffer, BLK_OVERLAY_BLOCK, blk_overlay_slot_offset(i, 0));
    }
    if (rc == 0 && fsync(p->fd) < 0)
        rc = -errno;
    blk_overlay_header_encode(&header, p->buffer);
    if (rc == 0)
        rc = pwrite_full(p->fd, p->buffer, BLK_OVERLAY_BLOCK, 0);
    if (rc == 0 && fsync(p->fd) < 0)
        rc = -errno;
    return rc;
}

static int read_block(struct opening *p, size_t len, uint64_t offset)
{
    ssize_t n = fd_pread_full(p->fd, p->buffer, len, offset);

    if (n < 0)
        return (int)n;
    memset(p->buffer + n, 0, len - (size_t)n);
    return 0;
}

static int read_header(struct opening *p, struct err *err)
{
    const char *path = p->config->path;
    struct blk_overlay_header header;
    const char *fault;
    struct stat st;
    int rc = read_block(p, BLK_OVERLAY_BLOCK, 0);

    if (rc == 0 && fstat(p->fd, &st) < 0)
        rc = -errno;
    if (rc < 0)
        return err_sys(err, rc, "%s", path);
    fault = blk_overlay_header_decode(p->buffer, &header);
    if (fault != NULL)
        return err_set(err, EINVAL,
            "%s: %s; name another file, or delete this one to start anew", path,
            fault);
    rc = check_identity(p, &header.base, err);
    if (rc < 0)
        return rc;
    if ((uint64_t)st.st_size <
        blk_overlay_data_offset(p->clusters) + p->clusters * BLK_CLUSTER)
        return err_set(err, EINVAL,
            "%s: the overlay has been cut short; bring it back from a copy, "
            "or delete it to start anew",
            path);
    return 0;
}

static int read_map(struct opening *p, struct err *err)
{
    struct blk_overlay *o = &p->file->overlay;
    uint64_t blocks = blk_overlay_map_blocks(p->clusters);

    for (uint64_t i = 0; i < blocks; i++) {
        int rc = read_block(
            p, (size_t)2 * BLK_OVERLAY_BLOCK, blk_overlay_slot_offset(i, 0));

        if (rc < 0)
            return err_sys(err, rc, "%s", p->config->path);
        if (!blk_overlay_map_decode(p->buffer, i, &o->map, &o->sequences[i]))
            return err_set(err, EINVAL,
                "%s: the overlay's map is damaged at block %llu; bring it "
                "back from a copy, or delete it to start anew",
                p->config->path, (unsigned long long)i);
    }
    bitmap_clear_all(&o->map.unsaved);
    return 0;
}

static int open_named(struct opening *p, struct err *err)
{
    const char *path = p->config->path;
    struct stat st;
    int rc;

    p->fd = open(path,
        O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
        0600);
    if (p->fd < 0)
        return err_sys(err, errno, "%s", path);
    if (fstat(p->fd, &st) < 0)
        return err_sys(err, errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(
            err, EINVAL, "%s: an overlay must be a regular file", path);
    rc = fd_lock(p->fd, true);
    if (rc == -EAGAIN)
        return err_set(err, EBUSY, "%s: in use by another process", path);
    /* Looked at once more, now that nobody else can change it. */
    if (rc == 0 && fstat(p->fd, &st) < 0)
        rc = -errno;
    if (rc < 0)
        return err_sys(err, rc, "%s", path);
    p->is_new = st.st_size == 0;
    return p->is_new ? 0 : read_header(p, err);
}

static int open_unnamed(struct opening *p, struct err *err)
{
    const char *path = p->config->path;

    if (p->config->kind == BLK_OVERLAY_MEMORY) {
        p->fd = memfd_create("spore-overlay", MFD_CLOEXEC);
        return p->fd < 0 ? err_sys(err, errno, "overlay in memory") : 0;
    }
    p->fd = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (p->fd < 0)
        return err_sys(
            err, errno, "%s: no temporary file can be made there", path);
    return 0;
}

/* Opens the overlay, and makes it large enough if it is new. */
static int open_upper(
    struct opening *p, const char **ret_warning, struct err *err)
{
    bool is_file = p->config->kind == BLK_OVERLAY_FILE;
    /* A ring would hand memory to a worker thread: twice the time. */
    bool is_memory = p->config->kind == BLK_OVERLAY_MEMORY;
    const char *name = is_file ? p->config->path : "overlay";
    struct blk_file_config upper = {.path = name,
        .uring = is_memory ? NULL : p->config->uring,
        .direct = p->config->direct && !is_memory};
    uint64_t offset = is_file ? blk_overlay_data_offset(p->clusters) : 0;
    int rc = is_file ? open_named(p, err) : open_unnamed(p, err);

    if (rc < 0)
        return rc;
    if ((p->is_new || !is_file) &&
        ftruncate(p->fd, (off_t)(offset + p->clusters * BLK_CLUSTER)) < 0)
        return err_sys(err, errno, "%s: cannot hold a disk of that size", name);
    /* A copy: map and header are read and written through ours. */
    upper.fd = fcntl(p->fd, F_DUPFD_CLOEXEC, 0);
    if (upper.fd < 0)
        return err_sys(err, errno, "%s", name);
    return blk_file_open(&p->file->upper, &upper, ret_warning, err);
}

static int open_overlay(
    struct opening *p, const char **ret_warning, struct err *err)
{
    const struct blk_overlay_file_config *config = p->config;
    struct blk_overlay_file *f = p->file;
    struct blk_file_config base = {.path = config->base_path,
        .fd = config->base_fd,
        .uring = config->uring,
        .read_only = true,
        .direct = config->direct};
    struct blk_overlay_config overlay = {.base = &f->base.backend,
        .upper = &f->upper.backend,
        .persistent = config->kind == BLK_OVERLAY_FILE,
        .inline_only = config->uring == NULL || config->uring->loop == NULL};
    const char *none;
    int rc = blk_file_open(&f->base, &base, ret_warning, err);

    if (rc < 0)
        return rc;
    if (f->base.backend.capacity > BLK_OVERLAY_SECTORS_MAX)
        return err_set(
            err, EFBIG, "%s: too large for an overlay", config->base_path);
    p->clusters = blk_overlay_clusters(f->base.backend.capacity);
    if (overlay.persistent) {
        overlay.data_offset = blk_overlay_data_offset(p->clusters);
        rc = identify(p, err);
    }
    if (rc == 0)
        rc = open_upper(p, &none, err);
    if (rc == 0)
        rc = blk_overlay_init(&f->overlay, &overlay, err);
    if (rc < 0 || !overlay.persistent)
        return rc;
    if (!p->is_new)
        return read_map(p, err);
    rc = write_new(p);
    return rc < 0 ? err_sys(err, rc, "%s: cannot be made", config->path) : 0;
}

static int open_parts(
    struct opening *p, const char **ret_warning, struct err *err)
{
    uint64_t limit = p->config->limit;
    int rc = open_overlay(p, ret_warning, err);

    /* What is less than a cluster is no reason for there to be no limit. */
    if (rc == 0 && limit != 0)
        rc = blk_overlay_limit_set(
            &p->file->overlay, num_max(limit / BLK_CLUSTER, 1));
    return rc == -ENOMEM ? err_sys(err, rc, "%s", p->config->base_path) : rc;
}

int blk_overlay_file_open(struct blk_overlay_file *f,
    const struct blk_overlay_file_config *config, const char **ret_warning,
    struct err *err)
{
    struct opening p = {.config = config, .file = f, .fd = -1};
    const char *warning = NULL;
    int rc = 0;

    *f = (struct blk_overlay_file){
        .base = {.fd = -1, .direct_fd = -1, .slot = -1, .direct_slot = -1},
        .upper = {.fd = -1, .direct_fd = -1, .slot = -1, .direct_slot = -1}};
    p.buffer = malloc(SAMPLE_BYTES);
    if (p.buffer == NULL) {
        int fd = config->base_fd;

        fd_closep(&fd);
        return err_sys(err, ENOMEM, "%s", config->base_path);
    }
    rc = open_parts(&p, &warning, err);
    if (rc < 0 && p.is_new && config->kind == BLK_OVERLAY_FILE)
        (void)unlink(config->path);
    if (rc < 0)
        blk_overlay_file_close(f);
    else
        *ret_warning = warning;
    fd_closep(&p.fd);
    free(p.buffer);
    return rc;
}

int blk_overlay_file_set_below(struct blk_overlay_file *f,
    struct blk_below_run *runs, size_t run_count, const int *fds,
    uint32_t file_count, struct err *err)
{
    int rc = blk_below_init(&f->below, runs, run_count, f->overlay.map.clusters,
        fds, file_count, f->base.uring, err);

    if (rc == 0)
        blk_overlay_set_below(&f->overlay, &f->below);
    return rc;
}

uint64_t blk_overlay_file_locate(const struct blk_overlay_file *f,
    uint64_t first, uint64_t max, struct blk_overlay_place *ret_place)
{
    struct blk_source source;
    uint64_t count = blk_overlay_locate(&f->overlay, first, max, &source);

    if (source.backend == NULL) {
        *ret_place =
            (struct blk_overlay_place){.state = BLK_CLUSTER_ZERO, .fd = -1};
        return count;
    }
    if (source.backend == f->overlay.config.base) {
        *ret_place =
            (struct blk_overlay_place){.state = BLK_CLUSTER_BASE, .fd = -1};
        return count;
    }
    *ret_place = (struct blk_overlay_place){.state = BLK_CLUSTER_DATA,
        .fd = container_of(source.backend, struct blk_file, backend)->fd,
        .offset = source.offset};
    if (source.backend == f->overlay.config.upper)
        ret_place->offset += f->overlay.config.data_offset;
    return count;
}

void blk_overlay_file_close(struct blk_overlay_file *f)
{
    if (f->overlay.tasks != NULL)
        blk_overlay_fini(&f->overlay);
    blk_below_fini(&f->below);
    blk_file_close(&f->upper);
    blk_file_close(&f->base);
}
