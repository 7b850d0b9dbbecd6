/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flush of an overlay: data, then the map, each made durable in turn.
 * Part of virtio/blk_overlay, whose thread rule it has.
 */
#ifndef VIRTIO_BLK_OVERLAY_FLUSH_H
#define VIRTIO_BLK_OVERLAY_FLUSH_H

#include "virtio/blk_overlay.h"

static inline void blk_io_list_put(struct blk_io_list *list, struct blk_io *io)
{
    io->next = NULL;
    if (list->head == NULL)
        list->head = io;
    else
        list->tail->next = io;
    list->tail = io;
}

static inline struct blk_io *blk_io_list_take(struct blk_io_list *list)
{
    struct blk_io *io = list->head;

    if (io != NULL)
        list->head = io->next;
    return io;
}

/*
 * Completes `io` when all that has completed before now is durable. Those
 * that come while one is under way share the next.
 */
void blk_overlay_flush_add(struct blk_overlay *o, struct blk_io *io);

/* Whether any has not completed. */
bool blk_overlay_flush_is_busy(const struct blk_overlay *o);

/* Room for the map's images: 0 or -ENOMEM. */
CC_MUST_CHECK int blk_overlay_flush_init(struct blk_overlay *o);
void blk_overlay_flush_fini(struct blk_overlay *o);

#endif
