/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a share directory of Nyx says of its target: config.ron, of which a few
 * members mean something here and the rest is passed over, whatever it is.
 *
 * Thread rule: none. File-controlled: every byte; sizes are bounded.
 */
#ifndef FUZZ_RON_H
#define FUZZ_RON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define FUZZ_RON_FILE      "config.ron"
#define FUZZ_RON_FILE_MAX  (1u << 20)
#define FUZZ_RON_WORDS_MAX 1024u /* in the dictionary; more are left out */
#define FUZZ_RON_WORD_MAX  128u  /* bytes; longer ones are left out */

struct fuzz_ron_word {
    uint8_t size; /* 1 to FUZZ_RON_WORD_MAX */
    uint8_t bytes[FUZZ_RON_WORD_MAX];
};

struct fuzz_ron {
    bool has_mem_limit;
    uint64_t mem_limit_mib;
    bool has_time_limit;
    uint64_t time_limit_ns; /* of a run */
    struct fuzz_ron_word *words;
    size_t word_count;
};

/*
 * -EINVAL for text without end, brackets that do not match or go deeper than
 * anybody's, and numbers that do not fit where they mean something; the error
 * names the line.
 */
CC_MUST_CHECK int fuzz_ron_read(
    const char *text, size_t size, struct fuzz_ron *ret_ron, struct err *err);

/* A zeroed one is let be. */
void fuzz_ron_fini(struct fuzz_ron *ron);

#endif
