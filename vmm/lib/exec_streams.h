/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three streams of a command, on the library's side: what the caller gave
 * as descriptors goes as it is, for what it gave as bytes or takes by callbacks
 * there are a socket and pipes here.
 *
 * Owns those. Thread rule: the calling thread. Output is the guest's.
 */
#ifndef VMM_LIB_EXEC_STREAMS_H
#define VMM_LIB_EXEC_STREAMS_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/cc.h"
#include "vmm/lib/spore.h"
#include "vmm/lib/wire.h"

struct exec_streams {
    const struct spore_exec *command;
    int theirs[LIB_FDS_MAX]; /* what is passed on; -1: nothing */
    int ours[LIB_FDS_MAX];   /* the other ends; -1 */
    size_t input_at;
    bool was_refused; /* a callback does not want more */
};

/* `command` is borrowed. -errno. */
CC_MUST_CHECK int exec_streams_open(
    struct exec_streams *s, const struct spore_exec *command);

/* Those that the other process has now; not the caller's own. */
void exec_streams_close_theirs(struct exec_streams *s);

void exec_streams_close(struct exec_streams *s);

/* Waits until one of them or `channel` is ready; -errno. */
CC_MUST_CHECK int exec_streams_wait(struct exec_streams *s, int channel);

/* Moves what can be moved now. */
void exec_streams_move(struct exec_streams *s);

#endif
