/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A template: a machine that was booted, set up and frozen, and what is to be
 * run in its clones.
 *
 * $XDG_DATA_HOME/spore/templates/NAME (store_default_path's rule) is a link to
 * a folder beside it, whose own name begins with a dot and never changes, so
 * that the paths in the snapshot stay true. In it:
 *
 *     template.json    what this struct has, and how it was made
 *     snapshots/       a store (snapshot/store.h) with one snapshot, "ready"
 *     rootfs.img       the root file system, if it has one; read-only from the
 *                      moment it is there
 *
 * A folder that no name leads to is one that is being made or removed
 * (template_place.h).
 *
 * Thread rule: no state, any thread. Not trusted: template.json, which is read
 * once, bounded and checked; names from the command line.
 */
#ifndef VMM_SERVE_TEMPLATE_H
#define VMM_SERVE_TEMPLATE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define TEMPLATE_NAME_MAX 64u   /* [A-Za-z0-9_.-], no dot in front */
#define TEMPLATE_ARGS_MAX 1024u /* words of argv; of env */
#define TEMPLATE_SNAPSHOT "ready"

struct template
{
    char *name;
    char *dir;   /* absolute; the folder itself, not the name */
    char *store; /* `dir`/snapshots */
    /* An image's entrypoint and command, or what was given; NULL-terminated,
     * empty: none. */
    char **argv;
    char **env;      /* NAME=VALUE */
    char *cwd;       /* NULL: the user's home */
    char *user;      /* as guest_exec has it; NULL: root */
    uint64_t made_s; /* seconds since 1970 */
    char *source;    /* what the root file system was made of; for people */
    /* Where its server was seen to listen when it was frozen; 0: nowhere. */
    uint16_t tcp_port;
    uint32_t vsock_port;
};

bool template_name_is_valid(const char *name);

/* -EINVAL for a name that is none; says what they look like. */
CC_MUST_CHECK int template_name_check(const char *name, struct err *err);

/* -ENOENT with a text that says how templates are made. */
CC_MUST_CHECK int template_open(
    const char *name, struct template *ret_template, struct err *err);

/* Fine on a zeroed one. */
void template_fini(struct template *t);

#endif
