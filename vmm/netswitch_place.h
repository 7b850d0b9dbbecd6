/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a switch listens: names, their folder, and who owns a socket file.
 *
 * NAME is NAME.sock in $XDG_RUNTIME_DIR/spore/net or, without one of this
 * user's own, in /tmp/spore-UID/net; both folders must be this user's and
 * nobody else's. Whoever holds the lock on PATH.lock owns the socket file at
 * PATH: it alone replaces one that was left behind, or takes it away.
 *
 * Thread rule: none; cold paths. Names come from the command line.
 */
#ifndef VMM_NETSWITCH_PLACE_H
#define VMM_NETSWITCH_PLACE_H

#include <stdbool.h>
#include <sys/un.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define NETSWITCH_NAME_MAX 32u

/* A socket that listens, and the lock that goes with it. */
struct netswitch_place {
    struct sockaddr_un addr;
    int listen_fd; /* non-blocking; -1: none */
    int lock_fd;
};

/* Whether `where` is a NAME and no path, which has a slash in it. */
bool netswitch_place_is_name(const char *where);

/*
 * The address of a NAME, whose folder is made, or of a path. -EINVAL for a
 * name with other than letters, digits, "-", "_" and ".", or that begins with
 * a "."; -EPERM for a folder that is not this user's alone; -ENAMETOOLONG.
 */
CC_MUST_CHECK int netswitch_place_find(
    const char *where, struct sockaddr_un *ret_addr, struct err *err);

/*
 * Locks and listens. -EBUSY if another process holds the lock; -EADDRINUSE if
 * somebody listens there without it; -EEXIST if it is no socket.
 */
CC_MUST_CHECK int netswitch_place_open(struct netswitch_place *place,
    const struct sockaddr_un *addr, struct err *err);

/*
 * Ends listening but keeps the lock: who connects from now on finds nobody,
 * who has done so is still accepted. netswitch_place_listen starts again.
 */
void netswitch_place_end(struct netswitch_place *place);
CC_MUST_CHECK int netswitch_place_listen(
    struct netswitch_place *place, struct err *err);

/* Takes both files away and closes; a place with -1 in it is let be. */
void netswitch_place_close(struct netswitch_place *place);

#endif
