/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/hw/cmdline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Texts between NULs are appended in turn. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct cmdline line;
    struct err err;

    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    cmdline_init(&line);
    for (size_t at = 0; at <= size; at += strlen(text + at) + 1) {
        size_t before = line.len;
        int rc = cmdline_append(&line, text + at, &err);

        if (rc < 0 && line.len != before)
            abort();
        if (line.len >= sizeof(line.text) || strlen(line.text) != line.len)
            abort();
    }
    for (size_t i = 0; i < line.len; i++) {
        if ((unsigned char)line.text[i] < 0x20 || line.text[i] == 0x7f)
            abort();
    }
    free(text);
    return 0;
}
