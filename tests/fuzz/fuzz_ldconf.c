/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ld.so.conf: absolute folders, and not too many.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "fuzz/ldconf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct words dirs = {0};
    struct words includes = {0};

    ldconf_take((const char *)data, size, &dirs, &includes);
    require(dirs.count <= LDCONF_DIRS_MAX);
    require(includes.count <= LDCONF_FILES_MAX);
    for (size_t i = 0; i < dirs.count; i++)
        require(dirs.list[i][0] == '/');
    words_fini(&dirs);
    words_fini(&includes);
    return 0;
}
