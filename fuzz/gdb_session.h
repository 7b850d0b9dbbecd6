/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A conversation with GDB about one run: its protocol over descriptors, its
 * moves by a replay.
 *
 * Borrows all of it. Thread rule: that of the replay's debugger.
 * Peer-controlled: what comes in; guest-controlled: registers and memory.
 */
#ifndef FUZZ_GDB_SESSION_H
#define FUZZ_GDB_SESSION_H

#include "fuzz/replay.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/*
 * Talks until the peer has gone or has ended it: 0. in_fd and out_fd may be
 * one. The replay is at its root.
 */
CC_MUST_CHECK int gdb_session_run(
    struct replay *replay, int in_fd, int out_fd, struct err *err);

#endif
