/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <zlib.h>

#define OUT_MAX (256u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uLongf len = OUT_MAX;
    uint8_t *out = malloc(len);

    if (out != NULL)
        (void)uncompress(out, &len, data, (uLong)size);
    free(out);
    return 0;
}
