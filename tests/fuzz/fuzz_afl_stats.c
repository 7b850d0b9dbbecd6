/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plot_data of afl-fuzz: the first line, and what is behind it.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "fuzz/afl_stats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *end = size == 0 ? NULL : memchr(text, '\n', size);
    size_t header = end == NULL ? size : (size_t)(end - text) + 1;
    struct afl_stats stats;

    (void)!afl_stats_parse(text, header, text + header, size - header, &stats);
    (void)!afl_stats_parse(text, size, text, size, &stats);
    return 0;
}
