/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's list of who listens; the port in front, in two bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/serve/listeners.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char listener[] = "0: 00000000:FFFF 00000000:0000 0A\n";
    char *text;

    if (size < 2)
        return 0;
    (void)listeners_have(
        (const char *)data + 2, size - 2, (uint16_t)(data[0] | data[1] << 8));
    /* Whatever is in front of it, a line by itself is found. */
    text = malloc(size + sizeof(listener));
    if (text == NULL)
        abort();
    memcpy(text, data, size);
    text[size] = '\n';
    memcpy(text + size + 1, listener, sizeof(listener) - 1);
    if (!listeners_have(text, size + sizeof(listener), 0xffff))
        abort();
    free(text);
    return 0;
}
