/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "vmm/hw/elf.h"
#include "vmm/hw/layout.h"

#define MEM_SIZE (4 * NUM_MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Contents do not matter to the loader: one guest serves all inputs. */
static struct gmem *guest(void)
{
    static struct gmem mem;

    if (mem.host == NULL && gmem_init(&mem, MEM_SIZE, NULL) < 0)
        abort();
    return &mem;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image_source source = {
        .kind = IMAGE_BYTES, .name = "fuzz", .data = data, .size = size};
    struct elf_loaded loaded;
    struct image image;
    struct err err;

    if (size == 0 || image_open(&source, &image, &err) < 0)
        return 0;
    if (elf_load(&image, guest(), &loaded, &err) < 0)
        return 0;
    if (loaded.lowest < LAYOUT_KERNEL_MIN || loaded.highest > MEM_SIZE ||
        loaded.lowest >= loaded.highest || loaded.low_end != loaded.highest)
        abort();
    if (loaded.has_pvh && (loaded.pvh_entry < loaded.lowest ||
                              loaded.pvh_entry >= loaded.highest))
        abort();
    return 0;
}
