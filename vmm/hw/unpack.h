/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compressions of Linux kernel images, unpacked in memory.
 *
 * Keeps nothing. Thread rule: none. File-controlled: all input. Output never
 * goes beyond the caller's buffer and no more than UNPACK_MEMORY_MAX is
 * allocated besides, whatever the input declares.
 */
#ifndef VMM_HW_UNPACK_H
#define VMM_HW_UNPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/err.h"

/* What a decoder may allocate: xz of kernels has a 128 MiB dictionary. */
#define UNPACK_MEMORY_MAX (UINT64_C(192) * 1024 * 1024)

enum unpack_format {
    UNPACK_UNKNOWN,
    UNPACK_GZIP,
    UNPACK_XZ,
    UNPACK_ZSTD,
    UNPACK_LZ4,   /* the legacy frame */
    UNPACK_LZMA,  /* .lzma, "alone" */
    UNPACK_BZIP2, /* known by name only, as is */
    UNPACK_LZO,
};

#define UNPACK_MAGIC_LEN 6u

/* By magic; `size` may be anything, UNPACK_MAGIC_LEN bytes are looked at. */
enum unpack_format unpack_detect(const uint8_t *data, size_t size);
const char *unpack_format_name(enum unpack_format format);

/* Whether unpack() can. */
bool unpack_supports(enum unpack_format format);

/*
 * Unpacks one stream at `src` into at most `room` bytes at `dst`. *ret_len is
 * how many came out, *ret_used how many bytes of `src` the stream had: what
 * follows it is the caller's to judge. For LZ4, which has no end mark, 4 bytes
 * at the very end are not part of the stream. -EFBIG if `room` is too small,
 * -EINVAL for damaged input, -ENOMEM.
 */
CC_MUST_CHECK int unpack(enum unpack_format format, const uint8_t *src,
    size_t size, uint8_t *dst, size_t room, size_t *ret_len, size_t *ret_used,
    struct err *err);

#endif
