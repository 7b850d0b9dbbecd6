/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.ron of a share directory: bounded, whatever it is.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/ron.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_ron ron;
    struct err err;

    if (fuzz_ron_read((const char *)data, size, &ron, &err) < 0) {
        require(strncmp(err.text, "config.ron: ", 12) == 0);
        return 0;
    }
    require(ron.word_count <= FUZZ_RON_WORDS_MAX);
    for (size_t i = 0; i < ron.word_count; i++)
        require(
            ron.words[i].size > 0 && ron.words[i].size <= FUZZ_RON_WORD_MAX);
    fuzz_ron_fini(&ron);
    return 0;
}
