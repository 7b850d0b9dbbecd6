/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 of what passes by, and how image formats write it.
 *
 * Thread rule: none. digest_parse's text is hostile.
 */
#ifndef VMM_SERVE_DIGEST_H
#define VMM_SERVE_DIGEST_H

#include <nettle/sha2.h>
#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/cc.h"

#define DIGEST_HEX_SIZE 65u /* with the NUL */

struct digest {
    struct sha256_ctx ctx;
};

void digest_init(struct digest *d);
void digest_add(struct digest *d, const void *data, size_t size);

/* In lower-case hexadecimal digits; the digest begins anew. */
void digest_take(struct digest *d, char ret_hex[DIGEST_HEX_SIZE]);

/* "sha256:" and 64 lower-case digits; false for anything else. */
CC_MUST_CHECK bool digest_parse(
    const char *text, char ret_hex[DIGEST_HEX_SIZE]);

/* Whether it is 64 such digits and nothing else. */
bool digest_is_hex(const char *text);

#endif
