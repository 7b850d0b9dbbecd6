/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folder of what runs: one subfolder for each machine (its control socket
 * is in it), one for each kind of thing that machines share by name.
 *
 * It is $XDG_RUNTIME_DIR/spore, or without that variable /run/spore for root
 * and /tmp/spore-UID for others; mode 0700. A folder that belongs to somebody
 * else or that others may write to is refused, so nobody can stand in for a
 * machine. A subfolder is in use while its maker holds a lock on it, which the
 * kernel drops with the process: what a killed monitor left behind is told
 * from what runs without any timing.
 *
 * Thread rule: no state, any thread. The names in the folder are this user's;
 * an id comes from the command line and is checked with rundir_id_is_valid.
 */
#ifndef VMM_RUNDIR_H
#define VMM_RUNDIR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define RUNDIR_ID_MAX  64u
#define RUNDIR_ID_SIZE (RUNDIR_ID_MAX + 1)

/* The subfolder of virtual networks' sockets; no machine can be called so. */
#define RUNDIR_NET "net"
/* That of what makes clones of templates. */
#define RUNDIR_ZYGOTES "zygotes"
/* And that of what servers say of themselves, one socket each. */
#define RUNDIR_SERVERS "servers"

/* A folder, open; owns the descriptor. */
struct rundir {
    int fd;
    char path[256]; /* for people and for what is no call of ours */
};

/* 1 to 64 characters of [A-Za-z0-9_-], and none of the above. */
bool rundir_id_is_valid(const char *id);

/* A short random id. */
CC_MUST_CHECK int rundir_make_id(char ret_id[RUNDIR_ID_SIZE], struct err *err);

/*
 * Opens the folder, and with `sub` that folder in it; makes what is missing.
 * -EPERM for one that is not ours alone.
 */
CC_MUST_CHECK int rundir_open(
    struct rundir *ret_dir, const char *sub, struct err *err);
void rundir_close(struct rundir *dir);

/*
 * Makes the folder of a machine and locks it until it is closed. What a
 * process that has died left under this id is removed first. -EEXIST if a
 * machine of this id runs.
 */
CC_MUST_CHECK int rundir_claim(
    struct rundir *ret_dir, const char *id, struct err *err);

/* Removes a claimed folder with all files in it, and closes it. */
void rundir_remove(struct rundir *dir, const char *id);

/*
 * Opens the folder of a machine that runs. -ENOENT when there is none; one
 * that was left behind counts as none and is removed.
 */
CC_MUST_CHECK int rundir_find(
    struct rundir *ret_dir, const char *id, struct err *err);

/*
 * Calls `found` with the id of every machine that runs, in no order, and
 * removes what was left behind. `found` returns 0, or what ends the walk and
 * is returned. No folder at all is no machine.
 */
CC_MUST_CHECK int rundir_walk(
    int (*found)(void *opaque, const char *id), void *opaque, struct err *err);

/*
 * The address of socket `name` in the folder; valid while that is open, and
 * never too long whatever the folder's path is. `name` is at most 80 bytes.
 */
struct sockaddr_un rundir_address(const struct rundir *dir, const char *name);

#endif
