/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.json: what is accepted can be written, and reads back the same.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct manifest manifest;
    struct manifest again;
    struct err err;
    char *first;
    char *second;

    if (manifest_decode((const char *)data, size, &manifest, &err) < 0) {
        require(strncmp(err.text, "manifest.json: ", 15) == 0);
        require(strchr(err.text, '\n') == NULL);
        return 0;
    }
    require(manifest.own_pages <= manifest.data_pages &&
            manifest.data_pages <= manifest.pages);
    require(manifest_encode(&manifest, &first, &err) == 0);
    require(manifest_decode(first, strlen(first), &again, &err) == 0);
    require(manifest_encode(&again, &second, &err) == 0);
    require(strcmp(first, second) == 0);
    free(first);
    free(second);
    return 0;
}
