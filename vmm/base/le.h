/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Little-endian fields of wire and file formats. Each is an array of bytes,
 * so that a struct of them has no padding and no alignment, and arithmetic on
 * one by mistake does not compile.
 */
#ifndef VMM_BASE_LE_H
#define VMM_BASE_LE_H

#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t b[2];
} le16;
typedef struct {
    uint8_t b[4];
} le32;
typedef struct {
    uint8_t b[8];
} le64;

static inline uint16_t le16_get(le16 f)
{
    uint16_t v;

    memcpy(&v, f.b, sizeof(v));
    return v;
}

static inline uint32_t le32_get(le32 f)
{
    uint32_t v;

    memcpy(&v, f.b, sizeof(v));
    return v;
}

static inline uint64_t le64_get(le64 f)
{
    uint64_t v;

    memcpy(&v, f.b, sizeof(v));
    return v;
}

static inline le16 le16_put(uint16_t v)
{
    le16 f;

    memcpy(f.b, &v, sizeof(v));
    return f;
}

static inline le32 le32_put(uint32_t v)
{
    le32 f;

    memcpy(f.b, &v, sizeof(v));
    return f;
}

static inline le64 le64_put(uint64_t v)
{
    le64 f;

    memcpy(f.b, &v, sizeof(v));
    return f;
}

#endif
