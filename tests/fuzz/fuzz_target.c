/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target.json: what is accepted can be written, and reads back the same.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_target target;
    struct fuzz_target again;
    struct err err;
    char *first;
    char *second;

    if (fuzz_target_decode((const char *)data, size, &target, &err) < 0) {
        require(strncmp(err.text, "target.json: ", 13) == 0);
        return 0;
    }
    require(fuzz_target_check(&target, &err) == 0);
    require(target.argv[0][0] == '/' && target.env != NULL);
    require(fuzz_target_encode(&target, &first, &err) == 0);
    require(fuzz_target_decode(first, strlen(first), &again, &err) == 0);
    require(fuzz_target_encode(&again, &second, &err) == 0);
    require(strcmp(first, second) == 0);
    free(first);
    free(second);
    fuzz_target_fini(&target);
    fuzz_target_fini(&again);
    return 0;
}
