/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "vmm/hw/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first two bytes are the room that the output gets. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum unpack_format format;
    size_t room, len, used;
    struct err err;
    uint8_t *dst;

    if (size < 2)
        return 0;
    room = (size_t)data[0] | (size_t)data[1] << 8;
    data += 2;
    size -= 2;
    format = unpack_detect(data, size);
    if (!unpack_supports(format))
        return 0;
    dst = malloc(room + 1);
    if (dst == NULL)
        return 0;
    if (unpack(format, data, size, dst, room, &len, &used, &err) == 0 &&
        (len > room || used > size))
        abort();
    free(dst);
    return 0;
}
