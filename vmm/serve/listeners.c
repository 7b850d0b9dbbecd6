/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/listeners.h"

#include <stdio.h>
#include <string.h>

#include "vmm/base/num.h"

#define LINE_BYTES 256u

/* Linux's TCP_LISTEN, as the file has it. */
#define STATE_LISTEN 0x0au

/* "  0: 00000000:1F90 00000000:0000 0A ...", addresses of 8 or 32 digits. */
static bool is_listener(const char *line, uint16_t port)
{
    unsigned int local;
    unsigned int state;

    return sscanf(line,
               " %*9[0-9]: %*32[0-9A-F]:%4x %*32[0-9A-F]:%*4[0-9A-F] %2x",
               &local, &state) == 2 &&
           local == port && state == STATE_LISTEN;
}

bool listeners_have(const char *text, size_t size, uint16_t port)
{
    while (size > 0) {
        const char *end = memchr(text, '\n', size);
        size_t len = end == NULL ? size : (size_t)(end - text) + 1;
        char line[LINE_BYTES] = "";

        memcpy(line, text, num_min(len, sizeof(line) - 1));
        if (is_listener(line, port))
            return true;
        text += len;
        size -= len;
    }
    return false;
}
