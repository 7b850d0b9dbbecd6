/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machine descriptions: what is accepted passes config_check, can be written,
 * and reads back as the same text.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config;
    struct config again;
    struct err err;
    char *first = NULL;
    char *second = NULL;

    config_init(&config);
    if (config_load_json(
            &config, (const char *)data, size, "guest.json", &err) < 0) {
        require(strncmp(err.text, "guest.json: ", 12) == 0);
        require(strlen(err.text) > 12 && strchr(err.text, '\n') == NULL);
        config_fini(&config);
        return 0;
    }
    require(config_check(&config, &err) == 0);
    require(config_to_json(&config, &first, &err) == 0);
    config_init(&again);
    require(config_load_json(
                &again, first, strlen(first), "guest.json", &err) == 0);
    require(config_to_json(&again, &second, &err) == 0);
    require(strcmp(first, second) == 0);
    free(first);
    free(second);
    config_fini(&again);
    config_fini(&config);
    return 0;
}
