/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The giving up of privileges, for good: capabilities, identity, the right to
 * gain any.
 *
 * Thread rule: the process's only thread.
 */
#ifndef JAIL_PRIVS_H
#define JAIL_PRIVS_H

#include <sys/types.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/*
 * The user and group of process `pid` where none was chosen: one of its own,
 * above what others allocate from (systemd's containers end below it), and
 * unique for as long as the process lives.
 */
#define PRIVS_ID_FIRST 0x70000000u

/*
 * No file that is executed gains a capability for being root's, for good; one
 * call, where emptying the bounding set takes one for each capability. Before
 * privs_set_ids.
 */
CC_MUST_CHECK int privs_lock(struct err *err);

/* Becomes `uid` and `gid`, and of no other group. As root only. */
CC_MUST_CHECK int privs_set_ids(uid_t uid, gid_t gid, struct err *err);

/*
 * Drops every capability, also from what could be regained, and the chance to
 * gain any (no_new_privs); no other process of the same user can look into
 * this one.
 */
CC_MUST_CHECK int privs_drop(struct err *err);

#endif
