/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/unpack.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <lz4.h>
#include <lzma.h>
#include <string.h>
#define ZLIB_CONST
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "vmm/base/bytes.h"
#include "vmm/base/num.h"

#define LZ4_LEGACY_MAGIC 0x184c2102u
#define LZ4_LEGACY_BLOCK (8 * NUM_MIB) /* a block unpacks to at most that */
#define GZIP_WINDOW_BITS (15 + 16)     /* 32 KiB, with a gzip header */

struct job {
    enum unpack_format format;
    const uint8_t *src;
    size_t size;
    uint8_t *dst;
    size_t room;
    size_t len;  /* bytes at dst */
    size_t used; /* bytes of src */
};

static int too_large(const struct job *job, struct err *err)
{
    return err_set(err, EFBIG, "%s data unpack to more than %zu bytes",
        unpack_format_name(job->format), job->room);
}

static int damaged(const struct job *job, const char *why, struct err *err)
{
    return err_set(err, EINVAL, "damaged %s data: %s",
        unpack_format_name(job->format), why);
}

static const struct {
    const char *name;
    const char magic[UNPACK_MAGIC_LEN];
    uint8_t magic_len;
    bool supported;
} formats[] = {
    [UNPACK_UNKNOWN] = {"unknown", "", 0, false},
    [UNPACK_GZIP] = {"gzip", {'\x1f', '\x8b', 8}, 3, true},
    [UNPACK_XZ] = {"xz", {'\xfd', '7', 'z', 'X', 'Z', 0}, 6, true},
    [UNPACK_ZSTD] = {"zstd", {'\x28', '\xb5', '\x2f', '\xfd'}, 4, true},
    [UNPACK_LZ4] = {"lz4", {2, '\x21', '\x4c', '\x18'}, 4, true},
    [UNPACK_LZMA] = {"lzma", {'\x5d', 0, 0}, 3, true},
    [UNPACK_BZIP2] = {"bzip2", {'B', 'Z', 'h'}, 3, false},
    [UNPACK_LZO] = {"lzo", {'\x89', 'L', 'Z', 'O', 0, '\r'}, 6, false},
};

enum unpack_format unpack_detect(const uint8_t *data, size_t size)
{
    for (size_t i = UNPACK_GZIP; i < ARRAY_SIZE(formats); i++) {
        if (size >= formats[i].magic_len &&
            memcmp(data, formats[i].magic, formats[i].magic_len) == 0)
            return (enum unpack_format)i;
    }
    return UNPACK_UNKNOWN;
}

const char *unpack_format_name(enum unpack_format format)
{
    assert((size_t)format < ARRAY_SIZE(formats));
    return formats[format].name;
}

bool unpack_supports(enum unpack_format format)
{
    assert((size_t)format < ARRAY_SIZE(formats));
    return formats[format].supported;
}

static int unpack_gzip(struct job *job, struct err *err)
{
    z_stream z = {0};
    int rc;

    /* zlib counts in unsigned int; kernels are far below that. */
    if (job->size > UINT_MAX || job->room > UINT_MAX)
        return damaged(job, "4 GiB or more of it", err);
    if (inflateInit2(&z, GZIP_WINDOW_BITS) != Z_OK)
        return err_sys(err, ENOMEM, "zlib");
    z.next_in = job->src;
    z.avail_in = (uInt)job->size;
    z.next_out = job->dst;
    z.avail_out = (uInt)job->room;
    rc = inflate(&z, Z_FINISH);
    job->len = job->room - z.avail_out;
    job->used = job->size - z.avail_in;
    (void)inflateEnd(&z);
    if (rc == Z_STREAM_END)
        return 0;
    if (rc == Z_MEM_ERROR)
        return err_sys(err, ENOMEM, "zlib");
    if (rc == Z_BUF_ERROR && job->len == job->room && job->used < job->size)
        return too_large(job, err);
    return damaged(
        job, rc == Z_BUF_ERROR ? "it ends early" : "bad stream", err);
}

static int from_lzma(const struct job *job, lzma_ret rc, struct err *err)
{
    if (rc == LZMA_OK || rc == LZMA_STREAM_END)
        return 0;
    if (rc == LZMA_MEM_ERROR)
        return err_sys(err, ENOMEM, "liblzma");
    if (rc == LZMA_MEMLIMIT_ERROR)
        return err_set(err, ENOMEM,
            "%s data ask for a dictionary of more than %llu MiB",
            unpack_format_name(job->format),
            (unsigned long long)(UNPACK_MEMORY_MAX / NUM_MIB));
    if (rc == LZMA_BUF_ERROR && job->len == job->room)
        return too_large(job, err);
    return damaged(
        job, rc == LZMA_BUF_ERROR ? "it ends early" : "bad stream", err);
}

static int unpack_xz(struct job *job, struct err *err)
{
    uint64_t limit = UNPACK_MEMORY_MAX;
    lzma_ret rc;

    rc = lzma_stream_buffer_decode(&limit, 0, NULL, job->src, &job->used,
        job->size, job->dst, &job->len, job->room);
    /* Input that ends early is LZMA_DATA_ERROR in this call. */
    if (rc == LZMA_BUF_ERROR)
        return too_large(job, err);
    return from_lzma(job, rc, err);
}

static int unpack_lzma(struct job *job, struct err *err)
{
    lzma_stream z = LZMA_STREAM_INIT;
    lzma_ret rc;

    rc = lzma_alone_decoder(&z, UNPACK_MEMORY_MAX);
    if (rc == LZMA_OK) {
        z.next_in = job->src;
        z.avail_in = job->size;
        z.next_out = job->dst;
        z.avail_out = job->room;
        /* Without progress the second call says LZMA_BUF_ERROR. */
        do {
            rc = lzma_code(&z, LZMA_FINISH);
        } while (rc == LZMA_OK);
        job->len = job->room - z.avail_out;
        job->used = job->size - z.avail_in;
    }
    lzma_end(&z);
    return from_lzma(job, rc, err);
}

static int unpack_zstd(struct job *job, struct err *err)
{
    size_t n;

    /* The one-shot call would take what follows the frame for another one. */
    job->used = ZSTD_findFrameCompressedSize(job->src, job->size);
    if (ZSTD_isError(job->used))
        return damaged(job, ZSTD_getErrorName(job->used), err);
    n = ZSTD_decompress(job->dst, job->room, job->src, job->used);
    if (!ZSTD_isError(n)) {
        job->len = n;
        return 0;
    }
    if (ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall)
        return too_large(job, err);
    return damaged(job, ZSTD_getErrorName(n), err);
}

static int unpack_lz4(struct job *job, struct err *err)
{
    struct bytes_reader r;

    bytes_reader_init(&r, job->src, job->size);
    bytes_skip(&r, sizeof(uint32_t));
    while (bytes_left(&r) > sizeof(uint32_t)) {
        uint32_t size = bytes_get_u32(&r);
        uint64_t room = num_min(job->room - job->len, LZ4_LEGACY_BLOCK);
        const uint8_t *block;
        int n;

        if (size == LZ4_LEGACY_MAGIC)
            continue;
        block = bytes_take(&r, size);
        if (block == NULL || size > INT_MAX)
            return damaged(job, "a block goes beyond its end", err);
        n = LZ4_decompress_safe((const char *)block,
            (char *)job->dst + job->len, (int)size, (int)room);
        if (n < 0 && room < LZ4_LEGACY_BLOCK)
            return err_set(err, EFBIG,
                "lz4 data are damaged or unpack to more than %zu bytes",
                job->room);
        if (n < 0)
            return damaged(job, "bad block", err);
        job->len += (size_t)n;
    }
    job->used = r.pos;
    return 0;
}

int unpack(enum unpack_format format, const uint8_t *src, size_t size,
    uint8_t *dst, size_t room, size_t *ret_len, size_t *ret_used,
    struct err *err)
{
    struct job job = {
        .format = format, .src = src, .size = size, .dst = dst, .room = room};
    int rc;

    assert(unpack_supports(format));
    if (unpack_detect(src, size) != format)
        return damaged(&job, "no magic", err);
    switch (format) {
    case UNPACK_GZIP:
        rc = unpack_gzip(&job, err);
        break;
    case UNPACK_XZ:
        rc = unpack_xz(&job, err);
        break;
    case UNPACK_ZSTD:
        rc = unpack_zstd(&job, err);
        break;
    case UNPACK_LZ4:
        rc = unpack_lz4(&job, err);
        break;
    case UNPACK_LZMA:
        rc = unpack_lzma(&job, err);
        break;
    case UNPACK_UNKNOWN:
    case UNPACK_BZIP2:
    case UNPACK_LZO:
    default:
        rc = damaged(&job, "unknown format", err);
        break;
    }
    if (rc < 0)
        return rc;
    assert(job.len <= room && job.used <= size);
    *ret_len = job.len;
    *ret_used = job.used;
    return 0;
}
