/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and trees between the host and a guest: the host's side of COPY_IN
 * and COPY_OUT (docs/agent-protocol.md) over a blocking connection to the
 * agent, one operation each.
 *
 * Thread rule: one thread. What a guest sends is hostile: every name is
 * checked and resolved below the destination without following any link, what
 * is there already is unlinked and never written through, links are made and
 * never followed, and what it may fill is bounded.
 */
#ifndef VMM_GUEST_COPY_H
#define VMM_GUEST_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define GUEST_COPY_BYTES_DEFAULT (UINT64_C(64) << 30)
#define GUEST_COPY_ENTRIES_MAX   UINT64_C(10000000)

struct guest_copy_options {
    /* Owners, times and set-id bits too; without it modes only. */
    bool archive;
    /* From a guest: file sizes, holes included, together. */
    uint64_t max_bytes;
};

struct guest_copy_result {
    uint64_t entries;
    uint64_t bytes;
    uint64_t skipped; /* devices, sockets, pipes */
};

/*
 * Copies what `src` is in `src_dir` to `name` in the folder `dst` of the
 * guest; "." for `name` puts what a folder contains into `dst`, which is made
 * if it is missing. A link as `src` itself is followed, one below is copied.
 */
CC_MUST_CHECK int guest_copy_in(int fd, int src_dir, const char *src,
    const char *dst, const char *name, const struct guest_copy_options *options,
    struct guest_copy_result *ret_result, struct err *err);

/*
 * Copies what the guest's path `src` is to `name` in the folder `dst_dir`;
 * "." for `name` puts what a folder contains into it. What was made before a
 * failure stays, but for a file that is not whole.
 */
CC_MUST_CHECK int guest_copy_out(int fd, const char *src, int dst_dir,
    const char *name, const struct guest_copy_options *options,
    struct guest_copy_result *ret_result, struct err *err);

/* Whether the guest's path is a folder, or a link to one; false if nothing. */
CC_MUST_CHECK int guest_copy_is_dir(
    int fd, const char *path, bool *ret_is_dir, struct err *err);

#endif
