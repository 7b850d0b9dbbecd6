/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compressors of Linux kernel builds, for the tests of what undoes them.
 */
#ifndef TESTS_UNIT_PACKERS_H
#define TESTS_UNIT_PACKERS_H

#include <lz4.h>
#include <lzma.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "vmm/base/num.h"
#include "vmm/hw/unpack.h"

#define PACKERS_BLOCK (8 * NUM_MIB)

static inline size_t pack_gzip(
    uint8_t *src, size_t size, uint8_t *dst, size_t room)
{
    z_stream z = {.next_in = src,
        .avail_in = (uInt)size,
        .next_out = dst,
        .avail_out = (uInt)room};
    int rc = deflateInit2(
        &z, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);

    if (rc == Z_OK)
        rc = deflate(&z, Z_FINISH);
    (void)deflateEnd(&z);
    return rc == Z_STREAM_END ? room - z.avail_out : 0;
}

static inline size_t pack_xz(
    const uint8_t *src, size_t size, uint8_t *dst, size_t room)
{
    size_t len = 0;
    lzma_ret rc = lzma_easy_buffer_encode(
        0, LZMA_CHECK_CRC32, NULL, src, size, dst, &len, room);

    return rc == LZMA_OK ? len : 0;
}

static inline size_t pack_lzma(
    const uint8_t *src, size_t size, uint8_t *dst, size_t room)
{
    lzma_stream z = LZMA_STREAM_INIT;
    lzma_options_lzma options;
    lzma_ret rc = LZMA_PROG_ERROR;

    if (!lzma_lzma_preset(&options, 0))
        rc = lzma_alone_encoder(&z, &options);
    if (rc == LZMA_OK) {
        z.next_in = src;
        z.avail_in = size;
        z.next_out = dst;
        z.avail_out = room;
        rc = lzma_code(&z, LZMA_FINISH);
    }
    lzma_end(&z);
    return rc == LZMA_STREAM_END ? room - z.avail_out : 0;
}

static inline size_t pack_zstd(
    const uint8_t *src, size_t size, uint8_t *dst, size_t room)
{
    size_t n = ZSTD_compress(dst, room, src, size, 1);

    return ZSTD_isError(n) ? 0 : n;
}

/* The legacy frame: a magic, then blocks of 8 MiB behind their sizes. */
static inline size_t pack_lz4(
    const uint8_t *src, size_t size, uint8_t *dst, size_t room)
{
    const uint32_t magic = 0x184c2102;
    size_t at = sizeof(magic);

    memcpy(dst, &magic, sizeof(magic));
    for (size_t from = 0; from < size; from += PACKERS_BLOCK) {
        int n = LZ4_compress_default((const char *)src + from,
            (char *)dst + at + sizeof(uint32_t),
            (int)num_min(size - from, PACKERS_BLOCK),
            (int)(room - at - sizeof(uint32_t)));

        if (n <= 0)
            return 0;
        memcpy(dst + at, &n, sizeof(n));
        at += sizeof(uint32_t) + (size_t)n;
    }
    return at;
}

/* Bytes at `dst`, 0 on failure. */
static inline size_t pack(enum unpack_format format, uint8_t *src, size_t size,
    uint8_t *dst, size_t room)
{
    switch (format) {
    case UNPACK_GZIP:
        return pack_gzip(src, size, dst, room);
    case UNPACK_XZ:
        return pack_xz(src, size, dst, room);
    case UNPACK_ZSTD:
        return pack_zstd(src, size, dst, room);
    case UNPACK_LZ4:
        return pack_lz4(src, size, dst, room);
    case UNPACK_LZMA:
        return pack_lzma(src, size, dst, room);
    case UNPACK_UNKNOWN:
    case UNPACK_BZIP2:
    case UNPACK_LZO:
    default:
        return 0;
    }
}

/* With the unpacked size behind it, where gzip has it anyway. */
static inline size_t pack_payload(enum unpack_format format, uint8_t *src,
    size_t size, uint8_t *dst, size_t room)
{
    uint32_t trailer = (uint32_t)size;
    size_t n = pack(format, src, size, dst, room);

    if (n == 0 || format == UNPACK_GZIP)
        return n;
    if (room - n < sizeof(trailer))
        return 0;
    memcpy(dst + n, &trailer, sizeof(trailer));
    return n + sizeof(trailer);
}

#endif
