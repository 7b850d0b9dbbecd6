/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of a container image, in a folder or in an archive: of an archive
 * they are put into files of ours first, under numbers.
 *
 * Owns the descriptors, and the files in the scratch folder. Thread rule: one
 * thread. Hostile: names and contents. A name is looked up as it is, links are
 * not followed in a folder, and in an archive only to its own files.
 */
#ifndef VMM_SERVE_OCI_BLOBS_H
#define VMM_SERVE_OCI_BLOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/serve/interrupt.h"

#define OCI_BLOBS_MAX 8192u /* files in an archive */

struct oci_blobs;

/* Of a folder, which is borrowed. */
CC_MUST_CHECK int oci_blobs_open_dir(
    int dir_fd, struct oci_blobs **ret_blobs, struct err *err);

/*
 * Of an archive, all of which is unpacked into files below `scratch`, a folder
 * of ours, until it is closed.
 */
CC_MUST_CHECK int oci_blobs_open_archive(int fd, const char *scratch,
    const struct interrupt *interrupt, struct oci_blobs **ret_blobs,
    struct err *err);

void oci_blobs_close(struct oci_blobs *blobs);

/* A file, the caller's to close. -ENOENT, with a text. */
CC_MUST_CHECK int oci_blobs_open(const struct oci_blobs *blobs,
    const char *name, int *ret_fd, struct err *err);

bool oci_blobs_have(const struct oci_blobs *blobs, const char *name);

/* All of it, with a NUL behind that is not counted; at most `max` bytes. */
CC_MUST_CHECK int oci_blobs_read(const struct oci_blobs *blobs,
    const char *name, size_t max, char **ret_text, size_t *ret_size,
    struct err *err);

#endif
