/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A working set, as it is and with a checksum that fits: what is accepted
 * lies within RAM, ascends, and writes back as the same bytes.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/hash.h"
#include "snapshot/working_set.h"
#include "vmm/base/num.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

static void decode(const uint8_t *data, size_t size)
{
    struct working_set set;
    struct err err;
    uint64_t pages = 8;
    uint64_t end = 0;
    uint8_t *again;
    size_t again_size;

    if (size >= 24)
        memcpy(&pages, data + 16, sizeof(pages));
    if (working_set_decode(data, size, pages, &set, &err) < 0) {
        require(strncmp(err.text, "working-set: ", 13) == 0);
        return;
    }
    for (size_t i = 0; i < set.run_count; i++) {
        require(set.runs[i].count > 0);
        require(i == 0 || set.runs[i].page > end);
        require(num_range_within(set.runs[i].page, set.runs[i].count, pages));
        end = (uint64_t)set.runs[i].page + set.runs[i].count;
    }
    require(working_set_encode(&set, &again, &again_size, &err) == 0);
    require(again_size == size && memcmp(again, data, size) == 0);
    free(again);
    working_set_fini(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hash128 hash;
    uint8_t *copy;

    decode(data, size);
    if (size < sizeof(hash))
        return 0;
    copy = malloc(size);
    require(copy != NULL);
    memcpy(copy, data, size);
    hash = hash_bytes(copy, size - sizeof(hash));
    memcpy(copy + size - sizeof(hash), hash.b, sizeof(hash));
    decode(copy, size);
    free(copy);
    return 0;
}
