/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container image becomes a root file system: an OCI layout (a folder, or
 * the same in an archive), or what docker save writes.
 *
 * Every part that has a digest is checked against it, and what layers unpack
 * to against the configuration's diff_ids, which in the end decides: of an
 * image that was changed nothing is used.
 *
 * Thread rule: the process's main thread. Hostile: all of the image.
 */
#ifndef VMM_SERVE_OCI_H
#define VMM_SERVE_OCI_H

#include <stdbool.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/serve/interrupt.h"
#include "vmm/serve/oci_blobs.h"
#include "vmm/serve/rootfs.h"

/* Whether these look like an image's files. */
bool oci_is_image(const struct oci_blobs *blobs);

/* Makes the file system image `path`, and says what its command is. */
CC_MUST_CHECK int oci_make(const struct oci_blobs *blobs, const char *path,
    const struct interrupt *interrupt, struct rootfs_command *ret_command,
    struct err *err);

#endif
