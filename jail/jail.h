/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail of a process that a guest may have taken over: what it is told to
 * keep, it keeps; everything else it gives up, in this order.
 *
 *     cell_fork      a process of its own, first in a PID namespace
 *     jail_begin     the other namespaces and an empty root, made beside
 *     (the caller acquires every resource: files, memory, rings, sockets)
 *     jail_enter     namespaces and root; limits; no descriptor of a folder;
 *                    another user; no capability, no_new_privs, undumpable;
 *                    Landlock: no file at all
 *     jail_confine   seccomp, for each thread by its role
 *
 * What holds back whom is in docs/threat-model.md.
 *
 * Thread rule: jail_begin and jail_enter on the process's only thread (others
 * have ended), jail_confine on each thread for itself: on threads that are
 * made before the first one is confined, or with what that one left them.
 */
#ifndef JAIL_JAIL_H
#define JAIL_JAIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "jail/cell.h"
#include "jail/rlimits.h"
#include "jail/role.h"
#include "jail/spaces.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

enum jail_level {
    JAIL_DEFAULT, /* what this host does not allow is left out */
    JAIL_STRICT,  /* and is an error */
    JAIL_OFF,     /* no jail at all */
};

#define JAIL_ID_OWN UINT32_MAX /* one for this process alone (privs.h) */

struct jail_config {
    enum jail_level level;
    uint32_t uid; /* as root: whom to become; JAIL_ID_OWN */
    uint32_t gid;
    struct rlimits
        limits; /* beside rlimits_set_defaults, which they override */
    /* Made before, for several; they are among what jail_begin keeps. NULL:
     * its own. */
    const struct spaces *spaces;
};

struct jail {
    struct jail_config config;
    struct spaces spaces;
    bool has_user_space;
    bool is_entered;
};

#define JAIL_NONE                                                              \
    {                                                                          \
        .config = {.level = JAIL_OFF}, .spaces = SPACES_NONE                   \
    }

/*
 * In the child of a cell. Descriptors above the standard ones that are not in
 * `keep` are closed first: what was inherited without being meant.
 */
CC_MUST_CHECK int jail_begin(struct jail *jail,
    const struct jail_config *config, const struct cell *cell, const int *keep,
    size_t keep_count, struct err *err);

/*
 * From here on the process opens nothing by name. `host_pid` is the process
 * as its host knows it, for JAIL_ID_OWN. With JAIL_STRICT an error names what
 * the host does not allow, and the process must end.
 */
CC_MUST_CHECK int jail_enter(
    struct jail *jail, pid_t host_pid, struct err *err);

/* Last on each thread. Does nothing where there is no jail. */
CC_MUST_CHECK int jail_confine(
    const struct jail *jail, enum jail_role role, struct err *err);

/* Instead of jail_enter. */
void jail_abandon(struct jail *jail);

#endif
