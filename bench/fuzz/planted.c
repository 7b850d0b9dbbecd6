/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Five bugs, to be found from an empty seed: a magic value, a stack buffer that
 * is too small, memory that is used after it was freed, a loop without end,
 * and one that only a second message finds behind a first one.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC UINT64_C(0x706c616e74656421)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sink;

static void magic(const uint8_t *data, size_t size)
{
    uint64_t value;

    if (size < sizeof(value))
        return;
    memcpy(&value, data, sizeof(value));
    if (value == MAGIC)
        abort();
}

static __attribute__((noinline)) void stack(const uint8_t *data, size_t size)
{
    uint8_t small[16];

    if (size < 2 || data[0] > size - 1)
        return;
    for (size_t i = 0; i < data[0]; i++)
        small[i] = data[1 + i];
    sink = small[data[0] / 2];
}

static void freed(const uint8_t *data, size_t size)
{
    uint8_t *block = malloc(32);

    if (block == NULL)
        return;
    block[0] = 1;
    if (size > 2 && data[0] == 'f' && data[1] == 'r') {
        free(block);
        if (data[2] == 'e')
            sink = block[0];
        return;
    }
    free(block);
}

static void endless(const uint8_t *data, size_t size)
{
    if (size > 1 && data[0] == 'l' && data[1] == 'p') {
        for (;;)
            sink++;
    }
}

/* Messages: a type, a length, so many bytes. */
static void talk(const uint8_t *data, size_t size)
{
    int logged_in = 0;

    while (size >= 2 && data[1] <= size - 2) {
        const uint8_t *body = data + 2;
        size_t len = data[1];

        if (data[0] == 'L' && len > 1 && body[0] == 'k' && body[1] == 'y')
            logged_in = 1;
        else if (data[0] == 'C' && logged_in && len > 0 && body[0] == 'x')
            *(volatile int *)(uintptr_t)8 = 1;
        data += 2 + len;
        size -= 2 + len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    switch (data[0]) {
    case 'M':
        magic(data + 1, size - 1);
        break;
    case 'S':
        stack(data + 1, size - 1);
        break;
    case 'U':
        freed(data + 1, size - 1);
        break;
    case 'H':
        endless(data + 1, size - 1);
        break;
    case 'T':
        talk(data + 1, size - 1);
        break;
    default:
        break;
    }
    return 0;
}
