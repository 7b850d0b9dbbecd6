/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock: no file by its name, no TCP port, no abstract socket, for the
 * calling thread and those it makes.
 */
#ifndef JAIL_LANDLOCK_H
#define JAIL_LANDLOCK_H

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* The kernel's ABI version, from 1; 0: it has none. */
int landlock_abi(void);

/*
 * Gives up all that the kernel's version can take. PR_SET_NO_NEW_PRIVS must
 * be set. -EOPNOTSUPP without Landlock.
 */
CC_MUST_CHECK int landlock_confine(struct err *err);

#endif
