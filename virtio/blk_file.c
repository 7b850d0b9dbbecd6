/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define PHYSICAL_SIZE 4096u /* of a file: the page size of its file system */
#define DIRECT_ALIGN  4096u /* good for every disk there is */

static struct blk_file *from_backend(struct blk_backend *b)
{
    return container_of(b, struct blk_file, backend);
}

static void probe_file(
    struct blk_file *f, const struct stat *st, const char **ret_warning)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, st->st_mtim};
    uint64_t size = (uint64_t)st->st_size;
    struct blk_backend *b = &f->backend;

    b->capacity = size / BLK_SECTOR;
    b->block_size = BLK_SECTOR;
    b->physical_size = PHYSICAL_SIZE;
    if (size % BLK_SECTOR != 0)
        *ret_warning = "size is not a multiple of 512 bytes: the end of the "
                       "file is out of the guest's reach";
    if (b->read_only)
        return;
    /*
     * Asked beyond the end, where there is nothing to lose. Zeroing cannot be
     * asked for without leaving blocks there; a file system that punches but
     * does not zero answers -EOPNOTSUPP, and the guest then writes zeroes.
     */
    b->can_discard =
        fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            (off_t)num_align_up(size, NUM_PAGE_SIZE),
            (off_t)NUM_PAGE_SIZE) == 0;
    b->can_zero = b->can_discard;
    /* No byte has changed: overlays and snapshots go by the time. */
    (void)futimens(f->fd, times);
}

static int probe_device(struct blk_file *f)
{
    struct blk_backend *b = &f->backend;
    unsigned int physical;
    uint64_t size;
    int logical;

    if (ioctl(f->fd, BLKGETSIZE64, &size) < 0 ||
        ioctl(f->fd, BLKSSZGET, &logical) < 0 ||
        ioctl(f->fd, BLKPBSZGET, &physical) < 0)
        return -errno;
    b->capacity = size / BLK_SECTOR;
    b->block_size = BLK_SECTOR;
    b->physical_size = PHYSICAL_SIZE;
    if (logical >= (int)BLK_SECTOR && logical <= (int)PHYSICAL_SIZE &&
        num_is_pow2((uint64_t)logical))
        b->block_size = (uint32_t)logical;
    if (num_is_pow2(physical) && physical >= b->block_size)
        b->physical_size = physical;
    /* What the disk itself cannot do comes back as -EOPNOTSUPP. */
    b->can_discard = !b->read_only;
    b->can_zero = !b->read_only;
    return 0;
}

static int take_lock(
    const struct blk_file *f, const char *path, struct err *err)
{
    int rc = fd_lock(f->fd, !f->backend.read_only);

    if (rc == -EAGAIN)
        return err_set(err, EBUSY, "%s: in use by another process%s", path,
            f->backend.read_only ? " that writes to it" : "");
    return rc < 0 ? err_sys(err, rc, "%s: cannot lock", path) : 0;
}

/*
 * The same file once more with O_DIRECT. What is not aligned takes the way
 * through the page cache; the kernel keeps the two coherent.
 */
static int open_direct(struct blk_file *f, const char *path, struct err *err)
{
    char self[32];

    (void)snprintf(self, sizeof(self), "/proc/self/fd/%d", f->fd);
    f->direct_fd = open(self,
        (f->backend.read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
    if (f->direct_fd < 0)
        return err_sys(err, errno,
            "%s: cannot be opened for direct I/O (try without it)", path);
    f->alignment = DIRECT_ALIGN;
    return 0;
}

static int open_file(struct blk_file *f, const struct blk_file_config *config,
    const char **ret_warning, struct err *err)
{
    struct stat st;
    int rc = 0;

    if (f->fd < 0) {
        f->fd = open(config->path, (config->read_only ? O_RDONLY : O_RDWR) |
                                       O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (f->fd < 0)
            return err_sys(err, errno, "%s", config->path);
    }
    if (fstat(f->fd, &st) < 0)
        return err_sys(err, errno, "%s", config->path);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return err_set(err, EINVAL,
            "%s: a disk must be a regular file or a block device",
            config->path);
    /* It was for the sake of pipes, and io_uring would take it to heart. */
    rc = fd_set_nonblocking(f->fd, false);
    if (rc < 0)
        return err_sys(err, rc, "%s", config->path);
    rc = take_lock(f, config->path, err);
    if (rc < 0)
        return rc;
    /* Once more, now that no other writer of ours can change it. */
    if (fstat(f->fd, &st) < 0)
        return err_sys(err, errno, "%s", config->path);
    if (S_ISREG(st.st_mode))
        probe_file(f, &st, ret_warning);
    else
        rc = probe_device(f);
    if (rc < 0)
        return err_sys(err, rc, "%s: cannot learn its size", config->path);
    if (f->backend.capacity == 0)
        return err_set(err, EINVAL,
            "%s: a disk must have at least one sector of 512 bytes",
            config->path);
    return config->direct ? open_direct(f, config->path, err) : 0;
}

static const struct blk_backend_ops blk_file_ops;

int blk_file_open(struct blk_file *f, const struct blk_file_config *config,
    const char **ret_warning, struct err *err)
{
    const char *warning = NULL;
    int rc;

    *f = (struct blk_file){
        .backend = {.ops = &blk_file_ops, .read_only = config->read_only},
        .fd = config->fd,
        .direct_fd = -1,
        .uring = config->uring,
        .slot = -1,
        .direct_slot = -1};
    rc = open_file(f, config, &warning, err);
    if (rc < 0)
        blk_file_close(f);
    else
        *ret_warning = warning;
    return rc;
}

void blk_file_close(struct blk_file *f)
{
    if (f->slot >= 0)
        uring_remove_file(f->uring, f->slot);
    if (f->direct_slot >= 0)
        uring_remove_file(f->uring, f->direct_slot);
    uring_client_fini(&f->client);
    f->slot = -1;
    f->direct_slot = -1;
    /* The ring lets go of a removed file when it pleases; the lock must not. */
    if (f->fd >= 0)
        fd_unlock(f->fd);
    fd_closep(&f->direct_fd);
    fd_closep(&f->fd);
}

bool blk_file_uses_uring(const struct blk_file *f)
{
    return f->slot >= 0;
}

/* At the first request, so that a disk nobody reads costs no ring. */
static void try_uring(struct blk_file *f)
{
    f->tried = true;
    if (f->uring == NULL)
        return;
    f->slot = uring_add_file(f->uring, f->fd);
    if (f->slot >= 0 && f->direct_fd >= 0) {
        f->direct_slot = uring_add_file(f->uring, f->direct_fd);
        if (f->direct_slot < 0) {
            uring_remove_file(f->uring, f->slot);
            f->slot = -1;
        }
    }
    if (f->slot < 0)
        return;
    uring_client_init(&f->client, f->uring, f->backend.dev);
    f->client.batch_done = f->backend.batch_done;
    f->client.opaque = f->backend.opaque;
}

static bool is_aligned(const struct blk_file *f, const struct blk_io *io)
{
    uint64_t bits = io->op.offset;

    for (unsigned int i = 0; i < io->op.iov_count; i++)
        bits |= (uintptr_t)io->op.iov[i].iov_base | io->op.iov[i].iov_len;
    return bits % f->alignment == 0;
}

/* What lies beyond the end of the file as it is now reads as zeroes. */
static void zero_rest(const struct blk_io *io)
{
    for (unsigned int i = 0; i < io->op.iov_count; i++)
        memset(io->op.iov[i].iov_base, 0, io->op.iov[i].iov_len);
}

/* Takes `n` bytes off the front of what is left to be moved. */
static void advance(struct blk_io *io, uint64_t n)
{
    struct iovec *iov = io->iov + (io->iov_count - io->op.iov_count);

    io->op.offset += n;
    io->left -= n;
    while (n > 0 && n >= iov->iov_len) {
        n -= iov->iov_len;
        iov++;
        io->op.iov_count--;
    }
    if (n > 0) {
        iov->iov_base = (uint8_t *)iov->iov_base + n;
        iov->iov_len -= n;
    }
    io->op.iov = iov;
}

/*
 * What an operation that has completed means for its request: 1 when there
 * is more to do, and io->op is set for it; else 0 or -errno for the whole.
 */
static int settle(struct blk_io *io, int64_t res)
{
    if (res < 0)
        return (int)res;
    if (io->op.kind == URING_FALLOCATE && io->durable) {
        io->op.kind = URING_FDATASYNC;
        return 1;
    }
    if (io->op.kind != URING_READ && io->op.kind != URING_WRITE)
        return 0;
    if (res == 0 && io->op.kind == URING_READ) {
        zero_rest(io);
        return 0;
    }
    if (res == 0 || (uint64_t)res > io->left)
        return -EIO;
    advance(io, (uint64_t)res);
    return io->left > 0;
}

/* Chooses the descriptor for the next operation of a request. */
static void aim(const struct blk_file *f, struct blk_io *io)
{
    bool moves = io->op.kind == URING_READ || io->op.kind == URING_WRITE;
    bool direct = f->direct_fd >= 0 && moves && is_aligned(f, io);

    io->op.fd = direct ? f->direct_fd : f->fd;
    io->op.slot = direct ? f->direct_slot : f->slot;
}

static int run_sync(const struct blk_file *f, struct blk_io *io)
{
    int rc;

    do {
        aim(f, io);
        rc = settle(io, uring_run_sync(&io->op));
    } while (rc > 0);
    return rc;
}

/* Starts the next operation of a request, or does it all here and now. */
static void run(struct blk_file *f, struct blk_io *io)
{
    aim(f, io);
    if (f->slot < 0 || uring_start(&f->client, &io->op) < 0)
        io->done(io, run_sync(f, io));
}

static void op_done(struct uring_op *op, int64_t res)
{
    struct blk_io *io = container_of(op, struct blk_io, op);
    struct blk_file *f = container_of(op->client, struct blk_file, client);
    int rc;

    /* The ring could not wait where a system call can. */
    if (res == -EAGAIN || res == -EINTR)
        rc = run_sync(f, io);
    else
        rc = settle(io, res);
    if (rc > 0)
        run(f, io);
    else
        io->done(io, rc);
}

static void set_op(struct blk_io *io)
{
    io->op = (struct uring_op){.offset = io->offset,
        .len = io->len,
        .iov = io->iov,
        .iov_count = io->iov_count,
        .complete = op_done};
    io->left = io->len;
    switch (io->kind) {
    case BLK_READ:
        io->op.kind = URING_READ;
        break;
    case BLK_WRITE:
        io->op.kind = URING_WRITE;
        io->op.durable = io->durable;
        break;
    case BLK_FLUSH:
        io->op.kind = URING_FDATASYNC;
        break;
    case BLK_DISCARD:
    case BLK_ZERO:
        io->op.kind = URING_FALLOCATE;
        io->op.mode =
            FALLOC_FL_KEEP_SIZE |
            (io->kind == BLK_DISCARD || io->may_unmap ? FALLOC_FL_PUNCH_HOLE
                                                      : FALLOC_FL_ZERO_RANGE);
        break;
    }
}

static void blk_file_submit(struct blk_backend *b, struct blk_io *io)
{
    struct blk_file *f = from_backend(b);

    assert(num_range_within(
        io->offset, io->len, b->capacity * (uint64_t)BLK_SECTOR));
    if (!f->tried)
        try_uring(f);
    set_op(io);
    run(f, io);
}

static void blk_file_drain(struct blk_backend *b)
{
    struct blk_file *f = from_backend(b);

    if (f->slot >= 0)
        uring_drain(&f->client);
}

static void blk_file_commit(struct blk_backend *b)
{
    struct blk_file *f = from_backend(b);

    if (f->slot < 0)
        return;
    /* Without a loop nobody comes back for what is not done now. */
    if (f->uring->loop == NULL)
        uring_drain(&f->client);
    else
        uring_submit(&f->client);
}

static const struct blk_backend_ops blk_file_ops = {
    .submit = blk_file_submit,
    .commit = blk_file_commit,
    .drain = blk_file_drain,
};
