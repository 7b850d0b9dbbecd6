/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio block device (virtio 1.2, 5.2) and the contract of what stands
 * behind it.
 *
 * The device decodes and checks requests; a backend moves the bytes. Up to
 * VIRTIO_QUEUES_MAX request queues. Every write is on stable storage once a
 * FLUSH behind it has completed, or once it has itself completed when the
 * driver did not accept VIRTIO_BLK_F_FLUSH (5.2.6.2). A request beyond a rate
 * limit stays in its queue until a timer of the loop comes back to it.
 *
 * Thread rule: as virtio/device.h has it; a backend is called with the
 * device's lock held. What names the loop's thread below arms timers.
 * Guest-controlled: the requests, in whole. A backend sees ranges that are
 * checked against its capacity.
 */
#ifndef VIRTIO_BLK_H
#define VIRTIO_BLK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/device.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/base/le.h"
#include "vmm/base/log.h"
#include "vmm/core/rate.h"
#include "vmm/core/uring.h"

#define BLK_SECTOR         512u
#define BLK_QUEUE_SIZE_MAX 512u /* its chains fit one readv(2) */
#define BLK_ID_BYTES       20u
#define BLK_SEGMENT_BYTES  (UINT32_C(1) << 20) /* size_max that is offered */
#define BLK_RANGES_MAX     1u /* ranges in a DISCARD or WRITE_ZEROES */
#define BLK_RANGE_SECTORS  (UINT32_C(1) << 22) /* sectors in one: 2 GiB */

/* 5.2.3 Feature bits. */
#define BLK_F_SIZE_MAX     (UINT64_C(1) << 1)
#define BLK_F_SEG_MAX      (UINT64_C(1) << 2)
#define BLK_F_RO           (UINT64_C(1) << 5)
#define BLK_F_BLK_SIZE     (UINT64_C(1) << 6)
#define BLK_F_FLUSH        (UINT64_C(1) << 9)
#define BLK_F_TOPOLOGY     (UINT64_C(1) << 10)
#define BLK_F_MQ           (UINT64_C(1) << 12)
#define BLK_F_DISCARD      (UINT64_C(1) << 13)
#define BLK_F_WRITE_ZEROES (UINT64_C(1) << 14)

/* 5.2.6 Request types and status. */
#define BLK_T_IN           0u
#define BLK_T_OUT          1u
#define BLK_T_FLUSH        4u
#define BLK_T_GET_ID       8u
#define BLK_T_DISCARD      11u
#define BLK_T_WRITE_ZEROES 13u

#define BLK_S_OK     0u
#define BLK_S_IOERR  1u
#define BLK_S_UNSUPP 2u

/* 5.2.6 What every request starts with. */
struct blk_header {
    le32 type;
    le32 reserved;
    le64 sector;
};
_Static_assert(sizeof(struct blk_header) == 16, "virtio 1.2, 5.2.6");

/* 5.2.6 An element of DISCARD and WRITE_ZEROES. */
struct blk_range {
    le64 sector;
    le32 sectors;
    le32 flags;
};
_Static_assert(sizeof(struct blk_range) == 16, "virtio 1.2, 5.2.6");
#define BLK_RANGE_UNMAP 0x1u

/* 5.2.4 Device configuration layout, up to write_zeroes. */
struct blk_config_space {
    le64 capacity; /* sectors */
    le32 size_max;
    le32 seg_max;
    le16 cylinders;
    uint8_t heads;
    uint8_t sectors;
    le32 blk_size;
    uint8_t physical_block_exp;
    uint8_t alignment_offset;
    le16 min_io_size; /* blocks */
    le32 opt_io_size;
    uint8_t writeback;
    uint8_t unused0;
    le16 num_queues;
    le32 max_discard_sectors;
    le32 max_discard_seg;
    le32 discard_sector_alignment;
    le32 max_write_zeroes_sectors;
    le32 max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap;
    uint8_t unused1[3];
};
_Static_assert(sizeof(struct blk_config_space) == 60, "virtio 1.2, 5.2.4");

/*
 * One operation of a backend. BLK_ZERO makes the range read as zeroes,
 * keeping its place on the disk unless `may_unmap`; after BLK_DISCARD its
 * contents do not matter.
 */
enum blk_io_kind {
    BLK_READ,
    BLK_WRITE,
    BLK_FLUSH,
    BLK_DISCARD,
    BLK_ZERO,
};

struct blk_io {
    enum blk_io_kind kind;
    bool durable;      /* BLK_WRITE: as if a flush followed */
    bool may_unmap;    /* BLK_ZERO */
    uint64_t offset;   /* bytes, whole sectors */
    uint64_t len;      /* bytes; of READ and WRITE that of the iovecs */
    struct iovec *iov; /* the backend's to change */
    unsigned int iov_count;

    /*
     * `rc` is 0 or -errno. May come before submit() returns. After a read,
     * failed or not, any of its bytes may have been written to.
     */
    void (*done)(struct blk_io *io, int rc);

    struct uring_op op; /* the backend's own, as is the rest */
    uint64_t left;
    struct blk_io *next;
};

struct blk_backend;

struct blk_backend_ops {
    /* Starts an operation; it may be held back until commit. */
    void (*submit)(struct blk_backend *b, struct blk_io *io);

    /* The end of a batch of submits. */
    void (*commit)(struct blk_backend *b);

    /* Returns when every operation is done. */
    void (*drain)(struct blk_backend *b);
};

struct blk_backend {
    const struct blk_backend_ops *ops;
    uint64_t capacity;      /* sectors */
    uint32_t block_size;    /* logical, bytes: 512 to 4096 */
    uint32_t physical_size; /* bytes, a power of two >= block_size */
    bool read_only;
    bool can_discard;
    bool can_zero;

    /* The device's, set before the first submit. */
    struct device *dev;
    void (*batch_done)(void *opaque); /* after done()s outside of submit */
    void *opaque;
};

/* What a snapshot keeps; no padding. */
struct blk_state {
    struct virtio_state virtio;
    uint64_t capacity; /* sectors, as the guest was told */
    struct rate_state rate;
};
_Static_assert(sizeof(struct blk_state) == sizeof(struct virtio_state) +
                                               sizeof(uint64_t) +
                                               sizeof(struct rate_state),
    "no padding");

struct blk {
    struct virtio_device virtio;
    struct blk_state state;
    struct virtio_ops ops;       /* blk.c's, with the number of queues */
    struct blk_backend *backend; /* borrowed */
    char serial[BLK_ID_BYTES + 1];
    uint16_t queue_size;
    bool unsafe;
    struct rate rate;
    struct loop_timer timer;
    uint32_t waiting;   /* bit per queue that stands still for the limit */
    uint64_t throttled; /* times that one began to */
    uint32_t failing;   /* bit per enum blk_io_kind: the last one failed */
    struct log_rate log_rate;
};

struct blk_config {
    const char *id;              /* unique in the machine; borrowed */
    const char *serial;          /* up to BLK_ID_BYTES bytes count */
    struct blk_backend *backend; /* borrowed */
    uint16_t queue_size;         /* a power of two, 4 to BLK_QUEUE_SIZE_MAX */
    uint16_t queue_count;        /* 1 to VIRTIO_QUEUES_MAX */
    bool unsafe; /* no FLUSH is offered, and writes are not made durable */
    struct rate_config rate; /* data bytes, and requests; all zero: no limit */
};

/*
 * Makes a device in its power-on state. -EINVAL for limits that rate_check
 * refuses. Without a loop in `host` nothing is limited: nothing could come
 * back to a request later.
 */
CC_MUST_CHECK int blk_init(struct blk *blk, const struct blk_config *config,
    const struct virtio_host *host, struct err *err);

/* As virtio_fini, on the loop's thread. The caller closes the backend. */
void blk_fini(struct blk *blk);

/*
 * New limits, in force at once also for what waits; a bucket that `change`
 * leaves out keeps its limit and its tokens. On the loop's thread, with the
 * lock held. -EINVAL, and nothing changed, for limits that are refused.
 */
CC_MUST_CHECK int blk_set_rate(
    struct blk *blk, const struct rate_change *change, struct err *err);

/*
 * Puts another disk behind the device: completes what is in flight on the one
 * it has, hands that back in *ret_old for the caller to close, and tells the
 * guest of the new capacity (5.2.5). With the lock held. -EINVAL, nothing
 * changed, for a disk that the driver could not be told of: one that differs
 * in being read-only or in its logical block size.
 */
CC_MUST_CHECK int blk_set_backend(struct blk *blk, struct blk_backend *backend,
    struct blk_backend **ret_old, struct err *err);

#endif
