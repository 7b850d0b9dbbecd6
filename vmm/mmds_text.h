/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata as text, as its guests and clients read it: JSON in serde's form
 * (no white space, keys in order, the shortest digits), the lists of the EC2
 * metadata service, and what a path leads to.
 *
 * Thread rule: pure functions. Values are nested no deeper than
 * JSON_READER_DEPTH_MAX; a path is the guest's.
 */
#ifndef VMM_MMDS_TEXT_H
#define VMM_MMDS_TEXT_H

#include <jansson.h>
#include <stddef.h>

#include "vmm/base/cc.h"

/* The longest path that is looked for. */
#define MMDS_PATH_MAX 4096u

/* Any JSON, as a string of `*ret_len` bytes and a NUL; free it. -ENOMEM. */
CC_MUST_CHECK int mmds_text_json(
    json_t *value, char **ret_text, size_t *ret_len);

/*
 * A string as it is, of an object its keys, a line each and with a slash
 * behind those of objects; likewise. -EOPNOTSUPP for what is neither.
 */
CC_MUST_CHECK int mmds_text_imds(
    json_t *value, char **ret_text, size_t *ret_len);

/*
 * What a JSON pointer (RFC 6901) leads to, slashes that follow each other
 * counting as one, and none at the end; borrowed. NULL for nothing.
 */
json_t *mmds_text_find(json_t *root, const char *path, size_t len);

#endif
