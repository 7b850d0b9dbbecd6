/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ext4 image of files and folders, made by e2fsprogs without privileges.
 *
 * The same files make the same image: identities and times are fixed, owner is
 * root, and of modes only the right to execute is kept. Blocks are pages, so
 * that the guest can map the files in place (DAX).
 *
 * Owns what it was told; files are read when the image is made. Thread rule:
 * one thread. File-controlled: the files' contents and sizes.
 */
#ifndef FUZZ_ROOT_IMAGE_H
#define FUZZ_ROOT_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define ROOT_IMAGE_ENTRIES_MAX 8192u
#define ROOT_IMAGE_BYTES_MAX   (UINT64_C(16) << 30)

struct root_image_entry {
    char *guest; /* absolute, without "." and ".." */
    char *host;  /* file to be copied; NULL: a folder, or `bytes` */
    void *bytes; /* or the contents themselves; NULL for a folder */
    uint64_t size;
    bool is_executable;
};

struct root_image {
    struct root_image_entry *entries;
    size_t count;
    size_t room;
};

/*
 * Adds to what the image will have, folders above included; a path that is
 * there already stays what it is (-EEXIST, no text). -EINVAL for a path that
 * is not absolute, has "." or "..", or characters that e2fsprogs cannot take.
 */
CC_MUST_CHECK int root_image_add_file(struct root_image *image,
    const char *host, const char *guest, struct err *err);
CC_MUST_CHECK int root_image_add_bytes(struct root_image *image,
    const void *bytes, size_t size, const char *guest, bool is_executable,
    struct err *err);
CC_MUST_CHECK int root_image_add_dir(
    struct root_image *image, const char *guest, struct err *err);

/* A file, or a folder with all that is in it; links are followed. */
CC_MUST_CHECK int root_image_add_tree(struct root_image *image,
    const char *host, const char *guest, struct err *err);

/*
 * Writes it to `path`, which is made, with help files in the folder
 * `scratch`, which are removed again.
 */
CC_MUST_CHECK int root_image_write(struct root_image *image, const char *path,
    const char *scratch, struct err *err);

/* A zeroed one is let be. */
void root_image_fini(struct root_image *image);

#endif
