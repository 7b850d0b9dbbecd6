/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much a guest may write to one file of the host.
 *
 * The file is cut: what was there first stays, one line says that the rest is
 * missing, and from then on the guest's output costs no system call. It is no
 * ring, because in the log of a machine the monitor's own lines are among the
 * guest's, and a guest must not be able to push those out. The last lines of
 * a console are kept in memory in any case (vmm/console.h).
 *
 * Thread rule: any thread; the writers of one file share one of these.
 * Guest-controlled: how much is asked for.
 */
#ifndef VMM_OUTPUT_LIMIT_H
#define VMM_OUTPUT_LIMIT_H

#include <stddef.h>
#include <stdint.h>

#define OUTPUT_LIMIT_MIN UINT64_C(4096)

/* Of the files of a machine that runs behind its caller. */
#define OUTPUT_LIMIT_DETACHED (UINT64_C(8) << 20)

struct output_limit {
    uint64_t max; /* bytes, the line at the end included; 0: no limit */
    int fd;       /* borrowed: where that line goes */
    uint64_t used;
    uint32_t is_full; /* the line is out */
};

/* `max` is 0 or at least OUTPUT_LIMIT_MIN. */
void output_limit_init(struct output_limit *limit, uint64_t max, int fd);

/*
 * How many of `len` bytes may be written: those are taken, and what the file
 * then does not take of them is to be given back. The rest is to be dropped,
 * and output_limit_say called after the write. `limit` may be NULL: all.
 */
size_t output_limit_take(struct output_limit *limit, size_t len);
void output_limit_give_back(struct output_limit *limit, size_t len);

/* Writes the line that says that something was dropped, once. */
void output_limit_say(struct output_limit *limit);

#endif
