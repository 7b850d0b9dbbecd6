/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bzImage: the packed Linux kernel image with its setup header
 * (Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
 *
 * Pure parser plus copies; a payload owns its memory. Thread rule: none.
 * File-controlled: the header and everything it points at.
 */
#ifndef VMM_HW_BZIMAGE_H
#define VMM_HW_BZIMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <asm/bootparam.h>

#include "vmm/base/err.h"
#include "vmm/core/gmem.h"
#include "vmm/hw/image.h"
#include "vmm/hw/unpack.h"

struct bzimage {
    struct setup_header header; /* as in the file, zero where it is shorter */
    uint64_t code_offset;       /* of the protected-mode part in the file */
    uint64_t code_size;         /* bytes, within the file */
    uint64_t payload_offset;    /* of the packed kernel in the file */
    uint64_t payload_size;      /* bytes, within the code; 0: none named */
    enum unpack_format format;  /* of the payload */
    uint64_t cmdline_max;       /* bytes without the NUL */
    uint64_t initrd_max;        /* highest address an initrd byte may have */
};

bool bzimage_detect(const struct image *image);

/* -EINVAL for a header that contradicts the file or is older than 2.08. */
CC_MUST_CHECK int bzimage_parse(
    const struct image *image, struct bzimage *ret_bzimage, struct err *err);

/* An unpacked kernel in private memory. */
struct bzimage_payload {
    uint8_t *data;
    size_t size;   /* bytes */
    size_t mapped; /* private */
};

/*
 * Unpacks the payload, of a format that unpack_supports(). `max` bounds its
 * size: -ENOMEM with the --mem that would do if it is larger. -EINVAL if it
 * is damaged or of another size than the file says.
 */
CC_MUST_CHECK int bzimage_unpack(const struct image *image,
    const struct bzimage *bzimage, uint64_t max,
    struct bzimage_payload *ret_payload, struct err *err);
void bzimage_payload_free(struct bzimage_payload *payload);

struct bzimage_loaded {
    uint64_t entry;   /* 64-bit entry point */
    uint64_t lowest;  /* first byte used */
    uint64_t highest; /* behind the last, room to unpack included */
};

/*
 * Loads the protected-mode part as it is, to unpack itself in the guest. Sets
 * code32_start in the header to where it went.
 */
CC_MUST_CHECK int bzimage_load(const struct image *image,
    struct bzimage *bzimage, struct gmem *mem,
    struct bzimage_loaded *ret_loaded, struct err *err);

#endif
