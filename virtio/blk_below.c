/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk_below.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "vmm/base/num.h"

static int open_files(struct blk_below *b, const int *fds, uint32_t file_count,
    struct uring *uring, struct err *err)
{
    b->files = calloc(num_max(file_count, 1), sizeof(*b->files));
    if (b->files == NULL)
        return err_sys(err, ENOMEM, "disk of a snapshot");
    for (uint32_t i = 0; i < file_count; i++) {
        struct blk_file_config config = {.path = "disk of a snapshot",
            .fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 3),
            .uring = uring,
            .read_only = true};
        const char *none;
        int rc;

        if (config.fd < 0)
            return err_sys(err, errno, "disk of a snapshot");
        rc = blk_file_open(&b->files[i], &config, &none, err);
        if (rc < 0)
            return rc;
        b->file_count = i + 1;
    }
    return 0;
}

int blk_below_init(struct blk_below *b, struct blk_below_run *runs,
    size_t run_count, uint64_t clusters, const int *fds, uint32_t file_count,
    struct uring *uring, struct err *err)
{
    uint64_t next = 0;
    int rc;

    *b = (struct blk_below){.runs = runs, .run_count = run_count};
    rc = open_files(b, fds, file_count, uring, err);
    if (rc < 0) {
        blk_below_fini(b);
        return rc;
    }
    for (size_t i = 0; i < run_count; i++) {
        const struct blk_below_run *run = &runs[i];

        assert(run->first == next && run->count > 0);
        next += run->count;
        if (run->state != BLK_CLUSTER_DATA)
            continue;
        assert(run->file < file_count);
        /* Whose files they are may have cut them since they were checked. */
        if (!num_range_within(run->at, run->count,
                b->files[run->file].backend.capacity * BLK_SECTOR /
                    BLK_CLUSTER)) {
            blk_below_fini(b);
            return err_set(
                err, EBADMSG, "an image of the disk is shorter than it was");
        }
    }
    assert(next == clusters);
    (void)clusters;
    return 0;
}

void blk_below_fini(struct blk_below *b)
{
    for (uint32_t i = 0; i < b->file_count; i++)
        blk_file_close(&b->files[i]);
    free(b->files);
    free(b->runs);
    *b = (struct blk_below){0};
}

void blk_below_adopt(struct blk_below *b, const struct blk_backend *base)
{
    for (uint32_t i = 0; i < b->file_count; i++) {
        b->files[i].backend.dev = base->dev;
        b->files[i].backend.batch_done = base->batch_done;
        b->files[i].backend.opaque = base->opaque;
    }
}

void blk_below_commit(struct blk_below *b)
{
    for (uint32_t i = 0; i < b->file_count; i++)
        b->files[i].backend.ops->commit(&b->files[i].backend);
}

void blk_below_drain(struct blk_below *b)
{
    for (uint32_t i = 0; i < b->file_count; i++)
        b->files[i].backend.ops->drain(&b->files[i].backend);
}

/* The run that holds a cluster of the disk. */
static const struct blk_below_run *find_run(
    const struct blk_below *b, uint64_t cluster)
{
    size_t low = 0;
    size_t high = b->run_count;

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (b->runs[middle].first <= cluster)
            low = middle;
        else
            high = middle;
    }
    return &b->runs[low];
}

uint64_t blk_below_locate(const struct blk_below *b, uint64_t first,
    uint64_t max, struct blk_backend *base, struct blk_source *ret_source)
{
    const struct blk_below_run *run = find_run(b, first);
    uint64_t skip = first - run->first;

    assert(skip < run->count);
    switch (run->state) {
    case BLK_CLUSTER_DATA:
        *ret_source =
            (struct blk_source){.backend = &b->files[run->file].backend,
                .offset = (run->at + skip) * BLK_CLUSTER};
        break;
    case BLK_CLUSTER_ZERO:
        *ret_source = (struct blk_source){0};
        break;
    case BLK_CLUSTER_BASE:
    default:
        *ret_source =
            (struct blk_source){.backend = base, .offset = first * BLK_CLUSTER};
        break;
    }
    return num_min(run->count - skip, max);
}
