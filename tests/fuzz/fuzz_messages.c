/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of messages: the first bytes seed and place them, then an input and,
 * behind its half, another.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/messages.h"

#define HEAD 4u
#define ROOM 8192u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct messages_rng rng;
    uint8_t input[ROOM];
    const uint8_t *other;
    size_t half;
    size_t other_size;
    size_t from;
    size_t size_max;

    if (size < HEAD || size > ROOM / 2)
        return 0;
    rng.state = (uint64_t)data[0] << 8 | data[1] | 1u << 16;
    half = (size - HEAD) / 2;
    memcpy(input, data + HEAD, half);
    other = data + HEAD + half;
    other_size = size - HEAD - half;
    from = messages_at(input, half, data[2]);
    require(from <= half && messages_at(input, half, SIZE_MAX) == half);
    size_max = half + (size_t)data[3] * 16;
    for (unsigned int i = 0; i < 8; i++) {
        half = messages_change(input, half, size_max, from, other,
            i % 2 == 0 ? 0 : other_size, &rng);
        require(half >= from && half <= size_max);
        require(memcmp(input, data + HEAD, from) == 0);
    }
    return 0;
}
