/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy of an image, with its holes, that shares the disk's blocks where the
 * file system can do that.
 *
 * Thread rule: no state, any thread.
 */
#ifndef VMM_SERVE_ROOTFS_COPY_H
#define VMM_SERVE_ROOTFS_COPY_H

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/serve/interrupt.h"

/* Makes the file `path`, read-only; what is left of a failure is the caller's
 * to remove. */
CC_MUST_CHECK int rootfs_copy(int from_fd, const char *path,
    const struct interrupt *interrupt, struct err *err);

#endif
