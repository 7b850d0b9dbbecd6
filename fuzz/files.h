/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which files of the host a guest's are: the manifest that packing leaves in
 * the target's directory, so that debug information is looked for where the
 * program came from.
 *
 *     {"version": 1, "files": [
 *         {"guest": "/bin/prog", "host": "/home/me/prog", "build_id": "ab.."}]}
 *
 * Thread rule: one thread. File-controlled: all of it.
 */
#ifndef FUZZ_FILES_H
#define FUZZ_FILES_H

#include <stddef.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define FILES_NAME     "files.json" /* in the target's directory */
#define FILES_SIZE_MAX ((size_t)4 << 20)
#define FILES_MAX      4096u

struct files_entry {
    char *guest;    /* absolute */
    char *host;     /* absolute */
    char *build_id; /* in hex; NULL: the file has none */
};

struct files {
    struct files_entry *entries;
    size_t count;
};

/* `size` bytes of JSON; -EINVAL, naming the member, for what is not right. */
CC_MUST_CHECK int files_parse(
    const char *text, size_t size, struct files *ret_files, struct err *err);

/* Of a target's directory; -ENOENT if it has none. */
CC_MUST_CHECK int files_read(
    const char *dir, struct files *ret_files, struct err *err);

void files_fini(struct files *files); /* a zeroed one is let be */

/* The entry of a path in the guest, or NULL. */
const struct files_entry *files_find(
    const struct files *files, const char *guest);

/* What files_parse reads, from malloc; NULL without memory. */
char *files_to_json(const struct files *files);

#endif
