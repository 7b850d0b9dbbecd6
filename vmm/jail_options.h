/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of every command that runs a machine in a jail.
 *
 * Thread rule: one thread. Values come from the command line and are checked.
 */
#ifndef VMM_JAIL_OPTIONS_H
#define VMM_JAIL_OPTIONS_H

#include <stdint.h>

#include "jail/jail.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* What --jail is where it is not given. */
#define JAIL_OPTIONS_ENV "SPORE_JAIL"

struct jail_options {
    enum jail_level level;
    uint32_t uid; /* as root: whom the monitor becomes; or JAIL_ID_OWN */
    uint32_t gid;
};

enum jail_option { JAIL_OPTION_LEVEL, JAIL_OPTION_UID, JAIL_OPTION_GID };

/* The defaults, after what the environment says. */
CC_MUST_CHECK int jail_options_init(
    struct jail_options *options, struct err *err);

CC_MUST_CHECK int jail_options_set(struct jail_options *options,
    enum jail_option option, const char *value, struct err *err);

/* What does not fit together, or needs root. */
CC_MUST_CHECK int jail_options_check(
    const struct jail_options *options, struct err *err);

#endif
