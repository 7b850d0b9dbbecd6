/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiler attributes and the few macros that every file may use.
 */
#ifndef VMM_BASE_CC_H
#define VMM_BASE_CC_H

#include <stddef.h>

#define CC_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define CC_MUST_CHECK        __attribute__((warn_unused_result))
#define CC_CLEANUP(fn)       __attribute__((cleanup(fn)))
#define CC_UNUSED            __attribute__((unused))
#define CC_NORETURN          __attribute__((noreturn))
#define CC_COLD              __attribute__((cold))
#define CC_LIKELY(x)         __builtin_expect(!!(x), 1)
#define CC_UNLIKELY(x)       __builtin_expect(!!(x), 0)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The object that embeds `member` at `ptr`; `ptr` must not be const. */
#define container_of(ptr, type, member)                                        \
    ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

_Static_assert(sizeof(void *) == 8 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
    "spore runs on 64-bit little-endian hosts");

#endif
