/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore-jailer: starts a monitor in a folder, as another user, with the command
 * line, the layout and the error texts of Firecracker's jailer, so that what
 * starts VMMs through that can start them through this.
 *
 *     <chroot-base-dir>/<name of the program>/<id>/root
 *
 * becomes the program's root: with a copy of the program, /dev/kvm,
 * /dev/net/tun, /dev/urandom and /dev/userfaultfd for its user only, and what
 * the caller has put there before.
 *
 * The copy is a copy, and neither a hard link nor a bind mount, since no two
 * monitors are to share pages of their program (what one runs can be timed by
 * another), since the user whom the folder belongs to gets it as its own, and
 * since callers look for the file and remove the folder by what is in it. File
 * systems that can share the blocks do.
 *
 * All inputs come from who calls it, as root, and are trusted as that is; what
 * is in the folder may have been left by a monitor that was taken over, so
 * that no link in it is followed. Thread rule: the process's only thread.
 */
#ifndef JAIL_JAILER_H
#define JAIL_JAILER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "jail/cgroup.h"
#include "jail/rlimits.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct jailer_options {
    bool help;
    bool version;
    bool daemonize;
    bool new_pid_ns;
    const char *id;
    const char *exec_file;
    const char *base;
    const char *netns;         /* NULL: stay in this one */
    const char *parent_cgroup; /* NULL: the program's name */
    unsigned int cgroup_version;
    uint32_t uid;
    uint32_t gid;
    struct cgroup_config cgroup; /* `pairs` only */
    struct rlimits limits;
    char *const *extra; /* what follows "--", within argv */
    size_t extra_count;
};

/*
 * argv[0] is not looked at; the options point into argv. -EINVAL with the text
 * that Firecracker's has.
 */
CC_MUST_CHECK int jailer_parse(
    int argc, char **argv, struct jailer_options *ret_options, struct err *err);

void jailer_print_help(FILE *out);

/*
 * Does it: returns on failure, or in the process that is not to become the
 * program, where it has started; 0 then.
 */
CC_MUST_CHECK int jailer_run(
    const struct jailer_options *options, struct err *err);

#endif
