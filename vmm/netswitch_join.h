/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joining a switch, which is started if its name is free.
 *
 * Thread rule: none; it forks, so before other threads run is best. What is
 * connected to is this user's: the folder of names is nobody else's.
 */
#ifndef VMM_NETSWITCH_JOIN_H
#define VMM_NETSWITCH_JOIN_H

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/*
 * *ret_fd: a stream socket connected to the switch at `where`, non-blocking
 * and close-on-exec, for net_stream_init; the caller's. If `where` is a name
 * and nobody listens there, "spore switch --until-empty" is started in a
 * session of its own, and ends with its last port. At a path somebody must
 * listen. 0 or -errno; what stands in the way is in the error.
 */
CC_MUST_CHECK int netswitch_join(
    const char *where, int *ret_fd, struct err *err);

#endif
