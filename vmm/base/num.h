/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checked and aligned arithmetic, and decimal digits. The checked forms return
 * false on overflow and leave the result alone then.
 */
#ifndef VMM_BASE_NUM_H
#define VMM_BASE_NUM_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"

#define NUM_PAGE_SHIFT 12
#define NUM_PAGE_SIZE  UINT64_C(4096)
#define NUM_KIB        UINT64_C(1024)
#define NUM_MIB        (UINT64_C(1024) * NUM_KIB)
#define NUM_GIB        (UINT64_C(1024) * NUM_MIB)

CC_MUST_CHECK static inline bool num_add(
    uint64_t a, uint64_t b, uint64_t *ret_sum)
{
    uint64_t r;

    if (__builtin_add_overflow(a, b, &r))
        return false;
    *ret_sum = r;
    return true;
}

CC_MUST_CHECK static inline bool num_mul(
    uint64_t a, uint64_t b, uint64_t *ret_product)
{
    uint64_t r;

    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *ret_product = r;
    return true;
}

/* Whether [start, start + len) lies within [0, size). */
CC_MUST_CHECK static inline bool num_range_within(
    uint64_t start, uint64_t len, uint64_t size)
{
    return start <= size && len <= size - start;
}

static inline bool num_is_pow2(uint64_t v)
{
    return v != 0 && (v & (v - 1)) == 0;
}

static inline uint64_t num_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t num_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* `align` is a power of two; num_align_up wraps to 0 at the very top. */
static inline uint64_t num_align_down(uint64_t v, uint64_t align)
{
    return v & ~(align - 1);
}

static inline uint64_t num_align_up(uint64_t v, uint64_t align)
{
    return num_align_down(v + align - 1, align);
}

static inline uint64_t num_div_up(uint64_t v, uint64_t by)
{
    return v / by + (v % by != 0);
}

/*
 * The decimal number that `text` begins with; returns what is behind its
 * digits, or NULL if there is none or it does not fit.
 */
CC_MUST_CHECK const char *num_take_digits(
    const char *text, uint64_t *ret_number);

#endif
