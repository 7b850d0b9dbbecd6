/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folder of a jailed program, and what is put into it.
 *
 * The folder may belong to the program's user and hold what an earlier one
 * left: whatever is opened or made in it is opened without following links.
 * Thread rule: none.
 */
#ifndef JAIL_JAILER_FILES_H
#define JAIL_JAILER_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/*
 * Opens `path` below the folder `base` and makes what is missing of it;
 * `name` is that of the whole in errors.
 */
CC_MUST_CHECK int jailer_open_folder(
    int base, const char *path, const char *name, int *ret_fd, struct err *err);

/*
 * Copies the file `from`, called `from_name`, to `name` in the folder, called
 * `folder` in errors, and gives it to the user. A file of that name that is
 * there is overwritten, unless it has other names elsewhere.
 */
CC_MUST_CHECK int jailer_copy_program(int from, const char *from_name,
    int folder_fd, const char *folder, const char *name, uid_t uid, gid_t gid,
    struct err *err);

/* The folder itself, /dev, /dev/net and /run: made, and the user's alone. */
CC_MUST_CHECK int jailer_make_folders(
    int root, uid_t uid, gid_t gid, struct err *err);

/*
 * The devices, for the user alone. `uffd_minor` is that of /dev/userfaultfd,
 * or negative for none. *ret_has_random is whether /dev/urandom could be made,
 * which is no error.
 */
CC_MUST_CHECK int jailer_make_devices(int root, uid_t uid, gid_t gid,
    int uffd_minor, bool *ret_has_random, struct err *err);

/*
 * The minor number of a device in the text of /proc/misc ("126 userfaultfd"),
 * or -ENOENT.
 */
int jailer_find_misc(const char *text, const char *name);

/* Writes a process number to a new file. */
CC_MUST_CHECK int jailer_write_pid(
    int root, const char *name, pid_t pid, struct err *err);

#endif
