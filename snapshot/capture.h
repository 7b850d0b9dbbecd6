/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a save took of a machine, on its way to where the snapshot is made.
 *
 * A save has two halves. The capture, in the process of the machine, fills
 * files that it was given, image files (snapshot/capture_image.h) and this
 * one: which pages were put into which image, and the machine's state. The
 * assembly (snapshot/assembly.h) makes a snapshot of them. Before both there
 * is a plan, which says which images are needed, and how large.
 *
 * The file, little-endian; it is read once and is no format to keep:
 *
 *   header    "SPORECAP", u32 version, u32 images, u64 bytes of the state
 *   images    u32 drive, u32 flags (1: a diff), u64 pages, u64 runs, u64
 *             pages of data; memory is the first of them, then drives in
 *             ascending order
 *   state     as the file `state` of a snapshot, without records
 *   runs      of each image in turn, ascending: u32 first page, u32 pages * 4 +
 *             kind (enum page_kind)
 *   hashes    of each image in turn: one for each page of data, in the order
 *             of the runs
 *
 * Thread rule: one thread. A capture that is read is hostile: it comes from a
 * process whose guest may have taken it over. All that a reader is told is
 * checked first, and what it is told of is bounded by the plan, which the
 * reader has checked before as well.
 */
#ifndef SNAPSHOT_CAPTURE_H
#define SNAPSHOT_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/capture_image.h"
#include "snapshot/disks.h"
#include "snapshot/page_index.h"
#include "snapshot/state_file.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* Memory, and each drive with an overlay. */
#define CAPTURE_IMAGES_MAX (1u + DISKS_MAX)

/* Of the section that only a capture has: who made it of what. */
#define CAPTURE_SECTION         "capture"
#define CAPTURE_SECTION_VERSION 1u

struct capture_plan_image {
    uint32_t drive; /* its number; 0 for memory */
    uint64_t pages;
};

struct capture_plan {
    /* What a diff would stand on; zero: there is nothing. */
    struct snapshot_id base;
    uint32_t image_count;
    struct capture_plan_image images[CAPTURE_IMAGES_MAX]; /* [0]: memory */
};

/* -EINVAL for one that no machine has. */
CC_MUST_CHECK int capture_plan_check(
    const struct capture_plan *plan, struct err *err);

/* What a snapshot says of the machine to people. */
struct capture_about {
    uint32_t vcpus;
    char kernel[256]; /* its path; "" if it is not known */
};

/* ---- writing ---- */

struct capture_part {
    uint32_t drive;
    const struct capture_image *image;
};

CC_MUST_CHECK int capture_add_about(struct state_writer *state,
    const struct capture_about *about, struct err *err);

/* Writes the empty file `fd`; images as in the plan, with about in `state`. */
CC_MUST_CHECK int capture_write(int fd, const struct capture_part *parts,
    uint32_t count, const struct state_writer *state, struct err *err);

/* ---- reading ---- */

struct capture_account {
    uint64_t pages;
    uint64_t runs;
    uint64_t data;          /* pages */
    uint64_t offset;        /* of the first run in the file */
    uint64_t hashes_offset; /* of the first hash */
    bool is_diff;
};

struct capture {
    int fd;                  /* borrowed */
    struct state_file state; /* without the section that is in `about` */
    struct capture_about about;
    uint32_t image_count;
    struct capture_account images[CAPTURE_IMAGES_MAX];
};

/*
 * Checks all but the runs. -EBADMSG: it is none, or not of this plan (which
 * passed capture_plan_check).
 */
CC_MUST_CHECK int capture_open(struct capture *ret_capture, int fd,
    const struct capture_plan *plan, struct err *err);
void capture_close(struct capture *capture);

/*
 * Hands out the runs of an image, long ones in pieces: ascending, disjoint,
 * within it, none empty, and PAGE_BELOW in none of memory; or -EBADMSG.
 * `hashes` are those of PAGE_DATA, else NULL: nothing says that they are of
 * those pages. A failure of `take` ends the walk and is returned.
 */
typedef int capture_run_fn(void *arg, enum page_kind kind, uint64_t page,
    uint64_t count, const struct hash128 *hashes, struct err *err);
CC_MUST_CHECK int capture_walk(const struct capture *capture, uint32_t image,
    capture_run_fn *take, void *arg, struct err *err);

#endif
