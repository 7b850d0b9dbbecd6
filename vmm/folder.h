/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders that are made beside the place where they are to be in the end, and
 * removed with all that is in them. Thread rule: none.
 */
#ifndef VMM_FOLDER_H
#define VMM_FOLDER_H

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/*
 * An empty folder next to `path`, for this user only, under a name that nobody
 * has; the caller frees *ret_dir.
 */
CC_MUST_CHECK int folder_make_beside(
    const char *path, char **ret_dir, struct err *err);

/* As much of it as can be removed; links in it are not followed. */
void folder_remove(const char *dir);

#endif
