/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image file while a save fills it, and the account of what is in it.
 *
 * Pages go to their own place (page n at n * 4096) unless they are zero; for
 * each page that was put, the account says what it is: data (with its hash,
 * made while the bytes are at hand), zero, or as the disk below has it. Later
 * ones go over earlier ones. No store is looked at: that is for who assembles
 * the snapshot, another process perhaps (snapshot/assembly.h).
 * Guest-controlled: the bytes, which are not looked at but for being zero.
 * Thread rule: one thread.
 */
#ifndef SNAPSHOT_CAPTURE_IMAGE_H
#define SNAPSHOT_CAPTURE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/page_hashes.h"
#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct capture_image {
    int fd; /* borrowed; -1 once the image is written */
    uint64_t pages;
    bool is_diff; /* what was not put is as the parent has it */
    struct bitmap put;
    struct bitmap data;        /* of those put */
    struct bitmap below;       /* of those put, none of `data` */
    struct page_hashes hashes; /* of those of `data` */
};

/*
 * For a file that may be another process's: -EINVAL unless it is a regular one
 * of exactly `pages` pages that can be written to.
 */
CC_MUST_CHECK int capture_image_init(
    struct capture_image *image, int fd, uint64_t pages, struct err *err);
void capture_image_fini(struct capture_image *image);

/* `count` pages from `page` on; the bytes must not change meanwhile. */
CC_MUST_CHECK int capture_image_put(struct capture_image *image, uint64_t page,
    const void *data, uint64_t count, struct err *err);

/* Pages known to be zero, or (of a disk) as the disk below has them. */
void capture_image_put_zero(
    struct capture_image *image, uint64_t page, uint64_t count);
void capture_image_put_below(
    struct capture_image *image, uint64_t page, uint64_t count);

#endif
