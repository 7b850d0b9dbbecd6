/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio block device (virtio 1.2, 5.2) and the contract of what stands
 * behind it.
 *
 * The device decodes and checks requests; a backend moves the bytes. One
 * request queue. Every write is on stable storage once a FLUSH behind it has
 * completed, or once it has itself completed when the driver did not accept
 * VIRTIO_BLK_F_FLUSH (5.2.6.2).
 *
 * Thread rule: as virtio/device.h has it; a backend is called with the
 * device's lock held. Guest-controlled: the requests, in whole. A backend
 * sees ranges that are checked against its capacity.
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

    struct uring_op op; /* the backend's own, as is `left` */
    uint64_t left;
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

    /* The device's, set by blk_init before the first submit. */
    struct device *dev;
    void (*batch_done)(void *opaque); /* after done()s outside of submit */
    void *opaque;
};

/* What a snapshot keeps; no padding. */
struct blk_state {
    struct virtio_state virtio;
    uint64_t capacity; /* sectors, as the guest was told */
};

struct blk {
    struct virtio_device virtio;
    struct blk_state state;
    struct blk_backend *backend; /* borrowed */
    char serial[BLK_ID_BYTES + 1];
    uint16_t queue_size;
    bool unsafe;
};

struct blk_config {
    const char *id;              /* unique in the machine; borrowed */
    const char *serial;          /* up to BLK_ID_BYTES bytes count */
    struct blk_backend *backend; /* borrowed */
    uint16_t queue_size;         /* a power of two, 4 to BLK_QUEUE_SIZE_MAX */
    bool unsafe; /* no FLUSH is offered, and writes are not made durable */
};

CC_MUST_CHECK int blk_init(struct blk *blk, const struct blk_config *config,
    const struct virtio_host *host, struct err *err);

/* As virtio_fini. The backend is the caller's to close afterwards. */
void blk_fini(struct blk *blk);

#endif
