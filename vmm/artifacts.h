/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the guest kernel and root file system are when the user names none:
 * an environment variable, the user's cache, share/spore beside the folder of
 * this program, the installed data directory.
 *
 * Thread rule: any. The environment is the user's own.
 */
#ifndef VMM_ARTIFACTS_H
#define VMM_ARTIFACTS_H

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

enum artifact { ARTIFACT_KERNEL, ARTIFACT_ROOTFS };

/*
 * The path of the first one that exists; the caller frees it. The error says
 * where it was looked for and how to make it.
 */
CC_MUST_CHECK int artifacts_find(
    enum artifact which, char **ret_path, struct err *err);

#endif
