/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an ELF file asks of the dynamic linker: bounded, and no string is
 * empty.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/elf_needs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct elf_needs needs;
    struct elf_traits traits;
    struct err err;

    elf_traits_find(data, size, &traits);
    if (elf_needs_read(data, size, "x", &needs, &err) < 0) {
        require(strncmp(err.text, "x: ", 3) == 0);
        return 0;
    }
    require(needs.names.count <= ELF_NEEDS_MAX);
    for (size_t i = 0; i < needs.names.count; i++)
        require(needs.names.list[i][0] != '\0');
    require(needs.interp == NULL || needs.interp[0] != '\0');
    elf_needs_fini(&needs);
    return 0;
}
