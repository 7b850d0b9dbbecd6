/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files in the directory of a snapshot, which may be anything until it was
 * looked at: only regular ones are opened, relative to the directory, and
 * never through a link. Thread rule: none.
 */
#ifndef SNAPSHOT_DIRFILE_H
#define SNAPSHOT_DIRFILE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/*
 * A regular file in a directory, opened without following links. -ENOENT,
 * -ELOOP, -EINVAL (not a regular file), or -errno; no text.
 */
CC_MUST_CHECK int dirfile_open(
    int dir_fd, const char *name, uint64_t *ret_size, int *ret_fd);

/*
 * All of such a file in fresh memory (from malloc, not NULL when empty), as
 * large as it was when opened. -EFBIG above `max`, -ENODATA if it shrank.
 */
CC_MUST_CHECK int dirfile_read(int dir_fd, const char *name, size_t max,
    uint8_t **ret_data, size_t *ret_size, struct err *err);

/* Replaces a hint whole: a temporary file, renamed; no fsync. */
CC_MUST_CHECK int dirfile_replace(int dir_fd, const char *name,
    const void *data, size_t size, struct err *err);

#endif
