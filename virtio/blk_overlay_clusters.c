/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk_overlay_clusters.h"

#include <assert.h>
#include <string.h>

#include "vmm/base/num.h"

void blk_overlay_take_dirty(struct blk_overlay *o, struct bitmap *into)
{
    blk_map_take_dirty(&o->map, into);
}

uint64_t blk_overlay_locate(const struct blk_overlay *o, uint64_t first,
    uint64_t max, struct blk_source *ret_source)
{
    enum blk_cluster_state state;
    uint64_t count = blk_map_run(&o->map, first, max, &state);

    if (state == BLK_CLUSTER_BASE && o->below != NULL)
        return blk_below_locate(
            o->below, first, count, o->config.base, ret_source);
    *ret_source = (struct blk_source){.offset = first * BLK_CLUSTER};
    if (state != BLK_CLUSTER_ZERO)
        ret_source->backend =
            state == BLK_CLUSTER_DATA ? o->config.upper : o->config.base;
    return count;
}

/* An operation that is waited for. */
struct wait {
    struct blk_io io;
    struct iovec iov;
    int rc;
    bool is_done;
};

static void wait_done(struct blk_io *io, int rc)
{
    struct wait *w = container_of(io, struct wait, io);

    w->rc = rc;
    w->is_done = true;
}

static int do_wait(struct blk_backend *b, enum blk_io_kind kind,
    uint64_t offset, uint64_t len, uint8_t *data)
{
    struct wait w = {.io = {.kind = kind,
                         .offset = offset,
                         .len = len,
                         .iov_count = data != NULL,
                         .done = wait_done},
        .iov = {.iov_base = data, .iov_len = len}};

    w.io.iov = &w.iov;
    b->ops->submit(b, &w.io);
    b->ops->commit(b);
    if (!w.is_done)
        b->ops->drain(b);
    assert(w.is_done);
    return w.rc;
}

int blk_overlay_read(
    struct blk_overlay *o, uint64_t first, uint64_t count, uint8_t *ret_data)
{
    uint64_t at = first * BLK_CLUSTER;
    uint64_t len;

    assert(num_range_within(first, count, o->map.clusters));
    if (count == 0)
        return 0;
    len = num_min(count * BLK_CLUSTER, o->backend.capacity * BLK_SECTOR - at);
    memset(ret_data + len, 0, count * BLK_CLUSTER - len);
    return do_wait(&o->backend, BLK_READ, at, len, ret_data);
}

/* Of an upper that is limited, so that putting back does not use it up. */
static void give_back(struct blk_overlay *o, uint64_t first, uint64_t count)
{
    struct blk_backend *upper = o->config.upper;

    if (!upper->can_discard || !blk_overlay_limit_holds(o, first, count))
        return;
    if (do_wait(upper, BLK_DISCARD, o->config.data_offset + first * BLK_CLUSTER,
            count * BLK_CLUSTER, NULL) == 0)
        blk_overlay_limit_give_back(o, first, count);
}

int blk_overlay_put(struct blk_overlay *o, uint64_t first, uint64_t count,
    enum blk_cluster_state state, const uint8_t *data)
{
    int rc = 0;

    assert(num_range_within(first, count, o->map.clusters));
    assert((state == BLK_CLUSTER_DATA) == (data != NULL));
    blk_overlay_adopt(o);
    if (data != NULL && count > 0)
        rc = do_wait(o->config.upper, BLK_WRITE,
            o->config.data_offset + first * BLK_CLUSTER, count * BLK_CLUSTER,
            (uint8_t *)(uintptr_t)data);
    if (rc < 0)
        return rc;
    blk_map_set(&o->map, first, count, state);
    if (data != NULL)
        blk_overlay_limit_force(o, first, count);
    else
        give_back(o, first, count);
    return 0;
}

int blk_overlay_sync(struct blk_overlay *o)
{
    return do_wait(&o->backend, BLK_FLUSH, 0, 0, NULL);
}
