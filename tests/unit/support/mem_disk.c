/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/support/mem_disk.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/num.h"

static void move(struct mem_disk *d, const struct blk_io *io, uint64_t len)
{
    uint64_t at = io->offset;

    for (unsigned int i = 0; i < io->iov_count && len > 0; i++) {
        uint64_t n = num_min(len, io->iov[i].iov_len);

        if (io->kind == BLK_READ)
            memcpy(io->iov[i].iov_base, d->data + at, n);
        else
            memcpy(d->data + at, io->iov[i].iov_base, n);
        at += n;
        len -= n;
    }
    assert(len == 0);
}

static int effect(struct mem_disk *d, const struct blk_io *io)
{
    int rc = io->kind == BLK_READ ? 0 : d->fails_with;

    if (d->on_effect != NULL)
        d->on_effect(d->opaque, io);
    switch (io->kind) {
    case BLK_READ:
        d->reads++;
        if (d->reads_fail)
            return -EIO;
        move(d, io, io->len);
        break;
    case BLK_WRITE:
        d->writes++;
        if (rc == 0 || d->tears)
            move(d, io, rc == 0 ? io->len : io->len / 2);
        break;
    case BLK_FLUSH:
        d->flushes++;
        break;
    case BLK_DISCARD:
    case BLK_ZERO:
        d->zeroes++;
        if (rc == 0)
            memset(d->data + io->offset, 0, io->len);
        break;
    }
    return rc;
}

void mem_disk_finish(struct mem_disk *d, unsigned int i)
{
    struct blk_io *io = d->held[i];

    assert(i < d->held_count);
    d->held[i] = d->held[--d->held_count];
    io->done(io, effect(d, io));
}

static void mem_disk_submit(struct blk_backend *b, struct blk_io *io)
{
    struct mem_disk *d = container_of(b, struct mem_disk, backend);

    assert(num_range_within(
        io->offset, io->len, d->backend.capacity * BLK_SECTOR));
    assert(!b->read_only || io->kind == BLK_READ || io->kind == BLK_FLUSH);
    assert(d->held_count < MEM_DISK_HELD_MAX);
    d->held[d->held_count++] = io;
    if (!d->holds)
        mem_disk_finish(d, d->held_count - 1);
}

static void mem_disk_commit(struct blk_backend *b)
{
    container_of(b, struct mem_disk, backend)->commits++;
}

static void mem_disk_drain(struct blk_backend *b)
{
    struct mem_disk *d = container_of(b, struct mem_disk, backend);

    /* Order is not promised: the one in the middle first. */
    while (d->held_count > 0)
        mem_disk_finish(d, d->held_count / 2);
    if (b->batch_done != NULL)
        b->batch_done(b->opaque);
}

static const struct blk_backend_ops mem_disk_ops = {
    .submit = mem_disk_submit,
    .commit = mem_disk_commit,
    .drain = mem_disk_drain,
};

void mem_disk_init(struct mem_disk *d, uint8_t *data, uint64_t sectors)
{
    *d = (struct mem_disk){.data = data,
        .backend = {.ops = &mem_disk_ops,
            .capacity = sectors,
            .block_size = BLK_SECTOR,
            .physical_size = 4096,
            .can_discard = true,
            .can_zero = true}};
}
