/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio memory balloon (virtio 1.2, 5.5): gives pages that the guest has
 * no use for back to the host.
 *
 * Pages come back in three ways: inflated, up to a target that the host sets;
 * reported as free by the driver on its own (5.5.6.7); hinted as free while
 * the host asks for that (5.5.6.5). Each is a hole in the guest's memory at
 * once, and a zero page when it is next touched, so deflating needs no work.
 * A driver under memory pressure may reuse a hinted page before the hint is
 * looked at, and then loses what it wrote there: hints are for guests with
 * memory to spare, and are not offered unless configured. Reports have no
 * such gap.
 *
 * No chain is in flight between two calls: one that is not finished stays at
 * the head of its queue, with the part that is done in the state, and so does
 * the buffer of statistics until the next are wanted.
 *
 * Thread rule: as virtio/device.h has it; functions that are not init or fini
 * are called on the loop's thread with the device's lock held.
 * Guest-controlled: all requests, `actual`, and the statistics, any of which
 * may be a lie. After a load all of struct balloon_state is hostile.
 */
#ifndef VIRTIO_BALLOON_H
#define VIRTIO_BALLOON_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/device.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/base/le.h"
#include "vmm/core/loop.h"

/* 5.5.3 Feature bits. */
#define BALLOON_F_STATS_VQ       (UINT64_C(1) << 1)
#define BALLOON_F_DEFLATE_ON_OOM (UINT64_C(1) << 2)
#define BALLOON_F_FREE_PAGE_HINT (UINT64_C(1) << 3)
#define BALLOON_F_PAGE_REPORTING (UINT64_C(1) << 5)

/*
 * What a queue is for. 5.5.2 numbers them so; Linux leaves out those that
 * were not negotiated and moves the others up, and so does this device.
 */
enum balloon_role {
    BALLOON_INFLATE,
    BALLOON_DEFLATE,
    BALLOON_STATS,
    BALLOON_HINT,
    BALLOON_REPORT,
    BALLOON_ROLES,
};

/* 5.5.6 Page frame numbers are of 4 KiB, whatever the guest's pages. */
#define BALLOON_PFN_SHIFT 12

/* 5.5.4 Device configuration layout, up to free_page_hint_cmd_id. */
struct balloon_config_space {
    le32 num_pages;
    le32 actual;
    le32 free_page_hint_cmd_id;
};
_Static_assert(sizeof(struct balloon_config_space) == 12, "virtio 1.2, 5.5.4");

/* 5.5.6.5 Command ids; those of a run are from BALLOON_CMD_FIRST up. */
#define BALLOON_CMD_STOP  0u
#define BALLOON_CMD_DONE  1u
#define BALLOON_CMD_FIRST 2u

/* 5.5.6.3 One entry of the statistics. */
struct balloon_stat {
    le16 tag;
    le64 value;
};
_Static_assert(sizeof(struct balloon_stat) == 10, "virtio 1.2, 5.5.6.3");

/* 5.5.6.4 Tags; those from OOM_KILL up are additions of Linux. */
enum balloon_tag {
    BALLOON_S_SWAP_IN, /* bytes */
    BALLOON_S_SWAP_OUT,
    BALLOON_S_MAJFLT, /* count */
    BALLOON_S_MINFLT,
    BALLOON_S_MEMFREE, /* bytes */
    BALLOON_S_MEMTOT,
    BALLOON_S_AVAIL,
    BALLOON_S_CACHES,
    BALLOON_S_HTLB_PGALLOC, /* count */
    BALLOON_S_HTLB_PGFAIL,
    BALLOON_S_OOM_KILL,
    BALLOON_S_ALLOC_STALL,
    BALLOON_S_ASYNC_SCAN, /* pages */
    BALLOON_S_DIRECT_SCAN,
    BALLOON_S_ASYNC_RECLAIM,
    BALLOON_S_DIRECT_RECLAIM,
    BALLOON_TAGS,
};

/* What the guest said last. */
struct balloon_guest_stats {
    uint64_t values[BALLOON_TAGS]; /* by tag */
    uint32_t present;              /* a bit per tag */
    uint64_t updates;              /* reports so far */
};

/* What a snapshot keeps; no padding. */
struct balloon_state {
    struct virtio_state virtio;
    uint32_t target;              /* pages that the balloon should have */
    uint32_t actual;              /* that it has, says the driver */
    uint32_t host_cmd;            /* as in the configuration space */
    uint32_t guest_cmd;           /* the last one that came with the hints */
    uint32_t last_cmd;            /* of the latest run; 0 before the first */
    uint32_t ack_stop;            /* 0 or 1: DONE when the guest has finished */
    uint32_t done[BALLOON_ROLES]; /* bytes of each queue's first chain */
    uint32_t reserved;            /* 0 */
};
_Static_assert(sizeof(struct balloon_state) == sizeof(struct virtio_state) + 48,
    "no padding");

/* Since the device was made; under the device's lock. */
struct balloon_stats {
    uint64_t inflated; /* pages, those that were in it already included */
    uint64_t deflated;
    uint64_t hinted;   /* pages that hints gave back */
    uint64_t reported; /* that reports did */
    uint64_t stale;    /* hints that belong to no run that goes on */
    uint64_t discards; /* calls of gmem_discard and gslice_discard */
    uint64_t failed;   /* of these */
};

struct balloon {
    struct virtio_device virtio;
    struct balloon_state state;
    struct balloon_guest_stats guest;
    struct balloon_stats stats;
    uint64_t interval_ms;    /* between statistics, 0: not by themselves */
    struct loop_timer timer; /* armed while a driver gives statistics */
};

struct balloon_config {
    const char *id;  /* unique in the machine; borrowed */
    uint64_t target; /* pages at first */
    /* Offers statistics if not 0, and is the time between them then. */
    uint64_t stats_interval_ms;
    bool deflate_on_oom; /* the guest may deflate when it runs out of memory */
    bool page_hinting;
    bool page_reporting;
};

#define BALLOON_INTERVAL_MS_MAX UINT64_C(86400000)

/*
 * Makes a device in its power-on state. -EINVAL for a target beyond the
 * guest's memory or an interval beyond BALLOON_INTERVAL_MS_MAX.
 */
CC_MUST_CHECK int balloon_init(struct balloon *b,
    const struct balloon_config *config, const struct virtio_host *host,
    struct err *err);

/* On the loop's thread, or when it runs no more. */
void balloon_fini(struct balloon *b);

/* Tells the driver how many pages to hold; -EINVAL as above. */
CC_MUST_CHECK int balloon_set_target(
    struct balloon *b, uint64_t pages, struct err *err);

/*
 * Sets the time between statistics. -EOPNOTSUPP if they were not offered,
 * -EINVAL for 0 or an interval that is too long.
 */
CC_MUST_CHECK int balloon_set_interval(
    struct balloon *b, uint64_t interval_ms, struct err *err);

/*
 * Asks the guest for statistics now, which are then in b->guest some time
 * later. False if it has not answered the last time yet, or gives none.
 */
bool balloon_poll_stats(struct balloon *b);

/*
 * Starts a run of hints, ending the one before: the driver hands in what is
 * free, and keeps those pages until the run is ended, by balloon_stop_hinting
 * or, with `ack_stop`, when the driver has finished. -EOPNOTSUPP if no driver
 * has accepted the feature.
 */
CC_MUST_CHECK int balloon_start_hinting(
    struct balloon *b, bool ack_stop, struct err *err);

/* Ends a run, if there is one: the driver gets its pages back. */
void balloon_stop_hinting(struct balloon *b);

#endif
