/* SPDX-License-Identifier: Apache-2.0 */
/*
 * template.json: what is accepted can be written, and reads back the same.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/serve/template_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct template t;
    struct template again;
    struct err err;
    char *first;
    char *second;

    if (template_json_read((const char *)data, size, &t, &err) < 0) {
        require(strncmp(err.text, "template.json: ", 15) == 0);
        require(strchr(err.text, '\n') == NULL);
        return 0;
    }
    require(template_json_write(&t, &first, &err) == 0);
    require(template_json_read(first, strlen(first), &again, &err) == 0);
    require(template_json_write(&again, &second, &err) == 0);
    require(strcmp(first, second) == 0);
    free(first);
    free(second);
    template_fini(&t);
    template_fini(&again);
    return 0;
}
