/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of strings that grows: argument vectors, environments, search paths.
 *
 * Owns its strings. Thread rule: one thread. A failed addition is remembered
 * (words_failed), so that many may be made and looked at once.
 */
#ifndef VMM_WORDS_H
#define VMM_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/cc.h"

struct words {
    char **list; /* NULL-terminated; NULL while there is none */
    size_t count;
    bool failed; /* out of memory once */
};

void words_add(struct words *words, const char *text);
void words_addf(struct words *words, const char *fmt, ...) CC_PRINTF(2, 3);
void words_add_bytes(struct words *words, const char *text, size_t size);

bool words_has(const struct words *words, const char *text);

/* The list, NULL-terminated, given to the caller; NULL for lack of memory. */
CC_MUST_CHECK char **words_steal(struct words *words);

void words_fini(struct words *words);

#endif
