/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-write: a backend made of a disk that is only read (the base, shared
 * by any number of guests) and one that takes the writes (the upper). A map
 * says for each cluster of 4 KiB whether it is as the base, in the upper, or
 * zeroes (virtio/blk_map.h); the upper has it at `data_offset` plus its place
 * on the disk.
 *
 * A write to part of a cluster that is not in the upper brings the rest of it
 * from below, in one write of whole clusters, after which the map changes: a
 * write that fails leaves the disk as it was. Writes that change the map and
 * discards exclude other writes to the same clusters, which wait; reads never
 * wait for a write. Zeroes and discards of whole clusters only change the map
 * and give the space back.
 *
 * With `persistent` a FLUSH makes durable first what was written, then the
 * part of the map that speaks of it, so that a crash at any time leaves each
 * sector as the last flush had it or as something written since. Without, the
 * upper goes with the process and a flush is nothing.
 *
 * The upper can be limited (virtio/blk_overlay_limit.h): a write that would
 * need more of it than that fails with -EDQUOT and changes nothing.
 *
 * In a machine that was restored "as the base" means as the snapshot has it
 * (virtio/blk_below.h), and only what that does not have is the base's.
 *
 * Snapshots work through virtio/blk_overlay_clusters.h, from the set of
 * clusters that were written since the last mark.
 *
 * Thread rule: as virtio/blk.h has it. Nothing is allocated per request.
 * Guest-controlled: ranges, which are checked, and their order.
 */
#ifndef VIRTIO_BLK_OVERLAY_H
#define VIRTIO_BLK_OVERLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/blk.h"
#include "virtio/blk_below.h"
#include "virtio/blk_overlay_limit.h"
#include "virtio/blk_map.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct blk_overlay_task;

struct blk_overlay_config {
    struct blk_backend *base;  /* borrowed */
    struct blk_backend *upper; /* borrowed; writable */
    uint64_t data_offset;      /* bytes in the upper, whole clusters */
    bool persistent;           /* the map has a place below data_offset */
    bool inline_only; /* without a loop: nothing is left when commit returns */
};

struct blk_io_list {
    struct blk_io *head;
    struct blk_io *tail; /* of no meaning while head is NULL */
};

/* How far the flush that is under way has come. */
enum blk_overlay_flush {
    BLK_OVERLAY_FLUSH_IDLE,
    BLK_OVERLAY_FLUSH_DATA, /* what the map is about to speak of */
    BLK_OVERLAY_FLUSH_MAP,  /* writing blocks of the map */
    BLK_OVERLAY_FLUSH_LAST, /* and syncing them */
};

struct blk_overlay {
    struct blk_backend backend; /* what the device is given */
    struct blk_overlay_config config;
    struct blk_map map;
    struct blk_overlay_limit limit;
    struct blk_below *below; /* borrowed; NULL: nothing above the base */
    uint64_t *sequences;     /* of each map block; NULL unless persistent */

    struct blk_overlay_task *tasks; /* the pool */
    struct blk_overlay_task *free;
    struct blk_overlay_task *active;
    struct blk_io_list waiting; /* for a task or for clusters */
    bool adopted;               /* base and upper know the device */
    bool pumping;
    bool pump_again;

    /* The flush under way, and those that wait for the next one. */
    enum blk_overlay_flush flush;
    struct blk_io_list flush_now;
    struct blk_io_list flush_next;
    struct blk_io flush_io;
    struct iovec flush_iov;
    uint8_t *images; /* of map blocks; NULL unless persistent */
    uint64_t *image_blocks;
    unsigned int image_count;
    unsigned int image_at;
    uint64_t flush_from; /* the map block it goes on with */
    int flush_rc;
    bool flush_running;
    bool flush_again;
    bool flush_ready;
};

/*
 * An overlay without a change in it: 0, or -ENOMEM. The upper has room for
 * every cluster behind data_offset. With `persistent` the caller then fills
 * in map and sequences from the file, and clears map.unsaved.
 */
CC_MUST_CHECK int blk_overlay_init(struct blk_overlay *o,
    const struct blk_overlay_config *config, struct err *err);

/* Nothing may be in flight. */
void blk_overlay_fini(struct blk_overlay *o);

/*
 * Puts clusters of a snapshot between the overlay and its base. Nothing is in
 * flight, and of no cluster is anything known that they would belie: the map
 * is as blk_overlay_init left it. `below` is borrowed; not for one that is
 * persistent, whose file is to be enough.
 */
void blk_overlay_set_below(struct blk_overlay *o, struct blk_below *below);

/* Base and upper serve the device that the overlay was given; once. */
void blk_overlay_adopt(struct blk_overlay *o);

#endif
