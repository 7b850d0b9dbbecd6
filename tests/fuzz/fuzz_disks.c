/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The section `disks` of a snapshot: what is accepted has paths that can be
 * printed, and is written back as the same bytes.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/disks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct snapshot_id id = {.b = {1}};
    const struct state_section section = {
        .version = DISKS_SECTION_VERSION, .data = data, .size = size};
    struct state_writer again;
    struct disks disks;
    struct err err;

    if (disks_decode(&section, &disks, &err) < 0) {
        require(strncmp(err.text, "section disks: ", 15) == 0);
        return 0;
    }
    require(disks.count <= DISKS_MAX);
    for (uint32_t i = 0; i < disks.count; i++)
        require(disks_path_is_valid(disks.records[i].path));
    state_writer_init(&again, &id);
    require(disks_store(&disks, &again, &err) == 0);
    require(again.sections[0].size == size &&
            memcmp(again.sections[0].data, data, size) == 0);
    state_writer_fini(&again);
    disks_fini(&disks);
    return 0;
}
