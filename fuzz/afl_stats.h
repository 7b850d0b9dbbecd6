/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an afl-fuzz says of itself: plot_data in its output folder, which it
 * writes every few seconds. (fuzzer_stats says more, once a minute.)
 *
 * Thread rule: none. File-controlled: every byte.
 */
#ifndef FUZZ_AFL_STATS_H
#define FUZZ_AFL_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"

struct afl_stats {
    uint64_t seconds; /* since its start */
    uint64_t execs;
    uint64_t corpus;
    uint64_t crashes;
    uint64_t hangs;
    uint64_t edges; /* found in the map */
};

/*
 * The first line of the file, which names the columns, and any later part of
 * it: the last whole line counts. -EINVAL for what is not understood, -ENODATA
 * if there is no such line yet.
 */
CC_MUST_CHECK int afl_stats_parse(const char *header, size_t header_size,
    const char *tail, size_t tail_size, struct afl_stats *ret_stats);

/* Of the file; -errno where it is not there, or as above. */
CC_MUST_CHECK int afl_stats_read(const char *path, struct afl_stats *ret_stats);

#endif
