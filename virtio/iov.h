/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cursors over the slices of a chain.
 *
 * A driver may cut a request into descriptors as it likes (virtio 1.2,
 * 2.7.4), so devices see bytes through these and never a descriptor. Writing
 * records the pages as dirty. Thread rule: a cursor belongs to one thread.
 * Guest-controlled: number, place and bytes of the slices; the bytes can
 * change at any time, so each is copied out once.
 */
#ifndef VIRTIO_IOV_H
#define VIRTIO_IOV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/queue.h"
#include "vmm/base/cc.h"
#include "vmm/core/gmem.h"

struct iov_cursor {
    const struct gslice *slice; /* the current one */
    uint64_t offset;            /* in it; < slice->len while left > 0 */
    uint64_t left;              /* bytes from here to the end */
};

/* The readable and the writable part of a chain, from their start. */
struct iov_cursor iov_readable(const struct queue_chain *chain);
struct iov_cursor iov_writable(const struct queue_chain *chain);

/* Copies out the next `len` bytes; false, nothing moved, if fewer are left. */
CC_MUST_CHECK bool iov_read(struct iov_cursor *c, void *dst, size_t len);

/* Copies in; likewise. For cursors over a writable part. */
CC_MUST_CHECK bool iov_write(struct iov_cursor *c, const void *src, size_t len);

/* Zeroes the next `len` bytes; likewise. */
CC_MUST_CHECK bool iov_zero(struct iov_cursor *c, uint64_t len);

/* Passes over `len` bytes; likewise. */
CC_MUST_CHECK bool iov_skip(struct iov_cursor *c, uint64_t len);

/*
 * Makes iovecs of the next `len` bytes (fewer are left: that many) in `iov`,
 * at most `max` of them, and moves past what they cover. The result is their
 * number, *ret_bytes their bytes; for system calls only.
 */
unsigned int iov_take(struct iov_cursor *c, uint64_t len, struct iovec *iov,
    unsigned int max, uint64_t *ret_bytes);

/*
 * Records that the next `len` bytes were written through iovecs, and moves
 * past them; len <= left is asserted.
 */
void iov_mark_dirty(struct iov_cursor *c, uint64_t len);

/*
 * Joins those of `count` iovecs that touch, which spares the kernel work; the
 * number that is left.
 */
unsigned int iov_join(struct iovec *iov, unsigned int count);

#endif
