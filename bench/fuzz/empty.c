/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing: what is left is what running it costs. */
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    volatile uint8_t first = size > 0 ? data[0] : 0;

    return first == 'x' && size == 7 ? -1 : 0;
}
