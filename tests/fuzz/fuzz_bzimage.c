/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "vmm/hw/bzimage.h"
#include "vmm/hw/layout.h"

#define MEM_SIZE    (8 * NUM_MIB)
#define PAYLOAD_MAX NUM_MIB

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
    struct bzimage_payload payload;
    struct bzimage_loaded loaded;
    struct bzimage bz;
    struct image image;
    struct err err;

    if (size == 0 || image_open(&source, &image, &err) < 0)
        return 0;
    if (bzimage_parse(&image, &bz, &err) < 0)
        return 0;
    if (bz.code_offset + bz.code_size > size ||
        bz.payload_offset + bz.payload_size > size)
        abort();
    if (bz.payload_size != 0 && unpack_supports(bz.format) &&
        bzimage_unpack(&image, &bz, PAYLOAD_MAX, &payload, &err) == 0) {
        if (payload.size == 0 || payload.size > PAYLOAD_MAX)
            abort();
        bzimage_payload_free(&payload);
    }
    if (bzimage_load(&image, &bz, guest(), &loaded, &err) == 0 &&
        (loaded.lowest < LAYOUT_KERNEL_MIN || loaded.highest > MEM_SIZE ||
            loaded.entry >= loaded.highest))
        abort();
    return 0;
}
