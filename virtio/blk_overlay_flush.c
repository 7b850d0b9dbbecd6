/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk_overlay_flush.h"

#include <errno.h>
#include <stdlib.h>

#include "virtio/blk_overlay_format.h"

/* Blocks of the map, 63 MiB of disk each, that one round makes durable. */
#define ROUND_BLOCKS 64u

static void step(struct blk_overlay *o);

static void run(struct blk_overlay *o)
{
    o->flush_again = true;
    /* A backend that completes at once calls back while we are at it. */
    if (o->flush_running)
        return;
    o->flush_running = true;
    while (o->flush_again) {
        o->flush_again = false;
        step(o);
    }
    o->flush_running = false;
}

static void child_done(struct blk_io *io, int rc)
{
    struct blk_overlay *o = container_of(io, struct blk_overlay, flush_io);

    o->flush_rc = rc;
    run(o);
}

static void submit_sync(struct blk_overlay *o, enum blk_overlay_flush state)
{
    struct blk_backend *upper = o->config.upper;

    o->flush = state;
    o->flush_io = (struct blk_io){.kind = BLK_FLUSH, .done = child_done};
    upper->ops->submit(upper, &o->flush_io);
}

static void submit_image(struct blk_overlay *o)
{
    struct blk_backend *upper = o->config.upper;
    uint64_t block = o->image_blocks[o->image_at];

    o->flush_iov = (struct iovec){
        .iov_base = o->images + (size_t)o->image_at * BLK_OVERLAY_BLOCK,
        .iov_len = BLK_OVERLAY_BLOCK};
    o->image_at++;
    o->flush = BLK_OVERLAY_FLUSH_MAP;
    o->flush_io = (struct blk_io){.kind = BLK_WRITE,
        .offset = blk_overlay_slot_offset(block, o->sequences[block] + 1),
        .len = BLK_OVERLAY_BLOCK,
        .iov = &o->flush_iov,
        .iov_count = 1,
        .done = child_done};
    upper->ops->submit(upper, &o->flush_io);
}

/*
 * Images of the map as it is now: what it says of data that has been written
 * is made durable after that data, whatever the map says by then.
 */
static void take_images(struct blk_overlay *o)
{
    size_t block = o->flush_from;
    size_t count;

    o->image_count = 0;
    o->image_at = 0;
    while (o->image_count < ROUND_BLOCKS &&
           bitmap_next_run(&o->map.unsaved, block, &block, &count)) {
        o->image_blocks[o->image_count] = block;
        blk_overlay_map_encode(&o->map, block, o->sequences[block] + 1,
            o->images + (size_t)o->image_count * BLK_OVERLAY_BLOCK);
        bitmap_clear(&o->map.unsaved, block, 1);
        o->image_count++;
        block++;
    }
    /* Onwards only: what changes behind it is for the next flush. */
    o->flush_from = block;
}

static void finish(struct blk_overlay *o, int rc)
{
    struct blk_io_list done = o->flush_now;
    struct blk_io *io;

    /* The slots that were to be written are written again next time. */
    for (unsigned int i = 0; rc < 0 && i < o->image_count; i++)
        bitmap_set(&o->map.unsaved, o->image_blocks[i], 1);
    o->image_count = 0;
    o->flush_now.head = NULL;
    o->flush = BLK_OVERLAY_FLUSH_IDLE;
    while ((io = blk_io_list_take(&done)) != NULL)
        io->done(io, rc);
    o->flush_again = true;
}

static void begin(struct blk_overlay *o)
{
    if (o->flush_next.head == NULL)
        return;
    o->flush_now = o->flush_next;
    o->flush_next.head = NULL;
    o->flush_from = 0;
    take_images(o);
    submit_sync(o, BLK_OVERLAY_FLUSH_DATA);
}

/* Only now may the slots with the older images be overwritten. */
static void end_round(struct blk_overlay *o)
{
    for (unsigned int i = 0; i < o->image_count; i++)
        o->sequences[o->image_blocks[i]]++;
    take_images(o);
    if (o->image_count > 0)
        submit_sync(o, BLK_OVERLAY_FLUSH_DATA);
    else
        finish(o, 0);
}

/* Goes on after what was submitted last has completed. */
static void step(struct blk_overlay *o)
{
    int rc = o->flush_rc;

    o->flush_rc = 0;
    if (o->flush != BLK_OVERLAY_FLUSH_IDLE && rc < 0) {
        finish(o, rc);
        return;
    }
    switch (o->flush) {
    case BLK_OVERLAY_FLUSH_IDLE:
        begin(o);
        break;
    case BLK_OVERLAY_FLUSH_DATA:
        if (o->image_count == 0)
            finish(o, 0);
        else
            submit_image(o);
        break;
    case BLK_OVERLAY_FLUSH_MAP:
        if (o->image_at < o->image_count)
            submit_image(o);
        else
            submit_sync(o, BLK_OVERLAY_FLUSH_LAST);
        break;
    case BLK_OVERLAY_FLUSH_LAST:
        end_round(o);
        break;
    }
}

void blk_overlay_flush_add(struct blk_overlay *o, struct blk_io *io)
{
    blk_io_list_put(&o->flush_next, io);
    if (o->flush == BLK_OVERLAY_FLUSH_IDLE)
        run(o);
}

bool blk_overlay_flush_is_busy(const struct blk_overlay *o)
{
    return o->flush != BLK_OVERLAY_FLUSH_IDLE || o->flush_next.head != NULL;
}

int blk_overlay_flush_init(struct blk_overlay *o)
{
    o->images = calloc(ROUND_BLOCKS, BLK_OVERLAY_BLOCK);
    o->image_blocks = calloc(ROUND_BLOCKS, sizeof(*o->image_blocks));
    o->sequences =
        calloc(blk_overlay_map_blocks(o->map.clusters), sizeof(*o->sequences));
    return o->images == NULL || o->image_blocks == NULL || o->sequences == NULL
               ? -ENOMEM
               : 0;
}

void blk_overlay_flush_fini(struct blk_overlay *o)
{
    free(o->images);
    free(o->image_blocks);
    free(o->sequences);
}
