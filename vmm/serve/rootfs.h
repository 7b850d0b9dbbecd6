/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root file system of a template, made of whatever the user has: one file
 * that a guest mounts.
 *
 * Thread rule: no state; the process's main thread, as it starts programs.
 * Hostile: everything below the source's path. Nothing of it is written to
 * this host but into that one file.
 */
#ifndef VMM_SERVE_ROOTFS_H
#define VMM_SERVE_ROOTFS_H

#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/serve/interrupt.h"

/* What an image says of the command that it is for; lists NULL-terminated. */
struct rootfs_command {
    char **argv; /* NULL: none */
    char **env;  /* NAME=VALUE; NULL: none */
    char *cwd;   /* absolute; NULL: not said */
    char *user;  /* as guest_exec has it; NULL: not said */
};

/*
 * Makes the file `path`, read-only, of `source`, with help files below
 * `scratch`: a copy of an ext4, squashfs or erofs image; a squashfs image of a
 * folder, of a tar archive (also of gzip, zstd or xz), or of a container image
 * (oci.h). *ret_command is all NULL for what says nothing.
 */
CC_MUST_CHECK int rootfs_make(const char *source, const char *path,
    const char *scratch, const struct interrupt *interrupt,
    struct rootfs_command *ret_command, struct err *err);

/* Fine on a zeroed one. */
void rootfs_command_fini(struct rootfs_command *command);

#endif
