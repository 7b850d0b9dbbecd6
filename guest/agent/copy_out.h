/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COPY_OUT: walks a tree and makes frames of it, as room for them appears.
 * Owns one descriptor per directory on the way down and that of the file
 * being read. One thread. The tree belongs to the guest and may change while
 * it is walked: no link is followed (but, if asked, the path itself), what
 * vanished is passed over, what is no longer a plain file is not read.
 */
#ifndef GUEST_AGENT_COPY_OUT_H
#define GUEST_AGENT_COPY_OUT_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/agent/frame.h"
#include "guest/agent/request.h"

struct copy_out_level {
    int fd;
    int64_t next; /* where getdents goes on after the current name */
    size_t path_len;
};

struct copy_out {
    bool done;
    int file_fd; /* being read; else -1 */
    bool file_is_sparse;
    uint64_t file_at;
    uint64_t file_size; /* at its opening: for a hole at the end */
    uint64_t entries;
    uint64_t skipped;
    size_t depth; /* levels in use */
    struct copy_out_level level[AGENT_DEPTH_MAX + 1];
    size_t path_len;
    char path[AGENT_PATH_MAX + 1]; /* of the current entry, below the top */
    size_t dents_at;
    size_t dents_end;
    uint8_t dents[2048]; /* of the innermost level */
};

/* No descriptors. */
void copy_out_init(struct copy_out *c);

/* Opens the top and appends its ENTRY to out, which is nearly empty.
 * 0 or -errno. */
int copy_out_start(struct copy_out *c, const struct request_copy *request,
    struct frame_out *out);

/*
 * Appends frames while there is room. 0 or -errno; done is set once COPY_END
 * was appended.
 */
int copy_out_pump(struct copy_out *c, struct frame_out *out);

void copy_out_fini(struct copy_out *c);

#endif
